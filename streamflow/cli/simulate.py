"""`streamflow simulate`: whole workers in virtual time with one's own handler, from seeds, and what came of them."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamflow.cli import options
from streamflow.cli.main import Exit
from streamflow.config.load import load_file
from streamflow.errors import ConfigError
from streamflow.targets import did_you_mean, load_target
from streamflow.testing.simulation.faults import KINDS
from streamflow.testing.simulation.rehearsal import Extent, rehearse
from streamflow.testing.simulation.running import Sweep, shrink
from streamflow.testing.simulation.scenario import Scenario, scenario_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.testing.simulation.running import Outcome

_SEEDS = 20
_TOLD_MAX = 3
"""Violations of each seed that are told where there are several seeds: often many follow from the first."""
_DEFAULT = Extent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsals:
    """What all runs of one command have in common."""

    target: str
    make: Callable[[], Scenario]
    extent: Extent
    pipeline: str | None
    without: tuple[str, ...]

    def run(self, seed: int, without: Sequence[str] | None = None) -> Outcome:
        """Whatever handlers print goes to stderr: stdout is for what came of it."""
        with redirect_stdout(sys.stderr):
            return rehearse(
                self.make,
                seed,
                self.extent,
                pipeline=self.pipeline,
                without=self.without if without is None else without,
            )

    def command(self, seed: int, without: Sequence[str]) -> str:
        """Does the run of a seed again, with everything about it."""
        given: list[tuple[str, object]] = [("--seed", seed)]
        if self.pipeline is not None:
            given.append(("--pipeline", self.pipeline))
        for name in ("hours", "workers", "shards", "writes_per_s"):
            value = getattr(self.extent, name)
            if value != getattr(_DEFAULT, name):
                given.append((f"--{name.replace('_', '-')}", value))
        given += [("--without", kind) for kind in without]
        return shlex.join(["streamflow", "simulate", self.target, *(str(part) for pair in given for part in pair)])


@click.command(short_help="Simulate a pipeline with your handler under faults, from seeds.")
@click.argument("target", metavar="TARGET")
@click.option("--pipeline", metavar="NAME", help="This pipeline, or branch, where TARGET has several.")
@click.option("--seed", type=click.IntRange(0), metavar="SEED", help="Begin here; alone: run only this one.")
@click.option("--seeds", type=click.IntRange(1), metavar="N", help=f"How many seeds; by default {_SEEDS}.")
@click.option(
    "--hours",
    type=click.FloatRange(0, 1_000, min_open=True),
    default=_DEFAULT.hours,
    show_default=True,
    help="How long faults strike in each run, in simulated time.",
)
@click.option("--workers", type=click.IntRange(1, 32), default=_DEFAULT.workers, show_default=True, help="Workers.")
@click.option(
    "--shards", type=click.IntRange(1, 256), default=_DEFAULT.shards, show_default=True, help="Shards at the start."
)
@click.option(
    "--writes-per-s",
    type=click.FloatRange(0, 100, min_open=True),
    default=_DEFAULT.writes_per_s,
    show_default=True,
    help="Changes of items in a simulated second.",
)
@click.option("--without", multiple=True, metavar="KIND", help="Leave out a kind of fault, or a site; may be repeated.")
@click.option("--shrink", "smaller", is_flag=True, help="Find the kinds of faults that the first failing seed needs.")
@options.as_json("Print what came of it as one JSON object.")
@options.debug
def simulate(
    target: str,
    *,
    pipeline: str | None,
    seed: int | None,
    seeds: int | None,
    without: tuple[str, ...],
    smaller: bool,
    as_json: bool,
    **extent: Any,
) -> int:
    """Run TARGET in a simulation: whole workers, faults of every kind, virtual time, the same run for the same seed.

    TARGET is module:name or path/file.py:name of a Scenario, an App, a Pipeline, or a function that makes one of them, or a
    pipeline file. Handlers are called for real: let them reach stand-ins for their services. Ctrl-C ends with what the runs
    before it found. Exits with 0 if every promise was kept, 1 if one was broken, 2 if TARGET or an option is wrong.
    """
    _check_kinds(without)
    several = Rehearsals(
        target=target, make=_maker(target), extent=Extent(**extent), pipeline=pipeline, without=without
    )
    first, count = 1 if seed is None else seed, seeds or (_SEEDS if seed is None else 1)
    total, leaks, interrupted = Sweep(), Counter[str](), False
    try:
        for each in range(first, first + count):
            outcome = several.run(each)
            total.add(outcome)
            leaks.update(outcome.leaks)
            if not as_json and (outcome.failed or count == 1):
                click.echo("\n".join(_told(outcome, alone=count == 1)))
    except KeyboardInterrupt:
        interrupted = True
        click.echo(f"interrupted after {total.runs} of {count} seeds", err=True)
    smallest = None
    if smaller and total.failed and not interrupted:
        smallest = shrink(
            total.failed[0],
            partial(several.run, total.failed[0].seed),
            tell=lambda line: click.echo(line, err=True),
        )
    show = _report if as_json else _summary
    click.echo(show(several, total, sorted(leaks), smallest))
    if interrupted:
        return Exit.INTERRUPTED
    return Exit.FAILED if total.failed else Exit.OK


def _check_kinds(without: Sequence[str]) -> None:
    known = {*KINDS, *(kind.site for kind in KINDS.values())}
    problems = [
        f"--without {kind}: there is no such kind of fault{did_you_mean(kind, sorted(known))}; docs/simulation.md lists them"
        for kind in without
        if kind not in known
    ]
    if problems:
        raise ConfigError(problems)


def _maker(target: str) -> Callable[[], Scenario]:
    """Makes the scenario of a run.

    Raises:
        ConfigError: there is nothing of that name.
    """
    if target.endswith(".toml"):
        return lambda: Scenario(app=partial(load_file, Path(target), os.environ))
    if ":" not in target:
        raise ConfigError(
            f"{target!r} is neither a .toml file nor a target: write file.toml, module:name or path/file.py:name"
        )
    return partial(scenario_of, load_target(target, directory=Path.cwd()))


# --- what is told --------------------------------------------------------------------------------------------------------


def _told(outcome: Outcome, *, alone: bool) -> list[str]:
    """All about a run that is alone; of others the beginnings of the first violations."""
    shown = outcome.violations if alone else outcome.violations[:_TOLD_MAX]
    lines = [str(violation) if alone else str(violation).partition("\n")[0] for violation in shown]
    if more := len(outcome.violations) - len(shown):
        lines.append(f"{more} more")
    told = [f"seed {outcome.seed} {'fails' if outcome.failed else 'passes'}", *(f"  {line}" for line in lines)]
    if alone:
        raised = ", ".join(f"{what} ({times})" for what, times in outcome.raised.most_common(_TOLD_MAX))
        told += [f"  the handler raised {raised or 'nothing'}", f"  took {outcome.took_s:.1f} s, trace {outcome.trace}"]
    return told


def _summary(several: Rehearsals, total: Sweep, leaks: Sequence[str], smallest: Outcome | None) -> str:
    runs = "1 run" if total.runs == 1 else f"{total.runs} runs"
    hours = total.simulated_s.total() / 3600
    size = f"{hours:.1f} simulated hours, {total.records} records, {total.duplicates} delivered again"
    lines = [f"{runs}, {size}, {total.injected.total()} faults"]
    for site, kinds in _by_site(total.injected).items():
        lines.append(f"  {site}: " + ", ".join(f"{kind.partition('.')[2]} {times}" for kind, times in kinds.items()))
    if leaks:
        lines.append("a seed may not repeat its run, because this differs from run to run: " + ", ".join(leaks))
    if not total.failed:
        return "\n".join([*lines, "no promise was broken"])
    broken = Counter(violation.invariant for outcome in total.failed for violation in outcome.violations)
    lines.append(
        f"{len(total.failed)} of {total.runs} failed: "
        + ", ".join(f"{name} {times}" for name, times in sorted(broken.items()))
    )
    if smallest is not None:
        lines.append(f"seed {smallest.seed} needs " + (", ".join(sorted(smallest.injected)) or "no fault at all"))
    lines.append("again: " + _command(several, total, smallest))
    return "\n".join(lines)


def _by_site(injected: Counter[str]) -> dict[str, dict[str, int]]:
    sites: dict[str, dict[str, int]] = {}
    for name, kind in KINDS.items():
        if injected[name]:
            sites.setdefault(kind.site, {})[name] = injected[name]
    return sites


def _command(several: Rehearsals, total: Sweep, smallest: Outcome | None) -> str:
    return several.command(total.failed[0].seed, several.without if smallest is None else smallest.without)


def _report(several: Rehearsals, total: Sweep, leaks: Sequence[str], smallest: Outcome | None) -> str:
    return json.dumps(
        {
            "runs": total.runs,
            "simulated_hours": round(total.simulated_s.total() / 3600, 3),
            "records": total.records,
            "duplicates": total.duplicates,
            "faults": {kind: total.injected[kind] for kind in KINDS if total.injected[kind]},
            "differs_from_run_to_run": leaks,
            "failed": [
                {
                    "seed": outcome.seed,
                    "violations": [
                        {"invariant": each.invariant, "at_s": each.at_s, "says": each.says}
                        for each in outcome.violations
                    ],
                    "raised": dict(outcome.raised.most_common()),
                }
                for outcome in total.failed
            ],
            "needs": None if smallest is None else sorted(smallest.injected),
            "again": _command(several, total, smallest) if total.failed else None,
        }
    )
