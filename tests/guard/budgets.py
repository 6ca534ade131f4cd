"""What each figure may be, by minor version of Python, and what is said of one that has grown. Pure, but for the file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

Amounts: TypeAlias = "Mapping[str, Mapping[str, float]]"
"""Figure to what is counted of it (`instructions`, `calls`, `bytes`) to how much."""

FILE = Path(__file__).with_name("budgets.json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

ACCEPT = "PYTHONPATH=tests .venv/bin/python -m guard accept"
BREAKDOWN = "PYTHONPATH=tests .venv/bin/python -m guard breakdown"

_NAMES = {
    "instructions": "bytecode instructions",
    "calls": "calls of C functions",
    "bytes": "bytes held",
    "peak_bytes": "bytes at the peak",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """`amounts` are what was accepted; each may grow by `margin`."""

    margin: float
    amounts: Amounts

    def grown(self, found: Amounts) -> list[str]:
        """One text for each amount that has grown by more than the margin, and for each without a budget."""
        return [
            text
            for figure, amounts in found.items()
            for kind, amount in amounts.items()
            if (text := self._judge(figure, kind, amount))
        ]

    def _judge(self, figure: str, kind: str, amount: float) -> str | None:
        before = self.amounts.get(figure, {}).get(kind)
        if before is None:
            return f"{figure}: there is no budget for its {_NAMES[kind]} ({amount:g}); accept it: {ACCEPT}"
        if amount <= before * (1 + self.margin):
            return None
        by = f", by {amount / before - 1:.1%}" if before else ""
        where = "" if figure == "record_in_hand" else f"\n  where it goes: {BREAKDOWN} {figure}"
        return (
            f"{figure}: {_NAMES[kind]} have grown from {before:g} to {amount:g}{by}; {self.margin:.0%} is allowed"
            f"{where}\n  if it is worth that: {ACCEPT}"
        )


def load(text: bytes, version: str = VERSION) -> Budgets | None:
    """The budgets for a minor version of Python; None where nobody has measured it."""
    content = orjson.loads(text)
    amounts = content["python"].get(version)
    return None if amounts is None else Budgets(margin=content["margin"], amounts=amounts)


def accepted(text: bytes, found: Amounts, version: str = VERSION) -> bytes:
    """The file with these amounts for this version; those of other versions stay."""
    content = orjson.loads(text)
    python = {**content["python"], version: found}
    content["python"] = {
        name: python[name] for name in sorted(python, key=lambda name: tuple(map(int, name.split("."))))
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
