"""Mistakes in a pipeline file: what is wrong, at which key, and what was probably meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.config.writing import key
from streamflow.declaration import problem
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from streamflow.config.lines import KeyLines, KeyPath


_OPENING = re.compile(r"^\w+ should")  # "Input should", "String should"
_KEY = re.compile(r"\b([a-z_]+)(?:\.(\d+): )?")


@dataclass(frozen=True, slots=True)
class Problem:
    """`message` is one line and says what to do; `found` is shown as the file has it, never as a variable's value."""

    path: KeyPath
    message: str

    def line(self, file: str, lines: KeyLines) -> str:
        return f"{file}:{lines.line(self.path)}: {dotted(self.path)}{self.message}"


def dotted(path: KeyPath) -> str:
    """The path as people write it, up to its colon: `pipelines.orders.middleware[0].seconds: `; empty at the top."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{key(part)}" for part in path).removeprefix(".")
    return f"{text}: " if text else ""


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
        message = _as_written(detail["msg"].removeprefix("Value error, "), detail.get("input"), found)
        return _at_key(Problem(path, message), found)
    plain: ErrorDetails = {**detail, "loc": path[-1:], "input": found}
    place = str(path[-1]) if path else "declaration"
    message = _OPENING.sub("should", problem(plain).removeprefix(f"{place}: "))
    return Problem(path, message.replace("a valid tuple", "an array"))


def _as_written(message: str, filled: object, written: object) -> str:
    """`message` with what the file has in the place of what the environment made of it."""
    match filled, written:
        case str(), str() if filled != written:
            return message.replace(repr(filled[:80]), repr(written))
        case list(), list():
            for pair in zip(filled, written, strict=False):
                message = _as_written(message, *pair)
    return message


def _at_key(problem: Problem, found: object) -> Problem:
    """A mistake of a table as a whole stands at the first of its keys that the message names."""
    if not isinstance(found, dict) or "middleware" in problem.path:  # words of somebody's own layer are not ours
        return problem
    for named in _KEY.finditer(problem.message):
        name, index = named.groups()
        if name in found:
            place = (name,) if index is None else (name, int(index))
            text = problem.message if index is None else problem.message.removeprefix(named[0])
            return Problem((*problem.path, *place), text)
    return problem
