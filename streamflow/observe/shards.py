"""What the events tell about the shards that this worker works on, and how old each of them is.

Written on the event loop, read from any thread: each shard is one immutable snapshot, replaced as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CheckpointStored,
    DestinationFailed,
    PageRead,
    ParkingFailed,
    PipelineFailed,
    PipelineStopped,
    ReadFailed,
    RecordsDiscarded,
    RecordsParked,
    ShardClosed,
    ShardOpened,
)
from streamflow.positions import SHARD_END, Position

if TYPE_CHECKING:
    from streamflow.clock import Clock
    from streamflow.events import Event

ShardStateName = Literal["reading", "read_failing", "blocked"]

# How long an empty page vouches for being at the tip. Idle shards are polled every eleven seconds at most; one that is silent
# for longer is either polled as rarely on purpose (idle_poll_interval_s) or stalled, and then really may be behind.
EMPTY_PAGE_VOUCHES_S = 15.0

_ShardEvent: TypeAlias = (
    PageRead
    | ReadFailed
    | BatchDelivered
    | BatchFailed
    | RecordsDiscarded
    | DestinationFailed
    | RecordsParked
    | ParkingFailed
    | CheckpointStored
)


class ShardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One shard at one moment. Times ending in `_at_s` are wall clock."""

    pipeline: str
    shard_id: str
    read_up_to_at_s: float
    """Everything created before this has been read: the newest record's creation, or the moment of an empty page."""
    at_tip: bool = False
    """The last page said that there was nothing more."""
    read_to_end: bool = False
    """There will never be more."""
    records_read: int = 0
    records_settled: int = 0
    last_read: Position | None = None
    """Of the newest record read that has a readable sequence number: no checkpoint will be beyond it."""
    stored: Position
    """The checkpoint, as far as is known."""
    unstored_since_at_s: float | None = None
    progressed_at_s: float
    """When a page was read last, or records were settled."""
    buffered_bytes: int = 0
    failed_attempts: int = 0
    held: bool = False
    """Records are given up or set aside, and whoever is to take them does not."""
    read_failing: bool = False

    @property
    def records_in_hand(self) -> int:
        """Read and not yet settled."""
        return max(0, self.records_read - self.records_settled)

    @property
    def state(self) -> ShardStateName:
        if self.failed_attempts or self.held:
            return "blocked"
        return "read_failing" if self.read_failing else "reading"

    @property
    def all_stored(self) -> bool:
        """Everything read is settled, and the checkpoint says so."""
        if self.stored == SHARD_END:
            return True
        return not self.records_in_hand and (self.last_read is None or self.stored.order >= self.last_read.order)

    def iterator_age_s(self, now_s: float) -> float:
        """How far reading is behind at wall clock `now_s`: never 0 for a shard that is silently not read."""
        if self.read_to_end:
            return 0.0
        age_s = max(0.0, now_s - self.read_up_to_at_s)
        return 0.0 if self.at_tip and age_s <= EMPTY_PAGE_VOUCHES_S else age_s

    def checkpoint_age_s(self, now_s: float) -> float:
        """0 while everything read is stored; else since the last progress of the stored checkpoint."""
        return 0.0 if self.unstored_since_at_s is None else max(0.0, now_s - self.unstored_since_at_s)

    def progress_age_s(self, now_s: float) -> float:
        """Since the shard last did anything but wait."""
        return max(0.0, now_s - self.progressed_at_s)


