"""The only place that knows what time it is.

Pacing and patience use `monotonic()`, which is the event loop's own time, so a loop with virtual time moves everything; for
how long a worker believes in its leases is counted by `lifetime()`. `wall()` is for ages and log lines only: no decision
about ownership ever compares wall clocks.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Both readings are float seconds."""

    def monotonic(self) -> float: ...

    def wall(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class LeaseClock(Clock, Protocol):
    """The clock of a worker."""

    def lifetime(self) -> float:
        """Seconds like those of `monotonic`, from another beginning, which also pass while the machine is suspended."""
        ...


# Linux stops the monotonic clock of a suspended machine; elsewhere this clock does not stop, or there is no other.
_LIFETIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The event loop's time and this machine's wall clock. `monotonic` needs a running event loop."""

    def monotonic(self) -> float:
        # Once or twice for each batch: asyncio's own way costs a tenth of anyio's.
        return asyncio.get_running_loop().time()

    def lifetime(self) -> float:
        return time.clock_gettime(_LIFETIME)  # noqa: TID251 - this is the one place

    def wall(self) -> float:
        return time.time()  # noqa: TID251 - this is the one place


def thread_monotonic() -> float:
    """Seconds of the machine's monotonic clock, for threads that watch the event loop from outside."""
    return time.monotonic()  # noqa: TID251 - this is the one place
