"""A tip that was pinned is of use to whoever begins there, and to nobody who begins anywhere else."""

from __future__ import annotations

import anyio
import pytest

from streamflow.engine.worker import Worker
from streamflow.positions import TRIM_HORIZON, Position
from streamflow.protocols import Pin
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

pytestmark = pytest.mark.anyio


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
