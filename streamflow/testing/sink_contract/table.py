"""The table of sinks in Markdown, from what they proved.

`python -m streamflow.testing.sink_contract.table docs/conformance.json docs/sinks.md` writes it between the two marks of
that page.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamflow.testing.sink_contract.conformance import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BEGIN, END = "<!-- begin of the generated table of sinks -->", "<!-- end of the generated table of sinks -->"

_COLUMNS = (
    "sink",
    "distribution",
    "order",
    "idempotence",
    "tells failures apart",
    "deletes",
    "largest request",
    "proved on",
)
_ORDER = {"none": "none", "key": "per item", "shard": "per shard"}


def render(rows: Sequence[dict[str, Any]]) -> str:
    """The table, and below it what each sink failed and why scenarios of it did not run."""
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    lines += [_line(_cells(row)) for row in rows]
    notes = [note for row in rows for note in _notes(row)]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def replace_table(page: str, rows: Sequence[dict[str, Any]]) -> str:
    """`page` with what stands between its marks replaced by `render(rows)`.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no marks: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{render(rows)}\n{END}{after}"


def _cells(row: dict[str, Any]) -> list[str]:
    can = row["capabilities"]
    return [
        _name(row),
        f"`{row['distribution']}` {row['version']}" if row["distribution"] else "-",
        _ORDER[can["order"]],
        _idempotence(can),
        "yes" if can["partial_failures"] else "no",
        "yes" if can["deletes"] else "no",
        _request(can),
        f"{row['server']}: {_score(row)}",
    ]


def _name(row: dict[str, Any]) -> str:
    return f"`{row['name']}`" + (f" ({row['mode']})" if row["mode"] else "")


def _idempotence(can: dict[str, Any]) -> str:
    kind = can["idempotence"]
    if kind == "none":
        return "none"
    window = f" for {can['idempotence_window_s']:,.0f} s" if kind == "window" else f", {kind}"
    return f"by {can['idempotence_key']}{window}"


def _request(can: dict[str, Any]) -> str:
    limits = (("request_records_max", "records"), ("request_bytes_max", "bytes"))
    return ", ".join(f"{can[name]:,} {unit}" for name, unit in limits if can[name] is not None) or "-"


def _score(row: dict[str, Any]) -> str:
    """How many of the promised scenarios passed."""
    counts = Counter(_verdict(text) for text in row["scenarios"].values())
    promised = sum(counts.values()) - counts["not promised"]
    return f"{counts['passed']} of {promised}"


def _notes(row: dict[str, Any]) -> Iterator[str]:
    failed = [name for name, text in sorted(row["scenarios"].items()) if text == "failed"]
    if failed:
        yield f"- {_name(row)} fails: {'; '.join(failed)}."
    reasons = Counter(text.partition(": ")[2] for text in row["scenarios"].values() if _verdict(text) == "not run")
    if reasons:
        told = "; ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
        yield f"- {_name(row)}, not run: {told}."


def _verdict(text: str) -> str:
    return text.partition(": ")[0]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(replace_table(target.read_text(encoding="utf-8"), rows_of(source)), encoding="utf-8")
