"""The only place that knows what time it is.

Ownership and pacing use `monotonic()`, which is the event loop's own time, so a loop with virtual time moves everything.
`wall()` is for ages and log lines only: no decision about ownership ever compares wall clocks.
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


class SystemClock:
    """The event loop's time and this machine's wall clock. `monotonic` needs a running event loop."""

    def monotonic(self) -> float:
        # Once or twice for each batch: asyncio's own way costs a tenth of anyio's.
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return time.time()  # noqa: TID251 - this is the one place


def thread_monotonic() -> float:
    """Seconds of the machine's monotonic clock, for threads that watch the event loop from outside."""
    return time.monotonic()  # noqa: TID251 - this is the one place