class OpenShards:
    """An observer that keeps the open shards. Events about a shard that is not open are late, and ignored."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._shards: dict[tuple[str, str], ShardFacts] = {}
        self._in_hand: dict[str, int] = {}

    def snapshot(self) -> tuple[ShardFacts, ...]:
        """The open shards in the order they were opened; safe from any thread."""
        return tuple(self._shards.copy().values())

    def records_in_hand(self, pipeline: str) -> int:
        """Read and not yet settled, in all open shards of the pipeline."""
        return self._in_hand.get(pipeline, 0)

    def __call__(self, event: Event) -> None:
        match event:
            case (
                BatchDelivered()
                | PageRead()
                | CheckpointStored()
                | ReadFailed()
                | BatchFailed()
                | RecordsDiscarded()
                | DestinationFailed()
                | RecordsParked()
                | ParkingFailed()
            ):
                key = event.pipeline, event.shard_id
                if (shard := self._shards.get(key)) is not None:
                    self._keep(key, self._after(shard, event), shard.records_in_hand)
            case ShardOpened(pipeline=pipeline, shard_id=shard_id):
                now_s = self._clock.wall()
                opened = ShardFacts(
                    pipeline=pipeline,
                    shard_id=shard_id,
                    read_up_to_at_s=now_s,
                    progressed_at_s=now_s,
                    stored=event.start,
                )
                before = self._shards.get((pipeline, shard_id))
                self._keep((pipeline, shard_id), opened, 0 if before is None else before.records_in_hand)
            case ShardClosed():
                self._forget(event.pipeline, event.shard_id)
            case PipelineStopped() | PipelineFailed():
                for pipeline, shard_id in [key for key in self._shards if key[0] == event.pipeline]:
                    self._forget(pipeline, shard_id)
            case _:
                pass

    def _keep(self, key: tuple[str, str], shard: ShardFacts, in_hand_before: int) -> None:
        if shard.unstored_since_at_s is not None and shard.all_stored:
            shard = replace(shard, unstored_since_at_s=None)
        self._shards[key] = shard
        self._in_hand[key[0]] = self._in_hand.get(key[0], 0) + shard.records_in_hand - in_hand_before

    def _forget(self, pipeline: str, shard_id: str) -> None:
        shard = self._shards.pop((pipeline, shard_id), None)
        if shard is not None:
            self._in_hand[pipeline] -= shard.records_in_hand

    def _after(self, shard: ShardFacts, event: _ShardEvent) -> ShardFacts:
        match event:
            case BatchDelivered() | RecordsDiscarded() | RecordsParked():
                settled = shard.records_settled + event.records
                progressed_at_s = self._clock.wall()
                return replace(
                    shard, records_settled=settled, failed_attempts=0, held=False, progressed_at_s=progressed_at_s
                )
            case PageRead():
                return self._after_page(shard, event)
            case ReadFailed():
                return replace(shard, read_failing=True)
            case BatchFailed():
                return replace(shard, failed_attempts=event.attempt)
            case DestinationFailed():
                return replace(shard, held=True)
            case ParkingFailed():  # or the look which items are parked, before anything is read
                return replace(shard, held=shard.held or shard.records_in_hand > 0)
            case CheckpointStored():
                return replace(shard, stored=event.checkpoint, unstored_since_at_s=self._clock.wall())

    def _after_page(self, shard: ShardFacts, page: PageRead) -> ShardFacts:
        now_s = self._clock.wall()
        if page.millis_behind is not None:
            read_up_to_at_s, at_tip = now_s - page.millis_behind / 1000, page.millis_behind == 0
        elif page.last_created_at_s is not None:
            read_up_to_at_s, at_tip = page.last_created_at_s, False
        elif page.records == 0:
            # What was written since it was asked for may have come too late for it.
            read_up_to_at_s, at_tip = now_s - max(page.duration_s, page.age_s), True
        else:  # none whose creation time can be read
            read_up_to_at_s, at_tip = shard.read_up_to_at_s, False
        unstored_since_at_s = shard.unstored_since_at_s
        if page.records and unstored_since_at_s is None:
            unstored_since_at_s = now_s
        return replace(
            shard,
            read_up_to_at_s=read_up_to_at_s,
            at_tip=at_tip,
            read_to_end=page.ended,
            progressed_at_s=now_s,
            records_read=shard.records_read + page.records,
            records_settled=shard.records_settled + page.filtered,
            last_read=page.last or shard.last_read,
            unstored_since_at_s=unstored_since_at_s,
            buffered_bytes=page.buffered_bytes,
            read_failing=False,
        )
