"""V1, V2, V18: nothing lost, order kept, a stop in between leaves no trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Accepted
from streamflow.testing.simulation.oracle import OfFacts, OfTheEnd
from streamflow.testing.simulation.truth import through

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Course, Truth


class NothingLost(OfTheEnd):
    """V1: what a checkpoint covers is accepted, kept as a letter, or noted as lost. What is merely late is V14's."""

    name = "V1"

    def broken_at_end(self, truth: Truth, /) -> Iterator[str]:
        for (pipeline, shard_id), course in truth.courses.items():
            passed = 0.0 if course.row is None else through(course.row.checkpoint)
            for number in course.shard.numbers:
                if number <= passed and not _accounted_for(course, number):
                    yield f"{pipeline}: record {number} of {shard_id} is lost, behind the checkpoint"


def _accounted_for(course: Course, number: int) -> bool:
    return number in course.accepted or number in course.letters or number in course.lost or number in course.excused


@dataclass(slots=True, eq=False)
class FirstInOrder(OfFacts):
    """V2: the first acceptances of each key are in the order of its changes, over all shards."""

    name = "V2"
    hears: ClassVar[Sequence[type]] = (Accepted,)
    _newest: dict[tuple[str, str], int] = field(default_factory=dict)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        assert isinstance(fact, Accepted)
        course, says = truth.courses[fact.pipeline, fact.shard_id], None
        for number in fact.numbers:
            # What was given up once, or trimmed while one had it in hand, comes late, and is no first acceptance.
            if course.accepted[number] > 1 or number in course.letters or number in course.lost:
                continue
            place = fact.pipeline, course.shard.keys[number]
            newest = self._newest.get(place, 0)
            if number < newest:
                says = f"{fact.node} wrote {number} of {place[1]} first after {newest} ({fact.shard_id})"
            self._newest[place] = max(number, newest)
        return says


@dataclass(slots=True, eq=False)
class FencedInOrder(OfFacts):
    """V2, of a sink that is fenced: whoever has lost the shard writes nothing after its next owner has."""

    name = "V2"
    hears: ClassVar[Sequence[type]] = (Accepted,)
    _epochs: dict[tuple[str, str], int] = field(default_factory=dict)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        assert isinstance(fact, Accepted)
        place = fact.pipeline, fact.shard_id
        newest = self._epochs.get(place, 0)
        if not fact.fenced or truth.courses[place].forgotten_in(fact.epoch):
            return None
        self._epochs[place] = max(newest, fact.epoch)
        if fact.epoch < newest:
            return f"{fact.node} wrote to {fact.shard_id} in epoch {fact.epoch}, after epoch {newest} had"
        return None


def differences(
    one: Mapping[tuple[str, str], Sequence[int]], other: Mapping[tuple[str, str], Sequence[int]]
) -> Iterable[str]:
    """V18: two runs over the same records wrote the same numbers in the same order, by pipeline and key."""
    for place in sorted(one.keys() | other.keys()):
        left, right = list(one.get(place, ())), list(other.get(place, ()))
        if left != right:
            at = next((n for n, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
            at = min(len(left), len(right)) if at is None else at
            yield f"{place[0]}: {place[1]} differs from its change {at + 1} on: {left[at : at + 3]} and {right[at : at + 3]}"
