"""V8, V9, V15, V17: nothing starves, nothing grows, nobody asks too often, and no task is left over."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import PageRead, ShardClosed
from streamflow.testing.simulation.facts import (
    Called,
    Invoked,
    LoopComplained,
    NodeStopped,
    Returned,
    Sampled,
    Told,
)
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth

_RECORD_OVERHEAD_BYTES = 200
_TASKS_OF_A_WORKER, _TASKS_OF_A_SHARD = 24, 6
# AWS allows ten calls of DescribeStream in a second.
_DESCRIBED_PER_S, _DESCRIBED_AT_ONCE = 10.0, 200.0
_POLLED_AT_ONCE = 30.0


@dataclass(slots=True, eq=False)
class NothingStarves:
    """V8: once faults are over, every shard that can be read is polled again and again.

    But for one whose handler is at work: it may have as much in hand as it may.
    """

    bounds: Bounds
    name = "V8"
    hears: ClassVar[Sequence[type]] = (Called, Invoked, Returned)
    _polled_at_s: dict[str, float] = field(default_factory=dict)
    _at_work: dict[tuple[str, str], set[tuple[str, int]]] = field(default_factory=dict)
    """Pipeline and shard to nodes and their invocations."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, Invoked | Returned):
            at_work = self._at_work.setdefault((fact.pipeline, fact.shard_id), set())
            change = at_work.add if isinstance(fact, Invoked) else at_work.discard
            change((fact.node, fact.invocation))
            return None
        assert isinstance(fact, Called)
        if fact.operation == "GetRecords":
            self._polled_at_s[fact.shard_id] = truth.now_s
        return None

    def broken_at_end(self, truth: Truth, /) -> Iterator[str]:
        bound_s = max(3 * self.bounds.idle_poll_s, 3 * self.bounds.lease_duration_s) + 10.0
        if truth.now_s < truth.quiet_at_s + bound_s:
            return
        for (pipeline, shard_id), course in truth.courses.items():
            if course.shard.gone or course.row is None or course.row.state.value != "active":
                continue
            if any(not truth.nodes[node].ended for node, _ in self._at_work.get((pipeline, shard_id), ())):
                continue
            silent_s = truth.now_s - self._polled_at_s.get(shard_id, -math.inf)
            if silent_s > bound_s and self._parents_done(pipeline, course.shard.parents, truth):
                yield f"{pipeline}: {shard_id} was not polled for {silent_s:.1f} s, and nothing fails"

    @staticmethod
    def _parents_done(pipeline: str, parents: Sequence[str], truth: Truth) -> bool:
        rows = [course.row for parent in parents if (course := truth.course(pipeline, parent)) is not None]
        return all(row is None or row.state.value != "active" for row in rows)


@dataclass(slots=True, eq=False)
class MemoryBounded(OfFacts):
    """V9: what a worker has read ahead, and how many tasks it has, stay below what its shards account for.

    A shard that is full reads no page, and of a worker that is full only shards that hold nothing do.
    """

    bounds: Bounds
    name = "V9"
    hears: ClassVar[Sequence[type]] = (Told, Sampled)
    _pages: dict[str, dict[tuple[str, str], int]] = field(default_factory=dict)
    """Node and shard to the size of the largest page that it has read."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        match fact:
            case Told(event=ShardClosed(pipeline=pipeline, shard_id=shard_id)):
                self._pages.get(fact.node, {}).pop((pipeline, shard_id), None)
                return None
            case Told(event=PageRead() as page):
                return self._read(fact.node, page, truth)
            case Sampled():
                return self._sampled(fact)
            case _:
                return None

    def _read(self, node: str, page: PageRead, truth: Truth) -> str | None:
        size = page.bytes + page.records * _RECORD_OVERHEAD_BYTES
        place, pages = (page.pipeline, page.shard_id), self._pages.setdefault(node, {})
        pages[place] = max(size, pages.get(place, 0))
        before = page.buffered_bytes - size
        if page.records and before >= truth.nodes[node].terms.buffer_bytes_max:
            return f"{node} read a page of {page.shard_id}, of which it had {before} bytes in hand"
        return None

    def _sampled(self, fact: Sampled) -> str | None:
        bytes_max = self.bounds.buffer_bytes_max + sum(self._pages.get(fact.node, {}).values())
        if fact.buffered_bytes > bytes_max:
            return f"{fact.node} has {fact.buffered_bytes} bytes in hand, with {fact.shards} shards"
        tasks_max = _TASKS_OF_A_WORKER + (_TASKS_OF_A_SHARD + 2 * self.bounds.lanes) * fact.shards
        if fact.tasks > tasks_max:
            return f"{fact.node} has {fact.tasks} tasks, with {fact.shards} shards"
        return None


@dataclass(slots=True)
class _Bucket:
    """So many at once, and so many in a second."""

    left: float
    at_s: float


@dataclass(slots=True, eq=False)
class CallsBounded(OfFacts):
    """V15: no node polls a shard faster than its pace and what it finds there, and none storms the listing."""

    bounds: Bounds
    name = "V15"
    hears: ClassVar[Sequence[type]] = (Called,)
    _buckets: dict[tuple[str, str], _Bucket] = field(default_factory=dict)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        assert isinstance(fact, Called)
        if fact.operation == "GetRecords":
            # Whoever is behind reads on at once; the first attempts after a failure may come a little sooner than polls.
            per_s, at_once = 1.2 / self.bounds.poll_interval_s, _POLLED_AT_ONCE
            given = 1.0 if fact.records else 0.0
        elif fact.operation == "DescribeStream":
            per_s, at_once, given = _DESCRIBED_PER_S, _DESCRIBED_AT_ONCE, 0.0
        else:
            return None
        place = fact.node, fact.shard_id or fact.operation
        bucket = self._buckets.setdefault(place, _Bucket(at_once, truth.now_s))
        bucket.left = min(at_once, bucket.left + (truth.now_s - bucket.at_s) * per_s + given) - 1.0
        bucket.at_s = truth.now_s
        if bucket.left >= 0:
            return None
        bucket.left = at_once
        return f"{fact.node} called {fact.operation} {fact.shard_id} more often than {per_s:.1f} times in a second"


class NoTaskLeft(OfFacts):
    """V17: a worker that has returned leaves no task behind, and no error unheard."""

    name = "V17"
    hears: ClassVar[Sequence[type]] = (NodeStopped, LoopComplained)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - the fact says it all
        if isinstance(fact, LoopComplained):
            return fact.text
        assert isinstance(fact, NodeStopped)
        return f"{fact.node} left {', '.join(fact.tasks_left)} behind" if fact.tasks_left else None
