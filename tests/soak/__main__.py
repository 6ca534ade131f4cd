"""`python -m soak [PART …]`: long runs under load, a table of what they found, and the same as data for the documentation."""

from __future__ import annotations

import sys

import click
import msgspec

from benchmarks.harness import machine
from reliability.sections import write_section
from soak.page import KEPT, merged, render
from soak.parts import PARTS, commit, drawn_seed


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]...")
@click.option("--seconds", type=click.FloatRange(1), help="How long each part takes, by default 20 s to 2.5 minutes.")
@click.option("--seed", type=int, help="Which workers, shards and items; drawn and told where it is not given.")
@click.option(
    "--write/--no-write", default=False, help="Keep what was found in docs/soak.json, and in the page made of it."
)
def main(names: tuple[str, ...], seconds: float | None, seed: int | None, write: bool) -> None:
    """Run the parts named, by default all, one after the other. Exit status 1 if a limit is not kept."""
    found = []
    on = machine()
    for name in names or PARTS:
        part = PARTS[name]
        verdict = part.play(part, seconds or part.seconds, drawn_seed() if seed is None else seed)
        verdict = msgspec.structs.replace(
            verdict, commit=commit(), machine=f"{on['cores']} cores, {on['cpu']}, Python {on['python']}"
        )
        print(verdict.line, flush=True)
        for limit in verdict.broken:
            print(f"     NOT MET: {limit.text}; again: {verdict.command}", flush=True)
        if verdict.broken:
            print(f"     {verdict.figures}", flush=True)
        found.append(verdict)
    if write:
        write_section("soak", render(merged(KEPT, found)))
    sys.exit(1 if any(verdict.broken for verdict in found) else 0)


if __name__ == "__main__":
    main()
