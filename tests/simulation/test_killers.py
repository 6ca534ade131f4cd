"""A record that kills whoever handles it is found among its neighbours, which are all delivered, and is handed over no more."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow import events
from streamflow.leases import SUSPECTS
from streamflow.rules.suspicion import DEATHS_MAX, ISOLATED_S, TIMES_MAX
from streamflow.testing.counted_store import CountedMemoryStore
from streamflow.testing.failpoints import armed
from streamflow.testing.simulation.loop import SimulatedLoop
from world import FaultyStore, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.batches import Batch

pytestmark = pytest.mark.anyio

LIVES_MAX = 12


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


class Lives:
    """Of one worker, which is started again whenever it dies. What it dies of is in `killers`."""

    def __init__(self, world: World, *killers: str, **options: Any) -> None:
        self.world = world
        self.killers = set(killers)
        self.options = options
        self.deaths: list[int] = []
        """How many records were in the batch that killed."""
        self.handed_over: Counter[str] = Counter()
        self.slow: set[str] = set()

    async def live(self, until: Callable[[], bool], *, worker_id: str = "w1") -> bool:
        """One life; False: it was killed. What it was about to store or to release is not."""
        store = FaultyStore(self.world.store.inner)
        died = False

        async def handle(batch: Batch) -> None:
            nonlocal died
            keys = {str(record.keys["id"]) for record in batch}
            self.handed_over.update(keys)
            if keys & self.slow:
                await anyio.sleep(5)
            if keys & self.killers:
                died, store.down = True, True
                self.deaths.append(len(batch))
                tasks.cancel_scope.cancel()
                await anyio.sleep_forever()
            await self.world.accept(batch)

        worker = await self.world.worker(handle, worker_id=worker_id, store=store, **self.options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await worker.wait_started()
            await self.world.until(until, within_s=600)
            worker.stop()
        return not died

    async def live_on(self, until: Callable[[], bool]) -> int:
        """Life after life, until one is not killed; the answer is how many were."""
        for life in range(LIVES_MAX):
            if await self.live(until):
                return life
        raise AssertionError(f"killed {LIVES_MAX} times")


def delivered(world: World, *, but: set[str]) -> Callable[[], bool]:
    return lambda: {key for key, _ in world.deliveries} >= {key for key, _ in world.written} - but


async def suspects(world: World) -> list[str]:
    return [row.shard_id for row in await world.store.inner.list(*SUSPECTS)]


@pytest.mark.fault("F15")
@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("counted", [False, True], ids=["native", "kcl"])
async def test_a_killer_is_dead_lettered_and_its_neighbours_are_delivered(lanes: int, counted: bool) -> None:
    world = World(shards=2)
    if counted:
        world.store = FaultyStore(CountedMemoryStore())
    world.write(*[f"k{number}" for number in range(40)])
    lives = Lives(world, "k7", parallelization_factor=lanes, batch_size=10)
    deaths = await lives.live_on(delivered(world, but={"k7"}))
    (letter,) = await world.letters("dead")
    assert (letter.reason, letter.error_type) == ("SuspectedKiller", "SuspectedKillerError")
    assert letter.item_key == '{"id":{"S":"k7"}}'
    assert deaths == DEATHS_MAX + TIMES_MAX
    assert lives.deaths[DEATHS_MAX:] == [1] * TIMES_MAX, "found alone"
    assert "k7" not in {key for key, _ in world.deliveries}
    world.check_order()
    assert [event.condition for event in world.of(events.RecordsDiscarded)] == ["SuspectedKiller"]
    assert await suspects(world) == []


async def test_a_killer_behind_many_that_were_settled_is_found() -> None:
    world = World(shards=1)
    world.write(*[f"k{number}" for number in range(300)])
    lives = Lives(world, "k250", batch_size=10, checkpoint_interval_s=300)
    await lives.live_on(delivered(world, but={"k250"}))
    assert [letter.reason for letter in await world.letters("dead")] == ["SuspectedKiller"]
    world.check_order()


async def test_checkpoints_of_an_isolated_shard_do_not_overtake_each_other() -> None:
    """Two tasks store them there; one that takes its time must not write an older one behind the other's (small 50)."""
    world = World(shards=1)
    world.write(*[f"k{number}" for number in range(60)])
    lives = Lives(world, "k25", batch_size=10, checkpoint_interval_s=0.05)

    async def dawdle(name: str) -> None:
        if name == "checkpoint.before_write" and str(anyio.get_current_task().name).endswith("/checkpoint"):
            await anyio.sleep(0.5)

    with armed(dawdle):
        await lives.live_on(delivered(world, but={"k25"}))
    stored = [int(event.checkpoint.sequence_number) for event in world.of(events.CheckpointStored)]
    assert len(stored) > 10
    assert stored == sorted(stored)


