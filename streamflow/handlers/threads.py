"""Threads for plain functions: a bounded number, each counted until its call has really ended."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from streamflow.errors import HandlerTimeoutError, SinkBusyError

if TYPE_CHECKING:
    from collections.abc import Callable

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

# Plain functions of one pipeline that run at the same time: one per shard is the rule, this is its bound.
THREADS_MAX = 40
# A call waits so long for a free thread before it says so; then it comes again.
PATIENCE_S = 60.0


class Threads:
    """Made on the event loop that uses it. A thread cannot be stopped: a call that was given up goes on in the background.

    It keeps its place until it ends, so that a function that hangs takes `limit` threads at most; then calls wait.
    """

    def __init__(self, limit: int = THREADS_MAX) -> None:
        self._places = anyio.CapacityLimiter(limit)
        # anyio's own limiter forgets a call when its caller is cancelled; ours counts instead of it.
        self._unlimited = anyio.CapacityLimiter(math.inf)

    async def run(
        self,
        function: Callable[[*Arguments], Result],
        *arguments: *Arguments,
        timeout_s: float | None = None,
    ) -> Result:
        """Call `function` in a thread, as soon as one is free; returns and raises what it does.

        Cancelled, this does not wait for the thread: what the function does may still land.

        Raises:
            HandlerTimeoutError: it did not return within `timeout_s`; waiting for a free thread does not count.
            SinkBusyError: no thread was free for a minute; the function was not called.
        """
        place = object()
        with anyio.move_on_after(PATIENCE_S) as patience:
            await self._places.acquire_on_behalf_of(place)
        if patience.cancelled_caught:
            raise SinkBusyError(
                f"no thread was free for {PATIENCE_S:g} s: all {self._places.total_tokens:g} are at work, calls that timed "
                "out among them",
                retry_after_s=1.0,
            )
        # Whoever takes it out decides: the thread, that the function runs; the caller, that it never will.
        undecided = [place]
        loop = asyncio.get_running_loop()

        def call() -> Result:
            if not _take(undecided):
                raise HandlerTimeoutError(0.0)  # given up already: nobody sees this
            try:
                return function(*arguments)
            finally:
                with suppress(RuntimeError):  # the loop is closed, and nobody counts any more
                    loop.call_soon_threadsafe(self._places.release_on_behalf_of, place)

        try:
            with anyio.move_on_after(timeout_s):
                return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._unlimited)
        finally:
            if _take(undecided):
                self._places.release_on_behalf_of(place)
        raise HandlerTimeoutError(timeout_s or 0.0)


def _take(undecided: list[object]) -> bool:
    """True for one taker only, of any number of threads."""
    try:
        undecided.pop()
    except IndexError:
        return False
    return True
