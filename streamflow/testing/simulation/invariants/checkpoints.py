"""V3, V4, and the half of V7 that is about time: the stored checkpoint is never ahead, never back, and not far behind."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow import events
from streamflow.testing.simulation.facts import HAND, RowsListed, RowStored, Sampled, Told
from streamflow.testing.simulation.oracle import OfFacts
from streamflow.testing.simulation.truth import through

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth

# In 2001. No row was taken so often.
_A_TIME_MS = 10**12


class CheckpointNotAhead(OfFacts):
    """V3: no stored checkpoint covers a record that is not settled."""

    name = "V3"
    hears: ClassVar[Sequence[type]] = (RowStored,)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        assert isinstance(fact, RowStored)
        row = fact.after
        course = None if row is None or fact.node == HAND else truth.course(row.pipeline, row.shard_id)
        if row is None or course is None or (fact.before is not None and fact.before.checkpoint == row.checkpoint):
            return None
        covered, unsettled = through(row.checkpoint), course.first_unsettled()
        if unsettled is not None and unsettled <= covered:
            return f"{fact.node} stored {row.checkpoint} of {row.shard_id}, but {unsettled} is not settled"
        if covered == math.inf and not (course.shard.finished or course.shard.gone):
            return f"{fact.node} stored the end of {row.shard_id}, which is open"
        return None


class ToldIsStored(OfFacts):
    """V3: what a worker tells as stored is in the store: a checkpoint, and the end of a shard."""

    name = "V3"
    hears: ClassVar[Sequence[type]] = (Told,)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        assert isinstance(fact, Told)
        match fact.event:
            case events.CheckpointStored(pipeline=pipeline, shard_id=shard_id, checkpoint=checkpoint):
                told = through(checkpoint)
            case events.ShardClosed(pipeline=pipeline, shard_id=shard_id, reason=events.ShardClosing.ENDED):
                told = math.inf
            case _:
                return None
        course = truth.courses[pipeline, shard_id]
        row = course.row
        # Where records are gone, it may have begun anew since.
        if row is None or row.gaps or course.touched or course.forgotten or told <= through(row.checkpoint):
            return None
        return f"{fact.node} told {told:.0f} of {shard_id} as stored, and what is stored is {row.checkpoint}"


@dataclass(slots=True, eq=False)
class NothingGoesBack(OfFacts):
    """V4: checkpoint and epoch of a row only grow, also over its deletion; a noted gap begins anew at the horizon.

    Of a row that was deleted by hand nothing tells the epoch any more. Whoever was never shown it makes the row anew with the
    time of its own clock, which may be behind that of whoever made it first.

    Where the store forgot writes, their versions come again: who had written one of them takes another's row for its own, and
    stores over it what it has.
    """

    name = "V4"
    hears: ClassVar[Sequence[type]] = (RowStored, RowsListed)
    _epochs: dict[tuple[str, str], int] = field(default_factory=dict)
    """The greatest that a row ever had."""
    _deleted_by_hand: set[tuple[str, str]] = field(default_factory=set)
    _shown: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Node, pipeline and shard id to the greatest epoch of it that the node was shown."""
    _versions: set[tuple[str, str, int]] = field(default_factory=set)
    _again: set[tuple[str, str, int]] = field(default_factory=set)
    """Pipeline, shard id and version, where a store that had forgotten a write of this version has taken another one."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, RowsListed):
            self._note_shown(fact)
            return None
        assert isinstance(fact, RowStored)
        if fact.before is not None and fact.after is None:
            self._note_deleted(fact.before, by_hand=fact.node == HAND)
        before, row = fact.before, fact.after
        course = None if row is None or fact.node == HAND else truth.course(row.pipeline, row.shard_id)
        if row is None or course is None:
            return None
        place = row.pipeline, row.shard_id
        newest = self._epochs.get(place, -1)
        self._epochs[place] = max(newest, row.epoch)
        version = *place, row.version
        (self._again if course.forgotten and version in self._versions else self._versions).add(version)
        if before is None:
            if newest >= row.epoch and not course.forgotten and not self._unknowing(fact.node, row):
                return f"{fact.node} made the row of {row.shard_id} again with epoch {row.epoch}, after {newest}"
            return None
        # Where a store has forgotten writes, their versions come again: who had written one of them takes another's for it.
        if row.epoch < before.epoch and not course.forgotten:
            return f"{fact.node} moved the epoch of {row.shard_id} from {before.epoch} to {row.epoch}"
        if row.version <= before.version and row.claimant == before.claimant:
            return f"{fact.node} moved the version of {row.shard_id} from {before.version} to {row.version}"
        back = through(row.checkpoint) < through(before.checkpoint) and row.gaps == before.gaps
        if back and (*place, before.version) not in self._again:
            return f"{fact.node} moved the checkpoint of {row.shard_id} from {before.checkpoint} to {row.checkpoint}"
        return None

    def _note_shown(self, fact: RowsListed) -> None:
        for row in fact.rows:
            place = fact.node, row.pipeline, row.shard_id
            self._shown[place] = max(row.epoch, self._shown.get(place, -1))

    def _note_deleted(self, row: Lease, *, by_hand: bool) -> None:
        place = row.pipeline, row.shard_id
        (self._deleted_by_hand.add if by_hand else self._deleted_by_hand.discard)(place)

    def _unknowing(self, node: str, row: Lease) -> bool:
        """Whether who made a row again could not know its last epoch, and went by its clock."""
        shown = self._shown.get((node, row.pipeline, row.shard_id), -1)
        by_clock = row.epoch > _A_TIME_MS
        return by_clock and shown < row.epoch and (row.pipeline, row.shard_id) in self._deleted_by_hand


@dataclass(slots=True, eq=False)
class CheckpointStored(OfFacts):
    """V7: while nothing fails, what is settled is stored soon, so that a crash repeats little."""

    bounds: Bounds
    name = "V7"
    hears: ClassVar[Sequence[type]] = (Sampled,)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - a sample is but the moment to look
        bound_s = self.bounds.checkpoint_interval_s + 4 * self.bounds.lease_duration_s
        for (pipeline, shard_id), course in truth.courses.items():
            if course.unstored_since_s is None:
                continue
            unstored_s = truth.now_s - max(course.unstored_since_s, truth.quiet_at_s)
            if unstored_s > bound_s:
                course.unstored_since_s = truth.now_s
                return f"{pipeline}: what is settled of {shard_id} is not stored since {unstored_s:.1f} s"
        return None
