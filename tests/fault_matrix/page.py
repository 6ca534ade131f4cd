"""The fault matrix in Markdown, from its rows and from what their tests found. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fault_matrix.rows import Row

    Outcomes = Mapping[str, Mapping[str, str]]
    """Number of the fault to test to outcome."""

_HOW = {
    "unit": "unit",
    "property": "property",
    "contract": "contract",
    "simulation": "simulation",
    "integration": "process or server",
    "chaos": "chaos",
    "plugins": "real server",
}

_HEAD = """\
# Fault matrix

What goes wrong, what streamflow is to do then, and what it was seen to do. The page is made by `make faults`, which runs every
test that carries the mark of a fault; nothing on it is written by hand but the faults, what is expected, and where streamflow
does something else on purpose. A test's name is what it observed.

| Word | Means |
|---|---|
| refuse | an error of the configuration, before any record is read; on the command line exit status 2, with file and line |
| retry | tried again after a pause, for as long as it takes or as the options of the pipeline say; the lag is seen to grow |
| lose | the lease is given up and nothing more is delivered under it |
| give up | as the pipeline says: into its destinations or the store's drawer, the shard goes on behind it |
| halt | the pipeline ends with an error that says what to do; its position stays where it is |

"""


def render(rows: Sequence[Row], outcomes: Outcomes) -> str:
    """The whole page."""
    verdicts = {row.number: verdict(row, outcomes.get(row.number, {})) for row in rows}
    tests = {test for found in outcomes.values() for test in found}
    counts = Counter(verdicts.values())
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items(), key=lambda each: -each[1]))
    lines = [
        f"{len(rows)} faults: {told}. {len(tests)} tests.",
        "",
        "| # | Fault | Observed | How |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| [{row.number}](#{row.number.lower()}) | {row.fault} | {verdicts[row.number]} | {_how(row, outcomes)} |"
        for row in rows
    ]
    return (
        _HEAD
        + "\n".join([*lines, *(line for row in rows for line in _section(row, outcomes.get(row.number, {})))])
        + "\n"
    )


def verdict(row: Row, outcomes: Mapping[str, str]) -> str:
    """One of: failed, not tested here, otherwise on purpose, as expected in part, as expected."""
    if any(outcome == "failed" for outcome in outcomes.values()):
        return "failed"
    if not any(outcome == "passed" for outcome in outcomes.values()):
        return "not tested here"
    if row.differs:
        return "otherwise on purpose"
    partly = row.untested or any(outcome != "passed" for outcome in outcomes.values())
    return "as expected in part" if partly else "as expected"


def observed(test: str) -> str:
    """What a test observed, in the words of its name."""
    return test.rpartition("::")[2].removeprefix("test_").replace("_", " ")


def _how(row: Row, outcomes: Outcomes) -> str:
    found = {_HOW[kind] for test in outcomes.get(row.number, {}) if (kind := _kind(test)) in _HOW}
    return ", ".join(word for word in dict.fromkeys(_HOW.values()) if word in found) or "-"


def _kind(test: str) -> str:
    folders = test.split("/")
    return folders[0] if folders[0] == "plugins" else folders[1]


def _section(row: Row, outcomes: Mapping[str, str]) -> Iterator[str]:
    yield from ("", f"### {row.number}", "", f"**{row.fault}.** Expected: {row.expected}")
    if row.differs:
        yield from ("", f"Otherwise on purpose: {row.differs}")
    if row.untested:
        yield from ("", f"Not tested here: {row.untested}")
    if outcomes:
        yield ""
    for test, outcome in outcomes.items():
        file, _, name = test.partition("::")
        yield f"- {outcome}: {observed(test)} ([{file}](../{file})`::{name}`)"
