"""`streamflow plugins`: what is installed, with what is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from streamflow.cli import options
from streamflow.plugins import installed

if TYPE_CHECKING:
    from streamflow.plugins import Installed


@click.command(short_help="List sinks and other plugins that are installed.")
@options.as_json("Print one JSON object for each plugin.")
@options.debug
def plugins(*, as_json: bool) -> int:
    """List the plugins that are installed: sinks, middleware, destinations and stores.

    Each is loaded. One that cannot be is shown with its error, and the exit code is 1.
    """
    rows = list(installed())
    for line in map(_json, rows) if as_json else _table(rows):
        click.echo(line)
    return 1 if any(row.error for row in rows) else 0


def _json(row: Installed) -> str:
    return json.dumps(
        {
            "kind": row.group,
            "name": row.name,
            "distribution": row.distribution,
            "version": row.version,
            "api_version": None if row.plugin is None else row.plugin.api_version,
            "summary": None if row.plugin is None else row.plugin.summary,
            "error": row.error,
        }
    )


def _table(rows: list[Installed]) -> list[str]:
    cells = [
        (
            row.group,
            row.name,
            f"{row.distribution} {row.version}",
            f"BROKEN: {row.error}" if row.plugin is None else row.plugin.summary,
        )
        for row in rows
    ]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]) for row in cells
    ]
