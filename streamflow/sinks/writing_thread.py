"""One thread for a target that blocks. What is asked while it works goes into its next group, so shards share a sync.

The thread owns the target from opening to closing. A caller hears of its request when the whole group is done. Groups are
bounded by the callers, each of which waits for one request.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import anyio

from streamflow.errors import StreamflowError, error_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractContextManager

T = TypeVar("T")

GROUP_MAX = 64
# A target that hangs is left to its thread, which is no reason for the process to stay.
CLOSING_TIMEOUT_S = 10.0


@dataclass(slots=True, eq=False)
class Request(Generic[T]):
    """What is asked, and what came of it: `result` if `error` is None. Written by the thread until `done`."""

    content: T
    done: anyio.Event
    withdrawn: bool = False
    """Its caller went away before its turn came."""
    result: Any = None
    error: Exception | None = None


Perform: TypeAlias = "Callable[[Sequence[Request[T]]], None]"
"""Gives each request of a group its result or its error, on the thread. What it raises is the error of all of them."""


class WritingThread(Generic[T]):
    """Use `open_writing_thread`."""

    def __init__(self, open_target: Callable[[], AbstractContextManager[Perform[T]]], name: str) -> None:
        self._open_target = open_target
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._requests: SimpleQueue[Request[T] | None] = SimpleQueue()
        self._closed = False
        self._refused: Exception | None = None
        self._opened = anyio.Event()
        self._ended = anyio.Event()

    async def ask(self, content: T) -> Any:
        """Have it done; the answer is its result, or raised.

        A caller that is cancelled stops waiting. What the thread has begun is done all the same, what it has not is not.
        """
        if self._closed:
            raise StreamflowError(f"{self._name} is closed")
        request = Request(content, anyio.Event())
        self._requests.put(request)
        try:
            await request.done.wait()
        finally:
            request.withdrawn = True
        if request.error is not None:
            raise request.error
        return request.result

    async def wait_opened(self) -> None:
        """Raises what opening the target raised."""
        await self._opened.wait()
        self.check()

    def check(self) -> None:
        """Raises what opening or closing the target raised."""
        if self._refused is not None:
            raise self._refused

    async def aclose(self) -> bool:
        """Finish what was asked before and close the target; False where that takes longer than the timeout."""
        self._closed = True
        self._requests.put(None)
        with anyio.move_on_after(CLOSING_TIMEOUT_S, shield=True):
            await self._ended.wait()
        return self._ended.is_set()

    # -- on the thread ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            with self._open_target() as perform:
                self._tell([self._opened])
                while group := self._next_group():
                    self._serve(perform, group)
        except Exception as error:  # noqa: BLE001 - whoever opens must hear of it, whatever it is
            self._refused = error
        finally:
            self._tell([self._opened, self._ended])

    def _serve(self, perform: Perform[T], group: Sequence[Request[T]]) -> None:
        wanted = [request for request in group if not request.withdrawn]
        try:
            if wanted:
                perform(wanted)
        except Exception as error:  # noqa: BLE001 - told to the callers
            for request in wanted:
                request.error = StreamflowError(f"{self._name}: {type(error).__name__}: {error_text(error)}")
        self._tell([request.done for request in group])

    def _next_group(self) -> list[Request[T]]:
        """What is waiting, at least one request; nothing after the last one."""
        group: list[Request[T]] = []
        with suppress(Empty):
            while len(group) < GROUP_MAX:
                request = self._requests.get(block=not group)
                if request is None:
                    # The end comes once more, when this group is served.
                    if group:
                        self._requests.put(None)
                    break
                group.append(request)
        return group

    def _tell(self, events: Sequence[anyio.Event]) -> None:
        # A loop that was closed without closing the sink has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_set, events)


@asynccontextmanager
async def open_writing_thread(
    open_target: Callable[[], AbstractContextManager[Perform[T]]], name: str
) -> AsyncIterator[WritingThread[T]]:
    """Open the target on a thread of its own for the length of the block; `name` is for messages.

    Raises:
        Exception: what `open_target` raises.
    """
    writing = WritingThread(open_target, name)
    thread = threading.Thread(target=writing.run, name=f"streamflow/{name}", daemon=True)  # noqa: TID251 - files and sqlite3 block
    thread.start()
    try:
        await writing.wait_opened()
        yield writing
    finally:
        if await writing.aclose():
            thread.join()  # its last act was to say that it has ended
    writing.check()


def _set(events: Sequence[anyio.Event]) -> None:
    for event in events:
        event.set()
