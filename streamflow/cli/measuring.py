"""How far shards are behind their checkpoints: the stream is asked for the first record behind each of some of them.

It reads beside the workers, whose limits at the service it shares: one call for one shard in one look, and none where the
answer is known.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import NotFoundError, StreamflowError, TrimmedError
from streamflow.observe.fleet import Measured, to_measure, unfinished
from streamflow.records import Shard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.cli.leased import PlacedStream
    from streamflow.clock import Clock
    from streamflow.leases import Lease, LeaseKey
    from streamflow.positions import Position
    from streamflow.protocols import ShardReader

_READ_TOGETHER = 4
_READ_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where in a shard no record was found yet."""

    checkpoint: Position
    reader: ShardReader
    closing: AsyncExitStack


class Measurements:
    """What is known so far; open it with `open_measurements`."""

    def __init__(self, streams: Sequence[PlacedStream], *, most: int, clock: Clock) -> None:
        self.measured: dict[LeaseKey, Measured] = {}
        self._sources = {stream.pipeline: stream.source for stream in streams}
        self._most = most
        self._clock = clock
        self._limiter = anyio.CapacityLimiter(_READ_TOGETHER)
        self._tried_at: dict[LeaseKey, float] = {}
        # The service may answer with empty pages in front of a record. So the reader stays open where a page was empty,
        # and the next look goes on behind it: a checkpoint that does not move is found to be behind sooner or later.
        self._places: dict[LeaseKey, _Place] = {}

    async def measure(self, rows: Sequence[Lease]) -> list[str]:
        """Ask the stream about some of `rows`, and return what went wrong, each thing once."""
        await self._forget(rows)
        problems: list[str] = []
        async with anyio.create_task_group() as tasks:
            for row in to_measure(rows, self.measured, self._tried_at, most=self._most):
                self._tried_at[row.key] = self._clock.monotonic()
                reader = await self._reader(row)
                tasks.start_soon(self._read, row, reader, problems, name=f"{row.pipeline}/{row.shard_id}/look")
        for key in [key for key in self._places if key in self.measured and self.measured[key].made_at_s is not None]:
            await self._leave(key)
        return sorted(set(problems))

    async def aclose(self) -> None:
        for key in list(self._places):
            await self._leave(key)

    async def _read(self, row: Lease, reader: ShardReader, problems: list[str]) -> None:
        try:
            async with self._limiter:
                with anyio.fail_after(_READ_TIMEOUT_S):
                    page = await reader.read(records_max=1)
            made_at_s = page.records[0].created_at_s if page.records else None
            if made_at_s == 0:  # what a record has that does not tell; of such a shard nothing is known
                return
        except (TrimmedError, NotFoundError):
            made_at_s = float("-inf")
        except TimeoutError:
            problems.append(f"{row.pipeline}: lag: the stream did not answer within {_READ_TIMEOUT_S:g} s")
            return
        except StreamflowError as error:
            problems.append(f"{row.pipeline}: lag: {error}")
            return
        self.measured[row.key] = Measured(checkpoint=row.checkpoint, at_s=self._clock.wall(), made_at_s=made_at_s)

    async def _reader(self, row: Lease) -> ShardReader:
        if row.key not in self._places:
            source = self._sources[row.pipeline]
            assert source is not None
            shard = Shard(stream_arn=row.stream_arn, shard_id=row.shard_id, parents=row.parents)
            async with AsyncExitStack() as stack:
                reader = await stack.enter_async_context(source.open(shard, row.checkpoint))
                self._places[row.key] = _Place(checkpoint=row.checkpoint, reader=reader, closing=stack.pop_all())
        return self._places[row.key].reader

    async def _forget(self, rows: Sequence[Lease]) -> None:
        """All about shards that are read to their end, and places before checkpoints that have moved."""
        checkpoints = {row.key: row.checkpoint for row in unfinished(rows)}
        for key, place in list(self._places.items()):
            if checkpoints.get(key) != place.checkpoint:
                await self._leave(key)
        self.measured = {key: found for key, found in self.measured.items() if key in checkpoints}
        self._tried_at = {key: tried_at for key, tried_at in self._tried_at.items() if key in checkpoints}

    async def _leave(self, key: LeaseKey) -> None:
        await self._places.pop(key).closing.aclose()


@asynccontextmanager
async def open_measurements(streams: Sequence[PlacedStream], *, most: int, clock: Clock) -> AsyncIterator[Measurements]:
    """For up to `most` shards a look; with 0, `streams` need no sources."""
    found = Measurements(streams, most=most, clock=clock)
    try:
        yield found
    finally:
        await found.aclose()
