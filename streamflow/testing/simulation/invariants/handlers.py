"""V2, V5: whose handlers may be at work at the same time, and until when."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Invoked, Returned, RowStored
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Truth

_Owner = tuple[str, str, str, int]
"""Node, pipeline, shard and epoch."""


def _owner(fact: Invoked | Returned) -> _Owner:
    return fact.node, fact.pipeline, fact.shard_id, fact.epoch


@dataclass(slots=True, eq=False)
class OneAtATime(OfFacts):
    """V2: of one item no owner has two changes in two handlers at once, and it has no more handlers than lanes.

    Where the store forgot writes, a node may take the same epoch twice. It lost the shard in between, so it is another owner
    the second time, and what goes on in a thread of the first one's is not waited for.
    """

    name = "V2"
    hears: ClassVar[Sequence[type]] = (Invoked, Returned, RowStored)
    _at_work: dict[_Owner, Counter[str]] = field(default_factory=dict)
    """Items in handlers."""
    _handlers: Counter[_Owner] = field(default_factory=Counter)
    _begun: dict[_Owner, set[int]] = field(default_factory=dict)
    """Invocations."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, RowStored):
            self._note_taken(fact, truth)
            return None
        assert isinstance(fact, Invoked | Returned)
        owner, keys = _owner(fact), truth.shards[fact.shard_id].keys
        begun = self._begun.setdefault(owner, set())
        if isinstance(fact, Returned) and fact.invocation not in begun:
            return None
        (begun.add if isinstance(fact, Invoked) else begun.remove)(fact.invocation)
        at_work = self._at_work.setdefault(owner, Counter())
        items = Counter({keys[number] for number in fact.numbers})
        if isinstance(fact, Returned):
            at_work -= items
            self._at_work[owner] = at_work
            self._handlers[owner] -= 1
            return None
        self._handlers[owner] += 1
        both = next((item for item in items if at_work[item]), None)
        at_work.update(items)
        if both is not None:
            return (
                f"{fact.node} delivers {fact.numbers[0]} of {fact.shard_id} while another change of {both} is at work"
            )
        if self._handlers[owner] > truth.nodes[fact.node].terms.lanes:
            return f"{fact.node} has {self._handlers[owner]} handlers at work for {fact.shard_id}"
        return None

    def _note_taken(self, fact: RowStored, truth: Truth) -> None:
        before, row = fact.before, fact.after
        if before is None or row is None or row.epoch == before.epoch:
            return
        course = truth.course(row.pipeline, row.shard_id)
        if course is not None and course.forgotten:
            owner = fact.node, row.pipeline, row.shard_id, row.epoch
            self._at_work.pop(owner, None)
            self._handlers.pop(owner, None)
            self._begun.pop(owner, None)


@dataclass(slots=True, eq=False)
class FencedIsOver(OfFacts):
    """V5: whoever hears from its sink that a newer owner was there delivers no more; other lanes what they had begun."""

    name = "V5"
    hears: ClassVar[Sequence[type]] = (Invoked, Returned)
    _refused: dict[_Owner, frozenset[int]] = field(default_factory=dict)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        assert isinstance(fact, Invoked | Returned)
        if isinstance(fact, Returned):
            if fact.fenced:
                self._refused[_owner(fact)] = frozenset(fact.numbers)
            return None
        refused = self._refused.get(_owner(fact))
        if refused is None or (truth.nodes[fact.node].terms.lanes > 1 and refused.isdisjoint(fact.numbers)):
            return None
        return f"{fact.node} goes on with {fact.shard_id} in epoch {fact.epoch}: its sink has seen a newer owner"


@dataclass(slots=True, eq=False)
class HeldWhileAtWork(OfFacts):
    """V5: nobody lets a lease go while a handler of his is at work on its records, in whatever thread."""

    name = "V5"
    hears: ClassVar[Sequence[type]] = (Invoked, Returned, RowStored)
    _at_work: Counter[_Owner] = field(default_factory=Counter)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, Invoked | Returned):
            self._at_work[_owner(fact)] += 1 if isinstance(fact, Invoked) else -1
            return None
        assert isinstance(fact, RowStored)
        before, row = fact.before, fact.after
        if row is None or before is None or row.epoch != before.epoch or row.owner == before.owner:
            return None
        course = truth.course(row.pipeline, row.shard_id)
        if course is None or course.forgotten or course.takers.get(row.epoch) != fact.node:
            return None
        if self._at_work[fact.node, row.pipeline, row.shard_id, row.epoch] > 0:
            return f"{fact.node} lets {row.shard_id} go while its handler is at work"
        return None
