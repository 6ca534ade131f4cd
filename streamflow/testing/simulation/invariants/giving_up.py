"""V11: what is given up is exactly what had to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Invoked, LettersStored, Returned
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact, Letter
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth

_Record = tuple[str, str, int]


@dataclass(slots=True, eq=False)
class GivenUpExactly(OfFacts):
    """V11: a letter holds a record as the service has it, one that failed, and alone or by name where batches are halved.

    And while an item is parked, nobody delivers its later changes.
    """

    bounds: Bounds
    name = "V11"
    hears: ClassVar[Sequence[type]] = (LettersStored, Returned, Invoked)
    _failed: set[_Record] = field(default_factory=set)
    _failed_alone: set[_Record] = field(default_factory=set)
    _failed_in: set[tuple[str, int, str, str, int]] = field(default_factory=set)
    """Node, epoch and record."""
    _parked: dict[tuple[str, str], int] = field(default_factory=dict)
    """Pipeline and key to the record that was parked first."""
    _parked_by: set[tuple[str, str, str, int, int]] = field(default_factory=set)
    """Node, pipeline, shard, epoch and record: parked by the owner to whom it had failed, who knows it therefore."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        match fact:
            case LettersStored(letters=letters):
                return next((says for letter in letters if (says := self._kept(fact.node, letter, truth))), None)
            case Returned() if len(fact.done) < len(fact.numbers):
                done = set(fact.done)
                left = [number for number in fact.numbers if number not in done]
                self._failed.update((fact.pipeline, fact.shard_id, number) for number in left)
                self._failed_in.update((fact.node, fact.epoch, fact.pipeline, fact.shard_id, number) for number in left)
                if len(fact.numbers) == 1 or fact.named:
                    self._failed_alone.update((fact.pipeline, fact.shard_id, number) for number in left)
                return None
            case Invoked():
                return self._dispatched(fact, truth)
            case _:
                return None

    def _kept(self, node: str, letter: Letter, truth: Truth) -> str | None:
        place = letter.pipeline, letter.shard_id, letter.number
        shard = truth.shards[letter.shard_id]
        if letter.number not in shard.keys:
            return f"{node} kept a letter of {letter.number} of {letter.shard_id}, which was never written"
        if letter.body and letter.body != shard.bodies[letter.number]:
            return f"{node} kept {letter.number} of {letter.shard_id} changed"
        if letter.drawer == "parked":
            first = self._parked.get((letter.pipeline, letter.key))
            self._parked[letter.pipeline, letter.key] = min(letter.number, first or letter.number)
            epoch = truth.courses[letter.pipeline, letter.shard_id].epoch
            if (node, epoch, *place) in self._failed_in:
                self._parked_by.add((node, letter.pipeline, letter.shard_id, epoch, letter.number))
        if letter.reason == "RetryAttemptsExhausted":
            if place not in self._failed:
                return f"{node} gave {letter.number} of {letter.shard_id} up, which never failed"
            if self.bounds.bisect and place not in self._failed_alone:
                return f"{node} gave {letter.number} of {letter.shard_id} up, which never failed alone"
        elif letter.reason == "KeyParked" and (letter.pipeline, letter.key) not in self._parked:
            return f"{node} parked {letter.number} of {letter.shard_id}, whose item is not parked"
        return None

    def _dispatched(self, fact: Invoked, truth: Truth) -> str | None:
        if not self._parked:
            return None
        course, shard = truth.courses[fact.pipeline, fact.shard_id], truth.shards[fact.shard_id]
        if course.row is None or course.row.epoch != fact.epoch or course.touched or course.forgotten:
            return None
        for number in fact.numbers:
            first = self._parked.get((fact.pipeline, shard.keys[number]))
            known = first is not None and (
                course.bases.get(fact.epoch, 0) >= first
                or (fact.node, fact.pipeline, fact.shard_id, fact.epoch, first) in self._parked_by
            )
            if known and first is not None and number > first:
                return f"{fact.node} delivers {number} of {fact.shard_id}, whose item is parked since {first}"
        return None
