"""Checkpoints moved by hand: shown before, refused where records would repeat or be lost unasked, written by compare-and-set.

Each change leaves a note in the lease, with who made it, and one line in the log.
"""

from __future__ import annotations

import functools
import getpass
import json
import logging
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import anyio
import click

from streamflow.cli import leased, letters, looking, options
from streamflow.cli.leases import watching
from streamflow.cli.serving import say
from streamflow.clock import SystemClock
from streamflow.errors import ConfigError
from streamflow.observe.lines import Line
from streamflow.observe.logs import configure_logging
from streamflow.positions import PositionKind
from streamflow.rules.resets import Direction
from streamflow.rules.steps import born

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow.cli.leased import Placed, PlacedStream
    from streamflow.cli.looking import Look
    from streamflow.leases import Lease
    from streamflow.rules.resets import Reset

_TITLES = ("pipeline", "shard", "from", "to", "what it means")
_MEANING = {
    Direction.NONE: "nothing repeats and nothing is skipped",
    Direction.BACK: "what comes after TO is delivered again",
    Direction.AHEAD: "what comes after FROM, up to TO, is never delivered",
    Direction.UNKNOWN: "may repeat or skip: the stream does not show the record at FROM",
}
_logger = logging.getLogger("streamflow.checkpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be written: rows at other places, parents before children, and rows that the store does not have."""

    resets: Sequence[Reset]
    creates: Sequence[Lease] = ()
    notes: Sequence[str] = ()
    """What else the user should know."""

    @property
    def empty(self) -> bool:
        return not (self.resets or self.creates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What the user has agreed to by options."""

    allow_repeat: bool
    allow_skip: bool
    watch_s: float | None
    force: bool
    yes: bool


def consenting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that moves checkpoints; the command gets them as `consent`."""

    @functools.wraps(command)
    def with_consent(*arguments: Any, **given: Any) -> Any:
        consent = Consent(**{each.name: given.pop(each.name) for each in fields(Consent)})
        return command(*arguments, consent=consent, **given)

    for option in reversed(_OPTIONS):
        with_consent = option(with_consent)
    return with_consent


_OPTIONS = (
    click.option("--allow-repeat", is_flag=True, help="Go back: records are delivered again."),
    click.option("--allow-skip", is_flag=True, help="Go ahead: records in between are never delivered."),
    watching,
    click.option("--force", is_flag=True, help="Also where an owner seems alive, or the sink keeps the checkpoint."),
    click.option("--yes", is_flag=True, help="Do not ask."),
    options.as_json("Print what changes as one JSON object a line."),
    options.debug,
)


def carry_out(
    at: Placed,
    planned: Callable[[Look, Sequence[PlacedStream]], Awaitable[Plan]],
    consent: Consent,
    *,
    as_json: bool,
    to_read: bool = False,
) -> int:
    """Look, plan, show, ask, write; the answer is the exit code. `to_read`: the plan needs the streams themselves.

    Raises:
        ConfigError: records would repeat or be skipped unasked, an owner seems to be alive, or the sink decides by itself.
    """
    refuse_keepers(at, consent)
    look, plan = anyio.run(_look_and_plan, at, planned, consent.watch_s, to_read)
    for note in plan.notes:
        say(note)
    if plan.empty:
        say("nothing changes")
        return 0
    _show(plan, as_json=as_json)
    _refuse(plan, look, consent)
    # Outside the event loop: there, Ctrl-C would not end the question.
    if not _confirmed(number := len(plan.resets) + len(plan.creates), yes=consent.yes):
        say("nothing was changed")
        return 0
    configure_logging("text", "INFO")
    written = anyio.run(_write, at, plan)
    if written < number:
        say(
            f"error: {written} of {number} were changed: somebody else wrote the next lease meanwhile, and nothing behind it "
            "was touched; once no worker runs, the same command goes on from there"
        )
        return 1
    return 0


def refuse_keepers(at: Placed, consent: Consent) -> None:
    """Raises `ConfigError` for sinks that keep the checkpoint themselves: they are asked where to go on, not the lease."""
    keepers = [(flow.name, keeper) for flow in at.flows if flow is not None and (keeper := leased.keeper(flow))]
    if keepers and not consent.force:
        raise ConfigError(
            [
                f"pipeline {name!r}: its sink {keeper} keeps the checkpoint beside the data and goes on from that: one that "
                "is set here counts only in shards of which the sink knows nothing (--force sets it all the same)"
                for name, keeper in keepers
            ]
        )


async def _look_and_plan(
    at: Placed,
    planned: Callable[[Look, Sequence[PlacedStream]], Awaitable[Plan]],
    watch_s: float | None,
    to_read: bool,
) -> tuple[Look, Plan]:
    async with leased.opened(at) as (store, streams):
        found = await streams.of(to_read=to_read)
        look = await looking.look(store, found, watch_s=watch_s)
        return look, await planned(look, found)


# --- shown and asked -------------------------------------------------------------------------------------------------


def _show(plan: Plan, *, as_json: bool) -> None:
    entries = [*(_entry(each) for each in plan.resets), *(_created(each) for each in plan.creates)]
    if as_json:
        for entry in entries:
            click.echo(json.dumps(entry))
    else:
        click.echo("\n".join(letters.table(_TITLES, [[value or "-" for value in e.values()][:5] for e in entries])))
    if any(each.row.state is not each.state for each in plan.resets):
        say("shards that ended are read again; their children wait for that")
    say("the state of open tumbling windows goes with the checkpoint: that of these shards begins anew")


def _entry(each: Reset) -> dict[str, str | None]:
    return {
        "pipeline": each.row.pipeline,
        "shard_id": each.row.shard_id,
        "from": str(each.row.checkpoint),
        "to": str(each.checkpoint),
        "meaning": _meaning(each),
        "direction": each.direction.value,
        "state": each.state.value,
    }


def _meaning(each: Reset) -> str:
    if not each.changes:
        return "its owner lets go: it waits for its parent"
    if each.direction is Direction.BACK and each.checkpoint.kind is PositionKind.AT_TIMESTAMP:
        return f"what was written since {letters.time_text(each.checkpoint.timestamp_s)} is delivered again"
    return _MEANING[each.direction]


def _created(row: Lease) -> dict[str, str | None]:
    return {
        "pipeline": row.pipeline,
        "shard_id": row.shard_id,
        "from": None,
        "to": str(row.checkpoint),
        "meaning": "a new lease",
        "direction": None,
        "state": row.state.value,
    }


def _refuse(plan: Plan, look: Look, consent: Consent) -> None:
    problems = []
    back = [each for each in plan.resets if each.direction in {Direction.BACK, Direction.UNKNOWN}]
    ahead = [each for each in plan.resets if each.direction in {Direction.AHEAD, Direction.UNKNOWN}]
    if back and not consent.allow_repeat:
        problems.append(f"records of {letters.number_of(len(back), 'shard')} would be delivered again: --allow-repeat")
    if ahead and not consent.allow_skip:
        problems.append(f"records of {letters.number_of(len(ahead), 'shard')} would be lost: --allow-skip")
    if problems:
        raise ConfigError(problems)
    if not consent.force:
        looking.refuse_living(look, [each.row for each in plan.resets])


def _confirmed(number: int, *, yes: bool) -> bool:
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: --yes agrees to what is shown.")
    return click.confirm(f"Change {letters.number_of(number, 'checkpoint')}?", err=True)


# --- written ---------------------------------------------------------------------------------------------------------


async def _write(at: Placed, plan: Plan) -> int:
    """How many were written; it ends with the first one that was not, so that no child is moved without its parent."""
    written = 0
    user, now_s = _user(), SystemClock().wall()
    async with leased.opened(at) as (store, _):
        for each in plan.resets:
            if not await leased.written(store, each.lease(user=user, now_s=now_s)):
                return written
            written += 1
            _log(each.row, str(each.row.checkpoint), str(each.checkpoint), user)
        for row in plan.creates:
            # From the time of its making, so that what fenced a row that was deleted does not fence this one.
            made_at_ms = int(now_s * 1_000)
            if await store.create(born(row, made_at_ms)) is None:
                return written
            written += 1
            _log(row, "-", str(row.checkpoint), user)
    return written


def _log(row: Lease, before: str, after: str, user: str) -> None:
    told = {"pipeline": row.pipeline, "shard": row.shard_id, "from": before, "to": after, "user": user}
    line = Line(level=logging.INFO, fact="checkpoint changed", fields=told)
    _logger.info("%s", line, extra={"fact": line.fact, "fields": told})


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"  # a container without a name for its user
