"""What GetShardIterator and GetRecords answer: iterators that end early, pages that are empty, short or repeated."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamflow.testing.iterators import ShardIterator
from streamflow.testing.refusals import RefusedError

if TYPE_CHECKING:
    from streamflow.testing.requests import GetRecords, GetShardIterator
    from streamflow.testing.simulation.draws import Address
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.tables import RecordPage, Tables

# Powers of ten: 1 to 1000 empty pages in a row, small numbers as likely as great ones.
_EMPTY_PAGES_POWER_MAX = 3.0


@dataclass(slots=True)
class Reads:
    """Answers what readers ask. `address` names the request: each of its faults is drawn once."""

    tables: Tables
    faults: Faults
    _empty_left: dict[str, int] = field(default_factory=dict)
    """Shard id to the number of pages that are still to be empty."""

    def iterator(self, request: GetShardIterator) -> str:
        """Raises `RefusedError`."""
        return self.tables.shard_iterator(
            request.stream_arn, request.shard_id, request.shard_iterator_type, request.sequence_number
        )

    def page(self, request: GetRecords, *address: Address) -> RecordPage:
        """Raises `RefusedError`."""
        if self.faults.strikes("iterator.expired", *address):
            raise RefusedError("ExpiredIteratorException", "The shard iterator has expired")
        place = ShardIterator.parse(request.shard_iterator)
        unread = self._unread(place)
        if unread and self.faults.strikes("read.trimmed", *address):
            self._trim(place, self.faults.rng("read.trimmed", *address).randint(1, len(unread)), unread)
        limit = request.limit
        if unread and self.faults.strikes("read.page_cut", *address):
            rng = self.faults.rng("read.page_cut", *address)
            limit = rng.choice([1, rng.randint(1, min(limit, len(unread)))])
        empty = bool(unread) and self._is_empty(place.shard_id, address)
        page = self.tables.get_records(request.shard_iterator, limit=limit, empty=empty)
        return self._going_on(page, place, address)

    def last_of(self, request: GetRecords, page: RecordPage) -> int:
        """The number of a page's last record, at the moment at which it is read; 0 if it has none."""
        return self._unread(ShardIterator.parse(request.shard_iterator))[len(page.bodies) - 1] if page.bodies else 0

    def _unread(self, place: ShardIterator) -> list[int]:
        stream = self.tables.streams.get(place.stream_arn)
        shard = None if stream is None else stream.shards.get(place.shard_id)
        return [] if shard is None else shard.numbers[bisect_left(shard.numbers, place.number) :]

    def _trim(self, place: ShardIterator, count: int, unread: list[int]) -> None:
        """Retention overtakes the reader by so many records."""
        stream = self.tables.streams[place.stream_arn]
        stream.trim(stream.shards[place.shard_id], before=unread[count] if count < len(unread) else None)

    def _is_empty(self, shard_id: str, address: tuple[Address, ...]) -> bool:
        if self.faults.quiet:
            self._empty_left.clear()
        left = self._empty_left.get(shard_id, 0)
        if not left and self.faults.strikes("read.empty_pages", *address):
            power = self.faults.rng("read.empty_pages", *address).uniform(0.0, _EMPTY_PAGES_POWER_MAX)
            left = int(10**power)
        self._empty_left[shard_id] = max(0, left - 1)
        return left > 0

    def _going_on(self, page: RecordPage, place: ShardIterator, address: tuple[Address, ...]) -> RecordPage:
        """The same page with another iterator for what comes next."""
        tables, strikes = self.tables, self.faults.strikes
        if page.next_iterator is None:
            ending_number = tables.streams[place.stream_arn].shards[place.shard_id].ending_number
            if page.bodies and ending_number is not None and strikes("read.end_later", *address):
                # The end of the shard shows on a page of its own.
                return replace(page, next_iterator=tables.iterator_at(place.stream_arn, place.shard_id, ending_number))
        elif page.bodies and strikes("read.page_twice", *address):
            return replace(page, next_iterator=tables.iterator_at(place.stream_arn, place.shard_id, place.number))
        elif strikes("iterator.border", *address):
            # Good at this very moment, and at no later one.
            number = ShardIterator.parse(page.next_iterator).number
            iterator = tables.iterator_at(place.stream_arn, place.shard_id, number, age_s=tables.iterator_life_s)
            return replace(page, next_iterator=iterator)
        return page
