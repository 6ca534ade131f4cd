"""Look for what a mutant breaks, in a process of its own: `python -m mutants.hunt SECONDS`, with the mutant first in the path.

Prints one JSON object: the first run that broke a promise, or nothing found.
"""

from __future__ import annotations

import sys
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from streamflow.clock import thread_monotonic
from streamflow.testing.simulation.running import simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD_EVERY = 12
"""One run in so many is of a large world, which takes as long as the others together."""


class Catch(msgspec.Struct, frozen=True, kw_only=True):
    """`invariants` is empty where nothing was found; `seed` and `world` are then of the last run."""

    invariants: tuple[str, ...] = ()
    seed: int = 0
    world: str = ""
    runs: int = 0
    seconds: float = 0.0


def hunt(seconds: float) -> Catch:
    """Run seed after seed until one breaks a promise or the time is up. A run that has begun is finished."""
    began = thread_monotonic()
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
