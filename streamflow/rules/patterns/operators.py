"""The operators of filter patterns and the operands that they take; what they ask of a value is in `pattern_predicates`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from streamflow.errors import PatternError

if TYPE_CHECKING:
    from collections.abc import Callable

_LOWER, _UPPER = (">", ">="), ("<", "<=")
_COMPARISONS = ("=", *_UPPER, *_LOWER)


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing asked of a value; one of those in a leaf must hold.

    The operand is: for `equals` a scalar; `prefix` and `suffix` a string; `wildcard` the strings between its stars;
    `numeric` its comparisons with their bounds; `cidr` a network; `anything-but` the conditions of which none may hold;
    `exists` and `changed` a boolean.
    """

    operator: str
    operand: Any
    ignore_case: bool = False


def kind(value: object) -> str:
    """What JSON calls it, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float() | Decimal():
            return "a number"
        case list():
            return "an array"
    return "an object"


def is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def read_condition(element: object) -> Condition:
    """One element of a leaf array; numbers come as `int` and `Decimal`.

    Raises:
        PatternError: it is no scalar and no operator with an operand that it takes; without a path.
    """
    if isinstance(element, list):
        raise PatternError("an array inside a leaf array: a leaf holds values and operators")
    if not isinstance(element, dict):
        return Condition("equals", element)
    name, operand = _only_member(element, "an operator")
    if name not in _READERS:
        raise PatternError(f"unknown operator {name[:40]!r}")
    return _READERS[name](operand)


def _only_member(members: dict[str, Any], what: str) -> tuple[str, Any]:
    if len(members) != 1:
        raise PatternError(f"{what} is an object with exactly one key, not {len(members)}")
    return next(iter(members.items()))


def _text(operand: object, name: str) -> str:
    if not isinstance(operand, str):
        raise PatternError(f"{name} takes a string, not {kind(operand)}")
    return operand


def _read_exactly(operand: object) -> Condition:
    return Condition("equals", _text(operand, "exactly"))


def _read_ignore_case(operand: object) -> Condition:
    return Condition("equals", _text(operand, "equals-ignore-case"), ignore_case=True)


def _read_end(name: str) -> Callable[[object], Condition]:
    def read(operand: object) -> Condition:
        if not isinstance(operand, dict):
            return Condition(name, _text(operand, name))
        inner, text = _only_member(operand, f"the operand of {name}")
        if inner != "equals-ignore-case":
            raise PatternError(f"{name} takes a string or equals-ignore-case, not {inner[:40]!r}")
        return Condition(name, _text(text, inner), ignore_case=True)

    return read


def _read_wildcard(operand: object) -> Condition:
    text = _text(operand, "wildcard")
    parts, part, place = [], "", 0
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 1
            if text[place : place + 1] not in {"*", "\\"}:
                raise PatternError(
                    f"invalid escape in wildcard at character {place - 1}: only \\* and \\\\ are escapes"
                )
            part += text[place]
        elif character != "*":
            part += character
        elif text[place + 1 : place + 2] == "*":
            raise PatternError(f"consecutive stars in wildcard at character {place}")
        else:
            parts.append(part)
            part = ""
        place += 1
    return Condition("wildcard", (*parts, part))


def _read_numeric(operand: object) -> Condition:
    if not isinstance(operand, list) or len(operand) not in {2, 4}:
        raise PatternError("numeric takes an array of one comparison with its number, or of a lower and an upper one")
    bounds = tuple(zip(operand[::2], operand[1::2], strict=True))
    for comparison, bound in bounds:
        if not isinstance(comparison, str) or comparison not in _COMPARISONS:
            raise PatternError("a comparison of numeric is one of = < <= > >=")
        if not is_number(bound):
            raise PatternError(f"{comparison} in numeric takes a number, not {kind(bound)}")
    if len(bounds) == 2:
        (lower, bottom), (upper, top) = bounds
        if lower not in _LOWER:
            raise PatternError(f"{lower} in numeric stands alone: a range is > or >= and then < or <=")
        if upper not in _UPPER:
            raise PatternError(f"a lower bound in numeric is followed by < or <=, not by {upper}")
        if bottom >= top:
            raise PatternError("the lower bound in numeric is not below the upper one")
    return Condition("numeric", bounds)


def _read_exists(operand: object) -> Condition:
    return Condition("exists", _boolean(operand, "exists"))


def _read_changed(operand: object) -> Condition:
    return Condition("changed", _boolean(operand, "changed"))


def _boolean(operand: object, name: str) -> bool:
    if not isinstance(operand, bool):
        raise PatternError(f"{name} takes true or false, not {kind(operand)}")
    return operand


def _read_cidr(operand: object) -> Condition:
    address, slash, bits = _text(operand, "cidr").partition("/")
    if not slash or not (bits.isascii() and bits.isdigit()) or len(bits) > 3 or "%" in address:
        raise PatternError("cidr takes an address, a slash and the number of mask bits")
    try:
        return Condition("cidr", ipaddress.ip_network(f"{address}/{bits}", strict=False))
    except ValueError:
        raise PatternError("cidr takes an IPv4 network (/0 to /32) or an IPv6 network (/0 to /128)") from None


def _read_anything_but(operand: object) -> Condition:
    if isinstance(operand, dict):
        name, values = _only_member(operand, "the operand of anything-but")
        if name not in _INSIDE_ANYTHING_BUT:
            raise PatternError(f"anything-but takes {', '.join(_INSIDE_ANYTHING_BUT)}, not {name[:40]!r}")
        conditions = [_READERS[name](_text(value, name)) for value in _listed(values)]
        if any(condition.operand == "" for condition in conditions if condition.operator in {"prefix", "suffix"}):
            raise PatternError(f"an empty {name} inside anything-but would never match")
        return Condition("anything-but", tuple(conditions))
    values = _listed(operand)
    if not (all(isinstance(value, str) for value in values) or all(map(is_number, values))):
        raise PatternError("anything-but takes a string, a number, or a list of only strings or only numbers")
    return Condition("anything-but", tuple(Condition("equals", value) for value in values))


def _listed(operand: object) -> list[Any]:
    if not isinstance(operand, list):
        return [operand]
    if not operand:
        raise PatternError("an empty list inside anything-but")
    return operand


_INSIDE_ANYTHING_BUT = ("prefix", "suffix", "equals-ignore-case", "wildcard")
_READERS: dict[str, Callable[[Any], Condition]] = {
    "exactly": _read_exactly,
    "prefix": _read_end("prefix"),
    "suffix": _read_end("suffix"),
    "equals-ignore-case": _read_ignore_case,
    "wildcard": _read_wildcard,
    "anything-but": _read_anything_but,
    "numeric": _read_numeric,
    "exists": _read_exists,
    "cidr": _read_cidr,
    "changed": _read_changed,
}
