"""`python -m mutants [NAME …]`: hunt each mutant, and say which are caught. `--write` keeps it in docs/."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor  # noqa: TID251 - one thread for each process of a mutant
from functools import partial

import click

from mutants.page import Report, keep, kept, merged, render
from mutants.protocol import MUTANTS
from mutants.trying import Verdict, tried
from reliability.sections import write_section

SHARE_MIN = 0.95


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([mutant.name for mutant in MUTANTS]))
@click.option(
    "--seconds",
    type=float,
    default=120.0,
    show_default=True,
    help="For how long each is hunted: what `make sim` spends on two cores.",
)
@click.option("--processes", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--write", is_flag=True, help="Keep the verdicts in docs/mutants.json and docs/reliability.md.")
def main(names: tuple[str, ...], seconds: float, processes: int, write: bool) -> None:
    """Hunt mutants by NAMES, or all; the exit status is 1 where less than 95 % are caught."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(processes) as pool:
        for verdict in pool.map(partial(tried, seconds=seconds), chosen):
            verdicts.append(verdict)
            click.echo(line_of(verdict))
    report = Report(seconds=seconds, verdicts=tuple(verdicts))
    click.echo(f"{report.caught} of {len(verdicts)} caught, {report.share:.0%}")
    if write:
        report = merged(kept(), verdicts) if names else report
        keep(report)
        write_section("mutants", render(report))
    sys.exit(report.share < SHARE_MIN)


def line_of(verdict: Verdict) -> str:
    catch = verdict.catch
    if verdict.stuck:
        return f"caught  {verdict.name}: a run did not end"
    if catch.moves:
        return f"caught  {verdict.name}: by the model after {catch.moves} moves ({catch.world}), {catch.seconds:.1f} s"
    if catch.invariants:
        by = " ".join(catch.invariants)
        return f"caught  {verdict.name}: {by} at seed {catch.seed} ({catch.world}), {catch.seconds:.1f} s"
    return f"MISSED  {verdict.name}: {verdict.says}; {catch.runs} runs"


if __name__ == "__main__":
    main()
