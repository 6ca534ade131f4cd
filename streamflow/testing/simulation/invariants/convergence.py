"""V14: once faults are over, everything is done, and leases come to rest."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Converged, NodeStopped, RowStored
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth


class Converges(OfFacts):
    """V14: every record that is due is settled and stored, soon after the last fault."""

    name = "V14"
    hears: ClassVar[Sequence[type]] = (Converged,)

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - the fact says it all
        assert isinstance(fact, Converged)
        return f"faults are over, and it never came to an end: {fact.missing}" if fact.took_s is None else None


@dataclass(slots=True, eq=False)
class LeasesSettle:
    """V14: leases move no more than twice as often as they must, and rest in equal shares, one apart at most.

    Counted since the last fault, or the last worker that was stopped after it.
    """

    bounds: Bounds
    name = "V14"
    hears: ClassVar[Sequence[type]] = (RowStored, NodeStopped)
    _takes: int = 0
    _taken_at_s: float = -math.inf
    _shards: int = 0

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, NodeStopped):
            self._takes = 0
            return None
        assert isinstance(fact, RowStored)
        before, row = fact.before, fact.after
        if row is None or before is None or row.epoch == before.epoch or truth.now_s < truth.quiet_at_s:
            return None
        if truth.course(row.pipeline, row.shard_id) is not None:
            self._takes += 1
            self._taken_at_s = truth.now_s
        return None

    def broken_at_end(self, truth: Truth, /) -> Iterator[str]:
        rows = [course.row for course in truth.courses.values() if course.row is not None]
        rested_s = truth.now_s - max(self._taken_at_s, truth.quiet_at_s)
        if truth.now_s < truth.quiet_at_s or not truth.quiet_nodes:
            return
        if self._takes > 2 * len(rows) + len(truth.quiet_nodes):
            yield f"{self._takes} leases were taken for {len(rows)} rows after faults were over"
        if rested_s < 3 * self.bounds.lease_duration_s:
            return
        for pipeline in truth.pipelines:
            owners = Counter(str(row.owner) for row in rows if row.pipeline == pipeline and row.state.value == "active")
            shares = [owners[truth.nodes[node].worker_id] for node in truth.quiet_nodes]
            if sum(shares) == owners.total() and max(shares) - min(shares) > 1:
                yield f"{pipeline}: the leases rest in shares of {shares}"
