"""Notices an event loop that stands still, from a thread of its own, and names who is holding it.

A handler that blocks the loop stops polling, renewals and health checks alike; left alone it loses the leases.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

import streamflow
from streamflow import events
from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from streamflow.events import Event

_logger = logging.getLogger("streamflow")
_PACKAGE = str(Path(streamflow.__file__).parent)
_STANDARD_LIBRARY = str(Path(asyncio.__file__).parent.parent)
# Of coroutines, and of generators that are awaited.
_FRAMES = ("cr_frame", "gi_frame")
_AWAITED = ("cr_await", "gi_yieldfrom")


class Watchdog:
    """Beats on the loop, listens on a thread. A stall of `blocked_s` or more is reported when seen and when it ends."""

    def __init__(self, emit: Callable[[Event], None], *, blocked_s: float = 0.5) -> None:
        self._emit = emit
        self._blocked_s = blocked_s
        self._beat_at = thread_monotonic()
        self._stop = threading.Event()

    async def run(self) -> None:
        """Watch the running loop until cancelled."""
        loop, loop_thread = asyncio.get_running_loop(), threading.get_ident()
        self._beat_at = thread_monotonic()
        with self._listening(loop, loop_thread):
            while True:
                await anyio.sleep(self._blocked_s / 4)
                self._beat_at = thread_monotonic()

    @contextmanager
    def _listening(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> Iterator[None]:
        listener = threading.Thread(  # noqa: TID251 - sees the loop from outside
            target=self._listen, args=(loop, loop_thread), name="streamflow/watchdog", daemon=True
        )
        listener.start()
        try:
            yield
        finally:
            self._stop.set()

    def _listen(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> None:
        culprit: tuple[str, str] | None = None
        stalled_since = 0.0
        while not self._stop.wait(self._blocked_s / 4):
            beat_at = self._beat_at
            if thread_monotonic() - beat_at >= self._blocked_s:
                if culprit is None:
                    culprit, stalled_since = self._find(loop, loop_thread), beat_at
                    # At once and from here: the loop, and with it every observer, may never come back.
                    _logger.warning("event loop blocked task=%s where=%s", *culprit)
            elif culprit is not None:
                event = events.LoopBlocked(blocked_s=beat_at - stalled_since, task=culprit[0], where=culprit[1])
                culprit = None
                loop.call_soon_threadsafe(self._emit, event)

    def _find(self, loop: asyncio.AbstractEventLoop, loop_thread: int) -> tuple[str, str]:
        """Name of the task that runs, and the innermost line of it that is the user's."""
        task = asyncio.current_task(loop)
        return (task.get_name() if task else "(no task)"), where(stack_of_thread(loop_thread))


# --- stacks, without a local variable in them ------------------------------------------------------------------------


class Place(NamedTuple):
    """One line of code that is being run, or waits."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, {self.function}"


def stack_of_thread(thread_id: int) -> list[Place]:
    """What a thread runs, outermost first; empty where there is no such thread."""
    frame = sys._current_frames().get(thread_id)
    return [] if frame is None else [_place(*each) for each in traceback.walk_stack(frame)][::-1]


def stack_of_task(task: asyncio.Task[Any]) -> list[Place]:
    """Where a task waits, outermost first, down to what it awaits: `Task.get_stack` has the outermost only.

    Python does not tell which asynchronous generator is being waited for: there it ends.
    """
    found: list[Place] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = next((frame for name in _FRAMES if (frame := getattr(awaited, name, None)) is not None), None)
        if frame is None:
            break
        found.append(_place(frame, frame.f_lineno))
        awaited = next((inner for name in _AWAITED if (inner := getattr(awaited, name, None)) is not None), None)
    return found


def where(stack: Sequence[Place]) -> str:
    """The innermost place outside this package and the libraries, else the innermost one."""
    own = [
        place
        for place in stack
        if not place.file.startswith((_PACKAGE, _STANDARD_LIBRARY)) and "site-packages" not in place.file
    ]
    return str((own or stack)[-1]) if stack else "(unknown)"


def _place(frame: FrameType, line: int) -> Place:
    return Place(frame.f_code.co_filename, line, frame.f_code.co_name)
