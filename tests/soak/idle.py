"""Days in which nothing happens, in virtual time: a worker that polls no more and no less on the last day than on the first."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from time import process_time
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.rules.pacing import PollPace
from streamflow.testing.memory_source import MemorySource
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.positions import Position
    from streamflow.protocols import Page, ShardReader
    from streamflow.records import Shard

POLL_INTERVAL_S = 10.0
SHARDS = 2
_DAY_S = 86_400.0


def idle(days: float) -> dict[str, Any]:
    """One record in each shard at first and at last, and nothing in between."""
    return anyio.run(_idle, days, backend_options={"loop_factory": lambda: SimulatedLoop(None)})


async def _idle(days: float) -> dict[str, Any]:
    world, began_cpu_s = IdleWorld(shards=SHARDS, options={"idle_poll_interval_s": POLL_INTERVAL_S}), process_time()
    async with world.working():
        world.write(*"abcdefgh")
        await world.until(world.everything_delivered)
        # Behind the minute in which a shard that had records is polled as if there were more.
        await anyio.sleep(600)
        halves = [await _polls_in(world, days / 2 * _DAY_S) for _ in range(2)]
        world.write(*"abcdefgh")
        written_s = world.clock.monotonic()
        await world.until(world.everything_delivered)
        late_s = world.clock.monotonic() - written_s
    world.check_order()
    pace = PollPace(interval_s=0.25, idle_interval_s=POLL_INTERVAL_S)
    # Each shard has a phase of its own, so that they are not polled in step.
    pauses = [pace.idle_pause_s(shards=SHARDS, phase=phase) for phase in (0.0, 1.0)]
    planned = [days / 2 * _DAY_S / pause * SHARDS for pause in pauses]
    return {
        "days": days,
        "records": len(set(world.deliveries)),
        "lost": len(set(world.written) - set(world.deliveries)),
        "duplicates": len(world.deliveries) - len(set(world.deliveries)),
        "polls": sum(halves),
        "polls_by_plan_max": max(halves) / planned[0],
        "polls_by_plan_min": min(halves) / planned[1],
        "drift": halves[1] / halves[0],
        "late_s": late_s,
        "cpu_s": process_time() - began_cpu_s,
    }


async def _polls_in(world: IdleWorld, seconds: float) -> int:
    before = world.polls.total()
    await anyio.sleep(seconds)
    return world.polls.total() - before


class IdleWorld(World):
    """Counts the polls of each shard."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.polls: Counter[str] = Counter()

    def source(self) -> MemorySource:
        return _Counted(self.controls.tables, self.stream_arn, self.polls)


class _Counted(MemorySource):
    def __init__(self, tables: Any, stream_arn: str, polls: Counter[str]) -> None:
        super().__init__(tables, stream_arn)
        self._polls = polls

    @asynccontextmanager
    async def open(self, shard: Shard, start: Position, *, cursor: str | None = None) -> AsyncIterator[Any]:
        async with super().open(shard, start, cursor=cursor) as reader:
            yield _CountedReader(reader, shard.shard_id, self._polls)


class _CountedReader:
    def __init__(self, reader: ShardReader, shard_id: str, polls: Counter[str]) -> None:
        self._reader = reader
        self._shard_id = shard_id
        self._polls = polls

    async def read(self, *, records_max: int) -> Page:
        self._polls[self._shard_id] += 1
        return await self._reader.read(records_max=records_max)
