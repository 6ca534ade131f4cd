"""V8, V9, V15, V17: nothing starves, nothing grows, nobody asks too often, and no task is left over."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Called, LoopComplained, NodeStopped, Sampled
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth

_RECORD_OVERHEAD_BYTES, _RECORDS_OF_A_PAGE = 200, 1_000
_TASKS_OF_A_WORKER, _TASKS_OF_A_SHARD = 24, 6
# AWS allows ten calls of DescribeStream in a second.
_DESCRIBED_PER_S, _DESCRIBED_AT_ONCE = 10.0, 200.0
_POLLED_AT_ONCE = 30.0


@dataclass(slots=True, eq=False)
class NothingStarves:
    """V8: once faults are over, every shard that can be read is polled again and again."""

    bounds: Bounds
    name = "V8"
    hears: ClassVar[Sequence[type]] = (Called,)
    _polled_at_s: dict[str, float] = field(default_factory=dict)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
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
            silent_s = truth.now_s - self._polled_at_s.get(shard_id, -math.inf)
            if silent_s > bound_s and self._parents_done(pipeline, course.shard.parents, truth):
                yield f"{pipeline}: {shard_id} was not polled for {silent_s:.1f} s, and nothing fails"

    @staticmethod
    def _parents_done(pipeline: str, parents: Sequence[str], truth: Truth) -> bool:
        rows = [course.row for parent in parents if (course := truth.course(pipeline, parent)) is not None]
        return all(row is None or row.state.value != "active" for row in rows)


@dataclass(slots=True, eq=False)
class MemoryBounded(OfFacts):
    """V9: what a worker has read ahead, and how many tasks it has, stay below what its shards account for."""

    bounds: Bounds
    name = "V9"
    hears: ClassVar[Sequence[type]] = (Sampled,)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - a sample says it all
        assert isinstance(fact, Sampled)
        page = self.bounds.page_bytes_max + _RECORDS_OF_A_PAGE * _RECORD_OVERHEAD_BYTES
        bytes_max = self.bounds.buffer_bytes_max + page * fact.shards
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
