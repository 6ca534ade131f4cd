"""Short runs for the suites: what they prove is the same, but for how soon shards are owned again, and the start itself."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

import forking
from chaos.plan import Plan
from chaos.run import run
from chaos.stores import STORES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.report import Report

_SEED = 20


async def check_faults(store: str, folder: Path) -> None:
    """Kills and pauses lose nothing, and repeat only what they explain."""
    plan = Plan(
        seed=_SEED,
        store=store,
        seconds=8,
        records=16_000,
        shards=16,
        fault_interval_s=1.5,
        drain_s_max=30,
        failpoint_share=0.5,
    )
    report = await _played(plan, folder)
    assert report.kills, report.line
    assert report.pauses, report.line
    assert report.delivered == plan.records, report.line
    assert report.shards > plan.shards, report.line


async def check_rolling_restart(store: str, folder: Path) -> None:
    """Workers that are restarted one by one repeat nothing."""
    plan = Plan(
        seed=_SEED,
        mode="graceful",
        store=store,
        seconds=8,
        records=16_000,
        shards=12,
        workers=3,
        look_interval_s=0.1,
        drain_s_max=30,
    )
    report = await _played(plan, folder)
    assert report.duplicates == 0, report.line
    assert report.restarts >= 2 * plan.workers, report.line


async def check_scaling(store: str, folder: Path) -> None:
    """From one worker to three and back, nothing comes twice."""
    plan = Plan(
        seed=_SEED,
        mode="scale",
        store=store,
        seconds=6,
        records=6_000,
        shards=8,
        workers=3,
        look_interval_s=0.1,
        drain_s_max=30,
    )
    report = await _played(plan, folder)
    assert report.restarts == 2, report.line


async def _played(plan: Plan, folder: Path) -> Report:
    await anyio.Path(folder).mkdir()
    with _alone(), STORES[plan.store](folder) as url:
        report = await run(plan, url, folder, popen=forking.popen)
    print(report.line, plan.command, sep="\n")
    # How soon is judged on a quiet machine, by `make chaos`.
    broken = [problem for problem in report.problems if "within_s:" not in problem]
    assert not broken, report.line
    return report


@contextmanager
def _alone() -> Iterator[None]:
    """One run at a time on this machine: each has six busy processes of its own."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
