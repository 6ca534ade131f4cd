"""Many time limits with one timer."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from streamflow.deadlines import TimeLimit
from streamflow.testing.simulation.loop import SimulatedLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


async def passes_after(seconds: float, work_s: float) -> tuple[bool, float]:
    began_at = anyio.current_time()
    with TimeLimit(seconds) as limit:
        await anyio.sleep(work_s)
    return limit.passed, round(anyio.current_time() - began_at, 3)


async def test_work_within_its_limit_is_left_alone() -> None:
    assert await passes_after(2, 1) == (False, 1)


@pytest.mark.fault("F16")
async def test_work_beyond_its_limit_is_cancelled_at_that_moment() -> None:
    assert await passes_after(1, 2) == (True, 1)


async def test_each_limit_counts_for_itself_whatever_their_order() -> None:
    found: dict[float, tuple[bool, float]] = {}

    async def measure(seconds: float, begins_at: float) -> None:
        await anyio.sleep(begins_at)
        found[seconds] = await passes_after(seconds, 100)

    async with anyio.create_task_group() as tasks:
        for seconds, begins_at in ((50, 0), (5, 1), (70, 2), (3, 60), (4, 60), (6, 0)):
            tasks.start_soon(measure, seconds, begins_at)
    assert found == {seconds: (True, seconds) for seconds in (50.0, 5.0, 70.0, 3.0, 4.0, 6.0)}


async def test_the_inner_one_of_two_limits_may_pass_alone_and_the_outer_one_ends_both() -> None:
    with TimeLimit(5) as outer:
        assert await passes_after(1, 9) == (True, 1)
    assert not outer.passed
    with TimeLimit(1) as outer, TimeLimit(5) as inner:
        await anyio.sleep(9)
    assert (outer.passed, inner.passed) == (True, False)


async def test_what_is_cancelled_from_outside_has_not_passed_its_limit() -> None:
    with anyio.move_on_after(1) as outside, TimeLimit(5) as limit:
        await anyio.sleep(9)
    assert outside.cancelled_caught
    assert not limit.passed


async def test_an_error_goes_through() -> None:
    with pytest.raises(LookupError), TimeLimit(5):
        raise LookupError
    assert await passes_after(1, 2) == (True, 1)


async def test_ten_thousand_limits_that_do_not_pass_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def noted(when: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *arguments, **options)

    monkeypatch.setattr(loop, "call_at", noted)
    for _ in range(10_000):
        with TimeLimit(30):
            pass
    assert len(timers) == 1
