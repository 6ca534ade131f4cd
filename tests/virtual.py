"""Virtual time for tests: the loop's clock jumps to the next timer as soon as nothing else is left to do."""

from __future__ import annotations

import asyncio


class VirtualLoop(asyncio.SelectorEventLoop):
    """Hours pass in milliseconds. Nothing that waits for a thread or a socket belongs here: time would not wait."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1_000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class VirtualClock:
    """Wall time that follows the loop's."""

    def __init__(self, epoch_s: float = 1_764_000_000.0) -> None:
        self.epoch_s = epoch_s

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        try:
            return self.epoch_s + asyncio.get_running_loop().time()
        except RuntimeError:
            return self.epoch_s
