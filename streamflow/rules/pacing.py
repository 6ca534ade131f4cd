"""How long to wait: between polls of a shard, and between attempts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias
from zlib import crc32

if TYPE_CHECKING:
    from random import Random

Polling: TypeAlias = Literal["latency", "cost"]

# A page this full says that the shard is behind: DynamoDB Streams stops at 1000 records or 1 MB.
_FULL_RECORDS, _FULL_BYTES = 1_000, 900_000
# Creation times are rounded down to the second; a newest record older than this says that the shard is behind.
_BEHIND_S = 3.0
IDLE_INTERVAL_MAX_S = 300
"""An iterator lives for 15 minutes, and no pause comes near to half of that."""
_STRETCH_MAX = 0.1
# A place that is nearer is that of the poll before, but for a rounding, or the service takes nearly an interval to answer.
_PAUSE_SHARE_MIN = 0.1
TICK_S = 1 / 256
"""Pauses end on ticks of the clock: of many shards several wake the event loop once, and of few each does so alone."""


class _Habit(NamedTuple):
    patience_s: float
    idle_interval_s: float


_HABITS: dict[Polling, _Habit] = {"latency": _Habit(60.0, 1.0), "cost": _Habit(2.0, 10.0)}


def phase_of(shard_id: str) -> float:
    """A number of 0..1 that is the shard's own, and the same for every branch and worker that reads it."""
    return crc32(shard_id.encode()) / 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class PollPace:
    """How often the shards of a pipeline are polled; the fields are options of the pipeline.

    A shard that had records lately is polled every `interval_s`, whatever the other options say, and in its own place within
    it: answers that come together wait for each other. The others are idle: the pause between their polls grows up to the
    idle interval.
    """

    interval_s: float
    polling: Polling = "latency"
    idle_interval_s: float | None = None
    idle_polls_per_s_max: float | None = None

    @property
    def patience_s(self) -> float:
        """How long after its last record a shard counts as one that had records lately."""
        return _HABITS[self.polling].patience_s

    def idle_pause_s(self, *, shards: int, phase: float) -> float:
        """The longest pause between two polls of an idle shard, where all workers together read `shards` of the pipeline.

        It is the idle interval, and up to a tenth more by the shard's `phase`: shards that were polled in one moment come
        apart, and none is polled more often than its share of `idle_polls_per_s_max`.
        """
        interval_s = _HABITS[self.polling].idle_interval_s if self.idle_interval_s is None else self.idle_interval_s
        if self.idle_polls_per_s_max is not None:
            interval_s = max(interval_s, shards / self.idle_polls_per_s_max)
        if interval_s <= self.interval_s:
            return self.interval_s
        return min(interval_s, IDLE_INTERVAL_MAX_S) * (1 + _STRETCH_MAX * phase)

    def delay_s(
        self,
        *,
        records: int,
        page_bytes: int,
        newest_age_s: float,
        silence_s: float,
        shards: int,
        phase: float,
        now_s: float,
    ) -> float:
        """Pause before the next poll: none while the shard is behind, longer the longer it has been silent.

        `newest_age_s` is the age of the page's newest record, `silence_s` the time since the last page with records was
        asked for, `now_s` the time of a clock that all pauses of the shard are measured by. `shards` and `phase` are as for
        `idle_pause_s`.
        """
        if records and (records >= _FULL_RECORDS or page_bytes >= _FULL_BYTES or newest_age_s > _BEHIND_S):
            return 0.0
        idle_s = silence_s - self.patience_s
        if idle_s > self.interval_s:
            # As long as the shard has been idle, or down to half of that: shards that fell silent together part on the way.
            growing_s = idle_s * (1 + phase) / 2
            pause_s = min(growing_s, self.idle_pause_s(shards=shards, phase=phase))
            if pause_s > self.interval_s:
                return math.ceil((now_s + pause_s) / TICK_S) * TICK_S - now_s
        place_s = phase * self.interval_s // TICK_S * TICK_S
        to_place_s = self.interval_s - (now_s - place_s) % self.interval_s
        return to_place_s if to_place_s >= _PAUSE_SHARE_MIN * self.interval_s else self.interval_s


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
