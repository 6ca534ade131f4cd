"""What a figure comes to: by what two scenes that differ in one respect differ in their cost. Constants drop out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from guard.counting import Counting, Counts
from guard.network import OfflineLoop
from guard.scenes import play, without_collection
from guard.stream import Answers
from streamflow.events import BatchDelivered, PageRead, ShardClosed, ShardOpened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guard.scenes import Scene
    from streamflow.events import Event

# What this suite does itself is left out.
_TESTS = str(Path(__file__).resolve().parents[1])
_INSTRUCTION = ""
# So much weighs a call of a C function beside a bytecode instruction in the order of a breakdown; a convention.
_CALL_WEIGHT = 5


class ShapeError(Exception):
    """The engine did not play the scenes as the figure needs them: it would not say what its words say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`more` has more of `unit`, a member of `Played`, than `less`; what grows `along` with it is part of the cost."""

    name: str
    words: str
    unit: str
    along: frozenset[str] = frozenset()
    less: Scene
    more: Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one function does for one unit, without those that it calls."""

    place: str
    instructions: float
    calls: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one unit: by place, and by the C function that is called there, or "" for bytecode instructions."""

    spent: Mapping[tuple[str, str], float]

    @property
    def instructions(self) -> float:
        return sum(amount for (_, called), amount in self.spent.items() if called == _INSTRUCTION)

    @property
    def calls(self) -> float:
        return sum(amount for (_, called), amount in self.spent.items() if called != _INSTRUCTION)

    def by_place(self) -> list[Line]:
        """Most first."""
        instructions: defaultdict[str, float] = defaultdict(float)
        calls: defaultdict[str, float] = defaultdict(float)
        for (place, called), amount in self.spent.items():
            (instructions if called == _INSTRUCTION else calls)[place] += amount
        lines = [
            Line(place=place, instructions=instructions[place], calls=calls[place])
            for place in {**instructions, **calls}
        ]
        return sorted(lines, key=lambda line: (-line.instructions - _CALL_WEIGHT * line.calls, line.place))

    def by_call(self) -> list[tuple[str, float]]:
        """The C functions that are called, and how often; most first."""
        calls: defaultdict[str, float] = defaultdict(float)
        for (_, called), amount in self.spent.items():
            if called != _INSTRUCTION:
                calls[called] += amount
        return sorted(calls.items(), key=lambda entry: (-entry[1], entry[0]))


@dataclass(slots=True, eq=False)
class Played:
    """What happened while it was counted."""

    shards: int = 0
    pages: int = 0
    """With records."""
    empty_polls: int = 0
    batches: int = 0
    records: int = 0
    """Delivered."""

    def note(self, event: Event) -> None:
        match event:
            case PageRead(records=0):
                self.empty_polls += 1
            case PageRead():
                self.pages += 1
            case BatchDelivered(records=records):
                self.batches += 1
                self.records += records
            case ShardClosed():
                self.shards += 1


def count(scene: Scene) -> tuple[Counts, Played]:
    """Play the scene once."""
    counts, played = Counts(_TESTS), Played()
    counting = Counting(counts)
    records = scene.stream.shards * scene.stream.pages * scene.stream.records
    unopened, ended, over = scene.stream.shards, False, False

    def observe(event: Event) -> None:
        nonlocal unopened, ended, over
        if scene.whole:
            played.note(event)
        elif isinstance(event, ShardOpened):
            unopened -= 1
            if not unopened:
                counting.start()
        elif not (unopened or over):
            played.note(event)
            ended |= isinstance(event, PageRead) and event.ended
            over = ended and played.records == records
            if over:
                counting.stop()

    loop = OfflineLoop(Answers(scene.stream))
    with without_collection():
        try:
            if scene.whole:
                counting.start()
            play(scene, observe, loop)
        finally:
            counting.stop()
    return counts, played


def cost(figure: Figure) -> Cost:
    """Play both scenes. In a fresh process, play something before: imports and caches are filled at first use.

    Raises:
        ShapeError: they do not differ as they should.
    """
    counts_less, played_less = count(figure.less)
    counts_more, played_more = count(figure.more)
    units = _units(figure, played_less, played_more)
    less, more = _spent(counts_less), _spent(counts_more)
    grown = {entry: more.get(entry, 0) - less.get(entry, 0) for entry in {**less, **more}}
    return Cost({entry: by / units for entry, by in grown.items() if by})


def _spent(counts: Counts) -> dict[tuple[str, str], int]:
    spent: defaultdict[tuple[str, str], int] = defaultdict(int)
    for tally in counts.tallies.values():
        spent[tally.place, _INSTRUCTION] += tally.instructions
        for called, times in tally.calls.items():
            spent[tally.place, called] += times
    return spent


def _units(figure: Figure, less: Played, more: Played) -> int:
    grown = {field.name: getattr(more, field.name) - getattr(less, field.name) for field in fields(Played)}
    units: int = grown.pop(figure.unit)
    others = {name: by for name, by in grown.items() if by and name not in figure.along}
    if units <= 0 or others:
        raise ShapeError(
            f"{figure.name}: the scenes should differ in {figure.unit} only, and differ by {units} of these and {others}: "
            f"{less}, {more}"
        )
    return units
