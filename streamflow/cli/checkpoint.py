"""`streamflow checkpoint`: how far each shard is, taken along, brought back, and moved."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from streamflow.cli import leased, letters, looking, options, positions_file
from streamflow.cli.letters import number_of
from streamflow.cli.resetting import Consent, Plan, carry_out, consenting
from streamflow.cli.rewinding import parsed_target, rewound
from streamflow.cli.serving import say
from streamflow.clock import SystemClock
from streamflow.errors import ConfigError
from streamflow.leases import STREAM_ROW
from streamflow.positions import Position
from streamflow.rules import resets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.cli.leased import Placed, PlacedStream
    from streamflow.cli.looking import Look
    from streamflow.leases import Lease
    from streamflow.rules.resets import Reset

_TITLES = ("pipeline", "shard", "state", "checkpoint", "owner")


@click.group(short_help="Show how far each shard is, and move checkpoints.")
def checkpoint() -> None:
    """Show how far each shard is, take checkpoints along, and move them.

    Whatever writes shows every change before, and wants to be told that records may repeat, or be lost.
    """


@checkpoint.command(short_help="Show how far each shard is.")
@leased.placed()
@options.as_json("Print one JSON object a line.")
@options.debug
def show(*, at: Placed, as_json: bool) -> None:
    """Show the stored checkpoint of each shard of FILE's pipelines, or of one pipeline of a store."""
    for flow in at.flows:
        if flow is not None and (sink := leased.keeper(flow)):
            say(f"{flow.name}: its sink {sink} keeps the checkpoint itself, and goes on from its own")
    rows = anyio.run(_rows, at, False)
    if as_json:
        for row in rows:
            click.echo(json.dumps(dict(zip(_TITLES, _cells(row, none=None), strict=True))))
    elif rows:
        click.echo("\n".join(letters.table(_TITLES, [_cells(row, none="-") for row in rows])))
    else:
        say("there are no checkpoints")


@checkpoint.command(short_help="Write checkpoints as lines of JSON.")
@leased.placed()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="PATH", help="File to write.")
@options.debug
def export(*, at: Placed, output: Path | None) -> None:
    """Write the checkpoints of FILE's pipelines, or of one pipeline of a store, as lines of JSON, to stdout or a file."""
    rows = anyio.run(_rows, at, True)
    text = "".join(f"{positions_file.line(row)}\n" for row in rows)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        say(f"{number_of(len(rows), 'line')} written to {output}")


@checkpoint.command("import", short_help="Store checkpoints that were exported.")
@leased.placed("PATH")
@consenting
@click.pass_context
def import_command(
    context: click.Context, /, *, at: Placed, words: tuple[str, ...], consent: Consent, as_json: bool
) -> None:
    """Store the checkpoints of PATH, which `checkpoint export` wrote; - is stdin. Shows first what changes.

    Leases that the store does not have are made, so that a pipeline can move to another store.
    """
    (path,) = _expected(words, "PATH")
    lines = _lines(path)
    told = positions_file.rows(lines, name=path)

    async def planned(look: Look, streams: Sequence[PlacedStream]) -> Plan:
        return imported(told, look.rows, streams)

    # Whatever the store is: this is how it becomes one of earlier runs.
    context.exit(carry_out(replace(at, new=True), planned, consent, as_json=as_json))


@checkpoint.command("set", short_help="Set the checkpoint of one shard.")
@leased.placed("SHARD POSITION")
@consenting
@click.pass_context
def set_command(
    context: click.Context, /, *, at: Placed, words: tuple[str, ...], consent: Consent, as_json: bool
) -> None:
    """Set the checkpoint of SHARD to POSITION: a sequence number, behind which it goes on, or a position as shown.

    Where a shard goes back, its descendants go back to their start.
    """
    shard_id, text = _expected(words, "SHARD", "POSITION")
    position = parsed_position(text)
    at.one_pipeline()

    async def planned(look: Look, _: Sequence[PlacedStream]) -> Plan:
        rows = resets.shards_of(look.rows)
        (row,) = leased.chosen(list(rows.values()), [shard_id])
        return Plan(resets=resets.with_descendants([resets.reset(row, position)], rows))

    context.exit(carry_out(at, planned, consent, as_json=as_json))


