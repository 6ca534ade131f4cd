"""What is explored: how many workers, which shards, and how much may go wrong; and the rules, which a mutant replaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from model.states import Left
from streamflow.records import Shard as Listed
from streamflow.rules import belief, lineage, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from streamflow.leases import Lease
    from streamflow.rules.steps import Outcome, Step

PIPELINE = "orders"
STREAM_ARN = "stream"
# In ticks. An owner's belief and an observer's patience are the product's own functions of it.
DURATION = 2.0
AGE_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Shards in a stream, by name, with their parents and how many records each has; children come after their parents."""

    parents: Mapping[str, tuple[str, ...]]
    records: Mapping[str, int]
    late: frozenset[str] = frozenset()
    """Shards whose children the service may show late."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.parents)

    def children(self, name: str) -> list[str]:
        return [child for child, parents in self.parents.items() if name in parents]

    def listed(self, name: str) -> Listed:
        return Listed(stream_arn=STREAM_ARN, shard_id=name, parents=self.parents[name], closed=True)


ONE_SHARD = Tree(parents={"P": ()}, records={"P": 2})
_ONE_RECORD = Tree(parents={"P": ()}, records={"P": 1})
_NO_RECORD = Tree(parents={"P": ()}, records={"P": 0})
CHILD = Tree(parents={"P": (), "C": ("P",)}, records={"P": 1, "C": 1}, late=frozenset("P"))
_SPLIT = Tree(parents={"P": (), "A": ("P",), "B": ("P",)}, records={"P": 1, "A": 1, "B": 0}, late=frozenset("P"))
_MERGE = Tree(parents={"P": (), "Q": (), "C": ("P", "Q")}, records={"P": 1, "Q": 1, "C": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    name: str
    tree: Tree
    workers: int = 2
    left: Left = field(default_factory=Left)
    timed: int = 0
    """How many of the workers live by ticks, with beats that take their time. The others are on time, or paused."""
    fenced: bool = True
    """The sink refuses what comes under an epoch that is not the highest."""
    by_hand: bool = False
    """Rows are changed behind the owner's back: it believes until its next look, and nobody claims otherwise."""
    waits_for_repeats: bool = False
    """Claim that a child waits for a parent that somebody moves back while workers are at work."""
    forgetful: bool = False
    """The store may forget writes that it has acknowledged: an epoch may come twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The product's functions; and, by name, what the engine does with them, which is what a mutant leaves out."""

    after: Callable[[Lease, Step], Lease] = steps.after
    resolved: Callable[[Lease, Lease, Lease | None], Outcome] = steps.resolved
    was_asked: Callable[[Lease, Lease | None], bool] = steps.was_asked
    was_lost: Callable[[Lease, Lease | None], bool] = steps.was_lost
    born: Callable[[Lease, int], Lease] = steps.born
    readable: Callable[[Iterable[Lease]], list[Lease]] = lineage.readable
    unowned: Callable[[Lease, str, Container[str]], bool] = belief.unowned
    valid_until: Callable[[float, float], float] = belief.valid_until
    patience_s: Callable[[Lease, float], float] = belief.patience_s

    conditional_take: bool = True
    conditional_write: bool = True
    resumes_from_what_was_stored: bool = True
    settles_before_it_checkpoints: bool = True
    drains_before_it_lets_go: bool = True
    takes_what_was_passed_on: bool = True
    doubts_a_take_without_an_answer: bool = True
    doubts_a_write_without_an_answer: bool = True
    doubts_a_beat_without_an_answer: bool = True
    counts_from_the_sending: bool = True
    new_life_when_struck: bool = True
    creates_children_before_it_ends: bool = True


# --- worlds ----------------------------------------------------------------------------------------------------------

SMALL = (
    World(name="two workers", tree=ONE_SHARD),
    World(name="a stop", tree=ONE_SHARD, left=Left(stops=1)),
    World(name="a request for the lease", tree=ONE_SHARD, left=Left(asks=1)),
    World(name="a crash", tree=ONE_SHARD, left=Left(crashes=1)),
    World(name="a pause", tree=ONE_SHARD, left=Left(pauses=1)),
    World(name="a lost answer", tree=ONE_SHARD, left=Left(unknown=1)),
    World(name="a lost answer and a request", tree=_ONE_RECORD, left=Left(asks=1, unknown=1)),
    World(name="a late request", tree=ONE_SHARD, left=Left(delays=1)),
    World(name="beats that take their time", tree=_NO_RECORD, timed=1),
    World(name="a store that forgets", tree=ONE_SHARD, left=Left(rollbacks=1), forgetful=True),
    World(name="a row deleted by hand", tree=ONE_SHARD, left=Left(deletes=1), by_hand=True),
    World(name="a child that is shown late", tree=CHILD),
    World(name="a merge, one worker", tree=_MERGE, workers=1),
    World(name="a parent's row deleted by hand", tree=CHILD, workers=1, left=Left(deletes=1), by_hand=True),
)
"""Explored with every change."""

LARGE = (
    World(name="a stop and a request", tree=ONE_SHARD, left=Left(asks=1, stops=1)),
    World(name="a request and a pause", tree=_ONE_RECORD, left=Left(asks=1, pauses=1)),
    World(name="a request and a crash", tree=_ONE_RECORD, left=Left(asks=1, crashes=1)),
    World(name="a request, a lost answer and two records", tree=ONE_SHARD, left=Left(asks=1, unknown=1)),
    World(name="a pause and a late request", tree=ONE_SHARD, left=Left(pauses=1, delays=1)),
    World(name="two lost answers", tree=ONE_SHARD, left=Left(unknown=2)),
    World(name="three workers, a stop", tree=_ONE_RECORD, workers=3, left=Left(stops=1)),
    World(name="three workers, a request", tree=_ONE_RECORD, workers=3, left=Left(asks=1)),
    World(name="three workers, a pause", tree=_ONE_RECORD, workers=3, left=Left(pauses=1)),
    World(name="three workers, a crash", tree=_ONE_RECORD, workers=3, left=Left(crashes=1)),
    World(name="beats and a record", tree=_ONE_RECORD, timed=1),
    World(name="a merge", tree=_MERGE),
    World(name="a split", tree=_SPLIT),
    World(name="a child and a stop", tree=CHILD, left=Left(stops=1)),
    World(name="a child, a row deleted by hand", tree=CHILD, left=Left(deletes=1, trims=1), by_hand=True),
    World(name="a checkpoint moved by hand", tree=CHILD, left=Left(resets=1), by_hand=True),
)
"""Explored at length: `python -m model full`."""
