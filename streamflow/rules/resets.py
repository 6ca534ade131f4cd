"""Checkpoints moved by hand: which way each goes, and what must move with it so that no item's order is lost.

A shard that is read again holds its children back, because it is unfinished again; but a child that was begun would go on
where it was, behind changes that are about to repeat. So descendants go back with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from streamflow.leases import STREAM_ROW, Gap, Lease, LeaseState, WindowState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position, PositionKind
from streamflow.rules.lineage import made_at_s
from streamflow.rules.steps import MovedByHand, after

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamflow.records import Shard

_MOVED_BACK = "moved back to"
# How far the time in an id and those of records may be apart, generously: shards live for hours.
_CLOCKS_APART_S = 900.0


class Direction(Enum):
    """Back repeats records, ahead leaves records out; unknown may do either."""

    NONE = "none"
    BACK = "back"
    AHEAD = "ahead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """One row, to be replaced at the version that was looked at. What the row's window held goes, unless there is another."""

    row: Lease
    checkpoint: Position
    state: LeaseState
    direction: Direction
    window: WindowState | None = None

    @property
    def changes(self) -> bool:
        return (self.checkpoint, self.state) != (self.row.checkpoint, self.row.state)

    def lease(self, *, user: str, now_s: float) -> Lease:
        """The row without an owner, and where it was moved, with a note of who did that and from where."""
        verb = _MOVED_BACK if self.direction is Direction.BACK else "moved ahead to"
        note = Gap(lost_from=self.row.checkpoint, found_at_s=now_s, cause=f"{verb} {self.checkpoint} by {user}")
        moved = MovedByHand(
            checkpoint=self.checkpoint,
            state=self.state,
            window=self.window,
            note=None if self.direction is Direction.NONE else note,
        )
        return after(self.row, moved)


def is_loss(gap: Gap) -> bool:
    """Whether records may be missing: not where a checkpoint was only moved back."""
    return not gap.cause.startswith(_MOVED_BACK)


def direction(before: Position, after: Position) -> Direction:
    """Which way it is from one place of a shard to another, as far as the places alone can tell."""
    if before == after:
        return Direction.NONE
    if before == SHARD_END or after == TRIM_HORIZON:
        return Direction.BACK
    if after == SHARD_END or before == TRIM_HORIZON:
        return Direction.AHEAD
    if before.kind is after.kind is PositionKind.AT_TIMESTAMP:
        return Direction.BACK if after.timestamp_s < before.timestamp_s else Direction.AHEAD
    if before.sequence_number and after.sequence_number:
        return Direction.BACK if after.order < before.order else Direction.AHEAD
    return Direction.UNKNOWN


def reset(
    row: Lease,
    checkpoint: Position,
    *,
    state: LeaseState | None = None,
    window: WindowState | None = None,
    way: Direction | None = None,
) -> Reset:
    """The row at another place; by default at the end of its shard it asks for its children, unless it is done already."""
    at_end = LeaseState.ENDED if row.state is LeaseState.ENDED else LeaseState.AWAITING_CHILDREN
    return Reset(
        row=row,
        checkpoint=checkpoint,
        state=state or (at_end if checkpoint == SHARD_END else LeaseState.ACTIVE),
        direction=way or direction(row.checkpoint, checkpoint),
        window=window,
    )


def shards_of(rows: Iterable[Lease]) -> dict[str, Lease]:
    """Those of shards, by id."""
    return {row.shard_id: row for row in rows if row.shard_id != STREAM_ROW}


def descendants(shard_ids: Iterable[str], rows: Mapping[str, Lease]) -> set[str]:
    """Every row below one of these shards, themselves not included unless they are below another one."""
    children: dict[str, list[str]] = {}
    for row in rows.values():
        for parent in row.parents:
            children.setdefault(parent, []).append(row.shard_id)
    found: set[str] = set()
    waiting = list(shard_ids)
    while waiting:
        below = [child for child in children.get(waiting.pop(), ()) if child not in found]
        found.update(below)
        waiting += below
    return found


