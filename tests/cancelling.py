"""Coroutines that are cancelled at one of their suspensions, and programs that are cancelled at one turn of their loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.testing.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator


@dataclass(slots=True, eq=False)
class _Counted:
    """Awaits the coroutine; `scope` is cancelled when it waits for the so-manieth time."""

    coroutine: Coroutine[Any, Any, Any]
    scope: anyio.CancelScope
    at: int
    suspensions: int = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited_for = self.coroutine.send(answer) if error is None else self.coroutine.throw(error)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions == self.at:
                self.scope.cancel()
            answer = error = None
            try:
                answer = yield waited_for
            except BaseException as raised:  # noqa: ASYNC103, BLE001 - it is the coroutine's
                error = raised


async def cancelled_at(suspension: int, coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run the coroutine and cancel it there; False if it ended before it had waited so often."""
    with anyio.CancelScope() as scope:
        counted = _Counted(coroutine, scope, suspension)
        await counted
    return scope.cancel_called


async def everywhere(call: Callable[[], Coroutine[Any, Any, Any]], again: Callable[[], Awaitable[object]]) -> int:
    """Cancel the call at each of its suspensions in turn, and have a look after each; the answer is how many there are."""
    suspension = 1
    while await cancelled_at(suspension, call()):
        await again()
        suspension += 1
    return suspension - 1


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """What is begun in the block is over at its end: tasks, threads, open files and sockets."""
    tasks, threads, files = asyncio.all_tasks(), set(threading.enumerate()), _open_files()
    yield
    assert asyncio.all_tasks() - tasks == set()
    for thread in set(threading.enumerate()) - threads:
        thread.join(1.0)  # it may be told to end, and about to
        assert not thread.is_alive(), thread.name
    gc.collect()  # what nobody closed says so now, and a warning is an error
    assert _open_files() == files


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class CountingLoop(SimulatedLoop):
    """Virtual time; something may be called before a certain turn of the loop, of whatever task that is."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.at = 0
        self.action: Callable[[], object] = lambda: None

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns == self.at:
            self.action()
        super()._run_once()


async def cancelled_in_turn(turn: int, run: Callable[[], Awaitable[Any]]) -> bool:
    """In a `CountingLoop`: run, and cancel all of it before the so-manieth turn; False if it ended before."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    with anyio.CancelScope() as scope:
        loop.at, loop.action = loop.turns + turn, scope.cancel
        try:
            await run()
        finally:
            loop.at = 0
    return scope.cancel_called
