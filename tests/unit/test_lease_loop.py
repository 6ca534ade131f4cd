"""Leases are kept alive in a thread with a loop of its own: handlers that hog theirs lose none. In real time."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from cancelling import cancelled_at, leaving_nothing
from streamflow import events
from streamflow.clock import thread_monotonic
from streamflow.engine.lease_loop import DistantStore, ThreadLoop, open_lease_loop
from streamflow.errors import StoreError
from streamflow.launch import running
from streamflow.leases import WORKERS, Lease
from streamflow.pipeline import App, Pipeline
from streamflow.plugins import open_store
from streamflow.stores.memory import MemoryStore
from streamflow.testing.memory_source import MemorySource
from world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streamflow.batches import Batch

pytestmark = pytest.mark.anyio
LEASE = Lease(pipeline="p", stream_arn="arn", shard_id="s")


async def test_the_store_lives_in_the_other_loop_and_answers_in_this_one() -> None:
    threads: list[str] = []

    @asynccontextmanager
    async def opening() -> AsyncIterator[MemoryStore]:
        threads.append(threading.current_thread().name)
        yield MemoryStore()
        threads.append(threading.current_thread().name)

    async with open_lease_loop(opening) as loop:
        store = DistantStore(loop)
        created = await store.create(LEASE)
        assert created is not None
        assert await store.get(LEASE.key) == created
        assert list(await store.list("p", "arn")) == [created]
        assert await store.update(LEASE, expected_version=9) is None
        assert await store.delete(LEASE.key, expected_version=created.version)
    assert threads == ["streamflow/leases"] * 2


async def test_an_opening_that_is_given_up_ends_with_its_thread() -> None:
    @asynccontextmanager
    async def opening() -> AsyncIterator[MemoryStore]:
        await anyio.sleep_forever()
        yield MemoryStore()

    async def open_it() -> None:
        async with open_lease_loop(opening):
            raise AssertionError("nothing was opened")

    with leaving_nothing():
        assert await cancelled_at(1, open_it())


async def test_errors_come_as_they_are() -> None:
    async def fail(text: str) -> None:
        raise StoreError(text)

    @asynccontextmanager
    async def refused() -> AsyncIterator[MemoryStore]:
        await fail("the disk is full")
        yield MemoryStore()

    with pytest.raises(StoreError, match="the disk is full"):
        async with open_lease_loop(refused):
            pass

    async with open_lease_loop(partial(open_store, "memory:")) as loop:
        with pytest.raises(StoreError, match="no answer"):
            await loop.call(fail, "no answer")


async def test_what_is_told_is_called_in_the_loop_of_the_handlers() -> None:
    here, told = asyncio.get_running_loop(), anyio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def note() -> None:
        loops.append(asyncio.get_running_loop())
        told.set()

    async with open_lease_loop(partial(open_store, "memory:")) as loop:

        async def tell() -> None:
            loop.tell(note)

        await loop.call(tell)
        await told.wait()
    assert loops == [here]


async def test_a_call_that_is_given_up_ends_in_the_other_loop_too() -> None:
    ended = threading.Event()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with open_lease_loop(partial(open_store, "memory:")) as loop:
        with anyio.move_on_after(0.05):
            await loop.call(wait)
        assert await anyio.to_thread.run_sync(ended.wait, 10)


async def test_a_call_that_comes_too_late_fails_and_does_not_wait() -> None:
    closing, close = threading.Event(), threading.Event()

    @asynccontextmanager
    async def opening() -> AsyncIterator[MemoryStore]:
        yield MemoryStore()
        closing.set()
        await anyio.to_thread.run_sync(close.wait, 10)

    async def call_late(loop: ThreadLoop) -> None:
        assert await anyio.to_thread.run_sync(closing.wait, 10)
        with pytest.raises(StoreError, match="closed"):
            await DistantStore(loop).get(LEASE.key)
        close.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, open_lease_loop(opening) as loop:
            tasks.start_soon(call_late, loop)
        with pytest.raises(StoreError, match="closed"):
            await loop.call(loop.store.get, LEASE.key)


async def test_a_call_to_a_thread_that_has_just_ended_fails_when_that_is_known() -> None:
    async with open_lease_loop(partial(open_store, "memory:")) as loop:
        loop._requests.put(loop._finish)  # what `aclose` does first
        for thread in threading.enumerate():
            if thread.name == "streamflow/leases":
                thread.join(10)  # nothing of what it told was heard yet
        with pytest.raises(StoreError, match="closed"), anyio.fail_after(10):
            await loop.call(loop.store.get, LEASE.key)


@pytest.mark.fault("F18")
@pytest.mark.parametrize("hogging", ["a call that blocks", "a loop in Python"])
async def test_a_handler_that_hogs_the_loop_for_lease_durations_loses_nothing(tmp_path: Path, hogging: str) -> None:
    """Twice the lease duration without a turn for the loop: the other worker sees signs of life all the time."""
    lease_s = 1.0
    world = World(shards=2)
    seen: list[events.Event] = []
    hogged = anyio.Event()

    def hog() -> None:
        ends_at = thread_monotonic() + 2 * lease_s
        if hogging == "a call that blocks":
            time.sleep(2 * lease_s)  # noqa: TID251 - blocks, as it is to
        while thread_monotonic() < ends_at:
            sum(range(1_000))

    async def handle(batch: Batch) -> None:
        hog()
        hogged.set()
        await world.accept(batch)

    url = f"sqlite:///{tmp_path / 'leases.db'}"
    source = MemorySource(world.controls.tables, world.stream_arn, faults=world.controls.faults)
    pipeline = Pipeline(name="p", source=source, handler=handle, starting_position="TRIM_HORIZON", poll_interval_s=0.05)
    app = App(pipelines=(pipeline,), store=url, worker_id="hog", lease_duration_s=lease_s)
    watched = threading.Event()
    struck: list[str] = []

    async def watch() -> None:
        """As another worker looks on, in a process of its own."""
        since: dict[str, tuple[int, float]] = {}
        async with open_store(url) as store:
            while not watched.is_set():
                for row in await store.list(*WORKERS):
                    version, at = since.setdefault(row.shard_id, (row.version, thread_monotonic()))
                    if version != row.version:
                        since[row.shard_id] = row.version, thread_monotonic()
                    elif thread_monotonic() - at >= lease_s:
                        struck.append(row.shard_id)
                await anyio.sleep(0.02)

    watcher = threading.Thread(target=anyio.run, args=(watch,))  # noqa: TID251 - beside the test
    async with running(app, observers=(seen.append,)) as worker:
        await worker.wait_started()
        watcher.start()
        try:
            world.write("a", "b")
            with anyio.fail_after(30):
                await hogged.wait()
                while not world.everything_delivered():  # noqa: ASYNC110 - the handler itself tells nobody
                    await anyio.sleep(0.02)
        finally:
            watched.set()
            await anyio.to_thread.run_sync(watcher.join)
    assert not struck
    assert not [event for event in seen if isinstance(event, events.LeaseLost | events.WorkerTakenForDead)]
    assert sorted(world.deliveries) == [("a", 1), ("b", 1)], "nothing twice"
