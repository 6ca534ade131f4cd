"""`python -m guard`: what a record, a batch, a page, a poll and a shard cost, counted, beside what was accepted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import orjson

from guard import budgets
from guard.costs import Cost, Figure, cost
from guard.figures import FIGURES, SCALES, warm_up
from guard.memory import idle_shard_by_line, idle_shard_bytes, record_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALL = {figure.name: figure for figure in (*FIGURES, *(each for scale in SCALES for each in (scale.few, scale.many)))}
_MEMORY = ("idle_shard", "record_in_hand")


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Count everything and compare it with the budgets; exit status 1 if something has grown beyond its margin."""
    if context.invoked_subcommand is not None:
        return
    found = _measured([*(figure.name for figure in FIGURES), *_MEMORY])
    budget = budgets.load(budgets.FILE.read_bytes())
    for name, amounts in found.items():
        for kind, amount in amounts.items():
            before = None if budget is None else budget.amounts.get(name, {}).get(kind)
            change = f"{amount / before - 1:+8.1%} from {before:,g}" if before else "no budget"
            print(f"{name:20} {kind:12} {amount:12,.2f} {change}")
    if budget is None:
        print(f"nobody has measured Python {budgets.VERSION}; accept these: {budgets.ACCEPT}")
    elif texts := budget.grown(found):
        print(*texts, sep="\n")
        sys.exit(1)


@main.command()
@click.argument("names", nargs=-1, type=click.Choice([*_ALL, *_MEMORY]))
def measure(names: tuple[str, ...]) -> None:
    """Count some figures, by default everything, and print one JSON object."""
    print(orjson.dumps(_measured(names or [*_ALL, *_MEMORY])).decode())


@main.command()
@click.argument("name", type=click.Choice([*_ALL, "idle_shard"]))
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="How many functions.")
def breakdown(name: str, top: int) -> None:
    """Show the functions that a figure comes from, or the lines that have allocated the memory; most first."""
    warm_up()
    if name == "idle_shard":
        print(f"{'bytes':>13}  of an idle shard")
        print(*(f"{amount:13.0f}  {line}" for line, amount in idle_shard_by_line()[:top]), sep="\n")
    else:
        print(*_breakdown(_ALL[name], cost(_ALL[name]), top), sep="\n")


@main.command()
def accept() -> None:
    """Write what everything costs now into the budgets, for this minor version of Python."""
    found = _measured([*(figure.name for figure in FIGURES), *_MEMORY])
    budgets.FILE.write_bytes(budgets.accepted(budgets.FILE.read_bytes(), found))
    print(f"accepted for Python {budgets.VERSION}: {budgets.FILE.name}")


def _measured(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Memory comes first: what ran before leaves blocks that are used again, and not counted then."""
    warm_up()
    return {name: _amounts(name) for name in sorted(names, key=lambda name: name not in _MEMORY)}


def _amounts(name: str) -> dict[str, float]:
    if name == "idle_shard":
        return {"bytes": round(idle_shard_bytes())}
    if name == "record_in_hand":
        held, peak = record_bytes()
        return {"bytes": round(held), "peak_bytes": round(peak)}
    found = cost(_ALL[name])
    return {"instructions": round(found.instructions, 2), "calls": round(found.calls, 2)}


def _breakdown(figure: Figure, found: Cost, top: int) -> list[str]:
    places = [f"{line.instructions:13.2f}{line.calls:9.2f}  {line.place}" for line in found.by_place()[:top]]
    called = [f"{times:22.2f}  {name}" for name, times in found.by_call()[:top]]
    return [
        f"{figure.name}: {figure.words}",
        f"{found.instructions:.2f} bytecode instructions and {found.calls:.2f} calls of C functions",
        "",
        f"{'instructions':>13}{'C calls':>9}  in a function, without those that it calls",
        *places,
        "",
        f"{'C calls':>22}  of a function",
        *called,
    ]


if __name__ == "__main__":
    main()
