"""A tip that was pinned is of use to whoever begins there, and to nobody who begins anywhere else."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.batches import Batch  # noqa: TC001 - handlers are inspected
from streamflow.engine.worker import Worker
from streamflow.positions import TRIM_HORIZON, Position
from streamflow.protocols import Pin
from streamflow.testing.memory_source import MemoryShardReader, MemorySource
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.records import Shard

pytestmark = pytest.mark.anyio

TIME = Position.at_timestamp(1764000000.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


def cursor(world: World, shard_id: str, *, at: str) -> str:
    """What the service gives for the horizon (`TRIM_HORIZON`) or the tip (`LATEST`)."""
    return world.controls.tables.shard_iterator(world.stream_arn, shard_id, at)  # type: ignore[arg-type]


async def run_with(world: World, pin: Pin) -> None:
    """A worker that pinned the tip once, and gets the shard now."""
    flow = await world.flow("p", world.source(), worker_id="w2")
    (shard_id,) = world.controls.shard_ids("orders")
    flow.pins[shard_id] = pin
    worker = Worker([flow])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await worker.wait_started()
        world.write("last")
        await world.until(lambda: ("last", 1) in world.deliveries)
        worker.stop()


async def test_a_lease_that_moved_on_is_not_read_from_the_pinned_tip() -> None:
    world = World(shards=1)
    (shard_id,) = world.controls.shard_ids("orders")
    old = Pin(position=TRIM_HORIZON, cursor=cursor(world, shard_id, at="TRIM_HORIZON"))
    world.write("a", "b", "c")
    async with world.working(worker_id="w1"):
        await world.until(world.everything_delivered)
    await run_with(world, old)
    assert world.deliveries == [("a", 1), ("b", 1), ("c", 1), ("last", 1)], "nothing comes again"


async def test_a_lease_stored_by_an_earlier_look_loses_nothing_to_a_later_pin() -> None:
    world = World(shards=1)
    (shard_id,) = world.controls.shard_ids("orders")
    async with world.working(worker_id="w1"):
        await anyio.sleep(1)
    world.write("a", "b", "c")
    later = Pin(position=Position.at_timestamp(world.clock.wall()), cursor=cursor(world, shard_id, at="LATEST"))
    await run_with(world, later)
    assert world.deliveries == [("a", 1), ("b", 1), ("c", 1), ("last", 1)]


class PinnedByTime(MemorySource):
    """As DynamoDB Streams: the tip is stored as a time, and from that one the second before it is read again."""

    async def pin(self, shard: Shard) -> Pin:
        return Pin(position=TIME, cursor=(await super().pin(shard)).cursor)

    @asynccontextmanager
    async def open(
        self, shard: Shard, start: Position, *, cursor: str | None = None
    ) -> AsyncIterator[MemoryShardReader]:
        async with super().open(shard, TRIM_HORIZON if start == TIME else start, cursor=cursor) as reader:
            yield reader


async def test_whoever_follows_an_owner_that_died_at_its_first_record_delivers_nothing_older() -> None:
    world = World(shards=1)
    source = PinnedByTime(world.controls.tables, world.stream_arn)
    world.write("a")

    async def die(batch: Batch) -> None:
        await world.accept(batch)
        world.store.down = True
        await anyio.sleep_forever()

    first = Worker([await world.flow("p", source, die, worker_id="w1", starting_position="LATEST")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await first.wait_started()
        world.write("a")
        await world.until(lambda: world.store.down)
        tasks.cancel_scope.cancel()
    world.store.down = False
    world.write("last")
    second = Worker([await world.flow("p", source, worker_id="w2", starting_position="LATEST")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second.run)
        await world.until(lambda: ("last", 1) in world.deliveries)
        second.stop()
    assert world.deliveries == [("a", 2), ("a", 2), ("last", 1)]
