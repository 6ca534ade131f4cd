"""DynamoDB attribute values, as the wire has them, into native Python.

`S` str · `N` Decimal (exact, 38 digits) · `B` bytes · `BOOL` bool · `NULL` None · `SS`/`NS`/`BS` set · `L` list · `M` dict.
"""

from __future__ import annotations

import base64
import binascii
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NativeValue: TypeAlias = (
    "str | int | float | Decimal | bytes | bool | set[Any] | list[NativeValue] | dict[str, NativeValue] | None"
)
Numbers: TypeAlias = Literal["decimal", "int_float"]

# DynamoDB holds 38 digits and exponents within ±130; far beyond that a number is an attack on the reader, not data.
_NUMBER_CHARACTERS_MAX = 400


def _number_exact(text: str) -> Decimal:
    if len(text) > _NUMBER_CHARACTERS_MAX:
        raise ValueError(f"a number of {len(text)} characters")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("not a number in N") from None
    if type(text) is not str or not number.is_finite():
        raise ValueError("not a number in N")
    return number


def _number_int_float(text: str) -> int | float:
    if len(text) > _NUMBER_CHARACTERS_MAX:
        raise ValueError(f"a number of {len(text)} characters")
    digits = text[1:] if text[:1] == "-" else text
    if digits.isascii() and digits.isdigit():
        return int(text)
    try:
        number = float(text)
    except ValueError:
        raise ValueError("not a number in N") from None  # Python's own text quotes it
    if not isfinite(number):
        raise ValueError("not a number in N")
    return number


def _binary(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("invalid base64 in B") from None


def _null(_: object) -> None:
    return None


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("BOOL holds no boolean")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("S holds no string")
    return value


def _members(values: object) -> list[Any]:
    # A string can be iterated too.
    if not isinstance(values, list):
        raise TypeError("SS, NS and BS hold lists")
    return values


def _readers(number: Callable[[str], Any]) -> Callable[[Mapping[str, Mapping[str, Any]]], dict[str, NativeValue]]:
    """The walk for one treatment of numbers: item in wire form to a dict of native values."""

    def list_(values: list[dict[str, Any]]) -> list[NativeValue]:
        return [value(wire) for wire in values]

    def item(values: Mapping[str, Mapping[str, Any]]) -> dict[str, NativeValue]:
        return {name: value(wire) for name, wire in values.items()}

    by_type: dict[str, Callable[[Any], NativeValue]] = {
        "S": _text,
        "N": number,
        "B": _binary,
        "BOOL": _boolean,
        "NULL": _null,
        "SS": lambda values: {_text(text) for text in _members(values)},
        "NS": lambda values: {number(text) for text in _members(values)},
        "BS": lambda values: {_binary(text) for text in _members(values)},
        "L": list_,
        "M": item,
    }

    def value(wire: Mapping[str, Any]) -> NativeValue:
        ((kind, content),) = wire.items()
        return by_type[kind](content)

    return item


_ITEM: dict[Numbers, Callable[[Mapping[str, Mapping[str, Any]]], dict[str, NativeValue]]] = {
    "decimal": _readers(_number_exact),
    "int_float": _readers(_number_int_float),
}


def native_item(wire: Mapping[str, Mapping[str, Any]], *, numbers: Numbers = "decimal") -> dict[str, NativeValue]:
    """Turn an item in wire form (`{"id": {"S": "1"}}`) into native Python.

    `numbers="int_float"` gives `int` for whole numbers and `float` for the rest, which is fast and loses digits beyond 17.

    Raises:
        ValueError: an attribute is not a DynamoDB value; the message names no content.
    """
    try:
        return _ITEM[numbers](wire)
    except KeyError:
        raise ValueError("an attribute has an unknown type") from None
    except (TypeError, AttributeError, ValueError) as error:
        # Python's own texts for a failed unpacking name counts and types, ours name the DynamoDB type.
        raise ValueError(str(error) or "an attribute is not a DynamoDB value") from None
