"""Every change of a lease's row, as a step from one row to the next, and what became of a step whose answer was lost.

Whoever takes a step stores the row that it leads to in the place of the version that it started from, and of no other.
`tests/model` takes the same steps in every order that there is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from streamflow.leases import LeaseState
from streamflow.positions import SHARD_END

if TYPE_CHECKING:
    from streamflow.leases import Gap, Lease, WindowState
    from streamflow.positions import Position

_GAPS_KEPT = 16
# Writes of a row since it was listed last: one in ten milliseconds for ten seconds.
_UNSEEN = 1_000

# --- steps -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Taken:
    """A worker becomes the owner: of what is free, and of nothing else."""

    by: str


@dataclass(frozen=True, slots=True)
class AskedFor:
    """A worker asks the owner to pass the lease on."""

    by: str


@dataclass(frozen=True, slots=True)
class Outrun:
    """The owner's epoch moves beyond one that a sink has seen: the row, or its store, was made anew since."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """Nothing but the version changes: the owner lives, or, of the row of a worker, the worker."""


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """Everything before `at` is settled; `window` is the state behind exactly these records."""

    at: Position
    window: WindowState | None = None


@dataclass(frozen=True, slots=True)
class GapFound:
    """Records are gone; the shard goes on at `resume`, or is over where that is None."""

    gap: Gap
    resume: Position | None


@dataclass(frozen=True, slots=True)
class PassedOn:
    """The owner lets go: for `to` if that still asks, else for `heir`, or for whoever comes first."""

    to: str | None = None
    heir: str | None = None


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A worker asks no more, and does not take what was passed on to it."""

    by: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Everything to the end of the shard is settled, and its children have rows; None: the service shows none yet."""

    children: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Started:
    """Of the stream's own row: the position of every shard that was listed first is stored."""


@dataclass(frozen=True, slots=True)
class Unblocked:
    """The other parents are proven to be trimmed."""

    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedByHand:
    """A person has moved the checkpoint: whoever owned the lease has lost it."""

    checkpoint: Position
    state: LeaseState
    window: WindowState | None
    note: Gap | None


@dataclass(frozen=True, slots=True)
class Beaten:
    """Of the row of a worker: it lives, and works on these pipelines."""

    pipelines: tuple[str, ...]


Step: TypeAlias = (
    Taken
    | AskedFor
    | Outrun
    | Renewed
    | Checkpointed
    | GapFound
    | PassedOn
    | Withdrawn
    | Ended
    | Started
    | Unblocked
    | MovedByHand
    | Beaten
)


def after(row: Lease, step: Step) -> Lease:
    """The row that the step leads to, but for its version: that is the store's."""
    match step:
        case Taken(by):
            return replace(row, owner=by, claimant=None, epoch=row.epoch + 1)
        case AskedFor(by):
            return replace(row, claimant=by)
        case Outrun(epoch):
            return replace(row, epoch=max(row.epoch, epoch) + 1)
        case Renewed():
            return row
        case Checkpointed(at, window):
            return replace(row, checkpoint=at, window=window)
        case GapFound(gap, resume):
            return replace(_with_gap(row, gap), checkpoint=resume or row.checkpoint)
        case PassedOn(to, heir):
            owner = to if to is not None and row.claimant == to else heir
            # The new owner stays the claimant until it has taken the lease.
            return replace(row, owner=owner, claimant=owner)
        case Withdrawn(by):
            owner, claimant = (None if name == by else name for name in (row.owner, row.claimant))
            return replace(row, owner=owner, claimant=claimant)
        case Ended(None):
            return replace(row, owner=None, checkpoint=SHARD_END, state=LeaseState.AWAITING_CHILDREN)
        case Ended(children):
            return replace(row, owner=None, checkpoint=SHARD_END, state=LeaseState.ENDED, children=children or ())
        case Started():
            return replace(row, state=LeaseState.ACTIVE)
        case Unblocked(parents):
            return replace(row, parents=parents)
        case MovedByHand(checkpoint=checkpoint, state=state, window=window, note=note):
            noted = row if note is None else _with_gap(row, note)
            return replace(noted, owner=None, claimant=None, checkpoint=checkpoint, state=state, window=window)
        case Beaten(pipelines):
            return replace(row, children=pipelines)


def _with_gap(row: Lease, gap: Gap) -> Lease:
    return replace(row, gaps=(*row.gaps, gap)[-_GAPS_KEPT:])


def born(row: Lease, at_ms: int) -> Lease:
    """A row that is new at this time (milliseconds since the Unix epoch, or `made_at_ms`).

    Of a row that was deleted by hand, somebody may still hold an old version, and sinks know its last epoch: a row that is
    made again begins beyond both.
    """
    return replace(row, epoch=at_ms, version=at_ms)


def made_at_ms(wall_ms: int, newest: int) -> int:
    """When a row is made, by a clock that may be behind those that made the others: later than anything that was seen.

    `newest` is the greatest epoch or version that this worker ever saw; what was written since is allowed for.
    """
    return max(wall_ms, newest + _UNSEEN)


# --- what became of a step -------------------------------------------------------------------------------------------


class Outcome(Enum):
    STORED = "stored"
    NOT_STORED = "not stored"
    LOST = "lost"
    """Somebody else has written the row."""


def resolved(before: Lease, wanted: Lease, current: Lease | None) -> Outcome:
    """What became of a step from `before` to `wanted` whose answer was lost, by the row as it is now.

    Somebody may have asked for the lease since; the version tells a step that changes nothing from one that was not stored.
    """
    if current == before:
        return Outcome.NOT_STORED
    if current is None or current.version <= before.version:
        return Outcome.LOST
    stored = replace(wanted, version=before.version + 1)
    return Outcome.STORED if current == stored or was_asked(stored, current) else Outcome.LOST


def was_asked(held: Lease, current: Lease | None) -> bool:
    """Whether all that others have written into our row is a request for it, or the withdrawal of one: it is ours still."""
    if current is None or current == held:
        return False
    return current == replace(held, version=current.version, claimant=current.claimant)


def was_lost(held: Lease, listed: Lease | None) -> bool:
    """Whether a listing shows that our row is somebody else's now, or gone.

    A listing may be older than what we have written; what others write comes after it.
    """
    if listed is None:
        return True
    return listed.version > held.version and (listed.owner, listed.epoch) != (held.owner, held.epoch)


def of_same_life(beaten: Lease, current: Lease | None) -> bool:
    """Whether the row of a worker is there and still of this life: nobody else writes it, but for taking it away."""
    return current is not None and current.epoch == beaten.epoch
