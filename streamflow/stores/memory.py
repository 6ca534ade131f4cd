"""Leases and letters in dictionaries, for tests and for reading without a trace: a restart knows nothing of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from streamflow.errors import ConfigError
from streamflow.leases import LeaseLayout
from streamflow.sdk.declarations import StorePlugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from streamflow.dead_letters import DeadLetter, Drawer, LetterQuery
    from streamflow.leases import Lease, LeaseKey

# Drawer, pipeline, stream, shard, sequence number.
_Place: TypeAlias = "tuple[Drawer, str, str, str, str]"


class MemoryStore:
    """The contract of `StateStore` within one event loop; nothing in it ever waits."""

    layout: LeaseLayout = LeaseLayout.NATIVE

    def __init__(self) -> None:
        self._rows: dict[LeaseKey, Lease] = {}
        self._letters: dict[_Place, DeadLetter] = {}  # by ascending id: an old place keeps its id, a new one is last
        self._last_id = 0

    # -- leases -------------------------------------------------------------------------------------------------------

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        return [
            row if row.window is None else replace(row, window=None)
            for key, row in self._rows.items()
            if (key.pipeline, key.stream_arn) == (pipeline, stream_arn)
        ]

    async def get(self, key: LeaseKey) -> Lease | None:
        return self._rows.get(key)

    async def create(self, lease: Lease) -> Lease | None:
        if lease.key in self._rows:
            return None
        return self._store(lease, version=lease.version + 1)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        current = self._rows.get(lease.key)
        if current is None or current.version != expected_version:
            return None
        return self._store(lease, version=expected_version + 1)

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        current = self._rows.get(key)
        if current is None or current.version != expected_version:
            return False
        self._set(key, None)
        return True

    def _store(self, lease: Lease, *, version: int) -> Lease:
        stored = replace(lease, version=version)
        self._set(lease.key, stored)
        return stored

    def _set(self, key: LeaseKey, row: Lease | None) -> None:
        """The one place where rows change; None takes one away."""
        if row is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row

    # -- letters ------------------------------------------------------------------------------------------------------

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        self._put("dead", letters)

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        taken = letters
        if not opening:
            parked = {_item(letter) for letter in self._in("parked") if letter.item_key}
            taken = [letter for letter in letters if _item(letter) in parked]
        self._put("parked", taken)
        return frozenset(letter.item_key for letter in taken)

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        parked = (_item(letter) for letter in self._in("parked") if letter.item_key)
        return frozenset(key for *stream, key in parked if stream == [pipeline, stream_arn])

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        return self._found(query)[: max(0, query.limit)]

    async def count(self, query: LetterQuery) -> int:
        return len(self._found(query))

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        removed = frozenset(ids)
        places = [place for place, letter in self._letters.items() if place[0] == drawer and letter.id in removed]
        for place in places:
            del self._letters[place]
        return len(places)

    def _put(self, drawer: Drawer, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            place = (drawer, letter.pipeline, letter.stream_arn, letter.shard_id, letter.sequence_number)
            if (there := self._letters.get(place)) is None:
                self._last_id += 1
            self._letters[place] = replace(letter, id=self._last_id if there is None else there.id)

    def _in(self, drawer: Drawer) -> Iterator[DeadLetter]:
        return (letter for place, letter in self._letters.items() if place[0] == drawer)

    def _found(self, query: LetterQuery) -> Sequence[DeadLetter]:
        ids = frozenset(query.ids)
        return [letter for letter in self._in(query.drawer) if _matches(letter, query, ids)]


def _item(letter: DeadLetter) -> tuple[str, str, str]:
    return letter.pipeline, letter.stream_arn, letter.item_key


def _matches(letter: DeadLetter, query: LetterQuery, ids: frozenset[int]) -> bool:
    return (
        query.pipeline in (None, letter.pipeline)
        and query.stream_arn in (None, letter.stream_arn)
        and query.shard_id in (None, letter.shard_id)
        and query.item_key in (None, letter.item_key)
        and (not ids or letter.id in ids)
        and letter.id > query.after_id
    )


@asynccontextmanager
async def _open_url(url: str) -> AsyncIterator[MemoryStore]:
    if url != "memory:":
        raise ConfigError("store: the store in memory has the URL memory: and nothing behind it")
    yield MemoryStore()


memory = StorePlugin(
    name="memory",
    api_version="1.0",
    summary="Nothing durable: for tests, and for reading without a trace.",
    url_example="memory:",
    open=_open_url,
)
