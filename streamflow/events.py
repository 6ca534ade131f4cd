"""Facts that the engine reports: frozen, named noun and past verb. Observers render them; none carries item data.

`pipeline` is the pipeline's name; times are float seconds; sequence numbers and shard ids are as the service has them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.positions import Position


class PipelineStarted(msgspec.Struct, frozen=True, kw_only=True):
    """Ready to deliver: the starting positions are stored and every free shard has been asked for."""

    pipeline: str
    stream_arn: str
    shards: int


class PipelineStopped(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    drained: bool
    """False when in-flight batches were given up at the deadline: they will be delivered again."""
    repeating: Mapping[str, Position] = msgspec.field(default_factory=dict)
    """Shard id to the position after which records that a handler has already seen will repeat."""


class PipelineFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline stopped by an error that nothing here can mend."""

    pipeline: str
    error: BaseException


class StreamEnded(msgspec.Struct, frozen=True, kw_only=True):
    """Every shard is read to its end and the stream is disabled or gone: there is nothing more to come."""

    pipeline: str
    stream_arn: str


class ShardOpened(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str
    start: Position
    epoch: int


class ShardClosing(StrEnum):
    """Why a worker stops working on a shard."""

    ENDED = "ended"
    """Everything to its end is settled."""
    LOST = "lost"
    """The lease is not this worker's any more."""
    HANDED_OVER = "handed_over"
    """A worker that goes on has let it go, in good order: for another that asked, or because it could not be read here."""
    STOPPED = "stopped"
    """The pipeline stops, or is cancelled."""
    FAILED = "failed"
    """An error ends the pipeline."""

    @property
    def left_to_others(self) -> bool:
        """Whether whatever is left of the shard is somebody else's now: at a later stop this worker has nothing to tell of it.

        Of a shard that ended nothing is left.
        """
        return self not in {ShardClosing.STOPPED, ShardClosing.FAILED}


class ShardClosed(msgspec.Struct, frozen=True, kw_only=True):
    """This worker stopped working on the shard."""

    pipeline: str
    shard_id: str
    reason: ShardClosing
    children: tuple[str, ...] = ()
    abandoned: int = 0
    """Records that were read and not settled: they will be read again by whoever works on the shard next."""


class ShardAwaitingChildren(msgspec.Struct, frozen=True, kw_only=True):
    """The shard is done, but the service shows no children yet; asked again until it does."""

    pipeline: str
    shard_id: str


class ShardIsolated(msgspec.Struct, frozen=True, kw_only=True):
    """`deaths` owners have died, one after the other, with the checkpoint where it is: the shard's records are handed over one
    by one, so that one which kills its process is found."""

    pipeline: str
    shard_id: str
    deaths: int
    checkpoint: Position


class IsolationEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The shard gets whole batches again: `records` were handed over one by one, and the process lives."""

    pipeline: str
    shard_id: str
    records: int


class KillerHeld(msgspec.Struct, frozen=True, kw_only=True):
    """The process ended each of the `times` times that the record `sequence_number` was handed over, alone: as `on_poison` is
    "block", it holds its shard."""

    pipeline: str
    shard_id: str
    sequence_number: str
    times: int


class CancellationIgnored(msgspec.Struct, frozen=True, kw_only=True):
    """A handler was cancelled and goes on all the same, `after_s` later: its shard cannot be let go in good order.

    `task` names pipeline, shard and role; `where` is file:line, function; `stack` is that of every frame, outermost first.
    """

    pipeline: str
    shard_id: str
    task: str
    where: str
    stack: tuple[str, ...]
    after_s: float


class PageRead(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str
    records: int
    bytes: int
    duration_s: float
    last_created_at_s: float | None
    """Creation time of the newest record of the page; None for an empty page."""
    millis_behind: int | None = None
    buffered_bytes: int = 0
    """Read ahead for this shard after this page."""
    filtered: int = 0
    """Of `records`, those that no filter lets pass: they are settled."""
    last: Position | None = None
    """Of the newest record of the page; None for an empty page."""
    ended: bool = False
    """The shard has no more records."""
    age_s: float = 0.0
    """How long ago another flow of the stream asked for the page, where it is empty and was not read now."""


class ReadFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A poll failed and will be repeated after `retry_after_s`. `code` is the service's error code or the error's name."""

    pipeline: str
    shard_id: str
    code: str
    throttled: bool
    retry_after_s: float
    message: str


class IteratorExpired(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str


class RecordsTrimmed(msgspec.Struct, frozen=True, kw_only=True):
    """Data loss: retention took records before they were read."""

    pipeline: str
    shard_id: str
    lost_from: Position
    cause: str


class BatchDelivered(msgspec.Struct, frozen=True, kw_only=True):
    """`delivered` + the sum of `dropped` = `records`; `handler_s` is the last attempt's time in chain and handler.

    A final invocation of a tumbling window has 0 records.
    """

    pipeline: str
    shard_id: str
    records: int
    bytes: int
    delivered: int
    dropped: Mapping[str, int]
    attempts: int
    handler_s: float
    first_created_at_s: float
    last_created_at_s: float
    now_s: float
    """Wall clock at the end of the handler."""
    partial: bool = False
    """The done part of an invocation that failed from a record on: `BatchFailed` tells of the same invocation."""


class BatchFailed(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt failed; what is left of the batch comes again after `retry_after_s`, in parts or whole, or is given up."""

    pipeline: str
    shard_id: str
    records: int
    attempt: int
    handler_s: float
    error: BaseException
    retry_after_s: float
    invoked: bool = True
    """False where the records never reached the handler: the sink was busy, or their event is too large."""
    last_created_at_s: float = 0.0
    now_s: float = 0.0
    """Wall clock at the end of the attempt."""


class RecordsSuppressed(msgspec.Struct, frozen=True, kw_only=True):
    """A sink had these records, or newer ones, already: they changed nothing, and count as delivered."""

    pipeline: str
    records: int


class RecordsDiscarded(msgspec.Struct, frozen=True, kw_only=True):
    """Records given up after their retries or their age: in each of `destinations`, or lost where there is none."""

    pipeline: str
    shard_id: str
    records: int
    condition: str
    invoke_count: int
    destinations: tuple[str, ...]
    first: Position | None
    last: Position | None


class DestinationFailed(msgspec.Struct, frozen=True, kw_only=True):
    """A destination did not take a discarded batch; it is tried again after `retry_after_s`, and the checkpoint waits."""

    pipeline: str
    shard_id: str
    destination: str
    records: int
    attempt: int
    error: BaseException
    retry_after_s: float


class RecordsParked(msgspec.Struct, frozen=True, kw_only=True):
    """Records set aside with their items: `opened` items are new among the parked ones, `parked_keys` is how many there are."""

    pipeline: str
    shard_id: str
    records: int
    opened: int
    parked_keys: int


class ParkingFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The store did not take the records to be parked; it is tried again after `retry_after_s`, and the checkpoint waits."""

    pipeline: str
    shard_id: str
    error: BaseException
    retry_after_s: float


class WindowClosed(msgspec.Struct, frozen=True, kw_only=True):
    """A tumbling window's final invocation is done; `early` where its state had passed 1 MB."""

    pipeline: str
    shard_id: str
    start_s: int
    end_s: int
    early: bool
    state_bytes: int


class CheckpointStored(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str
    checkpoint: Position
    duration_s: float


class CheckpointFailed(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str
    error: BaseException
    retry_after_s: float


class LeaseTaken(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str
    epoch: int
    previous_owner: str | None


class LeaseLost(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str
    reason: str


class LeaseReleased(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    shard_id: str


class LeaseAskedFor(msgspec.Struct, frozen=True, kw_only=True):
    """This worker has less than its share, and asked the owner to pass a lease on."""

    pipeline: str
    shard_id: str
    owner: str


class LeaseHandedOver(msgspec.Struct, frozen=True, kw_only=True):
    """The lease was passed on to another worker, which had asked for it: all is settled, and nothing repeats."""

    pipeline: str
    shard_id: str
    to: str


class LeasesListed(msgspec.Struct, frozen=True, kw_only=True):
    """A look at all leases of a pipeline. `unowned` may be worked on, and nobody alive did as of this look."""

    pipeline: str
    leases: int
    unowned: int
    workers: int


class ReaderStuck(msgspec.Struct, frozen=True, kw_only=True):
    """The source gave no answer for `stuck_s`: the shard is let go, so that another worker may try."""

    pipeline: str
    shard_id: str
    stuck_s: float


class HeartbeatFailed(msgspec.Struct, frozen=True, kw_only=True):
    """The store did not take this worker's sign of life. The leases are lost only if that goes on."""

    worker_id: str
    error: BaseException
    retry_after_s: float


class WorkerStruck(msgspec.Struct, frozen=True, kw_only=True):
    """Another worker gave no sign of life for `silent_s`: its leases are free."""

    worker_id: str
    silent_s: float


class WorkerTakenForDead(msgspec.Struct, frozen=True, kw_only=True):
    """Others saw no sign of life of this worker, which goes on as `worker_id`; all its leases are lost."""

    worker_id: str
    silent_s: float


class ShardsDiscovered(msgspec.Struct, frozen=True, kw_only=True):
    """A listing of the stream was compared with the leases."""

    pipeline: str
    listed: int
    created: tuple[str, ...]
    forgotten: tuple[str, ...]
    duration_s: float


class DiscoveryFailed(msgspec.Struct, frozen=True, kw_only=True):
    pipeline: str
    code: str
    message: str
    retry_after_s: float


class LoopBlocked(msgspec.Struct, frozen=True, kw_only=True):
    """The event loop stood still for `blocked_s`. `task` names pipeline, shard and role; `where` is file:line, function."""

    blocked_s: float
    task: str
    where: str


Event: TypeAlias = (
    PipelineStarted
    | PipelineStopped
    | PipelineFailed
    | StreamEnded
    | ShardOpened
    | ShardClosed
    | ShardAwaitingChildren
    | ShardIsolated
    | IsolationEnded
    | KillerHeld
    | CancellationIgnored
    | PageRead
    | ReadFailed
    | IteratorExpired
    | RecordsTrimmed
    | BatchDelivered
    | BatchFailed
    | RecordsSuppressed
    | RecordsDiscarded
    | DestinationFailed
    | RecordsParked
    | ParkingFailed
    | WindowClosed
    | CheckpointStored
    | CheckpointFailed
    | LeaseTaken
    | LeaseLost
    | LeaseReleased
    | LeaseAskedFor
    | LeaseHandedOver
    | LeasesListed
    | ReaderStuck
    | HeartbeatFailed
    | WorkerStruck
    | WorkerTakenForDead
    | ShardsDiscovered
    | DiscoveryFailed
    | LoopBlocked
)
