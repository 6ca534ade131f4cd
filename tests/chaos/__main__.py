"""`python -m chaos`: kill, pause and restart workers, and judge what they delivered. One JSON line for each run."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Literal

import anyio
import click

from chaos.plan import Plan
from chaos.run import run
from chaos.stores import STORES, paced

if TYPE_CHECKING:
    from chaos.plan import Mode


@click.command()
@click.option(
    "--store", "stores", multiple=True, type=click.Choice([*STORES, "all"]), default=["sqlite"], show_default=True
)
@click.option(
    "--mode", type=click.Choice(["faults", "graceful", "both", "scale", "calm"]), default="both", show_default=True
)
@click.option(
    "--seconds", type=click.FloatRange(5, 86_400), default=120.0, show_default=True, help="How long faults go on."
)
@click.option("--records", type=click.IntRange(1_000, 100_000_000), default=1_000_000, show_default=True)
@click.option("--shards", type=click.IntRange(1, 1_000), default=64, show_default=True, help="At the start.")
@click.option("--workers", type=click.IntRange(2, 16), default=4, show_default=True)
@click.option(
    "--lease-duration-s", type=click.FloatRange(1, 60), help="By default 3, and 10 on DynamoDB as in the KCL."
)
@click.option("--fault-interval-s", type=click.FloatRange(0.1, 600), default=2.0, show_default=True)
@click.option(
    "--failpoint-share",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Of the workers that replace a killed one: they die at a failpoint.",
)
@click.option("--seed", type=int, help="Which workers, shards and items; drawn and told where it is not given.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep journals and logs in this folder.")
def main(
    stores: tuple[str, ...],
    mode: Mode | Literal["both"],
    seconds: float,
    records: int,
    shards: int,
    workers: int,
    lease_duration_s: float | None,
    fault_interval_s: float,
    failpoint_share: float,
    seed: int | None,
    keep: Path | None,
) -> None:
    """Run 4 workers over one store and a local stream, disturb them, and say what became of every record.

    Exit status 1 if anything is not as promised.
    """
    failed = False
    for store in STORES if "all" in stores else stores:
        modes: tuple[Mode, ...] = ("faults", "graceful") if mode == "both" else (mode,)
        for each in modes:
            plan = paced(
                Plan(
                    seed=SystemRandom().randrange(10**6) if seed is None else seed,
                    mode=each,
                    store=store,
                    seconds=seconds,
                    records=records,
                    shards=shards,
                    workers=workers,
                    fault_interval_s=fault_interval_s,
                    failpoint_share=failpoint_share,
                )
            )
            if lease_duration_s is not None:
                plan = replace(plan, lease_duration_s=lease_duration_s)
            failed |= not _play(plan, keep)
    sys.exit(1 if failed else 0)


def _play(plan: Plan, keep: Path | None) -> bool:
    """Whether all was as promised; if not, standard error says how to see it again."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{plan.store}-{plan.mode}-", dir=keep))
    ok = False
    try:
        with STORES[plan.store](folder) as url:
            report = anyio.run(run, plan, url, folder)
        print(report.line, flush=True)
        ok = report.ok
    finally:
        if not ok:
            print(f"seed {plan.seed}; again: {plan.command}; journal and logs: {folder}", file=sys.stderr)
        elif keep is None:
            shutil.rmtree(folder)
    return ok


if __name__ == "__main__":
    main()
