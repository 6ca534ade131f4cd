"""`streamflow parked`: items that were set aside with all their later changes, and how they are healed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import click

from streamflow.cli import letters, options
from streamflow.cli.letters import Selection, key_text, number_of, time_text
from streamflow.cli.redriving import redrive, redrive_options
from streamflow.cli.serving import say
from streamflow.dead_letters import LetterQuery
from streamflow.engine.letters import pages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.dead_letters import DeadLetter
    from streamflow.protocols import StateStore

_TITLES = ("pipeline", "changes", "oldest", "first id", "error type", "attempts", "item key")
_NOTHING = "there are no such parked items"


@click.group(short_help="Look at parked items, deliver their changes, or drop them.")
def parked() -> None:
    """Look at parked items, deliver their changes, or drop them.

    An item is parked when a change of it uses up its retries under on_poison = "park_key": the change and all later ones
    of the item are kept in the store of its pipeline. `streamflow dlq show ID` shows one of them.
    """


@parked.command("list", short_help="List parked items, without their data.")
@letters.selecting()
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="The first N.")
@options.as_json("Print one JSON object a line.")
@options.debug
def list_command(*, selection: Selection, limit: int, as_json: bool) -> None:
    """List the parked items of FILE's pipelines, or of a store: those with a change that the options choose."""
    items = anyio.run(_items, selection)
    for item in items[:limit] if as_json else ():
        click.echo(json.dumps(item.outline()))
    if not as_json and items:
        click.echo("\n".join(letters.table(_TITLES, [item.row() for item in items[:limit]])))
    if not items:
        say(_NOTHING)
    elif len(items) > limit:
        say(f"{limit:,} of {number_of(len(items), 'item')}: --limit {len(items)} shows all")


@parked.command(short_help="Deliver the changes of parked items, in order.")
@letters.selecting(file_required=True)
@redrive_options
@click.pass_context
def retry(context: click.Context, /, *, selection: Selection, **how: Any) -> None:
    """Deliver the changes of parked items through the middleware and handler of FILE's pipeline, in order for each item.

    Items are retried whole: the options choose those that have such a change. With its last change delivered an item is
    parked no more; one that fails again stays parked from that change on. Exits with 1 if something failed. Workers may
    go on meanwhile.
    """
    context.exit(redrive(selection, "parked", **how, nothing=_NOTHING))


@parked.command(short_help="Forget parked items and their changes.")
@letters.selecting()
@click.option("--all", "everything", is_flag=True, help="All of them, where no other option chooses.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.debug
def drop(*, selection: Selection, everything: bool, yes: bool) -> None:
    """Forget parked items for good, with all their changes: those are never delivered then.

    Items are dropped whole: the options choose those that have such a change. Their next change is delivered again.
    """
    if not (everything or selection.restricted):
        raise click.UsageError("Say which ones, or --all.")
    items = anyio.run(_items, selection)
    changes = number_of(sum(len(item.ids) for item in items), "change")
    if not items:
        say(_NOTHING)
    elif letters.confirmed(f"Drop {number_of(len(items), 'item')} and lose {changes} for good?", yes=yes):
        lost, parked_again = anyio.run(_drop, selection.store, items)
        click.echo(f"{number_of(len(items), 'item')} dropped, {number_of(lost, 'change')} lost")
        for item in parked_again:
            say(f"parked again meanwhile, with new changes: {key_text(item.first.item_key)}")


@dataclass(slots=True, eq=False)
class ParkedItem:
    """One item with what is known of its letters. `failed` is the first one that has an error."""

    query: LetterQuery
    """Selects its letters."""
    first: DeadLetter
    failed: DeadLetter
    ids: list[int] = field(default_factory=list)

    def add(self, letter: DeadLetter) -> None:
        self.ids.append(letter.id)
        if letter.error_type and not self.failed.error_type:
            self.failed = letter

    def row(self) -> tuple[str, ...]:
        return (
            self.first.pipeline,
            f"{len(self.ids):,}",
            time_text(self.first.kept_at_s),
            str(self.first.id),
            self.failed.error_type,
            str(self.failed.invoke_count),
            key_text(self.first.item_key),
        )

    def outline(self) -> dict[str, Any]:
        return {
            "pipeline": self.first.pipeline,
            "stream_arn": self.first.stream_arn,
            "item_key": self.first.item_key,
            "changes": len(self.ids),
            "oldest": time_text(self.first.kept_at_s),
            "first_id": self.first.id,
            "error_type": self.failed.error_type,
            "attempts": self.failed.invoke_count,
        }


async def _items(selection: Selection) -> list[ParkedItem]:
    """Whole items, also where the selection holds only some of their letters."""
    async with letters.opened(selection.store) as store:
        chosen: dict[tuple[str, str, str], None] = {}
        async for letter in letters.selected_letters(store, selection, "parked"):
            chosen[letter.pipeline, letter.stream_arn, letter.item_key] = None
        items = [await _whole_item(store, *item) for item in chosen]
    return [item for item in items if item is not None]


async def _whole_item(store: StateStore, pipeline: str, stream_arn: str, item_key: str) -> ParkedItem | None:
    """None: it was healed while we looked."""
    query = LetterQuery(drawer="parked", pipeline=pipeline, stream_arn=stream_arn, item_key=item_key)
    item: ParkedItem | None = None
    async for page in pages(store, query):
        for letter in page:
            item = item or ParkedItem(query, letter, letter)
            item.add(letter)
    return item


async def _drop(store_url: str, items: Sequence[ParkedItem]) -> tuple[int, list[ParkedItem]]:
    """How many letters were removed, and which items have new ones."""
    async with letters.opened(store_url) as store:
        # Each item in one step: what is left of one in between would be delivered without what was before it.
        lost = sum([await store.remove("parked", item.ids) for item in items])
        return lost, [item for item in items if await store.count(item.query)]
