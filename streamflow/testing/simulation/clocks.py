"""Clocks in virtual time: one that follows the loop, and one of a node, which is wrong in every way that clocks are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.testing.simulation.loop import SimulatedLoop

EPOCH_S = 1_764_000_000.0
"""What the wall shows when the loop's time is zero: late in 2025."""


class VirtualClock:
    """Wall time that follows the loop's; it can be read outside the loop too, where it stands at the epoch."""

    def __init__(self, epoch_s: float = EPOCH_S) -> None:
        self.epoch_s = epoch_s

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def lifetime(self) -> float:
        return self.monotonic()

    def wall(self) -> float:
        try:
            return self.epoch_s + asyncio.get_running_loop().time()
        except RuntimeError:
            return self.epoch_s


class NodeClock:
    """The clocks of one node (`streamflow.clock.Clock`).

    The monotonic one is right, but stands while the machine is suspended. The wall is `skew_s` ahead, gains `drift` of
    every second that passes, and jumps.
    """

    def __init__(
        self, loop: SimulatedLoop, node: str, *, epoch_s: float = EPOCH_S, skew_s: float = 0.0, drift: float = 0.0
    ) -> None:
        self.node = node
        """Whose monotonic clock it is; changes with each life."""
        self._loop = loop
        self._epoch_s = epoch_s
        self._skew_s = skew_s
        self._drift = drift

    def monotonic(self) -> float:
        return self._loop.time_of(self.node)

    def lifetime(self) -> float:
        """Of the machine with its suspends: nothing stops it."""
        return self._loop.now

    def wall(self) -> float:
        return self._epoch_s + self._loop.now * (1.0 + self._drift) + self._skew_s

    def jump(self, seconds: float) -> None:
        """Set the wall forward, or back."""
        self._skew_s += seconds
