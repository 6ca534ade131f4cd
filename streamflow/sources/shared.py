"""One stream for several flows: what one of them has read, the others need not read again.

Each shard has a log of the newest pages. A flow that is at its end reads on for all; one that falls so far behind that its
next page is gone reads for itself until it is back. So two readers ask a shard at the same time, at most.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from streamflow.clock import SystemClock
from streamflow.errors import TrimmedError
from streamflow.positions import SHARD_END
from streamflow.protocols import Page
from streamflow.records import Record, newest_outline
from streamflow.rules.page_log import PageLog, behind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streamflow.positions import Position
    from streamflow.protocols import Pin, ShardReader, Source, StreamInfo
    from streamflow.records import Shard


class SharedSource:
    """Keeps `streamflow.protocols.Source`, on behalf of the flows that it is given to.

    A shard's log takes `log_bytes_max` beside what the flows buffer themselves. Readers of the source that it wraps may be
    closed by another task than the one that opened them.
    """

    def __init__(self, source: Source, *, log_bytes_max: int) -> None:
        self._source = source
        self._log_bytes_max = log_bytes_max
        self._shards: dict[str, _SharedShard] = {}
        self._pins: dict[str, Pin] = {}

    async def describe(self) -> StreamInfo:
        """See `Source.describe`."""
        return await self._source.describe()

    async def shards(self) -> Mapping[str, Shard]:
        """See `Source.shards`."""
        return await self._source.shards()

    async def children(self, shard: Shard) -> Sequence[Shard]:
        """See `Source.children`."""
        return await self._source.children(shard)

    async def pin(self, shard: Shard) -> Pin:
        """See `Source.pin`: one place for all flows, so that they can go on together."""
        if shard.shard_id not in self._pins:
            pinned = await self._source.pin(shard)
            self._pins.setdefault(shard.shard_id, pinned)
        return self._pins[shard.shard_id]

    @asynccontextmanager
    async def open(self, shard: Shard, start: Position, *, cursor: str | None = None) -> AsyncIterator[ShardReader]:
        """See `Source.open`."""
        shared = self._shards.setdefault(shard.shard_id, _SharedShard(self._source, shard, self._log_bytes_max))
        reader = _SharedReader(shared, start, cursor)
        shared.readers += 1
        try:
            yield reader
        finally:
            with anyio.CancelScope(shield=True):
                await reader.leave()
            shared.readers -= 1
            if not shared.readers:
                self._shards.pop(shard.shard_id, None)


@dataclass(slots=True, eq=False)
class _Log:
    """Pages, and the one reader that reads on at their end; closed when the last flow leaves."""

    pages: PageLog
    reader: ShardReader
    closing: AsyncExitStack
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    users: int = 0
    ended: bool = False
    asked_at_s: float = 0.0
    """When the newest page was asked for, on the monotonic clock: of an empty one only that says what it is worth."""

    async def page(self, number: int, records_max: int) -> tuple[int, Page] | None:
        """See `PageLog.page`; read now if it is the next one. None if it is gone.

        A page that another flow has read a moment ago is as good: it is that much older.
        """
        if number == self.pages.next_number:
            async with self.turn:
                if number == self.pages.next_number:
                    if self.ended:
                        return number, Page(records=(), bytes=0, ended=True)
                    asked_at_s = SystemClock().monotonic()
                    page = await self.reader.read(records_max=records_max)
                    self.pages.append(page)
                    self.ended, self.asked_at_s = page.ended, asked_at_s
                    return number, page
        found = self.pages.page(number)
        if found is None or found[1].records:
            return found
        # Of empty pages the log has the newest alone.
        return found[0], replace(found[1], age_s=SystemClock().monotonic() - self.asked_at_s)


@dataclass(slots=True, eq=False)
class _SharedShard:
    source: Source
    shard: Shard
    log_bytes_max: int
    log: _Log | None = None
    readers: int = 0
    apart: anyio.Lock = field(default_factory=anyio.Lock)
    """For the one that reads for itself."""

    async def open(self, start: Position, cursor: str | None) -> tuple[ShardReader, AsyncExitStack]:
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(self.source.open(self.shard, start, cursor=cursor))
            return reader, stack.pop_all()

    def begin_log(self, start: Position, reader: ShardReader, closing: AsyncExitStack) -> _Log:
        self.log = _Log(PageLog(start, self.log_bytes_max), reader, closing)
        return self.log

    def retire(self, log: _Log) -> None:
        """Let nobody join any more: whoever goes on at the horizon means that of now, not the one where this log began."""
        if self.log is log:
            self.log = None


class _SharedReader:
    """Keeps `streamflow.protocols.ShardReader` for one flow: with the log where it can, else by itself."""

    def __init__(self, shared: _SharedShard, start: Position, cursor: str | None) -> None:
        self._shared = shared
        self._position = start
        self._cursor = cursor
        self._log: _Log | None = None
        self._number = 0
        self._joined = False
        self._own: tuple[ShardReader, AsyncExitStack] | None = None
        self._ended = start == SHARD_END

    async def read(self, *, records_max: int) -> Page:
        """See `ShardReader.read`; a page of the log is as large as the flow that read it wanted."""
        if self._ended:
            return Page(records=(), bytes=0, ended=True)
        if self._log is None:
            await self._join()
        found = None
        if self._log is not None:
            try:
                found = await self._log.page(self._number, records_max)
            except TrimmedError:
                self._shared.retire(self._log)
                raise
            if found is None:
                await self._leave_log()
        if found is None:
            return self._turn(await self._read_apart(records_max))
        self._number = found[0] + 1
        return self._turn(found[1])

    async def leave(self) -> None:
        """Close what nobody reads any more."""
        await self._leave_log()
        await self._close_own()

    async def _join(self) -> None:
        """Go on with the log where it holds what comes next; where there is none, begin one."""
        log = self._shared.log
        if log is None:
            reader, closing = self._own or await self._shared.open(self._position, self._cursor)
            self._own = self._cursor = None
            if self._shared.log is not None:  # somebody was faster
                self._own = reader, closing
                return
            log = self._shared.begin_log(self._position, reader, closing)
        number = log.pages.number_at(self._position)
        if number is None:
            return
        self._log, self._number, self._joined = log, number, True
        log.users += 1
        await self._close_own()

    async def _read_apart(self, records_max: int) -> Page:
        if self._own is None:
            self._own = await self._shared.open(self._position, self._cursor)
            self._cursor = None
        async with self._shared.apart:
            return await self._own[0].read(records_max=records_max)

    def _turn(self, page: Page) -> Page:
        """The page as this flow needs it: from its position on, with records that no other flow decodes."""
        # Only the first page of a log may begin before our position; to look into all of them would cost too much.
        records = behind(page.records, self._position) if self._joined else page.records
        self._joined = False
        if (newest := newest_outline(records)) is not None:
            self._position = newest[0]
        self._ended = page.ended
        return replace(page, records=[Record(record.json, record.shard, record.numbers) for record in records])

    async def _leave_log(self) -> None:
        log, self._log = self._log, None
        if log is None:
            return
        log.users -= 1
        if not log.users:
            self._shared.retire(log)
            await log.closing.aclose()

    async def _close_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            await own[1].aclose()
