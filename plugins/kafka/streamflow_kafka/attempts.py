"""Work in a thread that gives up when nobody waits for it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class GaveUpError(Exception):
    """Raised in the thread."""


class Attempt:
    def __init__(self) -> None:
        self.gave_up = False

    def check(self) -> None:
        """Raises `GaveUpError` if nobody waits any more."""
        if self.gave_up:
            raise GaveUpError


class _Outcome(Generic[T]):
    value: T
    error: Exception | None = None


async def run_attempt(work: Callable[[Attempt], T], *, timeout_s: float, what: str) -> T:
    """Run `work` in a thread, which looks at its attempt at least every half second.

    Whoever is cancelled, or has waited for `timeout_s`, waits until the thread has given up: nothing of it goes on.

    Raises:
        TimeoutError: it was given up; `what` says what it was.
    """
    attempt = Attempt()
    outcome: _Outcome[T] = _Outcome()
    ended = anyio.Event()

    async def in_thread() -> None:
        with anyio.CancelScope(shield=True):
            try:
                outcome.value = await to_thread.run_sync(work, attempt, limiter=anyio.CapacityLimiter(1))
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                outcome.error = error
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, name=f"kafka/{what}")
        try:
            with anyio.move_on_after(timeout_s):
                await ended.wait()
        finally:
            attempt.gave_up = True
    if isinstance(outcome.error, GaveUpError):
        raise TimeoutError(f"kafka: {what} took more than {timeout_s:g} s, and was given up")
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
