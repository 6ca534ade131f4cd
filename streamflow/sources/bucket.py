"""A token bucket as arithmetic: the caller says what time it is, and does the waiting."""

from __future__ import annotations


class TokenBucket:
    """`rate_per_s` calls a second, and up to `burst` at once after a rest. Times are of any one monotonic clock."""

    __slots__ = ("_burst_s", "_interval_s", "_promised_at")

    def __init__(self, *, rate_per_s: float, burst: int) -> None:
        self._interval_s = 1.0 / rate_per_s
        self._burst_s = (burst - 1) * self._interval_s
        self._promised_at = float("-inf")

    def reserve(self, now: float) -> float:
        """Take the next token; the answer is how long to wait before using it. A token not used is lost."""
        usable_at = max(self._promised_at, now - self._burst_s)
        self._promised_at = usable_at + self._interval_s
        return max(0.0, usable_at - now)
