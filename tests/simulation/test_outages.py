"""What fails for long, or at every single place: whole workers in virtual time lose nothing and wait within bounds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow import events
from streamflow.dead_letters import LetterQuery
from streamflow.engine.buffer import RECORD_OVERHEAD_BYTES
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import LeaseState
from streamflow.stores.memory import MemoryStore
from streamflow.testing.memory_source import MemorySource
from streamflow.testing.simulation.loop import SimulatedLoop
from world import FaultyStore, World

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.leases import Lease
    from streamflow.positions import Position
    from streamflow.records import Shard
    from streamflow.testing.tables import Tables

pytestmark = pytest.mark.anyio

KEYS = [f"k{number}" for number in range(12)]
SHARDS = 500


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


# --- the sink --------------------------------------------------------------------------------------------------------


class CountingSource(MemorySource):
    """Counts the iterators that each shard was asked for."""

    iterators: Counter[str]

    def __init__(self, tables: Tables, stream_arn: str) -> None:
        super().__init__(tables, stream_arn)
        self.iterators = Counter()

    async def _iterator(self, shard: Shard, position: Position) -> str:
        self.iterators[shard.shard_id] += 1
        return await super()._iterator(shard, position)


@pytest.mark.fault("F25")
async def test_a_sink_that_is_down_for_an_hour_stops_reading_and_costs_nothing() -> None:
    world = World(shards=2)
    up = anyio.Event()

    async def down(batch: Batch) -> None:
        if not up.is_set():
            raise ConnectionError("the sink is down")
        await world.accept(batch)

    async def keep_writing() -> None:
        while not up.is_set():
            world.write(*KEYS * 25)
            await anyio.sleep(60)

    counted = CountingSource(world.controls.tables, world.stream_arn)
    world.source = lambda: counted  # type: ignore[method-assign]
    async with world.working(down, buffer_bytes_max=65_536, batch_size=10), anyio.create_task_group() as tasks:
        tasks.start_soon(keep_writing)
        await anyio.sleep(3_600)
        pages = world.of(events.PageRead)
        biggest = max(page.bytes + page.records * RECORD_OVERHEAD_BYTES for page in pages)
        assert max(page.buffered_bytes for page in pages) <= 65_536 + biggest
        assert len(pages) < 200, "a full buffer asks for nothing more"
        assert not world.deliveries
        assert await world.store.letters(LetterQuery(drawer="dead", pipeline="p")) == []
        up.set()
        await world.until(world.everything_delivered, within_s=600)
    assert counted.iterators == dict.fromkeys(world.controls.shard_ids("orders"), 2), "the first ones ran out meanwhile"
    assert sorted(world.deliveries) == sorted(world.written)
    world.check_order()


# --- the service -----------------------------------------------------------------------------------------------------


@pytest.mark.fault("F33")
async def test_a_denied_permission_is_asked_for_again_and_again_until_it_is_given() -> None:
    world = World(shards=1)
    world.write("a")
    async with world.working():
        await world.until(world.everything_delivered)
        world.controls.fail_next("GetRecords", code="AccessDeniedException", times=10_000)
        world.write("b")
        await anyio.sleep(1_200)
        failures = world.of(events.ReadFailed)
        assert {failure.code for failure in failures} == {"AccessDeniedException"}
        assert 20 < len(failures) < 300, "told, at a capped rate"
        assert ("b", 1) not in world.deliveries
        world.controls.clear_faults()
        await world.until(world.everything_delivered)
    assert world.deliveries == world.written


# --- the clock -------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F43")
@pytest.mark.parametrize("jump_s", [-3_600.0, -1.0, 1.0, 3_600.0])
async def test_a_wall_clock_that_jumps_costs_no_lease_no_order_and_no_checkpoint(jump_s: float) -> None:
    world = World(shards=2)
    async with world.working():
        for _ in range(4):
            world.write(*KEYS)
            await world.until(world.everything_delivered)
            world.clock.epoch_s += jump_s
            world.write(*KEYS)
            world.controls.rollover("orders")
            world.write(*KEYS)
            await world.until(world.everything_delivered)
            await anyio.sleep(30)
    assert not world.of(events.LeaseLost)
    assert not world.of(events.WorkerTakenForDead)
    async with world.working(worker_id="w2"):
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written)
    world.check_order()


# --- the store -------------------------------------------------------------------------------------------------------


class LosingStore(FaultyStore):
    """Loses the way there or the way back of one write, the `loses`-th."""

    def __init__(self, *, loses: int, answer: bool) -> None:
        super().__init__(MemoryStore())
        self.loses = loses
        self.answer = answer
        self.lost: Lease | None = None

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        if self.writes + 1 != self.loses:
            return await super().update(lease, expected_version=expected_version)
        self.lost = lease
        self.writes += 1
        if self.answer:
            await self.inner.update(lease, expected_version=expected_version)
        raise UnknownOutcomeError("lost on the way")


async def one_life(store: FaultyStore) -> World:
    """Start, take, deliver, checkpoint, end a shard, begin its child, stop, release; and again under another id."""
    world = World(shards=1)
    world.store = store
    world.write("a", "b")
    async with world.working(checkpoint_interval_s=0.2):
        await world.until(world.everything_delivered)
        await anyio.sleep(1)
        world.controls.rollover("orders")
        world.write("a", "c")
        await world.until(world.everything_delivered)
        await anyio.sleep(1)
    async with world.working(worker_id="w2"):
        world.write("b")
        await world.until(world.everything_delivered)
    return world


@pytest.mark.fault("F30")
@pytest.mark.parametrize("answer", [True, False], ids=["answer lost", "request lost"])
async def test_whichever_write_of_a_lease_is_lost_on_the_way_costs_no_record_and_no_lease(answer: bool) -> None:
    whole = FaultyStore(MemoryStore())
    await one_life(whole)
    assert whole.writes > 12
    lost: set[tuple[LeaseState, bool, str]] = set()
    for loses in range(1, whole.writes + 1):
        store = LosingStore(loses=loses, answer=answer)
        world = await one_life(store)
        assert sorted(world.deliveries) == sorted(world.written), f"write {loses}"
        assert not world.of(events.LeaseLost), f"write {loses}"
        assert {row.owner for row in (await world.rows()).values()} == {None}, f"write {loses}"
        if store.lost is not None:
            lost.add((store.lost.state, store.lost.owner is None, str(store.lost.checkpoint.kind)))
    # Taken, stored, released, ended: each was lost once.
    assert {(state, released) for state, released, _ in lost} >= {
        (LeaseState.ACTIVE, False),
        (LeaseState.ACTIVE, True),
        (LeaseState.ENDED, True),
    }


class ThrottledStore(FaultyStore):
    """Takes so many writes in a second, and refuses the others."""

    writes_per_s = 50

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.throttles = False
        self.refused = 0
        self._second = (0, 0)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        if self.throttles:
            second = int(anyio.current_time())
            count = self._second[1] + 1 if self._second[0] == second else 1
            self._second = second, count
            if count > self.writes_per_s:
                self.refused += 1
                raise StoreError("ProvisionedThroughputExceededException")
        return await super().update(lease, expected_version=expected_version)


@pytest.mark.fault("F54")
@pytest.mark.timeout(180)
async def test_five_hundred_shards_that_roll_over_at_once_while_the_store_throttles_are_read_on() -> None:
    world = World(shards=SHARDS)
    store = ThrottledStore()
    world.store = store
    async with world.working(polling="cost"):
        keys = [f"k{number}" for number in range(SHARDS)]
        world.write(*keys)
        world.controls.rollover("orders")
        world.write(*keys)
        store.throttles = True
        await world.until(lambda: len(world.deliveries) >= 2 * SHARDS and world.everything_delivered(), within_s=900)
        store.throttles = False
    assert store.refused > 100
    assert sorted(set(world.deliveries)) == sorted(world.written)
    world.check_order()
    ended = [row for row in (await world.rows()).values() if row.state is LeaseState.ENDED]
    assert len(ended) == SHARDS