@checkpoint.command(short_help="Go back to a time, a record, or the oldest that there is.")
@leased.placed("[SHARD]...")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="TIME|SEQUENCE|TRIM_HORIZON",
    help="2026-11-25T07:00Z, -2h, a sequence number, or everything that the stream still has.",
)
@consenting
@click.pass_context
def rewind(
    context: click.Context, /, *, at: Placed, words: tuple[str, ...], target: str, consent: Consent, as_json: bool
) -> None:
    """Deliver records again: from a time on, from one record of one SHARD on, or all that the stream still has.

    Without SHARD, in every shard that is past it; never ahead. Shards that ended come back where they are needed, and what is
    below a shard that goes back goes back with it, so that every item's changes repeat in order. Reads the stream.
    """
    now_s = SystemClock().wall()
    goal = parsed_target(target, now_s=now_s)
    if isinstance(goal, Position) and goal.sequence_number:
        if len(words) != 1:
            raise click.UsageError("A sequence number is that of one shard: name it.")
        at.one_pipeline()

    async def planned(look: Look, streams: Sequence[PlacedStream]) -> Plan:
        plans = [await rewound(each, look, words, goal) for each in streams]
        return Plan(
            resets=[each for plan in plans for each in plan.resets],
            notes=[each for plan in plans for each in plan.notes],
        )

    context.exit(carry_out(at, planned, consent, as_json=as_json, to_read=True))


# --- what was asked --------------------------------------------------------------------------------------------------


def _expected(words: Sequence[str], *names: str) -> Sequence[str]:
    if len(words) != len(names):
        raise click.UsageError(f"Expected {' '.join(names)}, got {' '.join(words) or 'nothing'}.")
    return words


def _lines(path: str) -> list[str]:
    try:
        return sys.stdin.readlines() if path == "-" else Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def parsed_position(text: str) -> Position:
    """A sequence number is the place behind it; else the text form of positions.

    Raises:
        ConfigError: it is neither.
    """
    try:
        return Position.parse(f"AFTER_SEQUENCE_NUMBER:{text}" if text.isdigit() else text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no position: give a sequence number, TRIM_HORIZON, SHARD_END, AT_SEQUENCE_NUMBER:NUMBER, "
            "AFTER_SEQUENCE_NUMBER:NUMBER or AT_TIMESTAMP:SECONDS"
        ) from None


# --- rows ------------------------------------------------------------------------------------------------------------


async def _rows(at: Placed, whole: bool) -> list[Lease]:
    """The rows by pipeline and shard; `whole`, with their windows, and with that of the stream itself."""
    async with leased.opened(at) as (store, streams):
        look = await looking.look(store, await streams.of())
        listed = sorted(look.rows, key=lambda row: (row.pipeline, row.shard_id))
        if not whole:
            return [row for row in listed if row.shard_id != STREAM_ROW]
        return [row for each in listed if (row := await store.get(each.key)) is not None]


def _cells(row: Lease, *, none: Any) -> tuple[Any, ...]:
    return row.pipeline, row.shard_id, row.state.value, str(row.checkpoint), row.owner or none


def imported(told: Sequence[Lease], stored: Sequence[Lease], streams: Sequence[PlacedStream]) -> Plan:
    """What storing exported rows changes; what they do not name stays, but for descendants of shards that go back.

    Raises:
        ConfigError: they are of other pipelines, or of another stream.
    """
    known = {each.pipeline: each.stream_arn for each in streams}
    wrong = sorted({(row.pipeline, row.stream_arn) for row in told} - set(known.items()))
    if wrong:
        raise ConfigError([_elsewhere(pipeline, arn, known) for pipeline, arn in wrong])
    there = {row.key: row for row in stored}
    found: list[Reset] = []
    for pipeline in known:
        rows = resets.shards_of(row for row in stored if row.pipeline == pipeline)
        moved = [
            resets.reset(there[row.key], row.checkpoint, window=row.window, state=row.state)
            for row in told
            if row.pipeline == pipeline and row.key in there
        ]
        found += resets.with_descendants(moved, rows)
    # The stream's own row is last: it says that the others are complete.
    creates = sorted((row for row in told if row.key not in there), key=lambda row: row.shard_id == STREAM_ROW)
    return Plan(resets=found, creates=creates)


def _elsewhere(pipeline: str, stream_arn: str, known: Mapping[str, str]) -> str:
    if pipeline not in known:
        return f"it has checkpoints of pipeline {pipeline!r}, and this is {', '.join(known)}: another name would start anew"
    return f"it has checkpoints of {stream_arn}, and pipeline {pipeline!r} reads {known[pipeline]}: they mean nothing there"
