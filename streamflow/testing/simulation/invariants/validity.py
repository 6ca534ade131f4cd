"""V5, the half of it that is about time: who has given no sign of life for most of a lease duration does nothing any more."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.leases import WORKERS
from streamflow.testing.simulation.facts import HAND, Invoked, RowStored
from streamflow.testing.simulation.oracle import OfFacts
from streamflow.testing.simulation.truth import through

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth

_OWN_SHARE = 0.8
"""Of a lease duration: for as long an owner may believe in its leases. Others wait for all of it."""
_AT_ONCE_S = 0.001
"""Who stood still may do what it had decided on, at the moment when it goes on."""
_ALL = ("", "")


@dataclass(slots=True, eq=False)
class NothingBeyondValidity(OfFacts):
    """V5: nothing is dispatched, and no checkpoint sent, 4/5 of a lease duration after the last sign of life was sent.

    A sign of life counts for what it shows: the row of a worker for all of its leases, that of a lease for itself. Only
    those that were stored count, so the owner, who has to know that, can only believe for less long.
    """

    bounds: Bounds
    name = "V5"
    hears: ClassVar[Sequence[type]] = (RowStored, Invoked)
    _signs: dict[str, dict[tuple[str, str], float]] = field(default_factory=lambda: defaultdict(dict))
    """Node to when its last sign of life was sent: for each pipeline and shard, or for all."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        match fact:
            case Invoked():
                late_s = self._late_s(fact.node, (fact.pipeline, fact.shard_id), truth.now_s, truth)
                if late_s <= 0.0:
                    return None
                return f"{fact.node} dispatched records of {fact.shard_id} {late_s:.1f} s after its time was up"
            case RowStored(after=row) if row is not None and fact.node != HAND:
                return self._written(fact, row, truth)
            case _:
                return None

    def _written(self, fact: RowStored, row: Lease, truth: Truth) -> str | None:
        node, sent_at_s, place = fact.node, truth.now_s - fact.age_s, (row.pipeline, row.shard_id)
        says = None
        course, before = truth.course(*place), fact.before
        if course is not None and before is not None and course.takers.get(row.epoch) == node:
            late_s = self._late_s(node, place, sent_at_s, truth)
            if late_s > 0.0 and through(row.checkpoint) > through(before.checkpoint):
                says = f"{node} sent {row.checkpoint} of {row.shard_id} {late_s:.1f} s after its time was up"
        signs = self._signs[node]
        place = _ALL if (row.pipeline, row.stream_arn) == WORKERS else place
        signs[place] = max(signs.get(place, -math.inf), sent_at_s)
        return says

    def _late_s(self, node: str, place: tuple[str, str], at_s: float, truth: Truth) -> float:
        signs = self._signs[node]
        signed_at_s = signs.get(_ALL, signs.get(place, math.inf))
        life = truth.nodes[node]
        if life.stands or at_s <= life.held_until_s + _AT_ONCE_S:
            return 0.0
        return at_s - signed_at_s - self.bounds.lease_duration_s * _OWN_SHARE
