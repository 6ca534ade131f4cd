"""Time limits on work that mostly ends well within them, and by the ten thousand: one timer for all of an event loop.

A timer for each limit, which is what `anyio.move_on_after` sets, costs more than the work of a small batch. Here a limit is
an entry, and the timer is that of the earliest; when it rings, it is set for the earliest that is left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self
from weakref import WeakKeyDictionary

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class TimeLimit:
    """Cancels the block after `seconds`; `passed` says afterwards whether it did. As `anyio.move_on_after`, it nests."""

    __slots__ = ("_deadlines", "_scope", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    @property
    def passed(self) -> bool:
        return self._scope.cancelled_caught

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._deadlines = _deadlines(loop)
        self._scope = self._deadlines.new_scope()
        self._scope.__enter__()
        self._deadlines.add(self._scope, loop, self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._deadlines.remove(self._scope)
        return self._scope.__exit__(kind, error, traceback)


class _Deadlines:
    """Of one event loop."""

    def __init__(self) -> None:
        self._due_at: dict[anyio.CancelScope, float] = {}
        self._rings_at = float("inf")
        # Asked for by its public name, a scope is initialised twice: by what chooses the kind of this loop, and as any object.
        self.new_scope: Callable[[], anyio.CancelScope] = type(anyio.CancelScope())

    def add(self, scope: anyio.CancelScope, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        due_at = self._due_at[scope] = loop.time() + seconds
        if due_at < self._rings_at:
            self._set(loop, due_at)

    def remove(self, scope: anyio.CancelScope) -> None:
        # The timer stays as it is: the next limit is most likely a later one.
        self._due_at.pop(scope, None)

    def _set(self, loop: asyncio.AbstractEventLoop, rings_at: float) -> None:
        self._rings_at = rings_at
        loop.call_at(rings_at, self._ring, rings_at)

    def _ring(self, rings_at: float) -> None:
        if rings_at != self._rings_at:
            return  # an earlier one was set since, and has looked after everything
        self._rings_at = float("inf")
        loop = asyncio.get_running_loop()
        now = loop.time()
        for scope in [scope for scope, due_at in self._due_at.items() if due_at <= now]:
            del self._due_at[scope]
            scope.cancel()
        if self._due_at:
            self._set(loop, min(self._due_at.values()))


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Deadlines] = WeakKeyDictionary()


def _deadlines(loop: asyncio.AbstractEventLoop) -> _Deadlines:
    found = _of_loop.get(loop)
    if found is None:
        found = _of_loop[loop] = _Deadlines()
    return found
