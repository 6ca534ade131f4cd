"""V1 and V6 of the rows that say how a stream goes on: its start, the ends of shards, and gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import RecordsTrimmed
from streamflow.leases import STREAM_ROW
from streamflow.testing.simulation.facts import HAND, RowStored, ShardMade, Shown, Told
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Truth


@dataclass(slots=True, eq=False)
class GapsAreTold(OfFacts):
    """V1: who notes a gap in a row has told the observers that records are lost."""

    name = "V1"
    hears: ClassVar[Sequence[type]] = (RowStored, Told)
    _told: set[tuple[str, str, str]] = field(default_factory=set)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - the note and the event say it all
        if isinstance(fact, Told):
            if isinstance(fact.event, RecordsTrimmed):
                self._told.add((fact.node, fact.event.pipeline, fact.event.shard_id))
            return None
        assert isinstance(fact, RowStored)
        before, row = fact.before, fact.after
        if before is None or row is None or row.gaps == before.gaps or fact.node == HAND:
            return None
        if (place := (fact.node, row.pipeline, row.shard_id)) not in self._told:
            return f"{fact.node} noted a gap in {row.shard_id}, and told nobody"
        self._told.discard(place)
        return None


@dataclass(slots=True, eq=False)
class ChildrenNamed(OfFacts):
    """V6: a shard that was read to its end waits until its children show, or names some that have rows."""

    name = "V6"
    hears: ClassVar[Sequence[type]] = (RowStored, ShardMade)
    _parents: set[str] = field(default_factory=set)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, ShardMade):
            self._parents.update(fact.parents)
            return None
        assert isinstance(fact, RowStored)
        before, row = fact.before, fact.after
        if (
            before is None
            or row is None
            or fact.node == HAND
            or row.state.value != "ended"
            or before.state == row.state
        ):
            return None
        if not row.children and row.shard_id in self._parents:
            return f"{fact.node} ended {row.shard_id} as if it had no children"
        for child in row.children:
            course = truth.course(row.pipeline, child)
            if course is None or (course.row is None and not course.touched):
                return f"{fact.node} ended {row.shard_id}, and its child {child} has no row"
        return None


@dataclass(slots=True, eq=False)
class StartedAfterPositions(OfFacts):
    """V6: a stream counts as started when each shard that its starter was just shown has a row.

    Branches of a fan-out are shown one after the other's listings: only of a pipeline alone it is known whose they are.
    """

    name = "V6"
    hears: ClassVar[Sequence[type]] = (RowStored, Shown)
    _shown: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Node to the last page of a listing that it got."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, Shown):
            self._shown[fact.node] = fact.shard_ids
            return None
        assert isinstance(fact, RowStored)
        row = fact.after
        if row is None or not _starts(fact.before, row) or fact.node == HAND or len(truth.pipelines) > 1:
            return None
        for shard_id in self._shown.get(fact.node, ()):
            course = truth.course(row.pipeline, shard_id)
            if course is not None and course.row is None and not course.touched:
                return f"{fact.node} stored that the stream is started before a row of {shard_id}"
        return None


def _starts(before: Lease | None, row: Lease) -> bool:
    if before is None or row.shard_id != STREAM_ROW:
        return False
    return (before.state.value, row.state.value) == ("awaiting_children", "active")
