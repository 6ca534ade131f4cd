"""Several workers over one store, in virtual time: every shard has one owner, and little moves when workers come and go."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow import events
from streamflow.engine.worker import Worker
from streamflow.errors import StoreError
from streamflow.leases import STREAM_ROW, WORKERS, LeaseLayout
from streamflow.sources.shared import SharedSource
from streamflow.stores.memory import MemoryStore
from streamflow.testing.counted_store import CountedMemoryStore
from streamflow.testing.simulation.loop import SimulatedLoop
from world import FaultyStore, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

    from streamflow.batches import Batch
    from streamflow.leases import Lease
    from streamflow.protocols import Handler, ShardReader

pytestmark = pytest.mark.anyio
KEYS = [f"k{number}" for number in range(40)]
LEASE_S = 10.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


@pytest.fixture(params=list(LeaseLayout), ids=lambda layout: layout.value)
def layout(request: pytest.FixtureRequest) -> LeaseLayout:
    layout: LeaseLayout = request.param
    return layout


@dataclass(eq=False)
class Fleet:
    """Workers of one world, each with its own way to the store, so that one can be cut off from it."""

    world: World
    tasks: TaskGroup
    inner: MemoryStore
    running: dict[str, tuple[Worker, FaultyStore, anyio.CancelScope, anyio.Event]] = field(default_factory=dict)
    lives: int = 0

    async def join(self, handler: Handler | None = None, *, worker_id: str | None = None, **options: Any) -> str:
        """Start one more worker, and wait until it delivers."""
        self.lives += 1
        worker_id = worker_id or f"w{self.lives}"
        store = FaultyStore(self.inner)
        store.latency_s = 0.005
        worker = await self.world.worker(handler, worker_id=worker_id, store=store, **options)
        scope, ended = anyio.CancelScope(), anyio.Event()

        async def run() -> None:
            with scope:
                await worker.run()
            ended.set()

        self.running[worker_id] = worker, store, scope, ended
        self.tasks.start_soon(run, name=worker_id)
        await worker.wait_started()
        return worker_id

    async def leave(self, worker_id: str) -> None:
        """Stop a worker as a deployment does, and wait until it has ended."""
        worker, _, _, ended = self.running.pop(worker_id)
        worker.stop()
        await ended.wait()

    async def kill(self, worker_id: str) -> None:
        """Nothing of the worker reaches the store any more; then it is gone."""
        _, store, scope, ended = self.running.pop(worker_id)
        store.down = True
        scope.cancel()
        await ended.wait()

    async def owned(self) -> Counter[str]:
        """How many unfinished shards each living worker has taken."""
        rows = [row for row in (await self.world.rows()).values() if row.state.value == "active"]
        owners = Counter(row.owner for row in rows if row.owner != row.claimant)
        return Counter({owner: count for owner, count in owners.items() if owner in self.running})

    async def named(self, worker_id: str) -> list[Lease]:
        """Rows that the worker owns or asks for."""
        return [row for row in (await self.world.rows()).values() if worker_id in (row.owner, row.claimant)]

    async def unowned(self) -> int:
        rows = [row for row in (await self.world.rows()).values() if row.state.value == "active"]
        return len(rows) - (await self.owned()).total()

    async def wait_owned(self, *, within_s: float) -> None:
        """Wait until every shard is with a living worker."""
        with anyio.fail_after(within_s):
            while await self.unowned():  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.05)

    async def wait_balanced(self, *, within_s: float = 60.0) -> None:
        """Wait until no worker has two leases more than another."""
        with anyio.fail_after(within_s):
            while True:
                counts = await self.owned()
                if not await self.unowned() and max(counts.values()) - min(counts[name] for name in self.running) < 2:
                    return
                await anyio.sleep(0.05)


@asynccontextmanager
async def fleet(layout: LeaseLayout, *, shards: int = 8, **options: Any) -> AsyncIterator[Fleet]:
    """A world that is written to, at random but the same each time, as long as the block lasts."""
    world = World(shards=shards, options=options)
    inner = MemoryStore() if layout is LeaseLayout.NATIVE else CountedMemoryStore(layout)
    world.store = FaultyStore(inner)
    random = Random(1)

    async def write() -> None:
        while True:
            world.write(*random.choices(KEYS, k=5))
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        members = Fleet(world, tasks, inner)
        async with anyio.create_task_group() as writing:
            writing.start_soon(write)
            yield members
            writing.cancel_scope.cancel()
        if not members.running:
            await members.join()
        await world.until(world.everything_delivered)
        world.check_order()
        for worker_id in list(members.running):
            await members.leave(worker_id)


def repeated(world: World) -> int:
    return len(world.deliveries) - len(set(world.deliveries))


async def test_a_worker_that_joins_gets_its_share(layout: LeaseLayout) -> None:
    async with fleet(layout) as members:
        first = await members.join()
        assert await members.owned() == {first: 8}
        second = await members.join()
        await members.wait_balanced()
        assert await members.owned() == {first: 4, second: 4}
        third = await members.join()
        await members.wait_balanced()
        counts = await members.owned()
        assert sorted(counts.values()) == [2, 3, 3]
        await anyio.sleep(60)
        assert await members.owned() == counts, "a balanced fleet is left alone"
        taken = Counter(event.previous_owner for event in members.world.of(events.LeaseTaken))
        if layout is not LeaseLayout.KCL_SHARED:
            assert repeated(members.world) == 0, "who is asked finishes first"
            assert taken.total() <= 8 + 1 + 4 + 3, "nothing moves twice"
    assert third in members.running or not members.running


async def test_a_rolling_restart_repeats_nothing_and_leaves_no_shard_alone(layout: LeaseLayout) -> None:
    if layout is LeaseLayout.KCL_SHARED:
        pytest.skip("workers of the KCL 2.x take leases without asking")
    longest: dict[str, float] = {}
    async with fleet(layout, shards=12) as members:
        for _ in range(3):
            await members.join()
        await members.wait_balanced()

        async def watch() -> None:
            since: dict[str, float] = {}
            while True:
                now = anyio.current_time()
                for shard_id, row in (await members.world.rows()).items():
                    if row.owner is not None:
                        since.pop(shard_id, None)
                    longest[shard_id] = max(
                        longest.get(shard_id, 0.0), now - since.setdefault(shard_id, now) if row.owner is None else 0.0
                    )
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            for worker_id in list(members.running):
                await members.leave(worker_id)
                await members.wait_owned(within_s=5)
                await members.join()
                await members.wait_balanced()
            watching.cancel_scope.cancel()
        assert repeated(members.world) == 0
        assert {event.to for event in members.world.of(events.LeaseHandedOver)} >= {"w2", "w3", "w4"}, "to heirs"
    assert max(longest.values()) <= 0.5, "from hand to hand, but for what was on its way to a worker that stopped"


@pytest.mark.fault("F28")
@pytest.mark.parametrize("shards", [3, 16])
async def test_the_shards_of_a_dead_worker_are_owned_after_a_lease_duration(layout: LeaseLayout, shards: int) -> None:
    async with fleet(layout, shards=shards) as members:
        for _ in range(3):
            await members.join()
        await members.wait_balanced()
        for _ in range(5):
            victim = max(await members.owned(), key=(await members.owned()).__getitem__)
            killed_at = anyio.current_time()
            await members.kill(victim)
            await members.wait_owned(within_s=20)
            took_s = anyio.current_time() - killed_at
            assert LEASE_S * 0.6 < took_s < LEASE_S + 2
            await members.join()
            await members.wait_balanced()


async def test_who_asked_and_stops_is_given_nothing_any_more(layout: LeaseLayout) -> None:
    """Its request is withdrawn before it drains: what arrived later would be nobody's until patience for it ran out."""
    if layout is LeaseLayout.KCL_SHARED:
        pytest.skip("workers of the KCL 2.x take leases without asking")
    async with fleet(layout) as members:
        draining = anyio.Event()

        async def take_time(batch: Batch) -> None:
            await anyio.sleep(4)
            await members.world.accept(batch)

        async def wait(batch: Batch) -> None:
            await draining.wait()
            await members.world.accept(batch)

        await members.join(take_time)
        second = await members.join(wait)
        with anyio.fail_after(60):
            while {row.owner == second for row in await members.named(second)} != {True, False}:  # noqa: ASYNC110
                await anyio.sleep(0.01)  # until it has a lease, and has asked for another
        await anyio.sleep(0.5)
        async with anyio.create_task_group() as stopping:
            stopping.start_soon(members.leave, second)
            await anyio.sleep(1)
            assert all(row.owner == second for row in await members.named(second))
            draining.set()


