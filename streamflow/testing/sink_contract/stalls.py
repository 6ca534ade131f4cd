"""How long the event loop stood still, on a machine that has other things to do as well.

Time in which the system let the loop's thread wait for a processor is not counted: nobody blocked the loop then.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_BEAT_S = 0.001
# Of the calling thread, on Linux: time on a processor, and time spent waiting for one, in nanoseconds.
_SCHEDULE = Path("/proc/thread-self/schedstat")


@dataclass(slots=True)
class Stalls:
    longest_s: float = 0.0


@asynccontextmanager
async def watched_loop() -> AsyncIterator[Stalls]:
    """Watch the loop while the block lasts."""
    stalls = Stalls()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_beat, stalls, name="heartbeat")
        yield stalls
        # One beat more, so that what stood last is seen too.
        await anyio.sleep(2 * _BEAT_S)
        tasks.cancel_scope.cancel()


async def _beat(stalls: Stalls) -> None:
    at, waited_s = thread_monotonic(), _waited_s()
    while True:
        await anyio.sleep(_BEAT_S)
        now, waited_now_s = thread_monotonic(), _waited_s()
        stalls.longest_s = max(stalls.longest_s, now - at - _BEAT_S - (waited_now_s - waited_s))
        at, waited_s = now, waited_now_s


def _waited_s() -> float:
    """What this thread has waited for a processor so far; 0 where the system does not tell."""
    try:
        return int(_SCHEDULE.read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
