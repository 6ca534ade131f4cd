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
from typing import TYPE_CHECKING

import anyio

import streamflow
from streamflow import events
from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from streamflow.events import Event

_logger = logging.getLogger("streamflow")
_PACKAGE = str(Path(streamflow.__file__).parent)


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
        listener = threading.Thread(
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
        frame = sys._current_frames().get(loop_thread)
        return (task.get_name() if task else "(no task)"), _where(frame)


def _where(frame: FrameType | None) -> str:
    """The innermost frame outside this package and the standard library, else the innermost one."""
    stack = traceback.extract_stack(frame) if frame is not None else None
    if not stack:
        return "(unknown)"
    standard_library = str(Path(asyncio.__file__).parent.parent)
    own = [
        summary
        for summary in stack
        if not summary.filename.startswith((_PACKAGE, standard_library)) and "site-packages" not in summary.filename
    ]
    innermost = (own or stack)[-1]
    return f"{innermost.filename}:{innermost.lineno}, {innermost.name}"
