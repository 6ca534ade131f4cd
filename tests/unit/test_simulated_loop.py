"""The loop of the simulation: jumping time, drawn turns, nodes that stand still, errors instead of hangs, no threads."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from streamflow.testing.simulation.determinism import deterministic
from streamflow.testing.simulation.loop import NODE, START_S, DeadlockError, LivelockError, SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")


def run(main: Callable[[SimulatedLoop], Awaitable[T]], loop: SimulatedLoop) -> T:
    return anyio.run(main, loop, backend_options={"loop_factory": lambda: loop})


async def turns(tasks: int, rounds: int) -> list[str]:
    """Who had its turn when, of tasks that do nothing but let others pass."""
    seen: list[str] = []

    async def walk(number: int) -> None:
        for each in range(rounds):
            seen.append(f"{number}.{each}")
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for number in range(tasks):
            group.start_soon(walk, number, name=f"walk-{number}")
    return seen


def turns_of(seed: int | None) -> list[str]:
    return run(lambda _: turns(6, 4), SimulatedLoop(seed))


# -- time -----------------------------------------------------------------------------------------------------------------


def test_time_jumps_to_the_next_timer() -> None:
    async def main(loop: SimulatedLoop) -> float:
        await anyio.sleep(86_400)
        return loop.time()

    assert run(main, SimulatedLoop()) == START_S + 86_400


def test_time_stands_while_anything_is_ready() -> None:
    async def main(loop: SimulatedLoop) -> float:
        await turns(5, 5)
        return loop.time()

    assert run(main, SimulatedLoop(1)) == START_S


def test_timers_of_one_moment_keep_their_order() -> None:
    async def main(loop: SimulatedLoop) -> list[int]:
        seen: list[int] = []
        for number in range(50):
            loop.call_later(1.0, seen.append, number)
        await anyio.sleep(2)
        return seen

    assert run(main, SimulatedLoop(3)) == list(range(50))


def test_a_cancelled_timer_moves_no_time() -> None:
    async def main(loop: SimulatedLoop) -> float:
        with anyio.move_on_after(1_000):
            await anyio.sleep(1)
        await anyio.sleep(1)
        return loop.time()

    assert run(main, SimulatedLoop(3)) == START_S + 2


def test_cancelled_timers_are_not_kept_until_they_pass() -> None:
    async def main(loop: SimulatedLoop) -> int:
        for _ in range(5_000):
            with anyio.move_on_after(86_400):
                await anyio.sleep(1)
        return len(loop._timers)

    assert run(main, SimulatedLoop(3)) < 2_000


# -- turns ----------------------------------------------------------------------------------------------------------------


def test_a_seed_repeats_the_order_of_turns_and_another_seed_does_not() -> None:
    assert turns_of(1) == turns_of(1)
    assert len({tuple(turns_of(seed)) for seed in range(20)}) == 20


def test_a_task_does_what_it_does_in_order() -> None:
    for seed in range(20):
        seen = turns_of(seed)
        for number in range(6):
            own = [turn for turn in seen if turn.startswith(f"{number}.")]
            assert own == [f"{number}.{each}" for each in range(4)]


def test_without_a_seed_first_come_is_first_served() -> None:
    assert turns_of(None) == [f"{number}.{each}" for each in range(4) for number in range(6)]


def test_calls_of_the_loop_itself_keep_their_order() -> None:
    async def main(loop: SimulatedLoop) -> list[int]:
        seen: list[int] = []
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(anyio.lowlevel.checkpoint)
                loop.call_soon(seen.append, number)
        return seen

    assert run(main, SimulatedLoop(5)) == list(range(50))


# -- the end of everything ------------------------------------------------------------------------------------------------


def test_waiting_for_what_never_comes_is_an_error_that_says_who_waits_where() -> None:
    async def main(_: SimulatedLoop) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(waiting, name="the one who waits")
            group.start_soon(anyio.sleep_forever)

    async def waiting() -> None:
        await anyio.Event().wait()

    with pytest.raises(DeadlockError, match=r"- the one who waits: .*test_simulated_loop.py:\d+ waiting"):
        run(main, SimulatedLoop(1))


def test_a_loop_without_end_is_an_error_that_says_what_runs() -> None:
    async def main(_: SimulatedLoop) -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(LivelockError, match=r"500 calls, and it is still 1000\.000 s; the next is .*main"):
        run(main, SimulatedLoop(1, steps_max=500))


def test_steps_that_are_too_small_are_a_loop_without_end_too() -> None:
    async def main(_: SimulatedLoop) -> None:
        while True:  # noqa: ASYNC110 - it waits for nothing
            await anyio.sleep(1e-7)

    with pytest.raises(LivelockError):
        run(main, SimulatedLoop(1, steps_max=500))


def test_much_work_in_much_time_is_no_loop_without_end() -> None:
    async def main(loop: SimulatedLoop) -> int:
        for _ in range(100):
            await turns(3, 10)
            await anyio.sleep(1)
        return loop.steps

    assert run(main, SimulatedLoop(1, steps_max=500)) > 3_000


def test_failing_the_loop_ends_the_run_whoever_catches() -> None:
    async def main(loop: SimulatedLoop) -> None:
        try:
            loop.fail(ZeroDivisionError("found"))
            await anyio.sleep(1)
        except Exception:  # noqa: BLE001
            raise AssertionError("it came through the program") from None

    with pytest.raises(ZeroDivisionError, match="found"):
        run(main, SimulatedLoop(1))


# -- nodes that stand still -----------------------------------------------------------------------------------------------


async def ticking(loop: SimulatedLoop, seen: list[tuple[float, float]]) -> None:
    """Each second, as the node itself has it: the world's time, and its own."""
    for _ in range(4):
        await anyio.sleep(1)
        seen.append((loop.now - START_S, loop.time() - START_S))


