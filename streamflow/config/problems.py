"""Mistakes in a pipeline file: what is wrong, at which key, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.pipeline import problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from streamflow.config.lines import KeyLines, KeyPath


_BARE = re.compile(r"[A-Za-z0-9_-]+")
_OPENING = re.compile(r"^\w+ should")  # "Input should", "String should"


@dataclass(frozen=True, slots=True)
class Problem:
    """`message` is one line and says what to do; `found` is shown as the file has it, never as a variable's value."""

    path: KeyPath
    message: str

    def line(self, file: str, lines: KeyLines) -> str:
        return f"{file}:{lines.line(self.path)}: {dotted(self.path)}{self.message}"


def dotted(path: KeyPath) -> str:
    """The path as people write it, up to its colon: `pipelines.orders.middleware[0].seconds: `; empty at the top."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in path).removeprefix(".")
    return f"{text}: " if text else ""


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def from_validation(detail: ErrorDetails, path: KeyPath, *, found: object, known: Iterable[str]) -> Problem:
    """One mistake that pydantic found. `path` is cleaned of what is not in the file, `known` are the keys of its table."""
    kind = detail["type"]
    if kind == "extra_forbidden":
        name = str(path[-1])
        known = sorted(known)
        return Problem(path, f"unknown key{did_you_mean(name, known) or '; this table has ' + ', '.join(known)}")
    if kind == "missing":
        return Problem(path, "required, but not given")
    if kind == "value_error":  # our own words, which name what they mean
        return Problem(path, detail["msg"].removeprefix("Value error, "))
    plain: ErrorDetails = {**detail, "loc": ("",), "input": found}
    return Problem(path, _OPENING.sub("should", problem(plain).removeprefix("declaration: ")))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean …?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""
