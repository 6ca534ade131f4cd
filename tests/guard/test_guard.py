"""A record, a batch, a page, a poll and a shard cost no more than was accepted, and no more where there are many shards.

What is counted depends neither on the machine nor on chance: a failure is a change of the code, or of a library.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from guard import budgets
from guard.figures import FIGURES, SCALES, Scale
from guard.memory import IDLE_SHARD_BYTES_MAX

if TYPE_CHECKING:
    from guard.budgets import Amounts

# One process measures for all tests of this module.
pytestmark = [pytest.mark.xdist_group("guard"), pytest.mark.timeout(300)]

TESTS = Path(__file__).resolve().parents[1]
SCALE_MAX = 1.1
"""A heap of timers takes a step more for each doubling of what it holds; anything that looks at every shard takes more."""


def measured(*names: str, seed: str) -> Amounts:
    """In a process of its own, because what ran in this one has filled caches; by name, everything without any."""
    done = subprocess.run(
        [sys.executable, "-m", "guard", "measure", *names],
        check=False,
        capture_output=True,
        text=True,
        cwd=TESTS.parent,
        env={"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": seed},
    )
    assert done.returncode == 0, done.stderr
    found: Amounts = orjson.loads(done.stdout)
    return found


@cache
def everything() -> Amounts:
    return measured(seed="1")


@pytest.mark.parametrize("name", [*(figure.name for figure in FIGURES), "idle_shard", "record_in_hand"])
def test_what_the_engine_does_has_not_grown(name: str) -> None:
    budget = budgets.load(budgets.FILE.read_bytes())
    if budget is None:
        pytest.skip(f"nobody has measured Python {budgets.VERSION}: {budgets.ACCEPT}")
    grown = budget.grown({name: everything()[name]})
    assert not grown, "\n".join(grown)


@pytest.mark.fault("F53")
@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
@pytest.mark.parametrize("kind", ["instructions", "calls"])
def test_a_unit_costs_as_much_with_many_shards_as_with_few(scale: Scale, kind: str) -> None:
    few, many = everything()[scale.few.name][kind], everything()[scale.many.name][kind]
    assert many <= few * SCALE_MAX, f"{scale.many.words}: {many:g} {kind}, and {few:g} where it is {scale.few.words}"


@pytest.mark.fault("F53")
def test_an_idle_shard_takes_less_memory_than_promised() -> None:
    held = everything()["idle_shard"]["bytes"]
    assert held <= IDLE_SHARD_BYTES_MAX, f"{held:g} bytes; the lines that hold them: {budgets.BREAKDOWN} idle_shard"


def test_counts_are_the_same_in_another_process_with_other_hashes() -> None:
    names = ("record", "batch", "empty_poll", "shard")
    assert measured(*names, seed="2") == {name: everything()[name] for name in names}
