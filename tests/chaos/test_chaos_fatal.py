"""Failpoints at which workers kill themselves: drawn by seed, of those that exist, and told as faults and not as failures."""

from __future__ import annotations

import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING

import pytest

from chaos.fatal import drawn
from chaos.plan import Plan
from chaos.workers import Life, Workers
from streamflow.testing.failpoints import parse

if TYPE_CHECKING:
    from pathlib import Path

_KILLS_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def test_every_point_that_is_drawn_exists() -> None:
    random = Random(1)
    points = [drawn(random, 1.0) for _ in range(500)]
    (names, rules) = ({point.name for point in points if point}, [parse(point.rule) for point in points if point])
    assert len(rules) == 500
    assert len(names) > 15


def test_no_point_is_drawn_where_nobody_is_to_die() -> None:
    random = Random(1)
    assert {drawn(random, 0.0) for _ in range(100)} == {None}


def test_the_points_that_are_drawn_do_not_depend_on_the_share() -> None:
    some, all_of_them = ([drawn(Random(seed), share) for seed in range(50)] for share in (0.5, 1.0))
    assert [one for one, other in zip(some, all_of_them, strict=True) if one not in (None, other)] == []
    assert 10 < some.count(None) < 40


@pytest.mark.parametrize("armed", [True, False])
def test_a_worker_that_killed_itself_is_a_fault_only_where_it_was_armed(tmp_path: Path, armed: bool) -> None:
    workers = Workers(plan=Plan(seed=1), folder=tmp_path, store_url="memory:")
    log = tmp_path / "life-0.log"
    log.write_text("said this last\n")
    process = subprocess.Popen([sys.executable, "-c", _KILLS_ITSELF])
    process.wait()
    failpoint = drawn(Random(1), 1.0) if armed else None
    life = Life(number=0, slot=0, process=process, log=log, fragile=False, failpoint=failpoint)
    workers.lives.append(life)
    assert workers.collect() == [life]
    assert [fault.failpoint for fault in workers.faults] == ([failpoint.name] if failpoint else [])
    assert bool(workers.exits) is not armed
