"""Where leases are kept alive: an event loop apart from the handlers', so that a handler which hogs its loop loses none.

The store lives in that loop. What the handlers' loop wants of it goes over and comes back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

import anyio

from streamflow.errors import StoreError, leading_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup

    from streamflow.dead_letters import DeadLetter, Drawer, LetterQuery
    from streamflow.leases import Lease, LeaseKey, LeaseLayout
    from streamflow.protocols import StateStore

_logger = logging.getLogger("streamflow")
P = ParamSpec("P")
T = TypeVar("T")

_CLOSED = "the lease store is closed"


class LeaseLoop(Protocol):
    @property
    def store(self) -> StateStore:
        """To be used in the loop of the leases only."""
        ...

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """From the handlers' loop: await the function in the loop of the leases."""
        ...

    def tell(self, function: Callable[[], object]) -> None:
        """From the loop of the leases: have the handlers' loop call this soon."""
        ...


@dataclass(frozen=True, slots=True)
class SameLoop:
    """Leases and handlers in one loop: for virtual time."""

    store: StateStore

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await function(*args, **kwargs)

    def tell(self, function: Callable[[], object]) -> None:
        function()


class ThreadLoop:
    """Leases in a thread with a loop of its own. Use `open_lease_loop`."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[StateStore]]) -> None:
        self._opening = opening
        self._replies = _Mailbox(asyncio.get_running_loop())
        self._begun, self._opened, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        self._refused: BaseException | None = None
        self._tasks: TaskGroup | None = None
        """Belongs to the thread; None unless the store is open."""
        self._unanswered: dict[asyncio.Future[Any], None] = {}

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._ended.is_set():
            raise StoreError(_CLOSED)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        scope = anyio.CancelScope()
        call = _Call(partial(function, *args, **kwargs), answer, scope, self._replies)
        self._unanswered[answer] = None
        self._requests.put(partial(self._begin, call))
        try:
            return await answer
        except asyncio.CancelledError:
            self._requests.put(scope.cancel)
            raise
        finally:
            del self._unanswered[answer]

    def tell(self, function: Callable[[], object]) -> None:
        self._replies.put(function)

    async def wait_opened(self) -> None:
        """Raises what the opening raised."""
        await self._opened.wait()
        if self._refused is not None:
            raise self._refused

    async def aclose(self) -> None:
        """Close the store, or give up the opening of it.

        Calls that are not answered are cancelled, and later ones raise `StoreError`.
        """
        await self._begun.wait()
        if not self._ended.is_set():
            self._requests.put(self._finish)
            await self._ended.wait()

    # -- on the thread ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        error: BaseException | None = None
        try:
            anyio.run(self._live)
        except BaseException as raised:  # noqa: ASYNC103, BLE001 - whoever opens, or closes, hears of it
            error = leading_error(raised) if isinstance(raised, BaseExceptionGroup) else raised
        self.tell(partial(self._end, error))

    async def live(self) -> None:
        """What the thread does, in a loop that runs already: for virtual time, which knows no threads."""
        error: BaseException | None = None
        try:
            await self._live()
        except Exception as raised:  # noqa: BLE001 - as in a thread
            error = leading_error(raised) if isinstance(raised, BaseExceptionGroup) else raised
        finally:
            self.tell(partial(self._end, error))

    async def _live(self) -> None:
        self._requests = _Mailbox(asyncio.get_running_loop())
        with anyio.CancelScope() as opening:
            self._leave: Callable[[], object] = opening.cancel
            self.tell(self._begun.set)
            async with self._opening() as store:
                try:
                    async with anyio.create_task_group() as tasks:
                        self.store, self._tasks = store, tasks
                        stop = anyio.Event()
                        self._leave = stop.set
                        self.tell(self._opened.set)
                        await stop.wait()
                        tasks.cancel_scope.cancel()
                finally:
                    self._tasks = None

    def _begin(self, call: _Call[Any]) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(call.perform)
        else:
            call.refuse()

    def _finish(self) -> None:
        """As far as the thread is by now: give up the opening, or close."""
        self._leave()

    def _end(self, error: BaseException | None) -> None:
        """In the handlers' loop: nothing lives any more."""
        if not self._opened.is_set():
            self._refused = error or StoreError("the lease store ended before it was open")
        elif error is not None:
            _logger.error("lease store closed with error_type=%s", type(error).__name__)
        for event in (self._begun, self._opened, self._ended):
            event.set()
        # What was asked of a loop that had ended by then, nobody has heard.
        for answer in self._unanswered:
            if not answer.done():
                answer.set_exception(StoreError(_CLOSED))


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """One function awaited in the loop of the leases, its outcome told in the handlers' loop."""

    function: Callable[[], Awaitable[T]]
    answer: asyncio.Future[T]
    scope: anyio.CancelScope
    replies: _Mailbox

    async def perform(self) -> None:
        try:
            with self.scope:
                result = await self.function()
                self.replies.put(partial(self._settle, lambda: self.answer.set_result(result)))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            self.replies.put(partial(self._settle, partial(self.answer.set_exception, error)))
        finally:
            # Of a call that was cancelled with the loop nobody hears otherwise.
            self.replies.put(partial(self._settle, self.answer.cancel))

    def refuse(self) -> None:
        """The store is closed, or not open yet."""
        self.replies.put(partial(self._settle, partial(self.answer.set_exception, StoreError(_CLOSED))))

    def _settle(self, how: Callable[[], object]) -> None:
        if not self.answer.done():
            how()


