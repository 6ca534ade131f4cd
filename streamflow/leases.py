"""A lease: one row that holds ownership, fence, checkpoint and lineage of one shard, so that one compare-and-set guards all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streamflow.positions import TRIM_HORIZON, Position

# The row with this shard id belongs to the stream itself: its owner discovers shards, its checkpoint is where the
# stream was first started, and it is ENDED never, AWAITING_CHILDREN until the first listing is completely stored.
STREAM_ROW = "stream"


class LeaseLayout(Enum):
    """Who tells, and where, that an owner lives."""

    NATIVE = "native"
    """Each worker keeps one row of its own, in `WORKERS`, and writes it as a heartbeat. A lease is written when it is
    taken, asked for, checkpointed and let go."""
    KCL = "kcl"
    """Each lease is renewed by itself: its version is the `leaseCounter` of the Kinesis Client Library."""
    KCL_SHARED = "kcl_shared"
    """As `KCL`, in a table where workers of the KCL 2.x take leases too: by its rules, without asking."""


class LeaseState(Enum):
    ACTIVE = "active"
    AWAITING_CHILDREN = "awaiting_children"
    """Read and settled to its end, but the service has not shown the children yet."""
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Records that retention took before they were read: kept in the lease, because a loss must stay visible."""

    lost_from: Position
    found_at_s: float
    cause: str


@dataclass(frozen=True, slots=True)
class WindowState:
    """The open tumbling window of a shard, [`start_s`, `end_s`) since the Unix epoch; `state` is a JSON object as text."""

    start_s: int
    end_s: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One row. `version` grows with every write and is what compare-and-set compares; `epoch` grows with every owner.

    A new row begins both at the time of its making, so that neither comes back when a row was deleted and made again.
    `claimant` is the worker that asked the owner to pass the lease on; the owner itself, while it has not yet taken what was
    passed on to it. `gaps` keeps the newest 16. `window` goes with `checkpoint`: it is the state behind exactly these
    records. `duration_s` is only in rows of workers: how long one may be silent before others take its leases. A store
    returns rows exactly as they were written, `version` included.
    """

    pipeline: str
    stream_arn: str
    shard_id: str
    owner: str | None = None
    claimant: str | None = None
    epoch: int = 0
    version: int = 0
    checkpoint: Position = TRIM_HORIZON
    state: LeaseState = LeaseState.ACTIVE
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    window: WindowState | None = None
    duration_s: float | None = None

    @property
    def key(self) -> LeaseKey:
        return LeaseKey(self.pipeline, self.stream_arn, self.shard_id)


# Pipeline and stream of the rows of workers, whose shard id is the worker's own id.
WORKERS = ("", "workers")
# The same of rows that tell of shards whose owners died: see `rules/suspicion`.
SUSPECTS = ("", "suspects")


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """Stream ARN, not table name: a re-created stream must not meet old checkpoints."""

    pipeline: str
    stream_arn: str
    shard_id: str
