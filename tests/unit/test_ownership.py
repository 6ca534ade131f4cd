"""A lease is believed in for less time than any observer waits, and every write of it is fenced."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import anyio
import pytest

from streamflow import events
from streamflow.engine.ownership import HeldLease, Ownership
from streamflow.errors import LeaseLostError, StoreError
from streamflow.positions import Position
from virtual import VirtualLoop
from world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def held_by(world: World, worker_id: str = "w1") -> tuple[Ownership, HeldLease]:
    """A lease of the one shard, taken by a worker of this name."""
    ownership = Ownership((await world.worker(worker_id=worker_id)).flows[0])
    held = await ownership.take(next(row for row in await ownership.rows() if row.shard_id != "stream"))
    assert held is not None
    return ownership, held


async def world_with_a_row() -> World:
    world = World(shards=1)
    async with world.working(worker_id="first"):
        await anyio.sleep(1)
    return world


async def test_a_lease_past_its_validity_is_not_written_even_if_nobody_took_it() -> None:
    world = await world_with_a_row()
    _, held = await held_by(world)
    await anyio.sleep(8.5)
    writes = world.store.writes
    with pytest.raises(LeaseLostError):
        await held.write(checkpoint=Position.after("1"))
    assert world.store.writes == writes
    assert not held.valid


async def test_validity_counts_from_before_the_write_was_sent_and_ends_before_observers_lose_patience() -> None:
    world = await world_with_a_row()
    _, held = await held_by(world)
    sent_at = anyio.current_time()
    await held.write()
    assert sent_at < held.valid_until < sent_at + held.around.options.lease_duration_s


async def test_an_observer_takes_a_lease_only_after_watching_it_for_its_whole_duration() -> None:
    world = await world_with_a_row()
    _, held = await held_by(world, "w1")
    other = Ownership((await world.worker(worker_id="w2")).flows[0])
    row = next(row for row in await other.rows() if row.shard_id == held.shard_id)
    assert not other.free(row)
    await anyio.sleep(9)
    assert not other.free(row)
    await held.write() if held.valid else None
    await anyio.sleep(1.5)
    await other.rows()
    assert other.free(row)


async def test_a_renewal_restarts_the_observers_patience() -> None:
    world = await world_with_a_row()
    _, held = await held_by(world, "w1")
    other = Ownership((await world.worker(worker_id="w2")).flows[0])
    for _ in range(5):
        await other.rows()
        await anyio.sleep(4)
        await held.write()
    row = next(row for row in await other.rows() if row.shard_id == held.shard_id)
    assert not other.free(row)


async def test_a_take_from_an_old_row_fails_and_the_epoch_grows_with_each_owner() -> None:
    world = await world_with_a_row()
    ownership, held = await held_by(world)
    old = replace(held.lease, version=held.lease.version - 1)
    other = Ownership((await world.worker(worker_id="w2")).flows[0])
    assert await other.take(old) is None
    again = await other.take(held.lease)
    assert again is not None
    assert again.lease.epoch == held.lease.epoch + 1
    with pytest.raises(LeaseLostError):
        await held.write()
    await ownership.release(held)
    (row,) = (await world.rows()).values()
    assert row.owner == "w2"


async def test_a_failed_renewal_is_told_and_is_not_yet_a_lost_lease() -> None:
    world = await world_with_a_row()
    ownership, held = await held_by(world)
    await anyio.sleep(4)
    world.store.down = True
    await ownership.renew()
    assert held.valid
    assert isinstance(world.of(events.CheckpointFailed)[-1].error, StoreError)


async def test_writes_of_one_lease_come_one_after_the_other() -> None:
    world = await world_with_a_row()
    _, held = await held_by(world)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(partial(held.write, checkpoint=Position.after(str(number + 1))))
    (row,) = (await world.rows()).values()
    assert row == held.lease
    assert held.valid
