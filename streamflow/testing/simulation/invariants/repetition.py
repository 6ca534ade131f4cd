"""V7: what is delivered again, and what must not be."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import LeaseLost, ShardClosed, ShardClosing, ShardOpened
from streamflow.testing.simulation.facts import Invoked, NodeStopped, Returned, RowStored, Told
from streamflow.testing.simulation.oracle import OfFacts
from streamflow.testing.simulation.truth import through

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Course, Truth

SETTLING_S = 30.0
"""After the last fault: what was under way then may still fail."""


@dataclass(slots=True, eq=False)
class RepetitionBounded(OfFacts):
    """V7: an owner delivers nothing that its first checkpoint covered, and nothing twice that its handler was done with.

    So a crash repeats what was done since the last stored checkpoint, and what was in flight; a clean stop, and a lease
    that is passed on while nothing fails, repeat nothing. A record that was begun before faults were over may hang, and
    fail, for long after: what other lanes had done behind it cannot be stored, as no failing batch holds up a stop.
    """

    name = "V7"
    hears: ClassVar[Sequence[type]] = (Invoked, NodeStopped, Returned, RowStored, Told)
    _begun_in_time: set[int] = field(default_factory=set)
    """Invocations under way that began before faults were over."""
    _failed: set[tuple[str, str, int, int]] = field(default_factory=set)
    """Pipeline, shard id, epoch and number of records whose last invocation was one of these, and was not done with them."""
    _lost: set[tuple[str, str, str]] = field(default_factory=set)
    _let_go: set[tuple[str, str, str]] = field(default_factory=set)
    """What was let go for another worker, in time or not, is no part of a later stop."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        match fact:
            case Told(event=ShardClosed(pipeline=pipeline, shard_id=shard_id, reason=ShardClosing.HANDED_OVER)):
                self._let_go.add((fact.node, pipeline, shard_id))
                return None
            case Told(event=ShardOpened(pipeline=pipeline, shard_id=shard_id)):
                self._let_go.discard((fact.node, pipeline, shard_id))
                return None
            case Told(event=LeaseLost(pipeline=pipeline, shard_id=shard_id)):
                self._lost.add((fact.node, pipeline, shard_id))
                return None
            case Invoked():
                if truth.now_s < truth.quiet_at_s:
                    self._begun_in_time.add(fact.invocation)
                return self._dispatched(fact, truth)
            case Returned():
                self._returned(fact)
                return None
            case NodeStopped() if fact.drained and not fact.failed:
                return self._stopped(fact, truth)
            case RowStored():
                return self._passed_on(fact, truth)
            case _:
                return None

    @staticmethod
    def _dispatched(fact: Invoked, truth: Truth) -> str | None:
        course, numbers = truth.courses[fact.pipeline, fact.shard_id], fact.numbers
        if course.touched or course.forgotten_in(fact.epoch) or not numbers:
            return None
        if numbers[0] <= (base := course.bases.get(fact.epoch, 0)):
            return f"{fact.node} delivers {numbers[0]} of {fact.shard_id}, though it began behind {base:.0f}"
        again = [number for number in numbers if course.done_by.get(number) == fact.epoch]
        if again:
            return f"{fact.node} delivers {again[0]} of {fact.shard_id} again, with which its handler was done"
        return None

    def _stopped(self, fact: NodeStopped, truth: Truth) -> str | None:
        for (pipeline, shard_id), course in truth.courses.items():
            row = course.row
            place = fact.node, pipeline, shard_id
            if row is None or course.forgotten or course.touched or place in self._lost or place in self._let_go:
                continue
            if course.takers.get(row.epoch) != fact.node:
                continue
            told = fact.repeating.get((pipeline, shard_id))
            unstored = _unstored(course)
            if unstored is not None and (told is None or unstored <= told):
                return f"{fact.node} stopped cleanly, but {unstored} of {shard_id} will be delivered again"
        return None

    def _returned(self, fact: Returned) -> None:
        places = {(fact.pipeline, fact.shard_id, fact.epoch, number) for number in fact.numbers}
        self._failed -= places
        if fact.invocation in self._begun_in_time:
            self._begun_in_time.remove(fact.invocation)
            self._failed |= {place for place in places if place[-1] not in fact.done}

    def _passed_on(self, fact: RowStored, truth: Truth) -> str | None:
        before, row = fact.before, fact.after
        if before is None or row is None or row.owner == before.owner or row.epoch != before.epoch:
            return None
        course = truth.course(row.pipeline, row.shard_id)
        if course is None or truth.now_s < truth.quiet_at_s + SETTLING_S or course.takers.get(row.epoch) != fact.node:
            return None
        unstored, hole = _unstored(course), _first_undone(course)
        if hole is not None and (row.pipeline, row.shard_id, row.epoch, hole) in self._failed:
            unstored = unstored if unstored is not None and unstored < hole else None
        if unstored is not None and not course.forgotten:
            return f"{fact.node} passed {row.shard_id} on at {row.checkpoint}, but {unstored} is done"
        return None


@dataclass(slots=True, eq=False)
class QuietRepeatsNothing(OfFacts):
    """V7: while nothing fails nothing comes twice, whoever is stopped; and a stop leaves nothing that does.

    But for leases that are taken from owners that live, as workers of the KCL 2.x do.
    """

    bounds: Bounds
    name = "V7"
    hears: ClassVar[Sequence[type]] = (Invoked, Returned, NodeStopped)
    _done: set[tuple[str, str, int]] = field(default_factory=set)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if truth.now_s < truth.quiet_at_s + SETTLING_S or self.bounds.steals:
            return None
        match fact:
            case Returned(done=done):
                self._done.update((fact.pipeline, fact.shard_id, number) for number in done)
            case Invoked(numbers=numbers):
                again = [number for number in numbers if (fact.pipeline, fact.shard_id, number) in self._done]
                if again:
                    return f"{fact.node} delivers {again[0]} of {fact.shard_id} again, though nothing failed"
            case NodeStopped(drained=False, failed=False):
                asked_at_s = truth.nodes[fact.node].stop_asked_at_s
                if asked_at_s is None or asked_at_s < truth.quiet_at_s + SETTLING_S:
                    return None
                if truth.now_s < asked_at_s + self.bounds.drain_timeout_s:
                    return f"{fact.node} stopped in time, though nothing failed, and left behind what it had begun"
        return None


def _unstored(course: Course) -> int | None:
    """The lowest record that the present epoch's handler was done with, that the row's checkpoint does not cover, and that is
    still there to be read.
    """
    assert course.row is not None
    covered, epoch = max(through(course.row.checkpoint), course.shard.gone_through), course.row.epoch
    return min((number for number, by in course.done_by.items() if by == epoch and number > covered), default=None)


def _first_undone(course: Course) -> int | None:
    """The lowest record behind the row's checkpoint that the present epoch's handler has to be done with, and is not."""
    assert course.row is not None
    covered, epoch = max(through(course.row.checkpoint), course.shard.gone_through), course.row.epoch
    settled = course.excused, course.lost, course.letters
    behind = course.shard.numbers[bisect_right(course.shard.numbers, covered) :]
    due = (number for number in behind if not any(number in some for some in settled))
    return next((number for number in due if course.done_by.get(number) != epoch), None)
