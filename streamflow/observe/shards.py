"""What the events tell about the shards that this worker works on, and how old each of them is.

Written on the event loop, read from any thread: each shard is one immutable snapshot, replaced as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CheckpointStored,
    PageRead,
    PipelineFailed,
    PipelineStopped,
    ReadFailed,
    ShardClosed,
    ShardOpened,
)
from streamflow.positions import SHARD_END

if TYPE_CHECKING:
    from streamflow.clock import Clock
    from streamflow.events import Event

ShardStateName = Literal["reading", "read_failing", "blocked"]

# How long an empty page vouches for being at the tip. Shards are polled four times a second; one that is silent for
# this long is either polled as rarely on purpose (idle_poll_interval_s) or stalled, and then really may be behind.
EMPTY_PAGE_VOUCHES_S = 10.0
# Settling and writing at the same reading of the clock, allowing for rounding: the write has seen it.
_SAME_INSTANT_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFacts:
    """One shard at one moment. Times ending in `_at_s` are wall clock; `settled_monotonic_s` is what it says."""

    pipeline: str
    shard_id: str
    read_up_to_at_s: float
    """Everything created before this has been read: the newest record's creation, or the moment of an empty page."""
    at_tip: bool = False
    """The last page said that there was nothing more."""
    records_read: int = 0
    records_settled: int = 0
    settled_monotonic_s: float = float("-inf")
    unstored_since_at_s: float | None = None
    buffered_bytes: int = 0
    failed_attempts: int = 0
    read_failing: bool = False

    @property
    def records_in_hand(self) -> int:
        """Read and not yet settled."""
        return max(0, self.records_read - self.records_settled)

    @property
    def state(self) -> ShardStateName:
        if self.failed_attempts:
            return "blocked"
        return "read_failing" if self.read_failing else "reading"

    def iterator_age_s(self, now_s: float) -> float:
        """How far reading is behind at wall clock `now_s`: never 0 for a shard that is silently not read."""
        age_s = max(0.0, now_s - self.read_up_to_at_s)
        return 0.0 if self.at_tip and age_s <= EMPTY_PAGE_VOUCHES_S else age_s

    def checkpoint_age_s(self, now_s: float) -> float:
        """0 while everything read is stored; else since the last progress of the stored checkpoint."""
        return 0.0 if self.unstored_since_at_s is None else max(0.0, now_s - self.unstored_since_at_s)


class OpenShards:
    """An observer that keeps the open shards. Events about a shard that is not open are late, and ignored."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shards: dict[tuple[str, str], ShardFacts] = {}

    def snapshot(self) -> tuple[ShardFacts, ...]:
        """The open shards in the order they were opened; safe from any thread."""
        return tuple(self._shards.copy().values())

    def __call__(self, event: Event) -> None:
        match event:
            case PageRead() | BatchDelivered() | BatchFailed() | CheckpointStored() | ReadFailed():
                key = event.pipeline, event.shard_id
                if (shard := self._shards.get(key)) is not None:
                    self._shards[key] = self._after(shard, event)
            case ShardOpened(pipeline=pipeline, shard_id=shard_id):
                opened = ShardFacts(pipeline=pipeline, shard_id=shard_id, read_up_to_at_s=self._clock.wall())
                self._shards[pipeline, shard_id] = opened
            case ShardClosed():
                self._shards.pop((event.pipeline, event.shard_id), None)
            case PipelineStopped() | PipelineFailed():
                for key in [key for key in self._shards if key[0] == event.pipeline]:
                    del self._shards[key]
            case _:
                pass

    def _after(
        self, shard: ShardFacts, event: PageRead | BatchDelivered | BatchFailed | CheckpointStored | ReadFailed
    ) -> ShardFacts:
        match event:
            case PageRead():
                return self._after_page(shard, event)
            case BatchDelivered():
                return replace(
                    shard,
                    records_settled=shard.records_settled + event.records,
                    settled_monotonic_s=self._clock.monotonic(),
                    failed_attempts=0,
                )
            case BatchFailed():
                return replace(shard, failed_attempts=event.attempt)
            case CheckpointStored():
                return self._after_checkpoint(shard, event)
            case ReadFailed():
                return replace(shard, read_failing=True)

    def _after_page(self, shard: ShardFacts, page: PageRead) -> ShardFacts:
        now_s = self._clock.wall()
        if page.millis_behind is not None:
            read_up_to_at_s, at_tip = now_s - page.millis_behind / 1000, page.millis_behind == 0
        elif page.last_created_at_s is not None:
            read_up_to_at_s, at_tip = page.last_created_at_s, False
        else:  # no records, or none whose creation time can be read
            read_up_to_at_s, at_tip = (now_s, True) if page.records == 0 else (shard.read_up_to_at_s, False)
        unstored_since_at_s = shard.unstored_since_at_s
        if page.records and unstored_since_at_s is None:
            unstored_since_at_s = now_s
        return replace(
            shard,
            read_up_to_at_s=read_up_to_at_s,
            at_tip=at_tip,
            records_read=shard.records_read + page.records,
            unstored_since_at_s=unstored_since_at_s,
            buffered_bytes=page.buffered_bytes,
            read_failing=False,
        )

    def _after_checkpoint(self, shard: ShardFacts, stored: CheckpointStored) -> ShardFacts:
        """Events carry no positions of batches, so what a write covers is judged by time: all settled when it began."""
        began_s = self._clock.monotonic() - stored.duration_s
        covers_settled = shard.settled_monotonic_s <= began_s + _SAME_INSTANT_S
        if stored.checkpoint == SHARD_END or (covers_settled and not shard.records_in_hand):
            return replace(shard, unstored_since_at_s=None)
        return replace(shard, unstored_since_at_s=self._clock.wall())
