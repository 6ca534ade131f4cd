"""A node: the process of a worker on its machine, which is killed, stopped, suspended and started again."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

import anyio

from streamflow.engine.lease_loop import ThreadLoop
from streamflow.errors import leading_error
from streamflow.testing.simulation.clocks import NodeClock
from streamflow.testing.simulation.loop import NODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from streamflow.protocols import StateStore
    from streamflow.testing.simulation.loop import SimulatedLoop
    from streamflow.testing.simulation.network import Network

_LEASES = "/leases"


class Node:
    """Lives one life after the other. The same `name` in the next life is the same identity; for another, make another node.

    A life runs whatever `live` is given: other options are an upgrade.
    """

    def __init__(self, name: str, *, loop: SimulatedLoop, network: Network, clock: NodeClock | None = None) -> None:
        self.name = name
        self.lives = 0
        self.clock = clock or NodeClock(loop, self.key)
        self._loop = loop
        self._network = network
        self._life: anyio.CancelScope | None = None
        self._crashed = False
        self._standing = anyio.Lock()

    @property
    def key(self) -> str:
        """Of this life, such as `w1.2`: the name by which the network, the loop (`NODE`) and effects know it."""
        return f"{self.name}.{self.lives}"

    @property
    def alive(self) -> bool:
        """Whether a life is under way, also one that stands still; not one that was killed and still ends."""
        return self._life is not None and not self._crashed

    async def live(self, main: Callable[[], Awaitable[object]]) -> bool:
        """Run one life: `main`, and every task that it starts, under a new `key`; make ports in it, for its key.

        Returns True when `main` has returned, False when the node was killed. Raises what `main` raises.
        """
        if self._life is not None:
            raise RuntimeError(f"{self.key} still lives")
        self.lives += 1
        self.clock.node = self.key
        self._crashed = False
        failures: list[Exception] = []
        try:
            async with anyio.create_task_group() as tasks:
                self._life = tasks.cancel_scope
                _in_context(self.key, tasks.start_soon, _kept(main, failures), name=self.key)
        finally:
            self._life = None
        if failures and not self._crashed:
            raise failures[0]
        return not self._crashed

    def crash(self) -> None:
        """Kill it: first nothing of it reaches anything, then everything in it is cancelled, so that it can end.

        What its `finally` blocks do has no effect; `live` returns when they are done, at the latest when their own
        deadlines have passed.
        """
        if self._life is None or self._crashed:
            return
        self._crashed = True
        self._network.sever(self.key)
        for part in self._parts:
            self._loop.thaw(part)
        self._life.cancel()

    async def pause(self, seconds: float) -> None:
        """Let everything in it stand still for a while, as SIGSTOP does; clocks go on. One after the other."""
        await self._stand(seconds, *self._parts)

    async def suspend(self, seconds: float) -> None:
        """Suspend its machine for a while: the same, and its monotonic clock stands."""
        await self._stand(seconds, *self._parts, clock_stops=True)

    async def block(self, seconds: float) -> None:
        """Let the event loop of its handlers stand still, as a handler that does not yield does; leases are kept alive."""
        await self._stand(seconds, self.key)

    def jump_clock(self, seconds: float) -> None:
        """Set its wall clock forward, or back."""
        self.clock.jump(seconds)

    @property
    def _parts(self) -> tuple[str, str]:
        return self.key, self.key + _LEASES

    async def _stand(self, seconds: float, *parts: str, clock_stops: bool = False) -> None:
        async with self._standing:
            if not self.alive:
                return
            for part in parts:
                self._loop.freeze(part, clock_stops=clock_stops)
            try:
                await anyio.sleep(seconds)
            finally:
                for part in parts:
                    self._loop.thaw(part)


@asynccontextmanager
async def open_lease_loop(opening: Callable[[], AbstractAsyncContextManager[StateStore]]) -> AsyncIterator[ThreadLoop]:
    """As `streamflow.engine.lease_loop.open_lease_loop`, in the same loop: to be opened by a node, in a life of it.

    `Node.block` stops the handlers and leaves this at work.
    """
    loop = ThreadLoop(opening)
    try:
        async with anyio.create_task_group() as tasks:
            _in_context(NODE.get() + _LEASES, tasks.start_soon, _to_the_end, loop.live, name="leases")
            try:
                await loop.wait_opened()
                yield loop
            finally:
                with anyio.CancelScope(shield=True):
                    await loop.aclose()
    except BaseExceptionGroup as group:
        raise leading_error(group) from None


async def _to_the_end(live: Callable[[], Awaitable[None]]) -> None:
    """As in a thread of its own: who is killed is done with it first, and then it is closed."""
    with anyio.CancelScope(shield=True):
        await live()


def _in_context(node: str, function: Callable[..., object], *args: object, name: str) -> None:
    context = copy_context()
    context.run(NODE.set, node)
    context.run(partial(function, *args, name=name))


def _kept(main: Callable[[], Awaitable[object]], failures: list[Exception]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            await main()
        except Exception as error:  # noqa: BLE001 - `live` raises it, if the node was not killed
            failures.append(error)

    return run
