"""`python -m model`: every state of the small worlds, or with `full` of the large ones too; one JSON line for each world."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from model.checker import Exploration, explore
from model.protocol import Protocol
from model.settings import LARGE, SMALL

if TYPE_CHECKING:
    from model.settings import World


@click.command()
@click.argument("size", type=click.Choice(["small", "full"]), default="small")
@click.option("--keep", type=click.Path(dir_okay=False, path_type=Path), help="Write the lines into this file too.")
def main(size: str, keep: Path | None) -> None:
    """Explore, and print what was found; exit status 1 if something does not hold."""
    lines: list[bytes] = []
    findings = 0
    for world in (*SMALL, *LARGE) if size == "full" else SMALL:
        found = explore(Protocol(world))
        lines.append(line(world, found))
        print(lines[-1].decode(), f"  {found.cpu_s:.1f} s", flush=True)
        if found.finding is not None:
            findings += 1
            print(found.finding)
    if keep is not None:
        keep.write_bytes(b"\n".join([*lines, b""]))
    sys.exit(findings > 0)


def line(world: World, found: Exploration) -> bytes:
    """What depends on nothing but the model: another machine finds the same."""
    return orjson.dumps(
        {
            "world": world.name,
            "workers": world.workers,
            "shards": len(world.tree.names),
            "records": sum(world.tree.records.values()),
            "states": found.states,
            "moves": found.moves,
            "ends": found.ends,
            "holds": found.finding is None,
        }
    )


if __name__ == "__main__":
    main()
