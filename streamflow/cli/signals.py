"""Signals that are heard whatever the event loop does, and deadlines that hold although it stands still.

Python's own handler, which is C, writes the number of each signal into a socket; a thread reads it there. Nothing is masked,
so that child processes get signals as ever. Code that holds Python's lock keeps this thread out, too: what ends such a
process is `keep_armed`.
"""

from __future__ import annotations

import faulthandler
import signal
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEARD = (signal.SIGINT, signal.SIGTERM)
_REARMED_EVERY_S = 1.0
_WAKE = 0  # no signal has this number


class Listener:
    """Calls `heard` for each signal, and `overdue` once the time of `leave_in` is up: both in a thread of its own."""

    def __init__(self, heard: Callable[[signal.Signals], None], overdue: Callable[[], None]) -> None:
        self._heard = heard
        self._overdue = overdue
        self._due_at: float | None = None
        self._reading_end, self._writing_end = socket.socketpair()
        self._writing_end.setblocking(False)

    def leave_in(self, seconds: float) -> None:
        """Set the time anew, from any thread."""
        self._due_at = thread_monotonic() + seconds
        self._writing_end.send(bytes([_WAKE]))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """In the block, in the main thread, signals go to `heard` and do nothing else."""
        thread = threading.Thread(target=self._listen, name="streamflow/signals", daemon=True)  # noqa: TID251 - signals are heard although the loop hangs
        thread.start()
        before = {number: signal.signal(number, _do_nothing) for number in HEARD}
        wakeup_fd = signal.set_wakeup_fd(self._writing_end.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._writing_end.close()
            thread.join()
            self._reading_end.close()

    def _listen(self) -> None:
        while True:
            due_at = self._due_at
            # A time of 0 would not wait, and fail at once.
            self._reading_end.settimeout(None if due_at is None else max(0.001, due_at - thread_monotonic()))
            try:
                numbers = self._reading_end.recv(256)
            except TimeoutError:
                if self._due_at == due_at:
                    self._due_at = None
                    self._overdue()
                continue
            if not numbers:
                return
            for number in numbers:
                if number in HEARD:
                    self._heard(signal.Signals(number))


def _do_nothing(number: int, frame: object) -> None:
    """A signal that has a handler of Python's is written into the socket."""


async def keep_armed(hang_limit_s: float) -> None:
    """Have the process end when this loop stands still for so long: with exit code 1, and the stacks of all threads on stderr.

    The timer is C, and needs nothing that Python code can hold; the stacks show no variables. There is one such timer in a
    process. Runs until cancelled, and then takes it back.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(hang_limit_s, exit=True, file=sys.__stderr__ or sys.stderr)
            await anyio.sleep(_REARMED_EVERY_S)
    finally:
        faulthandler.cancel_dump_traceback_later()
