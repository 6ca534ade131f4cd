"""Look for what a mutant breaks, in a process of its own: `python -m mutants.hunt SECONDS`, with the mutant first in the path.

First the model takes its steps in every order, as it does with every change; then worlds are drawn. Prints one JSON object:
the first world of the model, or the first run, that broke a promise, or nothing found.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from model.checker import explore
from model.protocol import Protocol
from model.settings import SMALL
from streamflow.clock import thread_monotonic
from streamflow.testing.simulation.running import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD_EVERY = 12
"""One run in so many is of a large world, which takes as long as the others together."""


class Catch(msgspec.Struct, frozen=True, kw_only=True):
    """`invariants` is empty where nothing was found; `seed` and `world` are then of the last run.

    What the model finds has no seed, but a number of `moves`, the fewest that lead there, in its `world`.
    """

    invariants: tuple[str, ...] = ()
    moves: int = 0
    seed: int = 0
    world: str = ""
    runs: int = 0
    seconds: float = 0.0


def hunt(seconds: float) -> Catch:
    """Explore the model, then run seed after seed until one breaks a promise or the time is up; what has begun is finished."""
    began = thread_monotonic()
    for small in SMALL:
        if (finding := explore(Protocol(small)).finding) is not None:
            took = thread_monotonic() - began
            return Catch(invariants=("model",), moves=len(finding.trace), world=small.name, seconds=took)
    for runs, (seed, world) in enumerate(_seeds(), start=1):
        outcome = simulate(seed, world)
        took = thread_monotonic() - began
        if outcome.failed or took >= seconds:
            broken = dict.fromkeys(violation.invariant for violation in outcome.violations)
            return Catch(invariants=tuple(broken), seed=seed, world=world, runs=runs, seconds=took)
    raise AssertionError("there is always another seed")


def _seeds() -> Iterator[tuple[int, str]]:
    for number in count(1):
        yield number, "standard" if number % _STANDARD_EVERY == 0 else "small"


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(hunt(float(sys.argv[1]))))
