"""What the tests of the matrix found, in a file that can be committed: sorted, without times. A plugin of pytest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fault_matrix.marks import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

OPTION = "--fault-results"
_WORST_FIRST = ("failed", "skipped", "passed")


class Results:
    """Collects the reports of one run. What a test with parameters found is the worst that one of them found.

    An outcome is "passed", "failed", or "skipped: " with the reason.
    """

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, str]] = {}

    def note(self, nodeid: str, numbers: Iterable[str], outcome: str) -> None:
        # Behind the name are parameters, and the group that pytest-xdist keeps together.
        test = nodeid.partition("[")[0].partition("@")[0]
        for number in numbers:
            outcomes = self._outcomes.setdefault(number, {})
            outcomes[test] = min(outcome, outcomes.get(test, "passed"), key=_badness)

    def write(self, path: Path) -> None:
        """Replaces the file: rows of tests that did not run are rows of tests that are gone."""
        rows = {
            number: dict(sorted(self._outcomes[number].items())) for number in sorted(self._outcomes, key=_by_number)
        }
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load(path: Path) -> dict[str, dict[str, str]]:
    """Number of the fault to test to outcome, as `Results.write` wrote them."""
    rows: dict[str, dict[str, str]] = json.loads(path.read_text("utf-8"))
    return rows


def _badness(outcome: str) -> int:
    return _WORST_FIRST.index(outcome.partition(": ")[0])


def _by_number(number: str) -> int:
    return int(number.removeprefix("F"))


# --- pytest ----------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("streamflow").addoption(
        OPTION, metavar="FILE", type=Path, help="write what the tests of the fault matrix found into FILE (JSON)"
    )


def pytest_configure(config: pytest.Config) -> None:
    path: Path | None = config.getoption(OPTION)
    # The workers of pytest-xdist send their reports to the process that has the option's last word.
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Reporter(Results(), path), "streamflow-fault-results")


def pytest_itemcollected(item: pytest.Item) -> None:
    numbers = [number for mark in item.iter_markers(MARK) for number in mark.args]
    item.user_properties.extend((MARK, number) for number in numbers)


class _Reporter:
    def __init__(self, results: Results, path: Path) -> None:
        self._results = results
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when != "call":
            return
        numbers = [str(value) for name, value in report.user_properties if name == MARK]
        self._results.note(report.nodeid, numbers, _outcome(report))

    def pytest_sessionfinish(self) -> None:
        self._results.write(self._path)


def _outcome(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"
    return report.outcome
