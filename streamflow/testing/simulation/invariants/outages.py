"""V15, while the service is away: nobody asks it more often than it is asked when it is well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import ShardOpened
from streamflow.testing.simulation.facts import Heard, Told
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth

_TIMES_STEADY = 2.0
# A shard in which nothing happens is polled about once a second, if seldom is not what was asked for.
_STEADY_S_MIN = 1.0
# The first tries after a failure may come sooner than polls do.
_AT_ONCE = 3.0


@dataclass(slots=True, eq=False)
class RetriesPaced(OfFacts):
    """V15: what fails again and again is asked for at twice the pace of polls at most, for each shard and flow."""

    bounds: Bounds
    name = "V15"
    hears: ClassVar[Sequence[type]] = (Heard, Told)
    _failing: dict[tuple[str, str, str], tuple[float, int]] = field(default_factory=dict)
    """Node, operation and shard to when the first request failed, and how many have since, all of them."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, Told):
            if isinstance(fact.event, ShardOpened):
                # Another reader, which knows nothing of the tries of the one before: two of one name take turns.
                for operation in ("GetShardIterator", "GetRecords"):
                    self._failing.pop((fact.node, operation, fact.event.shard_id), None)
            return None
        assert isinstance(fact, Heard)
        place = fact.node, fact.operation, fact.shard_id
        if not fact.failed:
            self._failing.pop(place, None)
            return None
        since_s, times = self._failing.get(place, (truth.now_s, 0))
        self._failing[place] = since_s, times + 1
        failing_s = truth.now_s - since_s
        at_most = _AT_ONCE + _TIMES_STEADY * failing_s / max(self.bounds.poll_interval_s, _STEADY_S_MIN)
        if times + 1 <= at_most * len(truth.pipelines):
            return None
        del self._failing[place]
        return (
            f"{fact.node} called {fact.operation} {fact.shard_id} {times + 1} times in {failing_s:.1f} s, and it failed"
        )
