"""What became of the mutants, as data beside the documentation, and the section made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mutants.trying import Verdict  # noqa: TC001 - msgspec reads the annotations
from reliability.sections import DOCS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEPT = DOCS / "mutants.json"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float
    """For which each mutant was hunted at most."""
    verdicts: tuple[Verdict, ...]

    @property
    def caught(self) -> int:
        return sum(verdict.caught for verdict in self.verdicts)

    @property
    def share(self) -> float:
        return self.caught / len(self.verdicts)


def render(report: Report) -> str:
    """The figure, what was missed, and a row for each mutant."""
    found = f"{report.caught} of {len(report.verdicts)} mutants were caught ({report.share:.0%})"
    lines = [f"{found}, each hunted in one process for {report.seconds:g} s at most.", ""]
    missed = [verdict for verdict in report.verdicts if not verdict.caught]
    if missed:
        lines += ["Missed:", "", *[f"- **{verdict.name}**: {verdict.says}" for verdict in missed], ""]
    lines += [
        "| mutant | what is wrong | caught by | at seed, or after | runs | seconds |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(verdict) for verdict in report.verdicts]
    return "\n".join(lines)


def _row(verdict: Verdict) -> str:
    catch = verdict.catch
    by = "a run that does not end" if verdict.stuck else " ".join(catch.invariants) or "nothing"
    place = f"{catch.seed} ({catch.world})" if catch.invariants else ""
    if catch.moves:
        by, place = "the model", f"{catch.moves} moves ({catch.world})"
    return f"| {verdict.name} | {verdict.says} | {by} | {place} | {catch.runs} | {catch.seconds:.1f} |"


def kept(path: Path = KEPT) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)


def keep(report: Report, path: Path = KEPT) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def merged(report: Report, verdicts: Sequence[Verdict]) -> Report:
    """The report with these in the places of earlier ones of their names."""
    new = {verdict.name: verdict for verdict in verdicts}
    return Report(seconds=report.seconds, verdicts=tuple(new.get(verdict.name, verdict) for verdict in report.verdicts))