def with_descendants(resets: Sequence[Reset], rows: Mapping[str, Lease]) -> list[Reset]:
    """Those that change something, and the begun descendants of each that goes back, from their start."""
    decided = {each.row.shard_id for each in resets}
    below = descendants(_going_back(resets), rows) - decided
    found = [*resets, *(reset(rows[shard_id], TRIM_HORIZON) for shard_id in below)]
    return _complete(found, rows)


def _going_back(resets: Iterable[Reset]) -> list[str]:
    return [each.row.shard_id for each in resets if each.direction in {Direction.BACK, Direction.UNKNOWN}]


def _complete(resets: Sequence[Reset], rows: Mapping[str, Lease]) -> list[Reset]:
    """Those that change something, and the descendants that somebody owns although nothing of them is settled yet.

    Their owner may be about to deliver: it has to let go, so that they wait for the parent that is read again.
    """
    found = [each for each in resets if each.changes]
    below = descendants(_going_back(found), rows) - {each.row.shard_id for each in found}
    held = [rows[shard_id] for shard_id in below if rows[shard_id].owner is not None]
    return in_lineage_order([*found, *(reset(row, TRIM_HORIZON) for row in held if row.checkpoint == TRIM_HORIZON)])


def to_trim_horizon(rows: Sequence[Lease], listed: Mapping[str, Shard]) -> list[Reset]:
    """Every shard that the stream still has, from its start; what it has no more stays as it is."""
    found = [reset(row, TRIM_HORIZON) for row in rows if row.shard_id in listed]
    return _complete(found, shards_of(rows))


def numbered(rows: Iterable[Lease], listed: Mapping[str, Shard]) -> list[Lease]:
    """Rows of which only the record at their checkpoint can tell on which side of a time they are."""
    return [row for row in rows if row.shard_id in listed and row.checkpoint.sequence_number]


def to_time(
    rows: Sequence[Lease], listed: Mapping[str, Shard], time_s: float, *, reached_s: Mapping[str, float | None]
) -> list[Reset]:
    """Back to the first record of a time (seconds since the Unix epoch), in every shard that is past it; never ahead.

    `reached_s` is when the record at the checkpoint of each of `numbered` was made: minus infinity where retention has
    taken it, None where the stream did not show it. An ended shard is left alone if its children are older than that time.
    """
    target = Position.at_timestamp(time_s)
    made_at = {parent: made_at_s(shard_id) for shard_id, shard in listed.items() for parent in shard.parents}
    found: list[Reset] = []
    for row in rows:
        if row.shard_id not in listed or row.checkpoint == TRIM_HORIZON:
            continue
        if row.checkpoint.sequence_number:
            way = _way_back(reached_s[row.shard_id], time_s)
        elif row.checkpoint == SHARD_END:
            ended_at = made_at.get(row.shard_id)
            ended_before = ended_at is not None and ended_at < time_s - _CLOCKS_APART_S
            way = Direction.NONE if ended_before else Direction.BACK
        else:
            way = direction(row.checkpoint, target)
        if way in {Direction.BACK, Direction.UNKNOWN}:
            found.append(reset(row, target, way=way))
    return _complete(found, shards_of(rows))


def _way_back(reached_s: float | None, time_s: float) -> Direction:
    if reached_s is None:
        return Direction.UNKNOWN
    # Creation times are rounded down to the second, and so is the time where a reader begins.
    return Direction.BACK if reached_s >= math.floor(time_s) else Direction.NONE


def in_lineage_order(resets: Sequence[Reset]) -> list[Reset]:
    """Parents before their children, so that whatever was written, a child waits for the parent that is read again."""
    by_id = {each.row.shard_id: each for each in sorted(resets, key=lambda each: each.row.shard_id)}
    order = TopologicalSorter(
        {shard_id: [parent for parent in each.row.parents if parent in by_id] for shard_id, each in by_id.items()}
    )
    return [by_id[shard_id] for shard_id in order.static_order()]
