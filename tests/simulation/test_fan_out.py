"""Several flows over one read of the stream, in virtual time: each with its own position, none held up by another."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow import events
from streamflow.engine.worker import Worker
from streamflow.leases import STREAM_ROW
from streamflow.positions import TRIM_HORIZON
from streamflow.sources.shared import SharedSource
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.protocols import Handler, Page, Pin, ShardReader, Source, StreamInfo
    from streamflow.records import Record, Shard

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


@dataclass
class CountingSource:
    """Counts what reaches the stream: reads, readers that are open, and the most that ever read a shard at one time."""

    inner: Source
    reads: int = 0
    records: int = 0
    open_readers: int = 0
    reading: dict[str, int] = field(default_factory=dict)
    reading_max: int = 0

    async def describe(self) -> StreamInfo:
        return await self.inner.describe()

    async def shards(self) -> Mapping[str, Shard]:
        return await self.inner.shards()

    async def children(self, shard: Shard) -> Sequence[Shard]:
        return await self.inner.children(shard)

    async def pin(self, shard: Shard) -> Pin:
        return await self.inner.pin(shard)

    @asynccontextmanager
    async def open(self, shard: Shard, start: Position, *, cursor: str | None = None) -> AsyncIterator[ShardReader]:
        async with self.inner.open(shard, start, cursor=cursor) as reader:
            self.open_readers += 1
            try:
                yield CountingReader(self, shard.shard_id, reader)
            finally:
                self.open_readers -= 1


@dataclass
class CountingReader:
    source: CountingSource
    shard_id: str
    inner: ShardReader

    async def read(self, *, records_max: int) -> Page:
        source = self.source
        source.reads += 1
        source.reading[self.shard_id] = source.reading.get(self.shard_id, 0) + 1
        source.reading_max = max(source.reading_max, *source.reading.values())
        try:
            await anyio.sleep(0.02)
            page = await self.inner.read(records_max=records_max)
        finally:
            source.reading[self.shard_id] -= 1
        source.records += len(page.records)
        return page


@dataclass
class Branch:
    """A handler that can be down; `accepted` is what it took, in order."""

    accepted: list[tuple[str, int]] = field(default_factory=list)
    down: bool = False
    records: list[Record] = field(default_factory=list)

    async def write(self, batch: Batch) -> None:
        if self.down:
            raise ConnectionError("down")
        for record in batch:
            image = record.new_image or {}
            self.accepted.append((str(image["id"]), int(image["version"])))  # type: ignore[arg-type]
            self.records.append(record)


@dataclass
class Fan:
    world: World
    source: CountingSource
    worker: Worker


@asynccontextmanager
async def fanned(
    world: World, branches: Mapping[str, Handler], *, log_bytes_max: int = 1 << 20, **options: Any
) -> AsyncIterator[Fan]:
    source = CountingSource(world.source())
    shared = SharedSource(source, log_bytes_max=log_bytes_max)
    worker = Worker([await world.flow(f"p/{name}", shared, write, **options) for name, write in branches.items()])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await worker.wait_started()
        yield Fan(world, source, worker)
        worker.stop()
    assert source.open_readers == 0


def in_order(accepted: list[tuple[str, int]]) -> bool:
    newest: dict[str, int] = {}
    for key, version in accepted:
        if version <= newest.get(key, 0):
            return False
        newest[key] = version
    return True


async def test_each_record_is_read_once_and_delivered_to_every_branch() -> None:
    world = World(shards=4)
    branches = {name: Branch() for name in ("a", "b", "c")}
    world.write(*[f"key-{number % 50}" for number in range(500)])
    async with fanned(world, {name: branch.write for name, branch in branches.items()}) as fan:
        await world.until(lambda: all(len(branch.accepted) == 500 for branch in branches.values()))
        world.write(*[f"key-{number % 50}" for number in range(500)])
        await world.until(lambda: all(len(branch.accepted) == 1_000 for branch in branches.values()))
        assert fan.source.records == 1_000
        assert fan.source.reading_max == 1
    assert all(in_order(branch.accepted) for branch in branches.values())


async def test_idle_branches_poll_as_often_as_one() -> None:
    world = World(shards=1)
    async with fanned(world, {name: Branch().write for name in "abcd"}) as fan:
        await anyio.sleep(1)
        before = fan.source.reads
        await anyio.sleep(60)
        assert fan.source.reads - before <= 60 * 4 + 4


async def test_a_branch_that_polls_seldom_is_not_held_up_by_the_empty_pages_of_one_that_polls_often() -> None:
    """Seed 40 of the small world: it took one of them at each of its polls, and saw no record for half an hour."""
    world = World(shards=1)
    shared = SharedSource(world.source(), log_bytes_max=1 << 20)
    (shard,) = (await shared.shards()).values()
    async with shared.open(shard, TRIM_HORIZON) as often, shared.open(shard, TRIM_HORIZON) as seldom:
        await often.read(records_max=10)
        await seldom.read(records_max=10)
        for _ in range(100):
            await often.read(records_max=10)
        world.write("a")
        assert len((await often.read(records_max=10)).records) == 1
        assert len((await seldom.read(records_max=10)).records) == 1


async def test_an_empty_page_of_another_branch_is_as_old_as_the_question() -> None:
    world = World(shards=1)
    shared = SharedSource(world.source(), log_bytes_max=1 << 20)
    (shard,) = (await shared.shards()).values()
    async with shared.open(shard, TRIM_HORIZON) as one, shared.open(shard, TRIM_HORIZON) as other:
        await one.read(records_max=10)
        await other.read(records_max=10)
        await one.read(records_max=10)
        assert (await one.read(records_max=10)).age_s == 0.0
        await anyio.sleep(20)
        assert (await other.read(records_max=10)).age_s == pytest.approx(20.0)
        assert (await other.read(records_max=10)).age_s == 0.0


async def test_no_branch_closes_a_window_by_what_another_was_answered_before_it_ended() -> None:
    """Seed 31 of the small world: the gauge of one branch said 0 by pages that the other had been answered 19 s before."""
    world = World(shards=1)
    late: list[str] = []
    ended_s: dict[str, float] = {}

    def counting(name: str) -> Handler:
        async def count(batch: Batch) -> None:
            assert batch.window is not None
            if batch.window.is_final:
                ended_s[name] = max(ended_s.get(name, 0.0), batch.window.end_s)
            late.extend(name for record in batch if record.created_at_s < ended_s.get(name, 0.0))

        return count

    source = SharedSource(world.source(), log_bytes_max=1 << 20)
    options: dict[str, Any] = {"tumbling_window_s": 300, "polling": "cost"}
    intervals = {"a": 40, "b": 37}
    worker = Worker(
        [
            await world.flow(f"p/{name}", source, counting(name), idle_poll_interval_s=interval_s, **options)
            for name, interval_s in intervals.items()
        ]
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        for _ in range(20):
            # The first and the last moment of a window.
            await anyio.sleep(300.1 - world.clock.wall() % 300)
            world.write("a")
            await anyio.sleep(299.8)
            world.write("a")
        worker.stop()
    assert ended_s.keys() == {"a", "b"}
    assert late == []


@pytest.mark.fault("F60")
async def test_two_branches_never_share_a_decoded_record() -> None:
    world = World(shards=1)
    left, right = Branch(), Branch()
    world.write("a")
    async with fanned(world, {"left": left.write, "right": right.write}):
        await world.until(lambda: bool(left.accepted and right.accepted))
    assert left.records[0] is not right.records[0]
    assert left.records[0].new_image is not right.records[0].new_image


async def test_a_branch_that_is_down_holds_up_nobody_and_catches_up_with_one_reader_more() -> None:
    world = World(shards=1)
    healthy, broken = Branch(), Branch(down=True)
    options: dict[str, Any] = {"buffer_bytes_max": 65_536, "batch_size": 10}
    async with fanned(
        world, {"healthy": healthy.write, "broken": broken.write}, log_bytes_max=20_000, **options
    ) as fan:
        for _ in range(20):
            world.write(*[f"key-{number}" for number in range(100)])
            await anyio.sleep(2)
        await world.until(lambda: len(healthy.accepted) == 2_000)
        assert broken.accepted == []
        broken.down = False
        await world.until(lambda: len(broken.accepted) == 2_000, within_s=600)
        assert fan.source.reading_max <= 2
        again = fan.source.records
        world.write("late")
        await world.until(lambda: ("late", 1) in broken.accepted and ("late", 1) in healthy.accepted)
        assert fan.source.records == again + 1, "back together, they read once"
    assert broken.accepted == healthy.accepted == world.written


async def test_each_branch_continues_where_it_was() -> None:
    world = World(shards=2)
    fast, slow = Branch(), Branch(down=True)
    world.write(*[f"key-{number}" for number in range(200)])
    async with fanned(world, {"fast": fast.write, "slow": slow.write}) as fan:
        await world.until(lambda: len(fast.accepted) == 200)
        fan.worker.stop_now()
    slow.down = False
    world.write("late")
    async with fanned(world, {"fast": fast.write, "slow": slow.write}):
        await world.until(lambda: len(slow.accepted) == 201 and len(fast.accepted) == 201)
    assert sorted(fast.accepted) == sorted(slow.accepted) == sorted(world.written)
    rows = await world.store.inner.list("p/slow", world.stream_arn)
    assert {row.pipeline for row in rows if row.shard_id != STREAM_ROW} == {"p/slow"}


async def test_a_shard_that_ends_ends_for_every_branch_and_its_children_are_shared() -> None:
    world = World(shards=1)
    branches = {name: Branch() for name in ("a", "b")}
    world.write("x", "y")
    async with fanned(world, {name: branch.write for name, branch in branches.items()}) as fan:
        await world.until(lambda: all(len(branch.accepted) == 2 for branch in branches.values()))
        world.controls.split("orders")
        world.write("x", "y", "z")
        await world.until(lambda: all(len(branch.accepted) == 5 for branch in branches.values()), within_s=600)
        assert fan.source.records == 5
    assert all(in_order(branch.accepted) for branch in branches.values())


async def test_latest_is_one_place_for_all_branches() -> None:
    world = World(shards=1)
    branches = {name: Branch() for name in ("a", "b")}
    world.write("old")
    handlers = {name: branch.write for name, branch in branches.items()}
    async with fanned(world, handlers, starting_position="LATEST") as fan:
        world.write("new")
        await world.until(lambda: all(("new", 1) in branch.accepted for branch in branches.values()))
        assert fan.source.reading_max == 1


async def test_trimmed_records_are_told_to_each_branch_that_has_lost_them() -> None:
    world = World(shards=1)
    branches = {name: Branch() for name in ("a", "b")}
    handlers = {name: branch.write for name, branch in branches.items()}
    world.write("one")
    async with fanned(world, handlers):
        await world.until(lambda: all(branch.accepted for branch in branches.values()))
    world.write("lost")
    world.controls.trim("orders")
    world.write("two")
    async with fanned(world, handlers, on_trimmed="continue") as fan:
        await world.until(lambda: all(("two", 1) in branch.accepted for branch in branches.values()))
        assert len(world.of(events.RecordsTrimmed)) == 2
        world.write("three")
        await world.until(lambda: all(("three", 1) in branch.accepted for branch in branches.values()))
        assert fan.source.reading_max <= 2
    assert all(("lost", 1) not in branch.accepted for branch in branches.values())


async def test_branches_that_lose_records_together_get_none_again_that_they_had() -> None:
    """They go on at the horizon, where their log had begun: but that was another one."""
    world = World(shards=1)
    fast, slow = Branch(), Branch(down=True)
    keys = [f"key-{number}" for number in range(300)]
    world.write(*keys)
    handlers = {"fast": fast.write, "slow": slow.write}
    async with fanned(world, handlers, on_trimmed="continue", buffer_bytes_max=65_536) as fan:
        await world.until(lambda: len(fast.accepted) == len(keys))
        world.write("lost")
        world.controls.trim("orders")
        world.write("new")
        await world.until(lambda: ("new", 1) in fast.accepted)
        slow.down = False
        await world.until(lambda: ("new", 1) in slow.accepted)
        assert fan.source.reading_max <= 2
    assert fast.accepted == slow.accepted == [*((key, 1) for key in keys), ("new", 1)]
    assert len(world.of(events.RecordsTrimmed)) == 2


@pytest.mark.parametrize("seed", range(12))
async def test_random_outages_lose_and_reorder_nothing(seed: int) -> None:
    world = World(shards=3)
    random = Random(seed)
    branches = {name: Branch() for name in ("a", "b", "c")}
    handlers = {name: branch.write for name, branch in branches.items()}
    options: dict[str, Any] = {"batch_size": 7, "buffer_bytes_max": 65_536}
    async with fanned(world, handlers, log_bytes_max=random.choice([2_000, 20_000, 1 << 20]), **options) as fan:
        for _ in range(30):
            world.write(*[f"key-{random.randrange(20)}" for _ in range(random.randrange(60))])
            for branch in branches.values():
                branch.down = random.random() < 0.3
            if random.random() < 0.1:
                world.controls.split("orders")
            if random.random() < 0.2:
                world.controls.expire_iterators()
            await anyio.sleep(random.random() * 5)
        for branch in branches.values():
            branch.down = False
        await world.until(
            lambda: all(len(set(branch.accepted)) == len(world.written) for branch in branches.values()), within_s=900
        )
        assert fan.source.reading_max <= 2
    for branch in branches.values():
        firsts = list(dict.fromkeys(branch.accepted))
        assert sorted(firsts) == sorted(world.written)
        assert in_order(firsts)
