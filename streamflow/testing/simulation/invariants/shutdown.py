"""V10: a shutdown ends in time, and after it nothing happens and nothing is held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Invoked, NodeStopped, Sampled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Life, Truth

_SETTLING_S = 30.0
# The last checkpoint of a shard, its release, those of the flow, the flow's own row, the worker's leave.
_LAST_WRITES = 6


@dataclass(slots=True, eq=False)
class ShutdownBounded:
    """V10: `drain_timeout_s` and a few writes after the signal, a worker is gone.

    It invokes nothing then, and owns nothing that it could drain. What it had sent before may still arrive.
    """

    bounds: Bounds
    name = "V10"
    hears: ClassVar[Sequence[type]] = (NodeStopped, Invoked, Sampled)
    _told: set[str] = field(default_factory=set)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, NodeStopped):
            return self._stopped(fact, truth)
        assert isinstance(fact, Invoked | Sampled)
        life = truth.nodes[fact.node]
        if isinstance(fact, Sampled):
            return self._late(fact.node, life, truth)
        if not life.ended:
            return None
        return f"{fact.node} called its handler {truth.now_s - life.ended_at_s:.1f} s after it had {life.ended}"

    def broken_at_end(self, truth: Truth, /) -> Iterator[str]:
        for node, life in truth.nodes.items():
            if (says := self._late(node, life, truth)) is not None:
                yield says

    def _stopped(self, fact: NodeStopped, truth: Truth) -> str | None:
        life = truth.nodes[fact.node]
        if (says := self._late(fact.node, life, truth)) is not None:
            return says
        if not fact.drained or fact.failed or truth.now_s < truth.quiet_at_s + _SETTLING_S:
            return None
        for (_, shard_id), course in truth.courses.items():
            row = course.row
            if row is not None and course.takers.get(row.epoch) == fact.node and row.owner not in {None, row.claimant}:
                return f"{fact.node} stopped cleanly and still owns {shard_id}"
        return None

    def _late(self, node: str, life: Life, truth: Truth) -> str | None:
        if life.stop_asked_at_s is None or life.ended == "crashed" or life.stands or node in self._told:
            return None
        bound_s = self.bounds.drain_timeout_s + _LAST_WRITES * self.bounds.store_deadline_s + life.held_s + 1.0
        took_s = min(truth.now_s, life.ended_at_s) - life.stop_asked_at_s
        if took_s <= bound_s:
            return None
        self._told.add(node)
        return f"{node} took {took_s:.1f} s to stop, of {bound_s:.1f} s"
