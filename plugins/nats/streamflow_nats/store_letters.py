"""Dead letters and parked records as entries of a bucket of their own, whose revisions are their ids.

An entry of a letter is written once and never changes, so the ids are in the order of keeping, and JetStream itself finds
and counts the letters beyond an id. What is noted when a record is kept again becomes an entry beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamflow_nats.store_buckets import PAGE_ENTRIES
from streamflow_nats.store_drawers import Drawers
from streamflow_nats.store_keys import (
    BODY,
    LETTER,
    facts,
    is_found,
    item_token,
    items_filter,
    letter_filter,
    place_of,
    text_of,
)
from streamflow_nats.store_letter_entries import damaged, decoded, with_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamflow.dead_letters import DeadLetter, Drawer, LetterQuery
    from streamflow_nats.store_buckets import Bucket, Entry

_ID_MAX = 2**63 - 1  # far beyond any revision, and a number that every server reads
_FEW = 16


class NatsLetters:
    """The contract of `DeadLetterStore`."""

    def __init__(self, bucket: Bucket) -> None:
        self._letters = bucket
        self._drawers = Drawers(bucket)

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        await self._drawers.fill("dead", letters)

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        if not opening:
            return await self._drawers.follow(letters)
        await self._drawers.fill("parked", letters)
        return frozenset(letter.item_key for letter in letters)

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        found = {item_token(key) for key in await self._letters.keys(items_filter(pipeline, stream_arn))}
        keys = {text_of(item) for item in found}
        for item in [item for item in found if text_of(item) is None]:  # a long key: its letters have it
            entry = await self._letters.last(items_filter(pipeline, stream_arn, item))
            if entry is not None:
                letter, _ = decoded(entry.data, entry.revision)
                keys.add(letter.item_key)
        return frozenset(key for key in keys if key)

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        entries = await self._entries(query)
        later = await self._letters.scan_of([facts(entry.revision) for entry in entries])
        noted = {entry.key: entry.data for entry in later}
        found: list[DeadLetter] = []
        for entry in entries:
            letter, pieces = decoded(entry.data, entry.revision)
            if facts(letter.id) in noted:
                letter = with_facts(letter, noted[facts(letter.id)])
            if pieces:
                record = await self._record(entry, pieces)
                if record is None:
                    continue
                letter = replace(letter, record=record)
            found.append(letter)
        return found

    async def count(self, query: LetterQuery) -> int:
        if query.ids:
            return len(await self._among(query.ids, query))
        if query.after_id > _ID_MAX:
            return 0
        return await self._letters.count(letter_filter(query), after=max(0, query.after_id))

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        entries = await self._by_id(ids, f"{drawer}.*.*.*.*.*.{LETTER}")
        if not entries:
            return 0
        noted = await self._letters.scan_of([facts(entry.revision) for entry in entries])
        # With the pieces of its record, which are older than the letter.
        removed = await self._letters.purge(*((f"{place_of(entry.key)}.>", entry.revision) for entry in entries))
        await self._letters.purge(*((entry.key, entry.revision) for entry in noted))
        if drawer == "parked":
            await self._drawers.touch()
        return sum(number > 0 for number in removed)

    # -- entries ----------------------------------------------------------------------------------------------------------

    async def _entries(self, query: LetterQuery) -> Sequence[Entry]:
        wanted = max(0, query.limit)
        if query.ids:
            return (await self._among(query.ids, query))[:wanted]
        if query.after_id > _ID_MAX:
            return []
        found: list[Entry] = []
        after = max(0, query.after_id)
        while len(found) < wanted:
            limit = min(PAGE_ENTRIES, wanted - len(found))
            page = await self._letters.scan(letter_filter(query), after=after, limit=limit)
            if not page:
                break
            found += await self._letters.confirmed(page)
            after = page[-1].revision
        return found

    async def _among(self, ids: Iterable[int], query: LetterQuery) -> list[Entry]:
        beyond = [letter_id for letter_id in ids if letter_id > query.after_id]
        return await self._by_id(beyond, letter_filter(query))

    async def _by_id(self, ids: Iterable[int], keys: str) -> list[Entry]:
        """In order; only those that the filter finds. Many that are close together are read in pages."""
        left = sorted({letter_id for letter_id in ids if 0 < letter_id <= _ID_MAX})
        found: list[Entry] = []
        hits = PAGE_ENTRIES
        while len(left) > _FEW and hits > _FEW:
            wanted = frozenset(left)
            page = await self._letters.scan(keys, after=left[0] - 1, limit=PAGE_ENTRIES)
            found += await self._letters.confirmed([entry for entry in page if entry.revision in wanted])
            left = [letter_id for letter_id in left if page and letter_id > page[-1].revision]
            hits = len(wanted) - len(left)
        return [*found, *(entry for entry in await self._letters.at(left) if is_found(keys, entry.key))]

    async def _record(self, entry: Entry, pieces: int) -> bytes | None:
        """What was kept in pieces; None if the letter was removed meanwhile."""
        keys = [f"{place_of(entry.key)}.{BODY}.{number}" for number in range(pieces)]
        found = [piece.data for piece in await self._letters.last_of(keys) if piece is not None]
        if len(found) == pieces:
            return b"".join(found)
        if not await self._letters.at([entry.revision]):
            return None
        raise damaged(entry.revision, "a part of its record is not there")
