"""What a process says of itself while it works: how late its event loop is, and how much memory it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from benchmarks.memory import resident_bytes
from benchmarks.samples import percentile
from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAG_LOOK_S = 0.005
_MEMORY_LOOK_S = 0.25


class Lag:
    """How much later than asked a task of this loop goes on."""

    def __init__(self) -> None:
        self._late_s: list[float] = []

    async def sample(self) -> None:
        """Until cancelled."""
        while True:
            began_s = thread_monotonic()
            await anyio.sleep(_LAG_LOOK_S)
            self._late_s.append(thread_monotonic() - began_s - _LAG_LOOK_S)

    def p99_ms(self) -> float:
        return 1e3 * percentile(self._late_s, 0.99)


class Memory:
    """The largest resident set within each cycle of so many seconds: what grows from cycle to cycle is a leak."""

    def __init__(self, cycle_s: float) -> None:
        self._cycle_s = cycle_s
        self.peaks: list[float] = []
        """In MB."""

    async def sample(self) -> None:
        """Until cancelled; a cycle that has not ended does not count."""
        while True:
            until_s, peak = thread_monotonic() + self._cycle_s, 0.0
            while thread_monotonic() < until_s:
                peak = max(peak, resident_bytes() / 1e6)
                await anyio.sleep(_MEMORY_LOOK_S)
            self.peaks.append(peak)


def slope(values: Sequence[float]) -> float:
    """How much they grow from one to the next: least squares.

    Raises:
        ValueError: fewer than three values.
    """
    count = len(values)
    if count < 3:
        raise ValueError(f"{count} values are too few for a slope")
    middle, mean = (count - 1) / 2, sum(values) / count
    above = sum((place - middle) * (value - mean) for place, value in enumerate(values))
    return above / sum((place - middle) ** 2 for place in range(count))