class _Mailbox:
    """Functions for another thread's loop to call, in order. However many are waiting, the loop is woken once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._context = copy_context()  # of whoever owns the loop, not of whoever puts something in
        self._calls: deque[Callable[[], object]] = deque()
        self._awake = False

    def put(self, call: Callable[[], object]) -> None:
        self._calls.append(call)
        if not self._awake:
            self._awake = True
            with suppress(RuntimeError):  # a loop that is closed has nobody left to call anything
                self._loop.call_soon_threadsafe(self._run, context=self._context)

    def _run(self) -> None:
        self._awake = False  # before the first look: what is put from here on wakes the loop again
        while self._calls:
            self._calls.popleft()()


@asynccontextmanager
async def open_lease_loop(opening: Callable[[], AbstractAsyncContextManager[StateStore]]) -> AsyncIterator[ThreadLoop]:
    """Open the store in a thread of its own for the length of the block; raises what `opening` raises."""
    loop = ThreadLoop(opening)
    thread = threading.Thread(target=loop.run, name="streamflow/leases", daemon=True)  # noqa: TID251 - leases are kept alive although the handlers' loop hangs
    thread.start()
    try:
        await loop.wait_opened()
        yield loop
    finally:
        with anyio.CancelScope(shield=True):
            await loop.aclose()
        thread.join()  # its last act was to say that it has ended


@dataclass(frozen=True, slots=True)
class DistantStore:
    """The store of a lease loop, for the handlers' loop."""

    loop: LeaseLoop

    @property
    def layout(self) -> LeaseLayout:
        return self.loop.store.layout

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        return await self.loop.call(self.loop.store.list, pipeline, stream_arn)

    async def get(self, key: LeaseKey) -> Lease | None:
        return await self.loop.call(self.loop.store.get, key)

    async def create(self, lease: Lease) -> Lease | None:
        return await self.loop.call(self.loop.store.create, lease)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        return await self.loop.call(self.loop.store.update, lease, expected_version=expected_version)

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        return await self.loop.call(self.loop.store.delete, key, expected_version=expected_version)

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        await self.loop.call(self.loop.store.keep, letters)

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        return await self.loop.call(self.loop.store.park, letters, opening=opening)

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        return await self.loop.call(self.loop.store.parked_keys, pipeline, stream_arn)

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        return await self.loop.call(self.loop.store.letters, query)

    async def count(self, query: LetterQuery) -> int:
        return await self.loop.call(self.loop.store.count, query)

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        return await self.loop.call(self.loop.store.remove, drawer, ids)
