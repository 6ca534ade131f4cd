"""What the operators of filter patterns ask of a value: a string, a number, a boolean or null.

Arrays and objects are taken apart before. No operator costs more than a few passes over the value, whatever it and the
operand are. Numbers are compared as doubles, as AWS does; those in strings, where that is asked for, exactly.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from decimal import Decimal, InvalidOperation
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow.rules.patterns.operators import is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.rules.patterns.operators import Condition

Predicate: TypeAlias = "Callable[[Any], bool]"

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DECIMAL_TEXT = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,6})?")
_ADDRESS_CHARACTERS_MAX = 45  # an IPv6 address whose last 32 bits are written as IPv4


def any_holds(conditions: Sequence[Condition], *, decimal_text: bool = False) -> Predicate:
    """Whether a value that is there satisfies one of the conditions; `exists: false` and `changed` never do here.

    With `decimal_text`, `numeric` also compares strings that hold a decimal number, exactly.
    """
    strings = frozenset(
        condition.operand
        for condition in conditions
        if condition.operator == "equals" and isinstance(condition.operand, str) and not condition.ignore_case
    )
    others = [
        _holds(condition, decimal_text=decimal_text)
        for condition in conditions
        if condition.operator != "equals" or not isinstance(condition.operand, str) or condition.ignore_case
    ]
    if not others:
        return strings.__contains__
    if len(others) == 1 and not strings:
        return others[0]
    return lambda value: value in strings or any(holds(value) for holds in others)


def _holds(condition: Condition, *, decimal_text: bool) -> Predicate:
    operand = condition.operand
    match condition.operator:
        case "equals":
            return _equals(operand, ignore_case=condition.ignore_case)
        case "prefix" | "suffix":
            return _ends(condition)
        case "wildcard":
            return _wildcard(operand)
        case "numeric":
            return _numeric(operand, decimal_text=decimal_text)
        case "cidr":
            return _cidr(operand)
        case "anything-but":
            excluded = any_holds(operand)
            return lambda value: not excluded(value)
        case "exists":
            return lambda _: operand is True
    return lambda _: False


def _equals(operand: Any, *, ignore_case: bool) -> Predicate:
    if ignore_case:
        lowered = operand.lower()
        return lambda value: isinstance(value, str) and value.lower() == lowered
    if is_number(operand):
        number = _double(operand)
        return lambda value: is_number(value) and _double(value) == number
    return lambda value: value is operand


def _ends(condition: Condition) -> Predicate:
    text, at_start = condition.operand, condition.operator == "prefix"
    if condition.ignore_case:
        text = text.lower()
        if at_start:
            return lambda value: isinstance(value, str) and value.lower().startswith(text)
        return lambda value: isinstance(value, str) and value.lower().endswith(text)
    if at_start:
        return lambda value: isinstance(value, str) and value.startswith(text)
    return lambda value: isinstance(value, str) and value.endswith(text)


def _wildcard(parts: tuple[str, ...]) -> Predicate:
    """Each part is taken where it first occurs behind the one before: no way back is ever needed."""
    if len(parts) == 1:
        text = parts[0]
        return lambda value: bool(value == text)
    first, *middle, last = parts
    length_min = len(first) + len(last)

    def holds(value: Any) -> bool:
        if not isinstance(value, str) or len(value) < length_min:
            return False
        if not (value.startswith(first) and value.endswith(last)):
            return False
        place, end = len(first), len(value) - len(last)
        for part in middle:
            place = value.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True

    return holds


def _numeric(bounds: tuple[tuple[str, Any], ...], *, decimal_text: bool) -> Predicate:
    exact = [(_COMPARISONS[comparison], bound) for comparison, bound in bounds]
    doubles = [(compare, _double(bound)) for compare, bound in exact]

    def holds(value: Any) -> bool:
        if is_number(value):
            number = _double(value)
            return all(compare(number, bound) for compare, bound in doubles)
        decimal = _decimal(value) if decimal_text and isinstance(value, str) else None
        return decimal is not None and all(compare(decimal, bound) for compare, bound in exact)

    return holds


def _double(number: Any) -> float:
    try:
        return float(number)
    except OverflowError:  # an int that no double can hold
        return inf if number > 0 else -inf


def _decimal(text: str) -> Decimal | None:
    if not _DECIMAL_TEXT.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return None


def _cidr(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Predicate:
    def holds(value: Any) -> bool:
        if not isinstance(value, str) or len(value) > _ADDRESS_CHARACTERS_MAX or "%" in value:
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return holds
