"""Handlers that go on although they were cancelled: told once, with the line where they are. In real time: the cancellation
comes again with every turn of the loop, so that virtual time would never move."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow import events
from streamflow.engine import insistence
from streamflow.observe.health import Health
from world import World

if TYPE_CHECKING:
    from streamflow.batches import Batch

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insistence, "IGNORED_S", 0.2)


class Stubborn:
    """Swallows every cancellation until it is released."""

    def __init__(self) -> None:
        self.at_work = False
        self.released = anyio.Event()

    async def handle(self, batch: Batch) -> None:
        self.at_work = True
        while not self.released.is_set():
            with suppress(asyncio.CancelledError):
                await self.wait_for_what_does_not_come()

    async def wait_for_what_does_not_come(self) -> None:
        await self.released.wait()


def told(world: World) -> list[events.CancellationIgnored]:
    return world.of(events.CancellationIgnored)


@pytest.mark.parametrize("lanes", [1, 3])
async def test_a_handler_that_ignores_a_forced_stop_is_told_with_its_line(lanes: int) -> None:
    world, stubborn = World(shards=1), Stubborn()
    world.write("k0")
    with anyio.fail_after(30):
        async with world.working(stubborn.handle, parallelization_factor=lanes) as worker:
            await world.until(lambda: stubborn.at_work)
            worker.stop_now()
            await world.until(lambda: bool(told(world)))
            stubborn.released.set()
    (event,) = told(world)
    role = "delivery" if lanes == 1 else "lane-"
    assert event.task.startswith(f"p/{event.shard_id}/{role}")
    assert "test_stubborn_handlers.py" in event.where
    assert event.where.endswith(("wait_for_what_does_not_come", "handle"))
    assert any("handle" in place for place in event.stack)
    health = Health()
    health(event)
    assert "goes on although it was cancelled" in health.live().reasons[0]
    health(world.of(events.ShardClosed)[-1])
    assert health.live().ok


@pytest.mark.fault("F17")
async def test_a_handler_that_ignores_its_time_limit_is_told_once() -> None:
    world, stubborn = World(shards=1), Stubborn()
    world.write("k0")
    with anyio.fail_after(30):
        async with world.working(stubborn.handle, handler_timeout_s=0.05):
            await world.until(lambda: bool(told(world)))
            await anyio.sleep(0.6)
            stubborn.released.set()
            await world.until(lambda: bool(world.of(events.BatchDelivered) or world.of(events.BatchFailed)))
    assert len(told(world)) == 1
    assert told(world)[0].after_s >= 0.2


@pytest.mark.fault("F16", "F17")
async def test_the_shard_of_a_handler_that_nothing_ends_is_given_to_others_after_a_lease_duration() -> None:
    world, stubborn = World(shards=1), Stubborn()
    world.write("k0")
    worker = await world.worker(stubborn.handle)
    (flow,) = worker.flows
    flow.around = replace(flow.around, options=replace(flow.around.options, lease_duration_s=1.0))

    async def owner() -> str | None:
        return next(iter((await world.rows()).values())).owner

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await world.until(lambda: stubborn.at_work)
            worker.stop_now()
            await world.until(lambda: bool(told(world)))
            assert await owner() is not None, "nobody may have it yet"
            while await owner() is not None:  # noqa: ASYNC110 - the store tells nobody
                await anyio.sleep(0.05)
            assert not stubborn.released.is_set()
            stubborn.released.set()


async def test_a_handler_that_cleans_up_in_time_is_left_in_peace() -> None:
    world = World(shards=1)
    at_work = cleaned = False

    async def tidy(batch: Batch) -> None:
        nonlocal at_work, cleaned
        at_work = True
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            cleaned = True

    world.write("k0")
    async with world.working(tidy) as worker:
        await world.until(lambda: at_work)
        worker.stop_now()
    assert cleaned
    assert not told(world)
