"""V1 to V18: what must be so whatever happens, each as a small class that the oracle asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow.testing.simulation.invariants.accounts import CountersConserve
from streamflow.testing.simulation.invariants.attempts import AgesHonoured, RetriesExact
from streamflow.testing.simulation.invariants.checkpoints import (
    CheckpointNotAhead,
    CheckpointStored,
    NothingGoesBack,
    ToldIsStored,
)
from streamflow.testing.simulation.invariants.convergence import Converges, LeasesSettle
from streamflow.testing.simulation.invariants.delivery import FencedInOrder, FirstInOrder, NothingLost
from streamflow.testing.simulation.invariants.fairness import PollsFair
from streamflow.testing.simulation.invariants.giving_up import GivenUpExactly
from streamflow.testing.simulation.invariants.handlers import FencedIsOver, HeldWhileAtWork, OneAtATime
from streamflow.testing.simulation.invariants.lag import LagIsTold
from streamflow.testing.simulation.invariants.lineage import ChildrenNamed, GapsAreTold, StartedAfterPositions
from streamflow.testing.simulation.invariants.outages import RetriesPaced
from streamflow.testing.simulation.invariants.ownership import OneOwner, ParentsFirst
from streamflow.testing.simulation.invariants.repetition import QuietRepeatsNothing, RepetitionBounded
from streamflow.testing.simulation.invariants.resources import CallsBounded, MemoryBounded, NoTaskLeft, NothingStarves
from streamflow.testing.simulation.invariants.secrecy import NothingLeaks
from streamflow.testing.simulation.invariants.shutdown import ShutdownBounded
from streamflow.testing.simulation.invariants.validity import NothingBeyondValidity
from streamflow.testing.simulation.invariants.windows import WindowsKept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.oracle import Bounds, Invariant


def all_invariants(bounds: Bounds) -> Sequence[Invariant]:
    """Fresh ones for one run; V18 compares two runs, and is `delivery.differences`."""
    return (
        NothingLost(),
        GapsAreTold(),
        FirstInOrder(),
        FencedInOrder(),
        OneAtATime(),
        CheckpointNotAhead(),
        WindowsKept(),
        ToldIsStored(),
        NothingGoesBack(),
        OneOwner(bounds),
        NothingBeyondValidity(bounds),
        FencedIsOver(),
        HeldWhileAtWork(),
        ParentsFirst(),
        ChildrenNamed(),
        StartedAfterPositions(),
        RepetitionBounded(),
        QuietRepeatsNothing(bounds),
        CheckpointStored(bounds),
        NothingStarves(bounds),
        PollsFair(),
        MemoryBounded(bounds),
        ShutdownBounded(bounds),
        GivenUpExactly(bounds),
        RetriesExact(),
        AgesHonoured(),
        CountersConserve(),
        LagIsTold(bounds),
        Converges(bounds),
        LeasesSettle(bounds),
        CallsBounded(bounds),
        RetriesPaced(bounds),
        NothingLeaks(bounds),
        NoTaskLeft(),
    )