async def test_filters_before_a_killer_take_nothing_from_what_is_known_of_it() -> None:
    world = World(shards=1)
    world.write(*[f"x{number}" for number in range(50)], *[f"k{number}" for number in range(10)])
    lives = Lives(world, "k3", batch_size=10, filters=('{"dynamodb": {"Keys": {"id": {"S": [{"prefix": "k"}]}}}}',))
    wanted = {f"k{number}" for number in range(10)} - {"k3"}
    assert await lives.live_on(lambda: {key for key, _ in world.deliveries} >= wanted) == DEATHS_MAX + TIMES_MAX
    assert [letter.item_key for letter in await world.letters("dead")] == ['{"id":{"S":"k3"}}']


async def test_two_killers_are_both_found() -> None:
    world = World(shards=1)
    world.write(*[f"k{number}" for number in range(30)])
    lives = Lives(world, "k3", "k20", batch_size=10)
    await lives.live_on(delivered(world, but={"k3", "k20"}))
    assert [letter.item_key for letter in await world.letters("dead")] == ['{"id":{"S":"k3"}}', '{"id":{"S":"k20"}}']


@pytest.mark.fault("F15")
async def test_records_that_are_slow_are_not_accused_of_what_another_shards_killer_does() -> None:
    world = World(shards=4)
    world.write(*[f"k{number}" for number in range(40)])
    lives = Lives(world, "k7", batch_size=10)
    lives.slow = {key for key, _ in world.written} - {"k7"}
    await lives.live_on(delivered(world, but={"k7"}))
    assert [letter.item_key for letter in await world.letters("dead")] == ['{"id":{"S":"k7"}}']


async def test_an_isolated_shard_gets_whole_batches_again_when_nothing_kills() -> None:
    world = World(shards=1)
    world.write(*[f"k{number}" for number in range(30)])
    lives = Lives(world, "k5", batch_size=10, parallelization_factor=2)
    for _ in range(DEATHS_MAX):
        assert not await lives.live(world.everything_delivered)
    lives.killers.clear()
    isolated_from = len(world.batches)

    def let_off() -> bool:
        return bool(world.of(events.IsolationEnded))

    async def write_on() -> None:
        while not let_off():
            await anyio.sleep(1)
            world.write("later")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_on)
        assert await lives.live(let_off)
    before = len(world.batches)
    assert {len(batch) for batch in world.batches[isolated_from : isolated_from + 30]} == {1}
    (ended,) = world.of(events.IsolationEnded)
    assert ended.records >= ISOLATED_S, "one came in each second of it"
    world.write(*[f"l{number}" for number in range(30)])
    assert await lives.live(world.everything_delivered)
    assert max(len(batch) for batch in world.batches[before:]) == 10
    assert await world.letters("dead") == []
    assert await suspects(world) == []


async def test_a_killer_holds_its_shard_where_poison_blocks_and_is_tried_again_after_a_clean_stop() -> None:
    world = World(shards=2)
    world.write(*[f"k{number}" for number in range(20)])
    lives = Lives(world, "k7", batch_size=10, on_poison="block")
    held = lambda: bool(world.of(events.KillerHeld))  # noqa: E731 - a fact to wait for
    assert await lives.live_on(held) == DEATHS_MAX + TIMES_MAX
    assert await world.letters("dead") == []
    assert world.of(events.KillerHeld)[0].times == TIMES_MAX
    lives.killers.clear()
    assert await lives.live(world.everything_delivered)
    world.check_order()


async def test_lives_that_end_with_nothing_handed_over_prove_nothing() -> None:
    world = World(shards=1)
    for _ in range(DEATHS_MAX + 2):
        lives = Lives(world)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lives.live, world.everything_delivered)
            await anyio.sleep(5)
            tasks.cancel_scope.cancel()
    assert not world.of(events.ShardIsolated)


async def test_what_goes_well_writes_nothing_of_it() -> None:
    world = World(shards=2)
    world.write(*[f"k{number}" for number in range(20)])
    lives = Lives(world, batch_size=10)
    keys = set()
    create = world.store.inner.create

    async def noted(lease: Any) -> Any:
        keys.add((lease.pipeline, lease.stream_arn))
        return await create(lease)

    world.store.inner.create = noted  # type: ignore[method-assign]
    assert await lives.live(world.everything_delivered)
    world.write(*[f"k{number}" for number in range(20)])
    assert await lives.live(world.everything_delivered)
    assert SUSPECTS not in keys
