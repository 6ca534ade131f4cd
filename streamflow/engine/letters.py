"""Kept letters read page by page, in the order in which they may be delivered; never all of them in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamflow.dead_letters import LetterQuery
from streamflow.rules.letter_order import in_order, item_of, outline_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from streamflow.dead_letters import DeadLetter
    from streamflow.protocols import DeadLetterStore
    from streamflow.rules.letter_order import Item, Outline

PAGE_LETTERS = 500


async def pages(store: DeadLetterStore, query: LetterQuery) -> AsyncGenerator[Sequence[DeadLetter], None]:
    """All that `query` selects, whatever its limit says, by ascending id."""
    after_id = query.after_id
    while page := await store.letters(replace(query, after_id=after_id, limit=PAGE_LETTERS)):
        yield page
        after_id = page[-1].id


async def item_outlines(store: DeadLetterStore, query: LetterQuery, item: Item) -> list[Outline]:
    """Of one item's letters among those of `query`, by ascending id."""
    stream_arn, item_key = item
    of_item = replace(query, stream_arn=stream_arn, item_key=item_key)
    return [outline_of(letter) async for page in pages(store, of_item) for letter in page]


async def letters_by_id(
    store: DeadLetterStore, query: LetterQuery, ids: Sequence[int]
) -> AsyncGenerator[DeadLetter, None]:
    """Letters in the order of `ids`, without those that are gone by now."""
    for start in range(0, len(ids), PAGE_LETTERS):
        among = tuple(ids[start : start + PAGE_LETTERS])
        found = await store.letters(
            LetterQuery(drawer=query.drawer, pipeline=query.pipeline, ids=among, limit=PAGE_LETTERS)
        )
        by_id = {letter.id: letter for letter in found}
        for each in among:
            if each in by_id:
                yield by_id[each]


async def letters_in_order(store: DeadLetterStore, query: LetterQuery) -> AsyncGenerator[DeadLetter, None]:
    """What `query` selects, by ascending id; an item whose ids are not in order goes whole, with the first of them."""
    # Item to the id up to which its order is known, and whether it went whole; kept while ids up to that are ahead.
    known: dict[Item, tuple[int, bool]] = {}
    async for page in pages(store, query):
        outlines = _outlines_by_item(page)
        last_id = page[-1].id
        for letter in page:
            item = item_of(letter)
            if item is None:
                yield letter
                continue
            known_to, whole = known.get(item, (0, False))
            if letter.id > known_to:
                of_item = [each for each in outlines[item] if each.id >= letter.id]
                if len(page) == PAGE_LETTERS:
                    of_item += await item_outlines(store, replace(query, after_id=last_id), item)
                ordered = in_order(of_item)
                whole = ordered != of_item
                known[item] = of_item[-1].id, whole
                if whole:
                    async for each in letters_by_id(store, query, [outline.id for outline in ordered]):
                        yield each
            if not whole:
                yield letter
        known = {item: (known_to, whole) for item, (known_to, whole) in known.items() if known_to > last_id}


def _outlines_by_item(letters: Sequence[DeadLetter]) -> dict[Item, list[Outline]]:
    outlines: dict[Item, list[Outline]] = {}
    for letter in letters:
        if (item := item_of(letter)) is not None:
            outlines.setdefault(item, []).append(outline_of(letter))
    return outlines


@dataclass(slots=True, eq=False)
class ChosenItems:
    """The items that have letters among those of a query, in the order of their first ones.

    `left_out` counts the letters of items none of whose letters `accepts`.
    """

    items: list[Item]
    left_out: int


async def chosen_items(
    store: DeadLetterStore, query: LetterQuery, accepts: Callable[[DeadLetter], bool] | None
) -> ChosenItems:
    """Look through all letters of `query`. Those without a readable key belong to no item and are never parked."""
    matches: dict[Item, bool] = {}
    counts: dict[Item, int] = {}
    async for page in pages(store, query):
        for letter in page:
            if (item := item_of(letter)) is not None:
                counts[item] = counts.get(item, 0) + 1
                matches[item] = matches.get(item, False) or accepts is None or accepts(letter)
    items = [item for item, matching in matches.items() if matching]
    return ChosenItems(items, sum(counts[item] for item, matching in matches.items() if not matching))
