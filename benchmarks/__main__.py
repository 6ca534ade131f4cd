"""`python -m benchmarks full|quick [CLAIM …]`: measure, print a table for each claim, write results.json."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import orjson

from benchmarks import (
    backlog,
    cold_start,
    idle_shards,
    latency,
    report,
    shards_scale,
    sinks,
    throughput_envelope,
    throughput_lambda_event,
    throughput_native,
    throughput_rules,
    throughput_shapes,
    throughput_splice,
)
from benchmarks.harness import PROFILES, RESULTS, BenchmarkError, Cores, machine, measure, replay_server

if TYPE_CHECKING:
    from benchmarks.claims import Claim, Verdict

_ENGINE = (
    throughput_envelope.CLAIM,
    throughput_native.CLAIM,
    throughput_lambda_event.CLAIM,
    throughput_splice.CLAIM,
    throughput_rules.CLAIM,
    throughput_rules.WORST_CASE,
    *throughput_shapes.CLAIMS,
    *cold_start.CLAIMS,
    idle_shards.CPU,
    idle_shards.MEMORY,
    *latency.CLAIMS,
    *shards_scale.CLAIMS,
    *backlog.CLAIMS,
)
CLAIMS: dict[str, Claim] = {claim.name: claim for claim in (*_ENGINE, *sinks.CLAIMS)}
GROUPS: dict[str, tuple[str, ...]] = {
    "engine": tuple(claim.name for claim in _ENGINE),
    "sinks": tuple(claim.name for claim in sinks.CLAIMS),
}


@click.command()
@click.argument("profile", type=click.Choice(list(PROFILES)), default="full")
@click.argument("claims", nargs=-1, type=click.Choice([*GROUPS, *CLAIMS]))
def main(profile: str, claims: tuple[str, ...]) -> None:
    """Measure CLAIMS with their peers and floors in one run: by default those of the engine; `sinks` are all sinks.

    A goal that is not met is named in a line of its own and does not change the exit status; a contender that fails
    does.
    """
    cores = Cores.available()
    if cores.contender == cores.server:
        click.echo(
            "There is one core only: the server takes time from every contender, so ratios say little.", err=True
        )
    try:
        with replay_server(cores.server) as url:
            chosen = named(claims, quick=PROFILES[profile].quick)
            verdicts = measure([CLAIMS[name] for name in chosen], PROFILES[profile], url, cores)
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")
    _tell(verdicts, profile)


def named(claims: tuple[str, ...], *, quick: bool = False) -> list[str]:
    """The claims that these names stand for, each once; in a quick run a group leaves out those that are too long for it."""
    return list(dict.fromkeys(name for claim in claims or ("engine",) for name in _members(claim, quick=quick)))


def _members(name: str, *, quick: bool) -> list[str]:
    if name not in GROUPS:
        return [name]
    return [member for member in GROUPS[name] if CLAIMS[member].quick or not quick]


def _tell(verdicts: list[Verdict], profile: str) -> None:
    found = machine()
    RESULTS.write_bytes(
        orjson.dumps(report.results(verdicts, profile=profile, machine=found), option=orjson.OPT_INDENT_2)
    )
    for verdict in verdicts:
        print(f"\n{report.table(verdict)}")
    print(f"\n{found['cpu']}, {found['cores']} cores, Python {found['python']}; written to {RESULTS.name}")
    for line in [line for verdict in verdicts for line in verdict.cautions()]:
        print(f"CAUTION  {line}")
    unmet = [line for verdict in verdicts for line in verdict.unmet()]
    print("\n".join(f"NOT MET  {line}" for line in unmet) or "All goals are met.")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
