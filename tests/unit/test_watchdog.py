"""A blocked loop is noticed from outside, and the one who blocks it is named."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.engine.watchdog import Watchdog
from streamflow.events import LoopBlocked

if TYPE_CHECKING:
    from streamflow.events import Event

pytestmark = pytest.mark.anyio


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


async def test_a_loop_that_breathes_is_left_in_peace() -> None:
    told: list[Event] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Watchdog(told.append, blocked_s=5.0).run)
        for _ in range(50):
            await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    assert told == []
