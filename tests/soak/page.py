"""The soak's verdicts as data beside the documentation, and the table made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reliability.sections import DOCS
from soak.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

KEPT = DOCS / "soak.json"
_COLUMNS = ("part", "seconds", "records", "kills", "lost", "duplicates", "limits", "kept")


def merged(path: Path, found: Iterable[Verdict]) -> list[Verdict]:
    """What is kept, with these in the places of earlier ones of their parts; stored, and given back in order."""
    verdicts = {verdict.name: verdict for verdict in kept(path)} | {verdict.name: verdict for verdict in found}
    ordered = [verdicts[name] for name in sorted(verdicts)]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
    return ordered


def kept(path: Path) -> list[Verdict]:
    return msgspec.json.decode(path.read_bytes(), type=list[Verdict]) if path.exists() else []


def render(verdicts: Sequence[Verdict]) -> str:
    """The table, and below it how each part is run again."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{'---|' * len(_COLUMNS)}"]
    for verdict in verdicts:
        limits = "<br>".join(limit.text for limit in verdict.limits)
        cells = (
            f"**{verdict.name}** {verdict.says}",
            f"{verdict.seconds:g}",
            f"{verdict.records:,}",
            str(verdict.kills),
            str(verdict.lost),
            f"{verdict.duplicates:,}",
            limits,
            "no" if verdict.broken else "yes",
        )
        lines.append(f"| {' | '.join(cells)} |")
    again = [
        f"- {verdict.name}: commit `{verdict.commit}`, seed {'none' if verdict.seed is None else verdict.seed}, "
        f"`{verdict.command}`, {verdict.machine}"
        for verdict in verdicts
    ]
    return "\n".join([*lines, *(["", *again] if again else [])])
