"""A `Source` over the state machine, without HTTP: for whole pipelines in virtual time."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from streamflow.errors import (
    AccessDeniedError,
    IteratorExpiredError,
    NotFoundError,
    RequestRefusedError,
    SourceError,
    ThrottledError,
    TrimmedError,
)
from streamflow.positions import TRIM_HORIZON, Position, PositionKind
from streamflow.protocols import Page, Pin, StreamInfo
from streamflow.records import Record, Shard
from streamflow.testing.faults import EmptyPage, FaultPlan, LeaveOut, Refuse
from streamflow.testing.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from streamflow.attributes import Numbers
    from streamflow.testing.faults import Fault
    from streamflow.testing.streams import LocalShard
    from streamflow.testing.tables import IteratorType, Tables

T = TypeVar("T")

_ERRORS: dict[str, type[SourceError]] = {
    "ResourceNotFoundException": NotFoundError,
    "TrimmedDataAccessException": TrimmedError,
    "ExpiredIteratorException": IteratorExpiredError,
    "ValidationException": RequestRefusedError,
    "LimitExceededException": ThrottledError,
    "ThrottlingException": ThrottledError,
    "ProvisionedThroughputExceededException": ThrottledError,
    "AccessDeniedException": AccessDeniedError,
    "UnrecognizedClientException": AccessDeniedError,
}

_ITERATOR_TYPES: dict[PositionKind, IteratorType] = {
    PositionKind.TRIM_HORIZON: "TRIM_HORIZON",
    PositionKind.LATEST: "LATEST",
    PositionKind.AT_SEQUENCE_NUMBER: "AT_SEQUENCE_NUMBER",
    PositionKind.AFTER_SEQUENCE_NUMBER: "AFTER_SEQUENCE_NUMBER",
}


class MemorySource:
    """Reads one stream of `tables`; `faults` are performed as errors and delays, under the operations' AWS names.

    It runs on the thread and the clock of its caller.
    """

    def __init__(
        self,
        tables: Tables,
        stream_arn: str,
        *,
        faults: FaultPlan | None = None,
        numbers: Numbers = "decimal",
    ) -> None:
        self._tables = tables
        self._stream_arn = stream_arn
        self._faults = faults or FaultPlan()
        self._numbers: Numbers = numbers

    async def describe(self) -> StreamInfo:
        """As `Source.describe`; the stream of a deleted table can still be described."""
        listing = await self._call("DescribeStream", lambda _: self._tables.describe_stream(self._stream_arn, limit=1))
        stream = listing.stream
        return StreamInfo(
            stream_arn=stream.stream_arn,
            name=stream.table_name,
            view_type=stream.view_type,
            enabled=stream.enabled,
            retention_s=self._tables.retention_s,
        )

    async def shards(self) -> Mapping[str, Shard]:
        """As `Source.shards`; one DescribeStream per page."""
        return {shard.shard_id: shard for shard in await self._listing(None)}

    async def children(self, shard: Shard) -> Sequence[Shard]:
        """As `Source.children`."""
        return [child for child in await self._listing(shard.shard_id) if shard.shard_id in child.parents]

    async def pin(self, shard: Shard) -> Pin:
        """As `Source.pin`: behind the newest record, or at the horizon of a shard without any."""

        def tip(_: Fault | None) -> Pin:
            cursor = self._tables.shard_iterator(self._stream_arn, shard.shard_id, "LATEST")
            numbers = self._tables.stream(self._stream_arn).shard(shard.shard_id).numbers
            return Pin(position=Position.after(str(numbers[-1])) if numbers else TRIM_HORIZON, cursor=cursor)

        return await self._call("GetShardIterator", tip, shard.shard_id)

    @asynccontextmanager
    async def open(
        self, shard: Shard, start: Position, *, cursor: str | None = None
    ) -> AsyncIterator[MemoryShardReader]:
        """As `Source.open`; nothing is asked before the first read."""
        yield MemoryShardReader(self, shard, start, cursor)

    async def _listing(self, children_of: str | None) -> list[Shard]:
        shards: list[Shard] = []
        after: str | None = None
        while True:
            start = after

            def page(fault: Fault | None, start: str | None = start) -> tuple[Sequence[LocalShard], str | None]:
                leave_out = fault.shard_ids if isinstance(fault, LeaveOut) else ()
                listing = self._tables.describe_stream(
                    self._stream_arn, after=start, children_of=children_of, leave_out=leave_out
                )
                return listing.shards, listing.last_evaluated

            listed, after = await self._call("DescribeStream", page)
            shards += [_shard(self._stream_arn, shard) for shard in listed]
            if after is None:
                return shards

    async def _iterator(self, shard: Shard, position: Position) -> str:
        def ask(_: Fault | None) -> str:
            kind = _ITERATOR_TYPES.get(position.kind)
            if kind is None:
                raise RefusedError("ValidationException", f"a DynamoDB stream has no iterator at {position}")
            return self._tables.shard_iterator(self._stream_arn, shard.shard_id, kind, position.sequence_number or None)

        return await self._call("GetShardIterator", ask, shard.shard_id)

    async def _page(self, shard: Shard, iterator: str, records_max: int) -> tuple[Page, str | None]:
        def ask(fault: Fault | None) -> tuple[Sequence[bytes], str | None]:
            page = self._tables.get_records(iterator, limit=records_max, empty=isinstance(fault, EmptyPage))
            return page.bodies, page.next_iterator

        bodies, following = await self._call("GetRecords", ask, shard.shard_id)
        records = [Record(msgspec.Raw(body), shard, self._numbers) for body in bodies]
        return Page(records=records, bytes=sum(map(len, bodies)), ended=following is None), following

    async def _call(self, operation: str, ask: Callable[[Fault | None], T], shard_id: str | None = None) -> T:
        """Ask, under the fault that is planned: one that spoils or loses the answer ends as a plain `SourceError`."""
        fault = self._faults.take(operation, shard_id)
        latency_s = self._faults.latency_s(operation)
        if latency_s:
            await anyio.sleep(latency_s)
        else:
            await anyio.lowlevel.checkpoint()
        match fault:
            case None | EmptyPage() | LeaveOut():
                try:
                    return ask(fault)
                except RefusedError as error:
                    raise _source_error(operation, error.code, error.message) from None
            case Refuse(code=code, message=message):
                raise _source_error(operation, code, message)
        raise SourceError(f"{operation}: {type(fault).__name__}, as planned")


def _source_error(operation: str, code: str, message: str) -> SourceError:
    error = _ERRORS.get(code, SourceError)(f"{operation}: {code}: {message}")
    error.code = code
    return error


class MemoryShardReader:
    """The reader that `MemorySource.open` yields."""

    def __init__(self, source: MemorySource, shard: Shard, start: Position, cursor: str | None) -> None:
        self._source = source
        self._shard = shard
        self._position = start
        self._iterator = cursor
        self._ended = start.kind is PositionKind.SHARD_END

    async def read(self, *, records_max: int) -> Page:
        """As `ShardReader.read`: an expired iterator is replaced by one at the last position."""
        if self._ended:
            await anyio.lowlevel.checkpoint()
            return Page(records=(), bytes=0, ended=True)
        try:
            page, following = await self._page(records_max)
        except IteratorExpiredError:
            self._iterator = None
            page, following = await self._page(records_max)
        self._iterator, self._ended = following, page.ended
        if page.records:
            self._position = page.records[-1].position
        return page

    async def _page(self, records_max: int) -> tuple[Page, str | None]:
        if self._iterator is None:
            self._iterator = await self._source._iterator(self._shard, self._position)
        return await self._source._page(self._shard, self._iterator, records_max)


def _shard(stream_arn: str, shard: LocalShard) -> Shard:
    return Shard(
        stream_arn=stream_arn,
        shard_id=shard.shard_id,
        parents=() if shard.parent_id is None else (shard.parent_id,),
        closed=shard.ending_number is not None,
    )
