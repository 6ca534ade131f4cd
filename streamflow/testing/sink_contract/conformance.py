"""What runs of the suite proved, as a file that can be committed: sorted, without times and paths."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from streamflow.sdk.declarations import SinkDeclaration, SinkPlugin

PROPERTY = "streamflow-sink-contract"
"""Name of the user property under which the report of a test carries its row."""


def row_of(sink: SinkDeclaration, *, kind: str, mode: str, server: str) -> tuple[str, str]:
    """What the report of a test says of the sink under test: a user property, as text."""
    distribution, version = _origin(sink.plugin)
    row = {
        "name": sink.name,
        "mode": mode,
        "kind": kind,
        "server": server,
        "distribution": distribution,
        "version": version,
        "capabilities": asdict(sink.capabilities),
    }
    return PROPERTY, json.dumps(row, sort_keys=True)


@cache
def _origin(plugin: SinkPlugin[Any]) -> tuple[str | None, str | None]:
    """Distribution and version; None for a plugin without an entry point."""
    for point in entry_points(group="streamflow.sinks", name=plugin.name):
        if point.dist is not None and point.load() is plugin:
            return point.dist.name, point.dist.version
    return None, None


class Conformance:
    """Collects the reports of one run; `write` merges them into a file, by sink and mode.

    A scenario is "passed" or "failed", or says why it is neither: "not promised: …", "not run: …".
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}  # by test class, as for the scenarios
        self._scenarios: dict[str, dict[str, str]] = {}

    def note(
        self, nodeid: str, outcome: str, properties: Iterable[tuple[str, object]], skipped: str | None = None
    ) -> None:
        """Take note of a test's call, or of its set-up or tear-down where that did not pass; `skipped` is what a skip says."""
        where, _, name = nodeid.rpartition("::")
        for key, text in properties:
            if key == PROPERTY:
                self._rows[where] = json.loads(str(text))
        scenarios = self._scenarios.setdefault(where, {})
        scenario = name.removeprefix("test_").replace("_", " ")
        if outcome == "skipped":
            scenarios[scenario] = (skipped or "").removeprefix("Skipped: ") or "not run: skipped"
        else:
            scenarios[scenario] = outcome

    def write(self, path: Path) -> None:
        """Rows of this run replace those of the same sink and mode; the others stay. Nothing is written without any."""
        if not self._rows:
            return
        rows = {_key(row): row for row in (rows_of(path) if path.exists() else [])}
        for where, row in self._rows.items():
            rows[_key(row)] = {**row, "scenarios": self._scenarios[where]}
        document = {"sinks": [rows[key] for key in sorted(rows)]}
        path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `Conformance.write` wrote, by name and mode."""
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["sinks"]
    return rows


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return row["name"], row["mode"]
