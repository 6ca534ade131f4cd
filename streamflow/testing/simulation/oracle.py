"""The oracle: hears every fact, and says which invariant it breaks.

It shares no code with the engine. What is true is in `truth`; each invariant looks at single facts, in constant time, and
at the whole at the end of a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from streamflow.testing.simulation.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamflow.testing.simulation.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """`invariant` is its name, `V1` to `V18`; `at_s` is simulated time since the start of the run."""

    invariant: str
    says: str
    at_s: float

    def __str__(self) -> str:
        return f"{self.invariant} at {self.at_s:.3f} s: {self.says}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the invariants hold the workers to; where lives differ in their options, the larger one."""

    lanes: int = 1
    bisect: bool = False
    """Batches that fail are halved, in every version."""
    steals: bool = False
    """Leases are taken from owners that live, which hear of it when they renew: as workers of the KCL 2.x do."""
    lease_duration_s: float = 10.0
    drain_timeout_s: float = 25.0
    store_deadline_s: float = 5.0
    checkpoint_interval_s: float = 1.0
    idle_poll_s: float = 1.1
    """The longest pause between two polls of a shard that can be read."""
    poll_interval_s: float = 0.25
    buffer_bytes_max: int = 1 << 28
    canaries: tuple[str, ...] = ()
    """Texts in records and credentials that must never be seen outside."""


class Invariant(Protocol):
    """One of V1 to V18. An instance belongs to one run."""

    @property
    def name(self) -> str: ...

    hears: ClassVar[Sequence[type]]
    """The kinds of facts that `broken_by` is asked about."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        """What is wrong with a fact that has just been noted in `truth`; None if nothing is."""
        ...

    def broken_at_end(self, truth: Truth, /) -> Iterable[str]:
        """What is wrong with the whole."""
        ...


class OfFacts:
    """For invariants that have nothing to say about the whole."""

    def broken_at_end(self, truth: Truth, /) -> Iterable[str]:  # noqa: ARG002 - that is what it says
        return ()


class OfTheEnd:
    """For invariants that only look at the whole."""

    hears: ClassVar[Sequence[type]] = ()

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - that is what it says
        return None


@dataclass(slots=True, eq=False)
class Oracle:
    """Tell it everything; `violations` says what was wrong, in order, `per_invariant_max` of each."""

    pipelines: tuple[str, ...]
    invariants: Sequence[Invariant]
    now: Callable[[], float]
    transactional: bool = False
    """What is in the sink is settled, whatever its handler says: the sink keeps the checkpoint."""
    per_invariant_max: int = 5
    violations: list[Violation] = field(default_factory=list)
    truth: Truth = field(init=False)
    _hearing: dict[type, list[Invariant]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.truth = Truth(pipelines=self.pipelines, transactional=self.transactional)
        for invariant in self.invariants:
            for kind in invariant.hears:
                self._hearing.setdefault(kind, []).append(invariant)

    def tell(self, fact: Fact) -> None:
        """Take a fact in, at the time that it happens."""
        self.truth.now_s = self.now()
        self.truth.note(fact)
        for invariant in self._hearing.get(type(fact), ()):
            if (says := invariant.broken_by(fact, self.truth)) is not None:
                self._report(invariant.name, says)

    def conclude(self) -> None:
        """The run is over: look at the whole."""
        self.truth.now_s = self.now()
        for invariant in self.invariants:
            for says in invariant.broken_at_end(self.truth):
                self._report(invariant.name, says)

    def _report(self, name: str, says: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1
        if self._counts[name] <= self.per_invariant_max:
            self.violations.append(Violation(invariant=name, says=says, at_s=self.truth.now_s))
