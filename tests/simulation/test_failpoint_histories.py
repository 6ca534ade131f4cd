"""Every point between an effect and its record is reached by some history, and no delay at any of them loses anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import anyio
import pytest

import streamflow
from streamflow import App, Pipeline
from streamflow.dead_letters import LetterQuery
from streamflow.engine.redrive import Redrive
from streamflow.failpoints import NAMES
from streamflow.middleware.chain import compose
from streamflow.pipeline import PipelineOptions
from streamflow.sinks.sqlite import sqlite
from streamflow.testing.failpoints import armed
from streamflow.testing.simulation.loop import SimulatedLoop
from world import FaultyStore, World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.records import Shard

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


# --- histories that reach them -----------------------------------------------------------------------------------------


async def from_the_first_shard_to_the_last(world: World) -> None:
    world.write(*"abcdabcd")
    async with world.working():
        await world.until(world.everything_delivered)
        await anyio.sleep(5)
    world.write(*"abcd")
    world.controls.rollover("orders")
    world.controls.disable_stream("orders")
    await (await world.worker()).run()


def refusing(world: World, key: str) -> Callable[[Batch], Awaitable[None]]:
    async def handle(batch: Batch) -> None:
        if any(record.keys["id"] == key for record in batch):
            raise RuntimeError("poison")
        await world.accept(batch)

    return handle


async def one_record_is_given_up(world: World) -> None:
    world.write(*"abcd")
    async with world.working(refusing(world, "a"), maximum_retry_attempts=0, bisect_batch_on_function_error=True):
        await world.until(lambda: len(world.deliveries) == 3)


async def one_item_is_parked(world: World) -> None:
    world.write(*"abcdab")
    async with world.working(refusing(world, "a"), maximum_retry_attempts=0, on_poison="park_key"):
        await world.until(lambda: len(world.deliveries) == 4)


async def a_second_worker_comes(world: World) -> None:
    async with world.working(worker_id="w1"), world.working(worker_id="w2"):
        with anyio.fail_after(120):
            while {row.owner for row in (await world.rows()).values() if row.claimant is None} != {"w1", "w2"}:  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.1)


async def a_worker_falls_silent(world: World) -> None:
    inner = world.store.inner
    async with anyio.create_task_group() as tasks:
        store = FaultyStore(inner)
        worker = await world.worker(worker_id="w1", store=store)
        tasks.start_soon(worker.run)
        await worker.wait_started()
        store.down = True
        tasks.cancel_scope.cancel()
    world.write(*"abcd")
    async with world.working(worker_id="w2"):
        await world.until(world.everything_delivered)


async def letters_are_delivered_again(world: World) -> None:
    await one_record_is_given_up(world)
    redrive = Redrive(
        store=world.store,
        chain=compose((), world.accept),
        pipeline="p",
        drawer="dead",
        options=PipelineOptions(),
        clock=world.clock,
        owner="r1",
    )
    assert (await redrive.run(LetterQuery(drawer="dead"))).delivered == 1


async def a_sink_keeps_the_checkpoint(world: World) -> None:
    world.write(*"abcd")
    fence = Fence()
    async with world.working(fence=fence):
        await world.until(lambda: bool(fence.told))


@dataclass
class Fence:
    """A sink that is told how far each shard is, and asked by nobody."""

    told: dict[str, Position] = field(default_factory=dict)

    async def write(self, batch: Batch, /) -> None: ...

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        return None

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        self.told[shard.shard_id] = position


REACHED: dict[Callable[[World], Awaitable[None]], set[str]] = {
    from_the_first_shard_to_the_last: {
        *(
            "lease.listed",
            "lease.before_take",
            "lease.taken",
            "lease.written",
            "lease.before_release",
            "lease.released",
        ),
        *("heartbeat.written", "shard.before_open", "page.read", "batch.handled"),
        *("checkpoint.before_write", "checkpoint.stored", "shard.ended", "children.stored"),
        *("discovery.listed", "discovery.rows_created", "discovery.audited", "stop.retired", "worker.before_leave"),
    },
    one_record_is_given_up: {"batch.failed", "dead_letter.sent"},
    one_item_is_parked: {"item.parked"},
    a_second_worker_comes: {
        *("handover.before_ask", "handover.asked", "handover.heard", "handover.passed_on", "handover.before_take"),
    },
    a_worker_falls_silent: {"heartbeat.before_strike"},
    letters_are_delivered_again: {"redrive.claimed", "redrive.delivered"},
    a_sink_keeps_the_checkpoint: {"fence.raised", "fence.advanced"},
}
IN_REAL_TIME = {"sqlite_sink.committed"}
"""Its file has a thread of its own, which virtual time does not wait for."""


def test_every_point_has_a_history() -> None:
    assert set().union(*REACHED.values()) | IN_REAL_TIME == NAMES.keys()


@pytest.mark.parametrize("history", REACHED, ids=lambda history: history.__name__)
async def test_a_history_reaches_its_points(history: Callable[[World], Awaitable[None]]) -> None:
    reached: Counter[str] = Counter()

    async def note(name: str) -> None:
        reached[name] += 1

    with armed(note):
        await history(World(shards=4))
    assert REACHED[history] - reached.keys() == set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_commit_of_the_sqlite_sink_reaches_its_point(tmp_path: Path) -> None:
    reached: list[str] = []

    async def note(name: str) -> None:
        reached.append(name)

    world = World(shards=1)
    world.write("a")
    world.controls.disable_stream("orders")
    pipeline = Pipeline(
        name="orders",
        source=world.source(),
        handler=sqlite(path=tmp_path / "orders.db", table="orders", transactional=True),
        starting_position="TRIM_HORIZON",
    )
    with armed(note):
        await streamflow.run(App(pipelines=(pipeline,), store="memory:"))
    assert reached.count("sqlite_sink.committed") == 1


# --- delays at them ----------------------------------------------------------------------------------------------------


class Delays:
    """Of each seed, a quarter of the points are slow, a quarter of the times that they are reached."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.slow = {name for name in NAMES if self.random.random() < 0.25}
        self.times: Counter[str] = Counter()
        self.over = False

    async def __call__(self, name: str) -> None:
        if name in self.slow and not self.over and self.random.random() < 0.25:
            self.times[name] += 1
            await anyio.sleep(self.random.uniform(0, 15))


@pytest.mark.parametrize("seed", range(1, 17))
async def test_delays_lose_nothing_and_keep_the_order(seed: int) -> None:
    """Three pairs of workers come and go while a table is written to and its shards are split."""
    delays, random = Delays(seed), Random(f"world {seed}")
    world = World(shards=3, options={"batch_size": random.choice([1, 3, 100]), "checkpoint_interval_s": 1})
    with armed(delays):
        for life in range(3):
            async with anyio.create_task_group() as tasks:
                workers = [await world.worker(worker_id=f"w{life}{number}") for number in range(2)]
                for worker in workers:
                    tasks.start_soon(worker.run)
                for _ in range(random.randrange(1, 5)):
                    world.write(*random.choices("abcdefgh", k=random.randrange(20)))
                    if random.random() < 0.3:
                        world.controls.split("orders")
                    await anyio.sleep(random.uniform(0, 20))
                for worker in workers:
                    worker.stop()
        delays.over = True
        async with world.working(worker_id="last"):
            await world.until(world.everything_delivered, within_s=600)
    world.check_order()
    assert delays.times
