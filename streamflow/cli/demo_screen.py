"""What the demo shows while it runs: a live table on a terminal, a line a second elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.live import Live


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSnapshot:
    """One look at the demo; rates are per second."""

    elapsed_s: float
    written: int
    delivered: int
    duplicates: int
    order_violations: int
    write_rate: float
    deliver_rate: float
    shards_open: int
    shards_closed: int
    note: str


class Screen:
    """Shows snapshots; `note` is kept and shown with each."""

    def __init__(self, live: Live | None) -> None:
        self._live = live
        self._shown_at = float("-inf")

    def show(self, snapshot: DemoSnapshot) -> None:
        if self._live is not None:
            self._live.update(_table(snapshot))
        elif snapshot.elapsed_s - self._shown_at >= 1.0:
            self._shown_at = snapshot.elapsed_s
            click.echo(_line(snapshot))

    def tell(self, text: str) -> None:
        """One line that stays."""
        if self._live is not None:
            self._live.console.print(text, highlight=False)
        else:
            click.echo(text)


@contextmanager
def open_screen() -> Iterator[Screen]:
    """A live table where standard output is a terminal."""
    if not sys.stdout.isatty():
        yield Screen(None)
        return
    from rich.live import Live

    with Live(refresh_per_second=8) as live:
        yield Screen(live)


def _line(snapshot: DemoSnapshot) -> str:
    return (
        f"{snapshot.elapsed_s:5.1f} s  written={snapshot.written} ({snapshot.write_rate:.0f}/s)"
        f"  delivered={snapshot.delivered} ({snapshot.deliver_rate:.0f}/s)  behind={snapshot.written - snapshot.delivered}"
        f"  duplicates={snapshot.duplicates}  order_violations={snapshot.order_violations}"
        f"  shards={snapshot.shards_open} open, {snapshot.shards_closed} closed  {snapshot.note}"
    )


def _table(snapshot: DemoSnapshot) -> RenderableType:
    from rich.table import Table

    table = Table(title=f"streamflow demo · {snapshot.elapsed_s:.0f} s · {snapshot.note}", expand=False)
    for heading in ("", "records", "per second"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("written", f"{snapshot.written:,}", f"{snapshot.write_rate:,.0f}")
    table.add_row("delivered", f"{snapshot.delivered:,}", f"{snapshot.deliver_rate:,.0f}")
    table.add_row("behind", f"{snapshot.written - snapshot.delivered:,}", "")
    table.add_row("duplicates", f"{snapshot.duplicates:,}", "")
    table.add_row("order violations", f"{snapshot.order_violations:,}", "")
    table.add_row("shards", f"{snapshot.shards_open} open", f"{snapshot.shards_closed} closed")
    return table
