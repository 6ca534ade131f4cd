"""The grammar of filter patterns, as AWS Lambda has it in `FilterCriteria`: text in, a frozen tree out.

The tree has no objects any more: each leaf carries its whole path, so that dotted keys and nested keys are the same. All
that is wrong with a text is said here, with its place; what a tree means is in `patterns`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from math import prod
from typing import Any, TypeAlias

import orjson

from streamflow.errors import PatternError
from streamflow.rules.patterns.operators import Condition, read_condition

Path: TypeAlias = "tuple[str, ...]"

TEXT_CHARACTERS_MAX = 4_096  # a Pattern of FilterCriteria
# DynamoDB nests 32 levels, two keys each: far beyond that a pattern only wants to exhaust somebody's stack.
NESTING_MAX = 100
COMBINATIONS_MAX = 1_000  # EventBridge's limit on what `$or` may expand to

IMAGES = ("Keys", "NewImage", "OldImage")
_OR = "$or"
# A field of such a name inside `$or` makes it an ordinary key.
_RESERVED = frozenset(
    [
        "exactly",
        "equals-ignore-case",
        "prefix",
        "suffix",
        "anything-but",
        "exists",
        "wildcard",
        "numeric",
        "cidr",
        "=",
        "<",
        "<=",
        ">",
        ">=",
        "regex",
        "not-wildcard",
        "not-equals-ignore-case",
        "date-after",
        "date-on-or-after",
        "date-before",
        "date-on-or-before",
        "in-date-range",
        "ip-address-in-range",
        "ip-address-not-in-range",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What is asked of the value at a path: one of the conditions must hold. `text` is the leaf as JSON.

    The conditions are all `changed`, or none is.
    """

    path: Path
    conditions: tuple[Condition, ...]
    text: str

    @property
    def compares_images(self) -> bool:
        return self.conditions[0].operator == "changed"

    @property
    def allows_absence(self) -> bool:
        return any(condition.operator == "exists" and condition.operand is False for condition in self.conditions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """All leaves must match, and of each choice (`$or`) one branch. The paths of branches start at the root, too."""

    leaves: tuple[Leaf, ...]
    choices: tuple[tuple[Pattern, ...], ...] = ()


def on_number_attribute(path: Path) -> bool:
    """Whether the path ends in the type `N` of an attribute, which is a string on the wire."""
    return len(path) >= 4 and path[0] == "dynamodb" and path[1] in IMAGES and path[-1] == "N"


def shown(path: Path) -> str:
    """A path for people: dotted, and nothing in it that a terminal would obey."""
    return ".".join(key if key.isprintable() and key else repr(key) for key in path)


def parse_pattern(text: str, *, extensions: bool = False) -> Pattern:
    """Read a pattern; of a key or path that is given twice the last one counts.

    Raises:
        PatternError: it is longer than 4096 characters, no JSON object, nested deeper than 100 levels, expands to more
            than 1000 combinations, or breaks a rule of the grammar.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise PatternError(f"{len(text)} characters: a pattern has at most {TEXT_CHARACTERS_MAX}")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise PatternError(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise PatternError("a pattern is a JSON object")
    if _deeper_than(document, NESTING_MAX):
        raise PatternError(f"nested deeper than {NESTING_MAX} levels")
    # Once more for exact numbers: the first parser, which is the strict one, has doubles only.
    document = json.loads(text, parse_float=Decimal)
    pattern = _object(document, (), extensions=extensions)
    if (combinations := _combinations(pattern)) > COMBINATIONS_MAX:
        raise PatternError(f"$or makes {_rounded(combinations)} combinations: at most {COMBINATIONS_MAX} are allowed")
    return pattern


def _deeper_than(document: object, limit: int) -> bool:
    level = [document]
    for _ in range(limit):
        level = [
            below
            for value in level
            if isinstance(value, dict | list)
            for below in (value.values() if isinstance(value, dict) else value)
        ]
    return any(isinstance(value, dict | list) for value in level)


def _object(members: dict[str, Any], path: Path, *, extensions: bool, inside_or: bool = False) -> Pattern:
    if not members:
        raise PatternError("an empty object", path=shown(path))
    leaves: dict[Path, Leaf] = {}
    choices: list[tuple[Pattern, ...]] = []
    for name, value in members.items():
        if inside_or and name in _RESERVED:
            raise PatternError(f"{name!r} names an operator and cannot be a field inside $or", path=shown(path))
        if name == _OR and _is_choice(value, path):
            choices.append(tuple(_object(branch, path, extensions=extensions, inside_or=True) for branch in value))
            continue
        below = (*path, *name.split("."))
        if len(below) > NESTING_MAX:
            raise PatternError(f"nested deeper than {NESTING_MAX} levels")
        if isinstance(value, dict):
            inner = _object(value, below, extensions=extensions, inside_or=inside_or)
            leaves |= {leaf.path: leaf for leaf in inner.leaves}
            choices += inner.choices
        elif isinstance(value, list):
            whole, *more = _leaves(value, below, extensions=extensions)
            if more:
                choices.append(tuple(Pattern(leaves=(leaf,)) for leaf in (whole, *more)))
            else:
                leaves[below] = whole
        else:
            raise PatternError(
                "a value outside an array: a leaf is an array of values and operators", path=shown(below)
            )
    return Pattern(leaves=tuple(leaves.values()), choices=tuple(choices))


def _is_choice(value: object, path: Path) -> bool:
    """Whether `$or` is one; with the names of operators in its objects it is an ordinary key."""
    branches = value if isinstance(value, list) else []
    if any(isinstance(branch, dict) and not _RESERVED.isdisjoint(branch) for branch in branches):
        return False
    if len(branches) < 2 or not all(isinstance(branch, dict) for branch in branches):
        raise PatternError("$or takes an array of at least two objects", path=shown((*path, _OR)))
    return True


def _leaves(elements: list[Any], path: Path, *, extensions: bool) -> list[Leaf]:
    """One leaf, or two of which one must match: `changed` looks at other things than the value."""
    if not elements:
        raise PatternError("an empty array", path=shown(path))
    try:
        conditions = tuple(map(read_condition, elements))
    except PatternError as error:
        raise PatternError(error.reason, path=shown(path)) from None
    text = json.dumps(elements, default=float, ensure_ascii=False)
    text = text if text.isprintable() else json.dumps(elements, default=float)
    changes = tuple(condition for condition in conditions if condition.operator == "changed")
    others = tuple(condition for condition in conditions if condition.operator != "changed")
    if changes:
        _check_changed(path, extensions=extensions)
    return [Leaf(path=path, conditions=each, text=text) for each in (others, changes) if each]


def _check_changed(path: Path, *, extensions: bool) -> None:
    if not extensions:
        raise PatternError(
            "unknown operator 'changed': Lambda has no such operator, the option filter_extensions allows it",
            path=shown(path),
        )
    if len(path) < 3 or path[:2] != ("dynamodb", "NewImage"):
        raise PatternError("changed stands at a path below dynamodb.NewImage", path=shown(path))


def _combinations(pattern: Pattern) -> int:
    """How many conjunctions the pattern stands for, counted without making them."""
    return prod(sum(map(_combinations, choice)) for choice in pattern.choices)


def _rounded(count: int) -> str:
    return str(count) if count < 10**9 else "more than 10^9"
