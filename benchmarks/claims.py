"""What a claim is, and what a run says about it: medians, spread, ratios, goals not met. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.replay_stream import Content, Shape

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one contender did in one round. `count` is of whatever the claim counts; times are of that work alone."""

    count: int
    wall_s: float
    cpu_s: float
    """Of the whole process, all its threads."""
    details: Mapping[str, float] = field(default_factory=dict)
    """What else it measured, by name: what the figure of a claim is made of that is not a rate."""


# A contender that had its core for less of the time than this was waiting: for the server, or for other processes.
_CPU_SHARE_MIN = 0.9

Work: TypeAlias = Callable[[str, Shape], Awaitable[Measurement]]
"""Given the replay server's URL and the stream to read; runs alone in a process that is bound to one core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """`work` is a function of a module, found by its name in the process that runs it.

    `pages` is how much of each shard it reads in a full round: enough for a few seconds at its own pace.
    """

    name: str
    work: Work
    pages: int
    quick: bool = True
    """Whether a quick run has it too."""

    @property
    def target(self) -> str:
        return f"{self.work.__module__}:{self.work.__qualname__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Ratios within one run; None where nothing is promised."""

    peer_ratio_min: float | None = None
    """So many times better than the first peer."""
    floor_ratio_max: float | None = None
    """So many times worse than the first floor."""
    figure_max: float | None = None
    """Ours, in the claim's unit, where less is better."""


def records_per_second(measurement: Measurement) -> float:
    return measurement.count / measurement.wall_s


def every_record(shape: Shape) -> int:
    return shape.records


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Contenders that did the same work. Ratios are to the first of `peers` and of `floors`; the others are shown."""

    name: str
    words: str
    """What it proves, in a sentence or two."""
    unit: str
    ours: Contender
    peers: tuple[Contender, ...]
    floors: tuple[Contender, ...]
    ceiling: Contender | None = None
    """A client that does next to nothing: shows how far the replay server is from being the bottleneck."""
    goal: Goal
    shards: int = 4
    content: Content = "standard"
    quick: bool = True
    """Whether a quick run of its group has it too."""
    long: bool = False
    """Its contenders take many seconds each, so there are few rounds, and a quick one has a tenth of their pages."""
    waits: bool = False
    """Contenders wait by design, each for its next poll: their share of CPU time says nothing of the machine."""
    figure: Callable[[Measurement], float] = records_per_second
    less_is_better: bool = False
    counted: Callable[[Shape], int | None] = every_record
    """What every contender must count of a stream of this shape; otherwise the run fails. None where it counts a time's."""
    target: str = ""
    """What contenders write to, for the table; empty where they only read."""
    serve: Callable[[int], AbstractContextManager[Mapping[str, str]]] | None = None
    """Starts that on the core that is named; gives what is to be in the environment of contenders."""

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """In the order of a round."""
        return (*self.peers, self.ours, *self.floors, *((self.ceiling,) if self.ceiling else ()))

    def quickened(self) -> Claim:
        """The claim with the contenders of a quick run."""
        return replace(
            self,
            peers=tuple(peer for peer in self.peers if peer.quick),
            floors=tuple(floor for floor in self.floors if floor.quick),
            ceiling=self.ceiling if self.ceiling and self.ceiling.quick else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One contender over all rounds, in the claim's unit."""

    median: float
    spread: float
    """(largest - smallest) / median."""
    cpu_share: float
    """Median of CPU time / wall time: below 1, it waited for the server, or the machine was busy."""
    rounds: tuple[float, ...]


def summarise(measurements: Sequence[Measurement], figure: Callable[[Measurement], float]) -> Summary:
    """At least one measurement is needed."""
    figures = tuple(map(figure, measurements))
    middle = median(figures)
    return Summary(
        median=middle,
        spread=(max(figures) - min(figures)) / middle,
        cpu_share=median(each.cpu_s / each.wall_s for each in measurements),
        rounds=figures,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim and what was measured. `summaries` is by contender name."""

    claim: Claim
    summaries: Mapping[str, Summary]

    def advantage(self, peer: Contender) -> float:
        """How many times better than this peer; below 1 is worse."""
        return 1.0 / self.distance(peer)

    def distance(self, floor: Contender) -> float:
        """How many times worse than this floor; 1 is as good."""
        ours, other = self.summaries[self.claim.ours.name].median, self.summaries[floor.name].median
        return ours / other if self.claim.less_is_better else other / ours

    @property
    def ratio_to_peer(self) -> float | None:
        return self.advantage(self.claim.peers[0]) if self.claim.peers else None

    @property
    def ratio_to_floor(self) -> float | None:
        return self.distance(self.claim.floors[0]) if self.claim.floors else None

    def cautions(self) -> list[str]:
        """One line for every contender of a ratio that did not have its core to itself: the ratio says less then.

        A floor or a peer that waited makes ours look better than it is; ours that waited, worse. Where there is a target,
        all of them wait for it, and that says nothing of the machine.
        """
        claim = self.claim
        if claim.target or claim.waits:
            return []
        return [
            f"{claim.name}: {contender.name} ran for {share:.0%} of its time and waited for the rest"
            for contender in (*claim.peers[:1], claim.ours, *claim.floors[:1])
            if (share := self.summaries[contender.name].cpu_share) < _CPU_SHARE_MIN
        ]

    def unmet(self) -> list[str]:
        """One line for every goal that was not met."""
        claim, goal, lines = self.claim, self.claim.goal, []
        peer, floor = self.ratio_to_peer, self.ratio_to_floor
        if goal.peer_ratio_min is not None and (peer is None or peer < goal.peer_ratio_min):
            lines.append(
                f"{claim.name}: {_times(peer)} the {_name(claim.peers)}, the goal is {goal.peer_ratio_min:g}x or more"
            )
        if goal.floor_ratio_max is not None and (floor is None or floor > goal.floor_ratio_max):
            lines.append(
                f"{claim.name}: {_times(floor)} from {_name(claim.floors)}, the goal is {goal.floor_ratio_max:g}x or less"
            )
        ours = self.summaries[claim.ours.name].median
        if goal.figure_max is not None and ours > goal.figure_max:
            lines.append(f"{claim.name}: {ours:.4g} {claim.unit}, the goal is {goal.figure_max:g} or less")
        return lines


def _times(ratio: float | None) -> str:
    return "not compared with" if ratio is None else f"{ratio:.1f}x"


def _name(contenders: Sequence[Contender]) -> str:
    return contenders[0].name if contenders else "nothing"
