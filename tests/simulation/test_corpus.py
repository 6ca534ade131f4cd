"""Worlds that found something once, and a few that nobody has looked at yet: none breaks an invariant."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamflow.testing.simulation.running import simulate

CORPUS = Path(__file__).with_name("corpus.txt")
FRESH = range(100, 106)


def kept() -> list[tuple[int, str]]:
    worlds = []
    for line in CORPUS.read_text().splitlines():
        if line and not line.startswith("#"):
            seed, world = line.partition(":")[0].split()
            worlds.append((int(seed), world))
    return worlds


@pytest.mark.fault("F29", "F43", "F44")
@pytest.mark.parametrize(("seed", "world"), [*kept(), *((seed, "small") for seed in FRESH)])
def test_a_world_keeps_every_promise(seed: int, world: str) -> None:
    outcome = simulate(seed, world)
    assert outcome.violations == (), f"{outcome.violations[0]}\n{outcome.command}"
