"""Read-ahead, bounded in bytes per shard and per worker. Full means wait, never drop.

A shard that holds nothing may always read: the worker's bound is exceeded by at most one page per shard, and one slow
sink cannot starve the other shards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.records import Record
    from streamflow.rules.batching import Batcher


@dataclass(slots=True, eq=False)
class ReadAhead:
    """Bytes that a whole worker has read and not settled."""

    bytes_max: int
    bytes: int = 0
    _freed: anyio.Event = field(default_factory=anyio.Event)

    def take(self, count: int) -> None:
        self.bytes += count

    def give_back(self, count: int) -> None:
        self.bytes -= count
        if count:
            # Also while over the bound: a shard that holds nothing any more may read, whatever the others hold.
            self._freed.set()
            self._freed = anyio.Event()

    async def wait_freed(self) -> None:
        await self._freed.wait()


def json_bytes(records: Sequence[Record]) -> int:
    """Bytes of the records as the service sent them: what buffering them costs."""
    return sum([len(record.json) for record in records])


@dataclass(slots=True, eq=False)
class ShardBuffer:
    """Between the reader and the delivery of one shard. Bytes count until they are settled."""

    batcher: Batcher
    read_ahead: ReadAhead
    bytes_max: int
    bytes: int = 0
    ended: bool = False
    failure: Exception | None = None
    """Why no page will follow, where it is not the end of the shard; what is buffered is delivered all the same."""
    _changed: anyio.Event = field(default_factory=anyio.Event)

    async def wait_room(self) -> None:
        """Wait until this shard may read another page."""
        while self.bytes and (self.bytes >= self.bytes_max or self.read_ahead.bytes >= self.read_ahead.bytes_max):
            if self.bytes >= self.bytes_max:
                await self._wait_change()
            else:
                await self.read_ahead.wait_freed()

    def put(self, records: Sequence[Record], *, now: float) -> None:
        count = json_bytes(records)
        self.bytes += count
        self.read_ahead.take(count)
        self.batcher.add(records, now)
        self._signal()

    def end(self, failure: Exception | None = None) -> None:
        """No page will follow."""
        self.ended, self.failure = True, failure
        self._signal()

    def settle(self, count: int) -> None:
        """These bytes are settled."""
        self.bytes -= count
        self.read_ahead.give_back(count)
        self._signal()

    def wake(self) -> None:
        """Have whoever waits here look around: the flow stops."""
        self._signal()

    def close(self) -> None:
        """Give back what is left, unsettled."""
        self.read_ahead.give_back(self.bytes)
        self.bytes = 0

    async def wait_change(self, *, until: float | None, now: float) -> None:
        """Wait for a page or the end, at most until the monotonic time `until`."""
        with anyio.move_on_after(None if until is None else max(0.0, until - now)):
            await self._wait_change()

    async def _wait_change(self) -> None:
        await self._changed.wait()

    def _signal(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
