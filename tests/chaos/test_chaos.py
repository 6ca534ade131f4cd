"""Short runs of `python -m chaos`: workers as processes, over each store, killed, paused and restarted."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

import pytest

from chaos.plan import Plan
from chaos.run import run
from chaos.stores import STORES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chaos.report import Report

# The limit counts the time in which a run waits for another one.
pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(600)]

SEED = 20


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One run at a time, over all processes of the test run: each has six busy processes of its own."""
    with (tmp_path_factory.getbasetemp().parent / "chaos.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


async def played(plan: Plan, folder: Path) -> Report:
    with STORES[plan.store](folder) as url:
        report = await run(plan, url, folder)
    print(report.line, plan.command, sep="\n")
    return report


def broken(report: Report) -> list[str]:
    """What is not as promised. A machine on which the harness itself comes late has as much more time for its shards."""
    late_s = report.owned_within_s - report.owned_within_s_max
    return [problem for problem in report.problems if not ("owned_within_s:" in problem and late_s <= report.stall_s)]


@pytest.mark.parametrize("store", STORES)
async def test_kills_and_pauses_lose_nothing_and_repeat_only_what_they_explain(store: str, tmp_path: Path) -> None:
    plan = Plan(seed=SEED, store=store, seconds=8, records=40_000, shards=16, fault_interval_s=1.5, drain_s_max=30)
    report = await played(plan, tmp_path)
    assert not broken(report), report.line
    assert report.kills
    assert report.pauses
    assert report.delivered == plan.records
    assert report.shards > plan.shards


async def test_a_rolling_restart_repeats_nothing_and_leaves_no_shard_alone(tmp_path: Path) -> None:
    plan = Plan(seed=SEED, mode="graceful", seconds=8, records=40_000, shards=16, look_interval_s=0.1, drain_s_max=30)
    report = await played(plan, tmp_path)
    assert not broken(report), report.line
    assert report.duplicates == 0
    assert report.restarts >= 2 * plan.workers
