"""What stands at a path of an event: arrays are crushed out of paths, and a key with dots stands for nested objects.

An event may be hostile: nothing here recurses into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ABSENT: Final[Any] = type("Absent", (), {"__slots__": (), "__repr__": lambda _: "ABSENT"})()
"""Stands where nothing does; null is something."""


def unfolded(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same object, its dotted keys split once; where both spellings are there, the nested one counts."""
    if "." not in "".join(node):
        return node
    plain = {key: value for key, value in node.items() if "." not in key}
    dotted: dict[str, dict[str, Any]] = {}
    for key, value in node.items():
        first, dot, rest = key.partition(".")
        if dot:
            dotted.setdefault(first, {})[rest] = value
    for first, below in dotted.items():
        nested = plain.get(first, below)
        if isinstance(nested, Mapping):
            plain[first] = {**below, **nested}
    return plain


def crushed(value: object) -> Iterator[Any]:
    """The value, or the elements of an array and of the arrays in it; an empty array gives nothing."""
    pending = [value]
    while pending:
        element = pending.pop()
        if isinstance(element, list):
            pending.extend(reversed(element))
        else:
            yield element


def standing_at(value: object, names: Sequence[str]) -> list[Any]:
    """All that stands at a path, in order; an array at its end stays one."""
    found: list[Any] = [] if value is ABSENT else [value]
    for name in names:
        objects = (unfolded(node) for each in found for node in crushed(each) if isinstance(node, Mapping))
        found = [below for node in objects if (below := node.get(name, ABSENT)) is not ABSENT]
    return found


def meets_array(value: object, names: Sequence[str]) -> bool:
    """Whether an array stands on the way to a path, or at its end."""
    for name in names:
        if not isinstance(value, Mapping):
            break
        value = unfolded(value).get(name, ABSENT)
    return isinstance(value, list)
