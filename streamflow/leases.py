"""A lease: one row that holds ownership, fence, checkpoint and lineage of one shard, so that one compare-and-set guards all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streamflow.positions import TRIM_HORIZON, Position

# The row with this shard id belongs to the stream itself: its owner discovers shards, its checkpoint is where the
# stream was first started, and it is ENDED never, AWAITING_CHILDREN until the first listing is completely stored.
STREAM_ROW = "stream"


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

    `gaps` keeps the newest 16. `window` goes with `checkpoint`: it is the state behind exactly these records. A store
    returns rows exactly as they were written, `version` included.
    """

    pipeline: str
    stream_arn: str
    shard_id: str
    owner: str | None = None
    epoch: int = 0
    version: int = 0
    checkpoint: Position = TRIM_HORIZON
    state: LeaseState = LeaseState.ACTIVE
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    window: WindowState | None = None

    @property
    def key(self) -> LeaseKey:
        return LeaseKey(self.pipeline, self.stream_arn, self.shard_id)


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """Stream ARN, not table name: a re-created stream must not meet old checkpoints."""

    pipeline: str
    stream_arn: str
    shard_id: str
