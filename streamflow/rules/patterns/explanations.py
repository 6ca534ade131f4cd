"""Why an event does not match a pattern: for each part that fails its path, and what stands there. For dry runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streamflow.rules.patterns.compiling import compile_tree, itself
from streamflow.rules.patterns.grammar import Pattern, parse_pattern, shown
from streamflow.rules.patterns.operators import kind
from streamflow.rules.patterns.places import crushed, standing_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamflow.rules.patterns.grammar import Leaf, Path

_SHOWN_CHARACTERS_MAX = 60
_SHOWN_VALUES_MAX = 3


def explain_mismatch(text: str, event: Mapping[str, Any], *, extensions: bool = False) -> tuple[str, ...]:
    """One line for each part of the pattern that fails, branches of `$or` indented below it; none if the event matches.

    Lines show the leaf, and of the event's values the type and little more.

    Raises:
        PatternError: the pattern is wrong.
    """
    pattern = parse_pattern(text, extensions=extensions)
    if _matches(pattern, event, extensions=extensions):
        return ()
    return tuple(_failing(pattern, event, extensions=extensions))


def _matches(pattern: Pattern, event: Mapping[str, Any], *, extensions: bool) -> bool:
    return compile_tree(pattern, itself, extensions=extensions)(event)


def _failing(pattern: Pattern, event: Mapping[str, Any], *, extensions: bool) -> Iterator[str]:
    """The pattern as a whole does not match."""
    together = True
    for leaf in pattern.leaves:
        if not _matches(Pattern(leaves=(leaf,)), event, extensions=extensions):
            together = False
            yield f"{shown(leaf.path)}: found {_found(event, leaf)}, wanted {_cut(leaf.text)}"
    for choice in pattern.choices:
        if any(_matches(branch, event, extensions=extensions) for branch in choice):
            continue
        together = False
        yield f"$or: none of its {len(choice)} branches matches"
        for number, branch in enumerate(choice, start=1):
            for line in _failing(branch, event, extensions=extensions):
                yield f"  {number}. {line}"
    if together:
        yield "each part matches, but only in different elements of one array"


def _found(event: Mapping[str, Any], leaf: Leaf) -> str:
    standing = standing_at(event, leaf.path)
    if leaf.compares_images:
        return f"{_values(standing)} and {_values(standing_at(event, ('dynamodb', 'OldImage', *leaf.path[2:])))} in OldImage"
    found = [value for each in standing for value in crushed(each)]
    return _values(found) if found else _missing(event, leaf.path)


def _missing(event: Mapping[str, Any], path: Path) -> str:
    """How far the path goes."""
    if standing_at(event, path):
        return "an empty array"
    length = len(path) - 1
    while length and not standing_at(event, path[:length]):
        length -= 1
    return f"no {shown(path[length : length + 1])}" + (f" in {shown(path[:length])}" if length else "")


def _values(values: list[Any]) -> str:
    if not values:
        return "nothing"
    listed = ", ".join(map(_value, values[:_SHOWN_VALUES_MAX]))
    more = len(values) - _SHOWN_VALUES_MAX
    return f"{listed} and {more} more" if more > 0 else listed


def _value(value: Any) -> str:
    if isinstance(value, dict):
        keys = ", ".join(shown((key,)) for key in list(value)[:_SHOWN_VALUES_MAX])
        return f"an object (with {_cut(keys)})" if keys else "an empty object"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if value is None:
        return "null"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return f"{kind(value)} {_cut(text)}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[:_SHOWN_CHARACTERS_MAX]}…"
