"""V5, V6: one owner per shard and epoch, and children after their parents."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import HAND, Called, Invoked, RowStored
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Course, Truth


@dataclass(slots=True, eq=False)
class OneOwner(OfFacts):
    """V5: an epoch has one owner, and who has lost a shard dispatches nothing.

    A node that stood still may find out by the batch that it had decided on, one in each lane.
    """

    bounds: Bounds
    name = "V5"
    hears: ClassVar[Sequence[type]] = (RowStored, Invoked)
    _takers: dict[tuple[str, str, int], str] = field(default_factory=dict)
    _ended_unheard: dict[tuple[str, str, int], float] = field(default_factory=dict)
    """Epochs that ended when another worker of the same name took the shard, or somebody else let it go: their owner hears of
    it at its next sign of life, whoever has the shard by then.
    """
    _dispatchers: dict[tuple[str, str, int], str] = field(default_factory=dict)
    _zombies: Counter[tuple[str, str, str, int]] = field(default_factory=Counter)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, Invoked):
            return self._dispatched(fact, truth)
        assert isinstance(fact, RowStored)
        before, row = fact.before, fact.after
        course = None if before is None else truth.course(before.pipeline, before.shard_id)
        if before is None or course is None:
            return None
        if course.takers.get(before.epoch) != fact.node and _is_unheard(fact.node, before, row):
            self._ended_unheard[before.pipeline, before.shard_id, before.epoch] = truth.now_s
        if row is None or fact.node == HAND or course.forgotten:
            return None
        if row.epoch != before.epoch:
            other = self._takers.setdefault((row.pipeline, row.shard_id, row.epoch), fact.node)
            if other != fact.node:
                return f"{fact.node} took {row.shard_id} in epoch {row.epoch}, which was {other}'s"
        elif row.owner not in {before.owner, None, row.claimant}:
            return f"{fact.node} made {row.owner} the owner of {row.shard_id} in epoch {row.epoch} of {before.owner}"
        return None

    def _dispatched(self, fact: Invoked, truth: Truth) -> str | None:
        course = truth.courses[fact.pipeline, fact.shard_id]
        row, life = course.row, truth.nodes[fact.node]
        if course.touched or course.forgotten_in(fact.epoch):
            return None
        other = self._dispatchers.setdefault((fact.pipeline, fact.shard_id, fact.epoch), fact.node)
        if other != fact.node:
            return f"{fact.node} dispatched records of {fact.shard_id} in epoch {fact.epoch}, in which {other} did"
        if row is not None and row.epoch <= fact.epoch and row.owner is not None:
            return None
        ended_at_s = self._ended_unheard.get((fact.pipeline, fact.shard_id, fact.epoch), -math.inf)
        if self.bounds.steals:
            ended_at_s = max(ended_at_s, course.taken_at_s)
        if truth.now_s <= ended_at_s + self.bounds.lease_duration_s:
            return None
        place = fact.node, fact.pipeline, fact.shard_id, fact.epoch
        self._zombies[place] += 1
        allowed = self.bounds.lanes if life.held_until_s >= course.taken_at_s else 0
        if self._zombies[place] <= allowed:
            return None
        now = "nobody's" if row is None or row.owner is None else f"{row.owner}'s in epoch {row.epoch}"
        return (
            f"{fact.node} dispatched {len(fact.numbers)} records of {fact.shard_id} in epoch {fact.epoch}: it is {now}"
        )


def _is_unheard(node: str, before: Lease, row: Lease | None) -> bool:
    """Whether somebody ends an epoch that its owner has not ended.

    At its stop a worker lets go what has its name, and that it has not taken yet.
    """
    if row is None:
        return node == HAND
    if row.epoch == before.epoch:
        return row.owner != before.owner
    return _name(before.owner) == _name(row.owner)


def _name(worker_id: str | None) -> str | None:
    return None if worker_id is None else worker_id.partition("#")[0]


@dataclass(slots=True, eq=False)
class ParentsFirst(OfFacts):
    """V6: a shard is read, and delivered, only when all its parents are done, or are gone and unknown."""

    name = "V6"
    hears: ClassVar[Sequence[type]] = (Called, Invoked)
    _read: set[tuple[str, str]] = field(default_factory=set)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, Invoked):
            shard = truth.shards[fact.shard_id]
            for parent in shard.parents:
                course = truth.course(fact.pipeline, parent)
                if course is not None and not course.all_settled:
                    return f"{fact.node} dispatched records of {fact.shard_id} before {parent} was done"
            return None
        assert isinstance(fact, Called)
        if fact.operation != "GetRecords" or (fact.node, fact.shard_id) in self._read:
            return None
        self._read.add((fact.node, fact.shard_id))
        parents = truth.shards[fact.shard_id].parents
        if any(all(self._ended(truth.course(flow, parent)) for parent in parents) for flow in truth.pipelines):
            return None
        return f"{fact.node} read {fact.shard_id} before its parents {', '.join(parents)} were done"

    @staticmethod
    def _ended(course: Course | None) -> bool:
        if course is None or course.forgotten:
            return True  # that it had ended may be among what the store has lost
        return course.shard.gone if course.row is None else course.row.state.value != "active"