@pytest.mark.fault("F29", "F44")
async def test_a_worker_that_was_paused_finds_its_leases_gone_and_gets_others(layout: LeaseLayout) -> None:
    async with fleet(layout) as members:
        first, second = await members.join(), await members.join()
        await members.wait_balanced()
        _, store, _, _ = members.running[first]
        store.down = True
        with anyio.fail_after(LEASE_S + 2):
            while (await members.owned())[second] < 8:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.05)
        store.down = False
        with anyio.fail_after(60):
            while len(owners := {row.owner for row in (await members.world.rows()).values()}) < 2:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert second in owners
    expected = "w1#2" if layout is LeaseLayout.NATIVE else "w1"
    assert expected in owners


async def test_what_was_asked_for_by_a_worker_that_died_stays_with_its_owner() -> None:
    async with fleet(LeaseLayout.NATIVE, shards=2) as members:
        first = await members.join()
        row = next(iter((await members.world.rows()).values()))
        await members.world.edit(row, claimant="nobody")
        await anyio.sleep(5)
        assert await members.owned() == {first: 2}
        assert not members.world.of(events.LeaseHandedOver)


async def test_a_shard_is_handed_over_only_when_its_batch_is_done() -> None:
    """A handler that takes its time is waited for, also longer than a lease lasts."""
    done: list[str] = []

    async with fleet(LeaseLayout.NATIVE, shards=2) as members:
        slow = anyio.Event()

        async def handle(batch: Batch) -> None:
            if not slow.is_set():
                slow.set()
                await anyio.sleep(40)
                done.append(batch.shard.shard_id)
            await members.world.accept(batch)

        first = await members.join(handle, handler_timeout_s=None)
        await slow.wait()
        second = await members.join()
        await members.wait_balanced(within_s=90)
        assert (await members.owned())[second] == 1
        assert first in members.running
        assert repeated(members.world) == 0
    assert done


