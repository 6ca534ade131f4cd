"""Threads are bounded by calls that have really ended, not by callers that still wait."""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import pytest

from streamflow.errors import HandlerTimeoutError, SinkBusyError
from streamflow.handlers import threads as threads_module
from streamflow.handlers.threads import Threads

pytestmark = pytest.mark.anyio


async def test_a_call_that_was_given_up_keeps_its_place_until_it_ends() -> None:
    threads, released = Threads(limit=1), threading.Event()
    with pytest.raises(HandlerTimeoutError):
        await threads.run(released.wait, 10, timeout_s=0.01)
    with anyio.move_on_after(0.05) as scope:
        await threads.run(lambda: None)
    assert scope.cancelled_caught
    released.set()
    with anyio.fail_after(10):
        assert await threads.run(lambda: "after it") == "after it"


async def test_waiting_for_a_thread_is_not_time_of_the_call() -> None:
    threads, released = Threads(limit=1), threading.Event()
    waited: list[str] = []

    async def second() -> None:
        waited.append(await threads.run(lambda: "done", timeout_s=0.01))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(threads.run, released.wait, 10)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(second)
        with anyio.move_on_after(0.05):
            await anyio.Event().wait()
        assert waited == []
        released.set()
    assert waited == ["done"]


@pytest.mark.parametrize("turns", range(6))
async def test_a_caller_cancelled_at_any_moment_gives_the_place_back(turns: int) -> None:
    threads = Threads(limit=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(threads.run, lambda: None)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(5):
        assert await threads.run(lambda: "free") == "free"


async def test_at_most_so_many_calls_run_at_a_time() -> None:
    threads, lock = Threads(limit=3), threading.Lock()
    running, most = 0, 0
    barrier = threading.Barrier(3)

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(10)
        with lock:
            running -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(threads.run, call)
    assert most == 3


async def test_a_timeout_error_of_the_function_is_its_own() -> None:
    def fail() -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError, match="of a socket"):
        await Threads().run(fail, timeout_s=10)


async def test_a_call_that_finds_no_thread_for_a_minute_was_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "PATIENCE_S", 0.01)
    threads, released = Threads(limit=1), threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(threads.run, released.wait, 10)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(SinkBusyError, match="all 1 are at work"):
            await threads.run(lambda: pytest.fail("it was called"))
        released.set()
    with anyio.fail_after(5):
        assert await threads.run(lambda: "free") == "free"
