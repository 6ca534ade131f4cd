"""How long to wait: between polls of a shard, and between attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

# A page this full says that the shard is behind: DynamoDB Streams stops at 1000 records or 1 MB.
_FULL_RECORDS, _FULL_BYTES = 1_000, 900_000
# Creation times are rounded down to the second; a newest record older than this says that the shard is behind.
_BEHIND_S = 3.0
# A shard that was empty for this many polls in a row counts as idle.
_IDLE_AFTER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPace:
    """`idle_interval_s` is reached by doubling, and stays far below the life of an iterator (15 min)."""

    interval_s: float
    idle_interval_s: float | None = None

    def delay_s(self, *, records: int, page_bytes: int, newest_age_s: float, empty_polls: int) -> float:
        """Pause before the next poll: none while the shard is behind, longer the longer it has been empty.

        `newest_age_s` is the age of the page's newest record, `empty_polls` how many pages in a row had none.
        """
        if records and (records >= _FULL_RECORDS or page_bytes >= _FULL_BYTES or newest_age_s > _BEHIND_S):
            return 0.0
        if self.idle_interval_s is None or empty_polls < _IDLE_AFTER:
            return self.interval_s
        doubled = self.interval_s * 2.0 ** min(empty_polls - _IDLE_AFTER + 1, 32)
        return max(self.interval_s, min(doubled, self.idle_interval_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential with equal jitter: the n-th pause is between half of and the whole `first_s · 2^(n-1)`, at most `max_s`."""

    first_s: float
    max_s: float

    def delay_s(self, attempt: int, random: Random) -> float:
        """Pause after the `attempt`-th failure, counted from 1."""
        whole = min(self.max_s, self.first_s * 2.0 ** min(attempt - 1, 32))
        return whole * (0.5 + random.random() / 2)


# Lambda's own pauses, seen: 0.2 s, doubling (esm.md 3.2); the cap is ours.
HANDLER_BACKOFF = Backoff(first_s=0.2, max_s=60.0)
DESTINATION_BACKOFF = Backoff(first_s=0.5, max_s=60.0)
READ_BACKOFF = Backoff(first_s=0.2, max_s=10.0)
STORE_BACKOFF = Backoff(first_s=0.1, max_s=5.0)
CHILDREN_BACKOFF = Backoff(first_s=0.2, max_s=30.0)
DISCOVERY_BACKOFF = Backoff(first_s=1.0, max_s=60.0)
