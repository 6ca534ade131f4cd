"""`streamflow dlq`: the dead letters of a store, and their way back through the chain."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import click
import msgspec

from streamflow.cli import letters, options
from streamflow.cli.letters import Selection, key_text, number_of, time_text
from streamflow.cli.redriving import redrive as run_redrive
from streamflow.cli.redriving import redrive_options
from streamflow.cli.serving import say
from streamflow.dead_letters import LetterQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.dead_letters import DeadLetter, Drawer

_TITLES = ("id", "kept at", "pipeline", "shard", "sequence number", "reason", "error type", "attempts", "item key")
_NOTHING = "there are no such dead letters"
_REMOVED_TOGETHER = 1_000


@click.group(short_help="Look at dead letters, deliver them again, or delete them.")
def dlq() -> None:
    """Look at dead letters, deliver them again, or delete them.

    A dead letter is the whole record of a change that was given up, kept in the store of its pipeline.
    """


@dlq.command("list", short_help="List dead letters, without their data.")
@letters.selecting()
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="The first N.")
@options.as_json("Print one JSON object a line.")
@options.debug
def list_command(*, selection: Selection, limit: int, as_json: bool) -> None:
    """List the dead letters of FILE's pipelines, or of a store, in the order in which they were kept."""
    found, more = anyio.run(_first, selection, limit)
    if as_json:
        for letter in found:
            click.echo(json.dumps(outline(letter)))
    elif found:
        click.echo("\n".join(letters.table(_TITLES, [_row(letter) for letter in found])))
    else:
        say(_NOTHING)
    if more:
        say(f"there are more: --limit {limit * 10} shows them")


@dlq.command(short_help="Show one letter with its error and its record.")
@click.argument("letter_id", metavar="ID", type=click.IntRange(min=1))
@letters.placed
@options.as_json("Print one JSON object.")
@options.debug
@click.pass_context
def show(context: click.Context, *, letter_id: int, store: str, as_json: bool) -> None:
    """Show the dead letter, or the parked change, with this ID: its error and its whole record."""
    found = anyio.run(_find, store, letter_id)
    if found is None:
        say(f"there is no letter {letter_id}")
        context.exit(1)
    drawer, letter = found
    click.echo(json.dumps(whole(drawer, letter)) if as_json else "\n".join(_page(drawer, letter)))


@dlq.command(short_help="Deliver dead letters again.")
@letters.selecting(file_required=True)
@redrive_options
@click.pass_context
def redrive(context: click.Context, /, *, selection: Selection, **how: Any) -> None:
    """Deliver dead letters through the middleware and handler of FILE's pipeline again, in order for each item.

    What is delivered leaves the store. What fails again stays, and so do the later letters of its item. Exits with 1 if
    something failed. Ctrl-C ends it after the batch in flight.
    """
    context.exit(run_redrive(selection, "dead", **how, nothing=_NOTHING))


@dlq.command(short_help="Delete dead letters.")
@letters.selecting()
@click.option("--all", "everything", is_flag=True, help="All of them, where no other option chooses.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.debug
def purge(*, selection: Selection, everything: bool, yes: bool) -> None:
    """Delete dead letters for good. Their changes are never delivered then."""
    if not (everything or selection.restricted):
        raise click.UsageError("Say which ones, or --all.")
    # Exactly those that are asked about: what is kept meanwhile stays.
    ids = anyio.run(_ids, selection)
    if not ids:
        say(_NOTHING)
    elif letters.confirmed(f"Delete {number_of(len(ids), 'dead letter')} for good?", yes=yes):
        click.echo(f"{number_of(anyio.run(_remove, selection.store, ids), 'dead letter')} deleted")


async def _first(selection: Selection, limit: int) -> tuple[list[DeadLetter], bool]:
    """The first letters, and whether there are more."""
    found: list[DeadLetter] = []
    async with (
        letters.opened(selection.store) as store,
        aclosing(letters.selected_letters(store, selection, "dead")) as selected,
    ):
        async for letter in selected:
            if len(found) == limit:
                return found, True
            found.append(letter)
    return found, False


async def _find(store_url: str, letter_id: int) -> tuple[Drawer, DeadLetter] | None:
    drawers: tuple[Drawer, ...] = ("dead", "parked")
    async with letters.opened(store_url) as store:
        for drawer in drawers:
            for letter in await store.letters(LetterQuery(drawer=drawer, ids=(letter_id,))):
                return drawer, letter
    return None


async def _ids(selection: Selection) -> list[int]:
    async with letters.opened(selection.store) as store:
        return [letter.id async for letter in letters.selected_letters(store, selection, "dead")]


async def _remove(store_url: str, ids: Sequence[int]) -> int:
    starts = range(0, len(ids), _REMOVED_TOGETHER)
    async with letters.opened(store_url) as store:
        return sum([await store.remove("dead", ids[start : start + _REMOVED_TOGETHER]) for start in starts])


# --- how they are shown ----------------------------------------------------------------------------------------------


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (
        str(letter.id),
        time_text(letter.kept_at_s),
        letter.pipeline,
        letter.shard_id,
        letter.sequence_number,
        letter.reason,
        letter.error_type,
        str(letter.invoke_count),
        key_text(letter.item_key),
    )


def outline(letter: DeadLetter) -> dict[str, Any]:
    """All but the record and the error's text, which may quote it."""
    return {
        "id": letter.id,
        "kept_at": time_text(letter.kept_at_s),
        "pipeline": letter.pipeline,
        "stream_arn": letter.stream_arn,
        "shard_id": letter.shard_id,
        "sequence_number": letter.sequence_number,
        "reason": letter.reason,
        "error_type": letter.error_type,
        "attempts": letter.invoke_count,
        "item_key": letter.item_key,
    }


def whole(drawer: Drawer, letter: DeadLetter) -> dict[str, Any]:
    """A record that is no JSON is shown as text."""
    try:
        record: Any = json.loads(letter.record)
    except (ValueError, RecursionError):
        record = letter.record.decode("utf-8", "backslashreplace")
    return {"drawer": drawer, **outline(letter), "error": letter.error_text, "record": record}


def _page(drawer: Drawer, letter: DeadLetter) -> list[str]:
    named = {"drawer": drawer, **outline(letter), "error": letter.error_text}
    lines = [f"{name.replace('_', ' '):<16} {_indented(str(value))}".rstrip() for name, value in named.items()]
    try:
        record = msgspec.json.format(letter.record, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = letter.record.decode("utf-8", "backslashreplace")
    return [*lines, "record", letters.printable(record)]


def _indented(text: str) -> str:
    return letters.printable(text).replace("\n", "\n" + " " * 17)
