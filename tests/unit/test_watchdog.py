"""A blocked loop is noticed from outside, and the one who blocks it is named."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.engine.watchdog import Place, Watchdog, stack_of_task, stack_of_thread, where
from streamflow.events import LoopBlocked

if TYPE_CHECKING:
    from streamflow.events import Event

pytestmark = pytest.mark.anyio


@pytest.mark.fault("F18")
async def test_a_handler_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []
    seen = threading.Event()

    def named() -> bool:
        return any("blocking_handler" in record.getMessage() for record in caplog.records)

    async def blocking_handler() -> None:
        # Holds the loop until the watchdog has said so, however long this machine takes.
        while not named():
            seen.wait(0.01)

    watchdog = Watchdog(told.append, blocked_s=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        await anyio.sleep(0.02)
        tasks.start_soon(blocking_handler, name="orders/shardId-1/delivery")
        with anyio.fail_after(10):
            while not told:  # noqa: ASYNC110 - an observer may tell any number of times
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    blocked = told[0]
    assert isinstance(blocked, LoopBlocked)
    assert blocked.task == "orders/shardId-1/delivery"
    assert "test_watchdog.py" in blocked.where
    assert "blocking_handler" in blocked.where
    assert blocked.blocked_s >= 0.05


async def test_the_stack_of_a_task_that_waits_goes_down_to_where_it_waits() -> None:
    async def outer() -> None:
        await middle()

    async def middle() -> None:
        await inner()

    async def inner() -> None:
        await anyio.sleep_forever()

    stack: list[Place] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outer, name="waits")
        await anyio.wait_all_tasks_blocked()
        (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "waits"]
        stack += stack_of_task(task)
        tasks.cancel_scope.cancel()
    own = [place.function for place in stack if place.file == __file__]
    assert own == ["outer", "middle", "inner"]
    assert where(stack).startswith(f"{__file__}:")
    assert where(stack).endswith(", inner")
    assert where([]) == "(unknown)"


def test_the_stack_of_a_thread_begins_with_its_function() -> None:
    begun, done = threading.Event(), threading.Event()

    def waits() -> None:
        begun.set()
        done.wait()

    thread = threading.Thread(target=waits)  # noqa: TID251 - what this is about
    thread.start()
    begun.wait()
    stack = stack_of_thread(thread.ident or 0)
    done.set()
    thread.join()
    assert where(stack).endswith(", waits")
    assert stack_of_thread(-1) == []


async def test_a_loop_that_breathes_is_left_in_peace() -> None:
    told: list[Event] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Watchdog(told.append, blocked_s=5.0).run)
        for _ in range(50):
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert told == []
