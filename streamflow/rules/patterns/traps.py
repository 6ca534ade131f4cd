"""Patterns that compile and do not do what they look like: each trap with its place, and what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamflow.rules.patterns.grammar import IMAGES, on_number_attribute, parse_pattern, shown
from streamflow.rules.patterns.operators import is_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.rules.patterns.grammar import Leaf, Path, Pattern
    from streamflow.rules.patterns.operators import Condition

_STRING, _NUMBER, _BOOLEAN = "a string", "a number", "a boolean"
# What JSON has below each type of an attribute; L and M hold objects again.
_ATTRIBUTE_TYPES = {
    "S": _STRING, "N": _STRING, "B": _STRING, "SS": _STRING, "NS": _STRING, "BS": _STRING, "BOOL": _BOOLEAN,
    "NULL": _BOOLEAN,
}  # fmt: skip
_CONTAINERS = ("M", "L")
_ENVELOPE = {
    ("eventID",): _STRING,
    ("eventName",): _STRING,
    ("eventVersion",): _STRING,
    ("eventSource",): _STRING,
    ("awsRegion",): _STRING,
    ("eventSourceARN",): _STRING,
    ("userIdentity", "type"): _STRING,
    ("userIdentity", "principalId"): _STRING,
    ("dynamodb", "ApproximateCreationDateTime"): _NUMBER,
    ("dynamodb", "SequenceNumber"): _STRING,
    ("dynamodb", "SizeBytes"): _NUMBER,
    ("dynamodb", "StreamViewType"): _STRING,
}
_OBJECTS = frozenset({("dynamodb",), ("userIdentity",), *(("dynamodb", image) for image in IMAGES)})
_PLACES = {path[-1].lower(): path for path in (*_ENVELOPE, *_OBJECTS)}
_EVENT_NAMES = ("INSERT", "MODIFY", "REMOVE")


def explain_traps(text: str, *, extensions: bool = False) -> tuple[str, ...]:
    """One sentence for each trap, in the order of the pattern.

    Raises:
        PatternError: the pattern is wrong.
    """
    found = _of_pattern(parse_pattern(text, extensions=extensions), extensions=extensions)
    return tuple(dict.fromkeys(found))


def _of_pattern(pattern: Pattern, *, extensions: bool) -> Iterator[str]:
    for leaf in pattern.leaves:
        for trap in _of_leaf(leaf, extensions=extensions):
            yield f"{shown(leaf.path)}: {trap}"
    for choice in pattern.choices:
        for branch in choice:
            yield from _of_pattern(branch, extensions=extensions)


def _of_leaf(leaf: Leaf, *, extensions: bool) -> Iterator[str]:
    path, first = leaf.path, leaf.path[0]
    if leaf.compares_images:
        return
    if path in _OBJECTS:
        yield from _never_a_leaf(leaf, f"{path[-1]} is an object and no leaf", _instead_of_object(path))
    elif path in _ENVELOPE:
        yield from _of_type(leaf, _ENVELOPE[path], extensions=extensions)
        if path == ("eventName",):
            yield from _of_event_name(leaf)
    elif path[:2] in _OBJECTS and len(path) > 2:
        yield from _of_attribute(leaf, extensions=extensions)
    else:
        yield from _never_a_leaf(leaf, "a record has no such field", _instead_of_unknown(path))
    if first == "userIdentity" or path[:2] in {("dynamodb", "NewImage"), ("dynamodb", "OldImage")}:
        yield from _of_absence(leaf)


def _never_a_leaf(leaf: Leaf, why: str, instead: str) -> Iterator[str]:
    """Nothing is ever found there; `exists: false` is the one condition that this satisfies."""
    if leaf.allows_absence:
        yield f"exists:false always matches here, because {why}; {instead}"
    if any(condition.operator == "exists" and condition.operand is True for condition in leaf.conditions):
        yield f"exists:true never matches here, because {why}; {instead}"
    elif not leaf.allows_absence:
        yield f"this never matches, because {why}; {instead}"


def _instead_of_object(path: Path) -> str:
    if path == ("dynamodb", "NewImage"):
        return 'ask for the event: {"eventName": ["INSERT", "MODIFY"]} have a new image'
    if path == ("dynamodb", "OldImage"):
        return 'ask for the event: {"eventName": ["MODIFY", "REMOVE"]} have an old image'
    if path == ("userIdentity",):
        return 'go down to a member: {"userIdentity": {"type": ["Service"]}}'
    return "go down to a member"


def _instead_of_unknown(path: Path) -> str:
    members = ("dynamodb", "userIdentity")
    first = path[0]
    place = _PLACES.get((path[1] if first in members and len(path) > 1 else first).lower())
    if place is None or place == path[:1] or (place[0] == "userIdentity" and first != "userIdentity"):
        return "the item is below dynamodb, in Keys, NewImage and OldImage"
    return f"write {shown(place)}"


def _of_type(leaf: Leaf, found: str, *, extensions: bool) -> Iterator[str]:
    """Conditions that ask for another type than the one that JSON has there."""
    for condition in leaf.conditions:
        if condition.operator == "numeric" and found != _NUMBER:
            if on_number_attribute(leaf.path):
                if not extensions:
                    yield (
                        "numeric never matches an attribute of type N, which is a string in the event; write strings "
                        '(["101"]), or allow numeric here with filter_extensions'
                    )
            else:
                yield f"numeric never matches here, where {found} stands; compare with strings"
        for operand, negated in _operands(condition):
            if wanted := _mismatch(operand, found):
                what = f"anything but {_literal(operand)}" if negated else _literal(operand)
                result = "always matches what is there" if negated else "never matches"
                yield f"{what} {result}, because {found} stands here; write {wanted}"


def _operands(condition: Condition) -> Iterator[tuple[Any, bool]]:
    if condition.operator == "equals" and not condition.ignore_case:
        yield condition.operand, False
    elif condition.operator == "anything-but":
        for inner in condition.operand:
            yield from ((operand, True) for operand, _ in _operands(inner))


def _mismatch(operand: Any, found: str) -> str | None:
    """What to write in place of an operand whose type is not there; None if it is."""
    if found == _STRING and (is_number(operand) or isinstance(operand, bool) or operand is None):
        return f'"{_literal(operand)}"' if operand is not None else "a string"
    if found == _NUMBER and not is_number(operand):
        return "a number"
    if found == _BOOLEAN and not isinstance(operand, bool):
        return "true or false"
    return None


def _literal(operand: Any) -> str:
    if isinstance(operand, bool) or operand is None:
        return {True: "true", False: "false", None: "null"}[operand]
    return repr(operand[:40]) if isinstance(operand, str) else str(operand)


def _of_event_name(leaf: Leaf) -> Iterator[str]:
    for condition in leaf.conditions:
        for operand, negated in _operands(condition):
            if isinstance(operand, str) and operand not in _EVENT_NAMES:
                yield (
                    f"{_literal(operand)} {'excludes nothing' if negated else 'never matches'}: eventName is one of "
                    f"{', '.join(_EVENT_NAMES)}"
                )


def _of_attribute(leaf: Leaf, *, extensions: bool) -> Iterator[str]:
    attribute, last = leaf.path[2:], leaf.path[-1]
    # Behind M stands the name of an attribute, whatever it looks like.
    typed = len(attribute) > 1 and not (len(attribute) > 2 and attribute[-2] == "M")
    if typed and last in _ATTRIBUTE_TYPES:
        yield from _of_type(leaf, _ATTRIBUTE_TYPES[last], extensions=extensions)
    elif typed and last in _CONTAINERS:
        yield from _never_a_leaf(leaf, f"{last} holds objects and is no leaf", f"go down from {last} to a type")
    else:
        asked = [condition for condition in leaf.conditions if condition.operator == "exists"]
        value = f'{{"exists": {_literal(asked[0].operand)}}}' if asked else "…"
        which = "for each type that it may have" if asked else "with the type that it has in place of S"
        yield from _never_a_leaf(
            leaf,
            "an attribute that is present is an object with its type as key, and no leaf",
            f'write {{"{last[:40]}": {{"S": [{value}]}}}}, {which}',
        )


def _of_absence(leaf: Leaf) -> Iterator[str]:
    negative = any(condition.operator == "anything-but" for condition in leaf.conditions)
    if negative and not leaf.allows_absence:
        yield 'anything-but does not match where this is absent; add {"exists": false} if it shall'