async def test_what_a_shard_repeats_that_was_handed_over_is_not_told_at_a_later_stop() -> None:
    async with fleet(LeaseLayout.NATIVE, shards=2) as members:
        back, world = anyio.Event(), members.world

        async def handle(batch: Batch) -> None:
            if not back.is_set():
                raise ConnectionError("the target is away")
            await world.accept(batch)

        first = await members.join(handle)
        await members.join()
        await members.wait_balanced(within_s=90)
        assert world.of(events.LeaseHandedOver)
        back.set()
        await world.until(world.everything_delivered)
        await members.leave(first)
        stopped = world.of(events.PipelineStopped)[0]
        assert (stopped.drained, stopped.repeating) == (True, {})


async def test_a_worker_that_leaves_before_it_is_given_a_lease_leaves_none_behind(layout: LeaseLayout) -> None:
    async with fleet(layout, shards=4) as members:
        slow = anyio.Event()

        async def handle(batch: Batch) -> None:
            slow.set()
            await anyio.sleep(6)
            await members.world.accept(batch)

        first = await members.join(handle, handler_timeout_s=None)
        await slow.wait()
        second = await members.join()
        with anyio.fail_after(20):
            while not await members.named(second):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        await members.leave(second)
        assert not await members.named(second)
        with anyio.fail_after(LEASE_S - 1):
            while (await members.owned())[first] < 4:  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.05)


@pytest.mark.fault("F50")
async def test_a_lease_that_is_taken_away_by_hand_is_noticed_by_an_idle_owner() -> None:
    world = World(shards=1)
    async with world.working(worker_id="w1"):
        await anyio.sleep(1)
        (row,) = (await world.rows()).values()
        await world.edit(row, owner="somebody", epoch=row.epoch + 1)
        pipeline, stream_arn = WORKERS
        living = replace(row, pipeline=pipeline, stream_arn=stream_arn, shard_id="somebody", duration_s=1_000.0)
        await world.store.inner.create(living)
        await anyio.sleep(5)
        assert len(world.of(events.LeaseLost)) == 1
        assert len([event for event in world.of(events.LeaseTaken) if event.shard_id != STREAM_ROW]) == 1


@pytest.mark.fault("F50")
async def test_a_row_that_is_deleted_by_hand_comes_back_with_the_next_audit() -> None:
    world = World(shards=1)
    async with world.working(worker_id="w1"):
        world.write("a", "b")
        await world.until(world.everything_delivered)
        (row,) = (await world.rows()).values()
        assert await world.store.inner.delete(row.key, expected_version=row.version)
        world.write("c")
        await world.until(world.everything_delivered, within_s=700)
        (anew,) = (await world.rows()).values()
    assert anew.epoch > row.epoch
    assert anew.version > row.version
    assert len(world.of(events.LeaseLost)) == 1


