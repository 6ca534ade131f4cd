"""How long shards had no living owner, from looks at the store's rows. Pure: rows and times are passed in.

A shard counts as unowned while its row is ACTIVE, could be read (each parent's row is there and not ACTIVE any more), and
names no owner, or one that was killed, is paused, has ended, or has not taken yet what was passed on to it. The time counts
from the signal that took the owner, else from the first look at such a row; it ends with the look that found a living owner.
So a span is too long by up to one interval between looks, and never too short by more than that. After an outage of the
store it begins anew.

A pause outlasts the lease: a worker that goes on has lost what it had, and owns a shard again from its next take on, which
is another epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from streamflow.leases import STREAM_ROW, LeaseState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streamflow.leases import Lease

Cause: TypeAlias = Literal["fault", "free"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """`cause` is `fault` where a worker that was killed, paused or has ended is named as the owner, else `free`."""

    shard_id: str
    cause: Cause
    began_s: float
    ended_s: float

    length_s: float
    """The longest part of it in which the store could be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unowned:
    """The row as it was at the first look, and since when it has no living owner."""

    owner: str | None
    epoch: int
    cause: Cause
    since_s: float


@dataclass(slots=True, kw_only=True, eq=False)
class Spans:
    """`gone_since_s` tells since when an owner does nothing: None for one that runs.

    `calm_s` tells the longest part without an outage of a time, given by its beginning and its end.
    """

    gone_since_s: Callable[[str], float | None]
    calm_s: Callable[[float, float], float]
    longest: dict[Cause, Span] = field(default_factory=dict)
    looks: int = 0
    _open: dict[str, _Unowned] = field(default_factory=dict)

    def look(self, rows: Sequence[Lease], at_s: float) -> int:
        """Take in one listing that was complete at `at_s`; the answer is how many shards are unowned."""
        self.looks += 1
        unowned = {row.shard_id: row for row in _readable(rows) if not self._is_owned(row)}
        for shard_id in [shard_id for shard_id in self._open if shard_id not in unowned]:
            self._close(shard_id, at_s)
        for row in unowned.values():
            self._note(row, at_s)
        return len(self._open)

    def close(self, at_s: float) -> None:
        """Nobody looks any more: what is unowned now was so until now."""
        for shard_id in list(self._open):
            self._close(shard_id, at_s)

    def _is_owned(self, row: Lease) -> bool:
        if row.owner is None or row.owner == row.claimant or self.gone_since_s(row.owner) is not None:
            return False
        known = self._open.get(row.shard_id)
        return known is None or (known.owner, known.epoch) != (row.owner, row.epoch)

    def _note(self, row: Lease, at_s: float) -> None:
        gone_s = None if row.owner is None else self.gone_since_s(row.owner)
        known = self._open.get(row.shard_id)
        if known is not None and row.owner is not None and (known.owner, known.epoch) != (row.owner, row.epoch):
            # Between two looks somebody took it who is gone by now: the shard had an owner until then.
            self._close(row.shard_id, at_s if gone_s is None else gone_s)
            known = None
        if known is None:
            cause: Cause = "free" if gone_s is None else "fault"
            since_s = at_s if gone_s is None else gone_s
            self._open[row.shard_id] = _Unowned(owner=row.owner, epoch=row.epoch, cause=cause, since_s=since_s)

    def _close(self, shard_id: str, at_s: float) -> None:
        known = self._open.pop(shard_id)
        began_s, ended_s = known.since_s, max(at_s, known.since_s)
        length_s = self.calm_s(began_s, ended_s)
        span = Span(shard_id=shard_id, cause=known.cause, began_s=began_s, ended_s=ended_s, length_s=length_s)
        if span.cause not in self.longest or span.length_s > self.longest[span.cause].length_s:
            self.longest[span.cause] = span


def _readable(rows: Sequence[Lease]) -> Iterator[Lease]:
    states = {row.shard_id: row.state for row in rows}
    for row in rows:
        # Rows are made in no order: a child whose parent has none yet waits for it.
        waiting = any(states.get(parent, LeaseState.ACTIVE) is LeaseState.ACTIVE for parent in row.parents)
        if row.shard_id != STREAM_ROW and row.state is LeaseState.ACTIVE and not waiting:
            yield row
