"""Reads one shard of a DynamoDB stream page by page."""

from __future__ import annotations

import math
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

from streamflow.errors import IteratorExpiredError, MalformedRecordError
from streamflow.positions import SHARD_END, PositionKind
from streamflow.protocols import Page
from streamflow.records import Record, newest_outline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.attributes import Numbers
    from streamflow.positions import Position
    from streamflow.records import Shard
    from streamflow.sources.dynamodb_calls import RecordsAnswer, StreamCalls

# Pages older than the starting time that one read passes over before it lets its caller look up.
_SKIPPED_PAGES_MAX = 20


class DynamoDBShardReader:
    """Keeps `streamflow.protocols.ShardReader`.

    Its state changes only between two awaits, behind a decoded page: a read that is cancelled has not happened.
    """

    def __init__(
        self, calls: StreamCalls, shard: Shard, start: Position, *, cursor: str | None, numbers: Numbers
    ) -> None:
        self._calls = calls
        self._shard = shard
        self._numbers: Numbers = numbers
        self._position = start
        self._read_through = int(start.sequence_number) if start.kind is PositionKind.AFTER_SEQUENCE_NUMBER else -1
        self._iterator = cursor
        self._skip_before_s: float | None = None
        self._reopened = False
        self._ended = start == SHARD_END

    async def read(self, *, records_max: int) -> Page:
        """See `ShardReader.read`. Where it starts at a time, everything up to the first record of that time is skipped.

        What is skipped, or came before, is no empty page: that would say that there is nothing more.
        """
        page, skipped = await self._read(records_max)
        pages = 1
        while skipped and not page.records and not page.ended and pages < _SKIPPED_PAGES_MAX:
            page, skipped = await self._read(records_max)
            pages += 1
        return page

    async def _read(self, records_max: int) -> tuple[Page, bool]:
        """A page, and whether records of it were skipped."""
        if self._ended:
            return Page(records=(), bytes=0, ended=True), False
        iterator = self._iterator or await self._open()
        try:
            answer, size_bytes = await self._calls.records(iterator, records_max=records_max)
        except IteratorExpiredError:
            # Routine: iterators live for 15 minutes, and a shard may wait longer than that for room to read.
            iterator = await self._open()
            self._reopened = True
            answer, size_bytes = await self._calls.records(iterator, records_max=records_max)
        return self._turn(answer, size_bytes)

    async def _open(self) -> str:
        iterator, _ = await self._calls.shard_iterator(self._shard.shard_id, self._position)
        if self._position.kind is PositionKind.AT_TIMESTAMP:
            # Creation times are rounded down to the second.
            self._skip_before_s = math.floor(self._position.timestamp_s)
        self._iterator = iterator
        return iterator

    def _turn(self, answer: RecordsAnswer, size_bytes: int) -> tuple[Page, bool]:
        numbers = cast("Any", self._numbers)
        records: Sequence[Record] = list(map(Record, answer.records, repeat(self._shard), repeat(numbers)))
        newest = newest_outline(records)
        if newest is not None and _number(records[0]) <= self._read_through:
            # A page that came before, in whole or in part: what was read is not read again, and nothing moves back.
            records = [record for record in records if _number(record) > self._read_through]
            newest = newest_outline(records)
        wanted = records if self._skip_before_s is None else self._wanted(records, self._skip_before_s)
        page = Page(records=wanted, bytes=size_bytes, ended=answer.next_shard_iterator is None, reopened=self._reopened)
        if newest is not None:
            self._position = newest[0]
            self._read_through = int(newest[0].sequence_number)
        self._iterator, self._ended, self._reopened = answer.next_shard_iterator, page.ended, False
        return page, len(wanted) < len(answer.records)

    def _wanted(self, records: Sequence[Record], skip_before_s: float) -> Sequence[Record]:
        """From the first record of the starting time on; nothing behind that one is ever skipped."""
        for index, record in enumerate(records):
            if not _is_older(record, skip_before_s):
                self._skip_before_s = None
                return records[index:]
        return ()


def _number(record: Record) -> float:
    try:
        return int(record.sequence_number)
    except MalformedRecordError:
        return math.inf  # nobody knows that it came before


def _is_older(record: Record, time_s: float) -> bool:
    try:
        return record.created_at_s < time_s
    except MalformedRecordError:
        return False  # whoever handles it decides
