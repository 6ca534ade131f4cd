"""Checkpoints outlive the options they were stored under: other options, and workers with different ones side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow.leases import STREAM_ROW
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from streamflow.leases import Lease

pytestmark = pytest.mark.anyio

KEYS = [f"k{number}" for number in range(12)]
BEFORE: dict[str, Any] = {"batch_size": 3, "parallelization_factor": 1, "checkpoint_interval_s": 0.5}
AFTER: dict[str, Any] = {
    "batch_size": 100,
    "parallelization_factor": 4,
    "maximum_batching_window_s": 1.0,
    "maximum_retry_attempts": 2,
    "bisect_batch_on_function_error": True,
    "buffer_bytes_max": 65_536,
    "polling": "cost",
}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


@pytest.mark.fault("F5", "F59")
async def test_other_options_go_on_at_the_checkpoints_of_the_ones_before_and_back_again() -> None:
    world = World(shards=3)
    for life, options in enumerate([BEFORE, AFTER, BEFORE, AFTER]):
        world.write(*KEYS)
        world.controls.split("orders")
        world.write(*KEYS)
        async with world.working(worker_id=f"w{life}", **options):
            await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written), "a clean stop repeats nothing, whatever comes next"
    world.check_order()


@pytest.mark.fault("F5")
async def test_other_filters_decide_from_the_checkpoint_on_and_bring_nothing_back() -> None:
    world = World(shards=1)
    only_a = ('{"dynamodb": {"Keys": {"id": {"S": ["a"]}}}}',)
    world.write("a", "b")
    async with world.working(filters=only_a):
        await world.until(lambda: ("a", 1) in world.deliveries)
        await anyio.sleep(5)
    world.write("a", "b")
    async with world.working(worker_id="w2"):
        await world.until(lambda: ("b", 2) in world.deliveries)
    assert world.deliveries == [("a", 1), ("a", 2), ("b", 2)]


@pytest.mark.fault("F59")
async def test_workers_of_two_configurations_share_the_shards_while_one_replaces_the_other() -> None:
    world = World(shards=6)
    async with anyio.create_task_group() as tasks:
        for life in range(4):
            old = await world.worker(worker_id=f"old{life}", **BEFORE)
            new = await world.worker(worker_id=f"new{life}", **AFTER)
            tasks.start_soon(old.run)
            tasks.start_soon(new.run)
            await old.wait_started()
            await new.wait_started()
            with anyio.fail_after(60):
                while not {f"old{life}", f"new{life}"} <= await owners(world):  # noqa: ASYNC110 - in virtual time a look costs nothing
                    await anyio.sleep(0.2)
            world.write(*KEYS)
            world.controls.rollover("orders")
            world.write(*KEYS)
            first, second = (old, new) if life % 2 else (new, old)
            first.stop()
            await world.until(world.everything_delivered)
            second.stop()
    assert sorted(world.deliveries) == sorted(world.written)
    world.check_order()


async def owners(world: World) -> set[str | None]:
    """Who has shards now."""
    rows: list[Lease] = list(await world.store.inner.list("p", world.stream_arn))
    return {row.owner for row in rows if row.shard_id != STREAM_ROW}
