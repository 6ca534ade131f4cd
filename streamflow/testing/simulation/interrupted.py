"""V18: a run whose workers are stopped cleanly and started again, at any point, leaves what an uninterrupted one leaves.

Both are the small world of one seed in which nothing fails: the same writes at the same moments, and the same shards that
split and roll over. What is compared is the sink: of each item the same changes, first accepted in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamflow.testing.simulation.facts import Accepted
from streamflow.testing.simulation.invariants.delivery import differences
from streamflow.testing.simulation.oracle import Violation
from streamflow.testing.simulation.running import Outcome, simulate, simulate_world
from streamflow.testing.simulation.setups import SMALL, drawn
from streamflow.testing.simulation.workers import Workers
from streamflow.testing.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streamflow.testing.simulation.draws import Draws
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.simulation.loop import SimulatedLoop

INTERRUPTED = "interrupted"
"""What an outcome calls the pair of worlds."""
RESHAPING = (
    "lineage.split",
    "lineage.roll_over",
    "lineage.roll_over_all",
    "lineage.children_late",
    "lineage.empty_shard",
)
STOPS = {"node.stop": 0.3, "node.renamed": 0.3}
_TOLD_MAX = 5

Place = tuple[str, str]
"""Pipeline and key of an item."""


def play(seed: int, world: str, *, without: Collection[str] = ()) -> Outcome:
    """Run a world of any name: one of `SCALES`, or `INTERRUPTED`."""
    return interrupt(seed, without=without) if world == INTERRUPTED else simulate(seed, world, without=without)


def interrupt(seed: int, *, without: Collection[str] = ()) -> Outcome:
    """Run the small world of a seed without stops and with them; the outcome is that of both."""
    (whole, one), (stopped, other) = (_run(seed, stops, without) for stops in ({}, STOPS))
    # What was written before a start at LATEST is due to nobody, and the two do not start in the same moment.
    excused = one.excused() | other.excused()
    unlike = list(differences(one.first(excused), other.first(excused)))
    violations = [Violation(invariant="V18", says=says, at_s=stopped.simulated_s) for says in unlike[:_TOLD_MAX]]
    return replace(
        stopped,
        scale=INTERRUPTED,
        violations=(*whole.violations, *stopped.violations, *violations),
        simulated_s=whole.simulated_s + stopped.simulated_s,
        took_s=whole.took_s + stopped.took_s,
        reached=whole.reached | stopped.reached,
    )


def _run(seed: int, stops: Mapping[str, float], without: Collection[str]) -> tuple[Outcome, Compared]:
    worlds: list[Compared] = []

    def make(loop: SimulatedLoop, draws: Draws, faults: Faults) -> Workers:
        shapes = {kind: faults.rates.get(kind, 0.0) for kind in RESHAPING}
        faults.rates = {kind: rate for kind, rate in {**shapes, **stops}.items() if kind not in without}
        setup = drawn(SMALL, draws)
        # What is too old depends on when somebody was there to look.
        versions = tuple({**version, "maximum_record_age_s": -1} for version in setup.versions)
        setup = replace(setup, versions=versions)
        worlds.append(Compared(loop=loop, setup=setup, draws=draws, faults=faults))
        return Workers(worlds[0])

    return simulate_world(seed, INTERRUPTED, make, without=without), worlds[0]


@dataclass(eq=False)
class Compared(World):
    """Keeps what was accepted, in order."""

    accepted: list[Accepted] = field(default_factory=list)

    def tell(self, fact: Fact) -> None:
        super().tell(fact)
        if isinstance(fact, Accepted):
            self.accepted.append(fact)

    def excused(self) -> set[tuple[str, int]]:
        """Pipeline and number of what was not due."""
        courses = self.oracle.truth.courses.items()
        return {(pipeline, number) for (pipeline, _), course in courses for number in course.excused}

    def first(self, but: set[tuple[str, int]]) -> Mapping[Place, list[int]]:
        """Of each item the numbers of its changes as they were first accepted, but for these."""
        found: dict[Place, dict[int, None]] = {}
        for fact in self.accepted:
            keys = self.oracle.truth.shards[fact.shard_id].keys
            for number in fact.numbers:
                if (fact.pipeline, number) not in but:
                    found.setdefault((fact.pipeline, keys[number]), {})[number] = None
        return {place: list(numbers) for place, numbers in found.items()}