@pytest.mark.fault("F38")
async def test_a_reader_that_is_stuck_lets_its_shard_go() -> None:
    world = World(shards=2)
    stuck: list[str] = []
    real = world.source

    class Stuck:
        """Answers never more for the first shard that this worker opens."""

        def __init__(self) -> None:
            self.inner = real()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        @asynccontextmanager
        async def open(self, shard: Any, start: Any, *, cursor: str | None = None) -> AsyncIterator[ShardReader]:
            async with self.inner.open(shard, start, cursor=cursor) as reader:
                if not stuck:
                    stuck.append(shard.shard_id)
                yield self if shard.shard_id == stuck[0] else reader

        async def read(self, *, records_max: int) -> Any:
            assert records_max
            await anyio.sleep_forever()

    source: Any = Stuck()
    worker = Worker([await world.flow("p", source, worker_id="w1")])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await worker.wait_started()
        world.write(*KEYS)
        await anyio.sleep(59.5)
        assert not world.everything_delivered()
        async with world.working(worker_id="w2"):
            await world.until(world.everything_delivered, within_s=40)
            assert [event.shard_id for event in world.of(events.ReaderStuck)] == stuck
            reasons = {event.reason for event in world.of(events.ShardClosed) if event.shard_id == stuck[0]}
            assert reasons == {events.ShardClosing.HANDED_OVER}
            await anyio.sleep(30)
            rows = await world.rows()
            assert rows[stuck[0]].owner == "w2", "who could not read it does not ask for it soon"
        worker.stop()
    assert repeated(world) == 0


def world_without_store(layout: LeaseLayout) -> World:
    world = World(shards=1)
    world.store = FaultyStore(MemoryStore() if layout is LeaseLayout.NATIVE else CountedMemoryStore(layout))
    world.store.down = True
    return world


async def test_a_store_that_is_away_for_a_moment_does_not_keep_a_worker_from_starting(layout: LeaseLayout) -> None:
    world = world_without_store(layout)
    worker = await world.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await anyio.sleep(8)
        world.store.down = False
        with anyio.fail_after(6):
            await worker.wait_started()
        worker.stop()
    failed = world.of(events.HeartbeatFailed if layout is LeaseLayout.NATIVE else events.DiscoveryFailed)
    assert 3 <= len(failed) <= 10
    assert all(event.retry_after_s > 0 for event in failed)


async def test_a_store_that_stays_away_ends_the_start_with_its_error(layout: LeaseLayout) -> None:
    worker = await world_without_store(layout).worker()
    began_at = anyio.current_time()
    with pytest.raises(StoreError, match="the store is down"):
        await worker.run()
    assert 5 <= anyio.current_time() - began_at <= 15


async def test_the_branches_of_a_shard_stay_together() -> None:
    """Two workers share the shards of a fan-out: each reads its own shards only, for both branches."""
    world = World(shards=6)
    async with anyio.create_task_group() as tasks:
        workers = []
        for number in range(2):
            source = SharedSource(world.source(), log_bytes_max=1 << 20)
            first = await world.flow("p/a", source, worker_id=f"w{number}")
            other = await world.flow("p/b", source, worker_id=f"w{number}")
            other.company = "p/a"
            workers.append(Worker([first, other]))
            tasks.start_soon(workers[-1].run)
            await workers[-1].wait_started()
        await anyio.sleep(30)
        for _ in range(20):
            world.write(*KEYS)
            await anyio.sleep(1)
        owners = {
            branch: {row.shard_id: row.owner for row in await world.store.inner.list(branch, world.stream_arn)}
            for branch in ("p/a", "p/b")
        }
        del owners["p/a"][STREAM_ROW], owners["p/b"][STREAM_ROW]
        assert owners["p/a"] == owners["p/b"]
        assert Counter(owners["p/a"].values()) == {"w0": 3, "w1": 3}
        await world.until(lambda: len(world.deliveries) >= 2 * len(world.written))
        for worker in workers:
            worker.stop()
    assert Counter(world.deliveries) == dict.fromkeys(set(world.written), 2)


@pytest.mark.parametrize("seed", range(15))
async def test_random_fleet(layout: LeaseLayout, seed: int) -> None:
    """Workers join, leave, die and are cut off while shards split: nothing is lost, and order is kept."""
    random = Random(seed)
    async with fleet(
        layout, shards=random.choice([1, 3, 8]), checkpoint_interval_s=random.choice([0, 1, 5])
    ) as members:
        killed = False
        for _ in range(random.randrange(3, 9)):
            match random.randrange(6):
                case 0 | 1:
                    await members.join()
                case 2 if members.running:
                    await members.leave(random.choice(sorted(members.running)))
                case 3 if members.running:
                    killed = True
                    await members.kill(random.choice(sorted(members.running)))
                case 4 if members.running:
                    _, store, _, _ = members.running[random.choice(sorted(members.running))]
                    killed = True
                    store.down = True
                    await anyio.sleep(random.choice([1.0, 7.0, 15.0]))
                    store.down = False
                case _:
                    random.choice([members.world.controls.split, members.world.controls.rollover])("orders")
            await anyio.sleep(random.choice([0.0, 0.3, 3.0, 15.0]))
        if not members.running:
            await members.join()
        await members.wait_owned(within_s=3 * LEASE_S)
        if not killed and layout is not LeaseLayout.KCL_SHARED:
            assert repeated(members.world) == 0
