"""Coroutines that are stopped at one of their awaits, wherever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator


class Stepped:
    """Awaiting it runs the coroutine. At its await number `at`, `first` is called before it waits and `then` awaited behind.

    `reached` tells whether it came so far.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        *,
        at: int,
        first: Callable[[], None] = lambda: None,
        then: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._coroutine = coroutine
        self._at = at
        self._first = first
        self._then = then
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        advance: Callable[[], Any] = lambda: next(steps)  # noqa: E731
        number = 0
        while True:
            try:
                waited_for = advance()
            except StopIteration as stop:
                return stop.value
            if here := number == self._at:
                self.reached = True
                self._first()
            try:
                sent = yield waited_for
                if here and self._then is not None:
                    yield from self._then().__await__()
                advance = _sending(steps, sent)
            except BaseException as error:  # noqa: ASYNC103, BLE001 - it is the coroutine's
                advance = _throwing(steps, error)
            number += 1


def _sending(steps: Generator[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: steps.send(value)


def _throwing(steps: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: steps.throw(error)


async def crash(coroutine: Coroutine[Any, Any, Any], *, at: int, late: bool = False) -> bool:
    """Cancel it at its await number `at`, from 0 on: before what it waits for is there, or `late`, when it is.

    False if it ended before that. Raises what it raises.
    """
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            scope.cancel()
            await anyio.lowlevel.checkpoint()

        stepped = Stepped(coroutine, at=at, then=cancel) if late else Stepped(coroutine, at=at, first=scope.cancel)
        await stepped
        return stepped.reached
    return True


async def hold(coroutine: Coroutine[Any, Any, Any], *, at: int, reached: anyio.Event, release: anyio.Event) -> None:
    """Let it stand at its await number `at` until `release`; `reached` is set there, or at its end."""

    async def stand() -> None:
        reached.set()
        await release.wait()

    try:
        await Stepped(coroutine, at=at, then=stand)
    finally:
        reached.set()
