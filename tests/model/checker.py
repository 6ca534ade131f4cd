"""An exhaustive explorer: every state that can be reached, breadth first, so that what it finds is shown in the fewest steps.

It knows nothing of leases. A model tells where it begins, which moves there are from a state, what must hold in each state,
and which states are the end. Two things are looked for: a state, or a move, in which something does not hold; and a state
from which no sequence of moves leads to an end.
"""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

S = TypeVar("S", bound="Hashable")


class Move(NamedTuple, Generic[S]):
    """One thing that may happen: in words, with the state that it leads to, and what it breaks, if it does."""

    words: tuple[str, ...]
    state: S
    broken: str | None = None


class Model(Protocol[S]):
    def initial(self) -> S: ...

    def moves(self, state: S) -> Iterable[Move[S]]: ...

    def broken(self, state: S) -> str | None:
        """What does not hold in the state."""
        ...

    def is_end(self, state: S) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What does not hold, and the fewest moves that lead there."""

    says: str
    trace: Sequence[str]

    def __str__(self) -> str:
        steps = [f"{number:3}. {words}" for number, words in enumerate(self.trace, start=1)]
        return "\n".join([f"{self.says}, after {len(self.trace)} moves:", *steps])


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """`states` and `moves` that were explored: all there are, unless there is a finding."""

    states: int
    moves: int
    ends: int
    cpu_s: float
    finding: Finding | None


STUCK = "nothing leads to the end any more"


def explore(model: Model[S], *, states_max: int = 20_000_000) -> Exploration:
    """Visit every state, or as many as lead to the first finding.

    Raises:
        MemoryError: there are more than `states_max`: the model has no end.
    """
    return _Explorer(model, states_max).run()


class _Explorer(Generic[S]):
    def __init__(self, model: Model[S], states_max: int) -> None:
        self._model = model
        self._states_max = states_max
        first = model.initial()
        self._numbers: dict[S, int] = {first: 0}
        self._reached_by: list[tuple[int, tuple[str, ...]]] = [(0, ())]
        # The graph without its labels, as two columns: half a gigabyte less than tuples where there are millions.
        self._sources, self._targets = array("i"), array("i")
        self._ends: list[int] = []

    def run(self) -> Exploration:
        started = time.process_time()
        finding = self._explore() or self._stuck()
        return Exploration(
            states=len(self._numbers),
            moves=len(self._sources),
            ends=len(self._ends),
            cpu_s=time.process_time() - started,
            finding=finding,
        )

    def _explore(self) -> Finding | None:
        model, numbers, waiting = self._model, self._numbers, list(self._numbers)
        if (says := model.broken(waiting[0])) is not None:
            return self._finding(says, 0)
        for source, state in enumerate(_growing(waiting)):
            if model.is_end(state):
                self._ends.append(source)
            for move in model.moves(state):
                target = numbers.get(move.state)
                if target is None:
                    target = numbers[move.state] = len(waiting)
                    waiting.append(move.state)
                    self._reached_by.append((source, move.words))
                    says = move.broken or model.broken(move.state)
                    if says is not None:
                        return self._finding(says, target)
                elif move.broken is not None:
                    return self._finding(move.broken, source, move.words)
                self._sources.append(source)
                self._targets.append(target)
            if len(waiting) > self._states_max:
                raise MemoryError(f"the model has more than {self._states_max} states")
        return None

    def _stuck(self) -> Finding | None:
        """The first state from which no end can be reached; every state is explored by now."""
        before: list[list[int]] = [[] for _ in range(len(self._numbers))]
        for source, target in zip(self._sources, self._targets, strict=True):
            before[target].append(source)
        hopeful = bytearray(len(before))
        for end in self._ends:
            hopeful[end] = 1
        for number in _growing(waiting := list(self._ends)):
            for source in before[number]:
                if not hopeful[source]:
                    hopeful[source] = 1
                    waiting.append(source)
        stuck = hopeful.find(0)
        return None if stuck < 0 else self._finding(STUCK, stuck)

    def _finding(self, says: str, number: int, *last: tuple[str, ...]) -> Finding:
        words = [*last]
        while number:
            number, reached_by = self._reached_by[number]
            words.append(reached_by)
        return Finding(says=says, trace=[" ".join(each) for each in reversed(words)])


def _growing(items: list[S]) -> Iterable[S]:
    """The items, those included that are added meanwhile."""
    at = 0
    while at < len(items):
        yield items[at]
        at += 1
