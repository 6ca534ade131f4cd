"""What runs have left in docs/, and the sections made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mutants import page as mutants
from reliability.sections import DOCS
from soak import page as soak

if TYPE_CHECKING:
    from collections.abc import Callable

SIMULATION, MODEL = DOCS / "simulation.json", DOCS / "model.jsonl"


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep; see `streamflow.testing.simulation.running.Sweep`."""

    command: str
    seconds: float
    processes: int
    runs: int
    hours: float
    standard_hours: float
    records: int
    duplicates: int
    failed: int
    injected: dict[str, int]
    states_reached: int
    states: int


class Explored(msgspec.Struct, frozen=True, kw_only=True):
    """One world of the model."""

    world: str
    workers: int
    shards: int
    records: int
    states: int
    moves: int
    ends: int
    holds: bool


def simulation() -> str:
    """The sweep in figures, and a row for each site of faults."""
    run = msgspec.json.decode(SIMULATION.read_bytes(), type=Simulated)
    by_site: dict[str, dict[str, int]] = {}
    for kind, count in run.injected.items():
        site, _, name = kind.partition(".")
        by_site.setdefault(site, {})[name.replace("_", " ")] = count
    first = (
        f"`{run.command}`: {run.runs:,} runs, {run.hours:,.1f} simulated hours ({run.standard_hours:,.1f} of the world of "
        f"three workers and eight shards) in {run.seconds:,.0f} s on {run.processes} cores, {run.records:,} records, "
        f"{run.duplicates:,} delivered again because of a fault, {sum(run.injected.values()):,} faults, "
        f"**{run.failed} runs that broke a promise**, {run.states_reached} of {run.states} interesting states reached."
    )
    lines = [first, "", "| site | faults injected |", "|---|---|"]
    lines += [
        f"| {site} | " + ", ".join(f"{name} {count:,}" for name, count in kinds.items()) + " |"
        for site, kinds in by_site.items()
    ]
    return "\n".join(lines)


def model() -> str:
    """A row for each world that was explored to its end."""
    worlds = [msgspec.json.decode(line, type=Explored) for line in MODEL.read_text("utf-8").splitlines()]
    states, moves = sum(world.states for world in worlds), sum(world.moves for world in worlds)
    lines = [
        f"{states:,} states and {moves:,} moves in {len(worlds)} worlds.",
        "",
        "| world | workers | shards | records | states | moves | holds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {world.world} | {world.workers} | {world.shards} | {world.records} | {world.states:,} | {world.moves:,} | "
        f"{'yes' if world.holds else 'no'} |"
        for world in worlds
    ]
    return "\n".join(lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "simulation": simulation,
    "model": model,
    "mutants": lambda: mutants.render(mutants.kept()),
    "soak": lambda: soak.render(soak.kept(soak.KEPT)),
}