def started(
    node: str, function: Callable[..., Coroutine[Any, Any, object]], *args: object, group: anyio.abc.TaskGroup
) -> None:
    context = copy_context()
    context.run(NODE.set, node)
    context.run(partial(group.start_soon, function, *args, name=node))


def standing_still(*, clock_stops: bool) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """What a node and another one see, while the first stands still from 1.5 s to 4.75 s."""
    frozen: list[tuple[float, float]] = []
    other: list[tuple[float, float]] = []

    async def main(loop: SimulatedLoop) -> None:
        async with anyio.create_task_group() as group:
            started("frozen", ticking, loop, frozen, group=group)
            started("other", ticking, loop, other, group=group)
            await anyio.sleep(1.5)
            loop.freeze("frozen", clock_stops=clock_stops)
            await anyio.sleep(3.25)
            loop.thaw("frozen")

    run(main, SimulatedLoop(1))
    return frozen, other


def test_a_frozen_node_goes_on_where_it_was_and_late() -> None:
    frozen, other = standing_still(clock_stops=False)
    assert frozen == [(1, 1), (4.75, 4.75), (5.75, 5.75), (6.75, 6.75)]
    assert other == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_the_clock_of_a_suspended_node_stands_and_its_timers_with_it() -> None:
    frozen, other = standing_still(clock_stops=True)
    assert frozen == [(1, 1), (5.25, 2), (6.25, 3), (7.25, 4)]
    assert other == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_deadline_of_a_suspended_node_passes_on_its_own_clock() -> None:
    """Also where the sums are no round numbers: a deadline that is never quite reached would be looked at for ever."""
    passed: list[float] = []

    async def limited() -> None:
        for number in range(1, 100):
            with anyio.move_on_after(number / 7) as scope:
                await anyio.sleep_forever()
            passed.append(anyio.current_time() - scope.deadline)

    async def main(loop: SimulatedLoop) -> None:
        async with anyio.create_task_group() as group:
            started("frozen", limited, group=group)
            for number in range(1, 100):
                await anyio.sleep(number / 11)
                loop.freeze("frozen", clock_stops=True)
                await anyio.sleep(number / 13)
                loop.thaw("frozen")

    run(main, SimulatedLoop(1, steps_max=1_000))
    assert passed == [pytest.approx(0, abs=1e-6)] * 99


def test_what_a_frozen_node_waits_for_may_happen_meanwhile() -> None:
    async def main(loop: SimulatedLoop) -> list[float]:
        asked, seen = anyio.Event(), []

        async def wait() -> None:
            await asked.wait()
            seen.append(loop.now - START_S)

        async with anyio.create_task_group() as group:
            started("frozen", wait, group=group)
            await anyio.sleep(1)
            loop.freeze("frozen")
            asked.set()
            await anyio.sleep(1)
            assert not seen
            loop.thaw("frozen")
        return seen

    assert run(main, SimulatedLoop(1)) == [2]


# -- no threads -----------------------------------------------------------------------------------------------------------


def answered_in_a_thread(seed: int | None) -> tuple[str, float]:
    async def main(loop: SimulatedLoop) -> tuple[str, float]:
        name = await asyncio.get_running_loop().run_in_executor(None, threading.current_thread)
        return name.name, loop.now - START_S

    return run(main, SimulatedLoop(seed))


def test_an_executor_is_the_loop_itself_after_a_while() -> None:
    name, took_s = answered_in_a_thread(1)
    assert name == threading.current_thread().name
    assert 0 < took_s < 0.1
    assert answered_in_a_thread(1) == (name, took_s)
    assert answered_in_a_thread(None) == (name, 0)


def test_what_a_function_in_a_thread_raises_is_raised() -> None:
    async def main(_: SimulatedLoop) -> None:
        await asyncio.to_thread(lambda: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        run(main, SimulatedLoop(1))


def test_anyios_threads_are_the_loop_itself_and_cannot_be_stopped() -> None:
    landed: list[str] = []

    def land() -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        landed.append(threading.current_thread().name)
        return "returned"

    async def main(_: SimulatedLoop) -> str:
        with anyio.move_on_after(0.0001):
            await anyio.to_thread.run_sync(land, abandon_on_cancel=True)
            raise AssertionError("it took less time than any thread")
        assert not landed
        await anyio.sleep(1)
        assert len(landed) == 1
        return await anyio.to_thread.run_sync(land)

    with deterministic():
        assert run(main, SimulatedLoop(1)) == "returned"
    assert landed == [threading.current_thread().name] * 2


# -- the trace ------------------------------------------------------------------------------------------------------------


def test_the_trace_tells_runs_apart_and_knows_them_again() -> None:
    def traced(seed: int) -> str:
        loop = SimulatedLoop(seed)
        run(lambda _: turns(6, 4), loop)
        return loop.trace.digest()

    assert traced(1) == traced(1)
    assert traced(1) != traced(2)
