"""DynamoDB attribute values, as the wire has them, into native Python.

`S` str · `N` Decimal (exact, 38 digits) · `B` bytes · `BOOL` bool · `NULL` None · `SS`/`NS`/`BS` set · `L` list · `M` dict.
"""

from __future__ import annotations

import base64
import binascii
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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


# Whole numbers up to here are the same in every reader of JSON; all others are written with the digits that they have.
_INTEGER_CHARACTERS_MAX = 15


def _number_json(text: str) -> int | orjson.Fragment:
    digits = text[1:] if text[:1] == "-" else text
    if len(text) <= _INTEGER_CHARACTERS_MAX and digits.isascii() and digits.isdigit():
        return int(text)
    return orjson.Fragment(str(_number_exact(text)))


def _base64_text(text: str) -> str:
    _binary(text)
    return text


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


def _readers(
    number: Callable[[str], Any],
    *,
    binary: Callable[[str], Any] = _binary,
    collect: Callable[[Iterable[Any]], Any] = set,
) -> Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Any]]:
    """The walk for one treatment of numbers, binary values and sets: item in wire form to a dict."""

    def list_(values: list[dict[str, Any]]) -> list[NativeValue]:
        return [value(wire) for wire in values]

    def item(values: Mapping[str, Mapping[str, Any]]) -> dict[str, NativeValue]:
        return {name: value(wire) for name, wire in values.items()}

    by_type: dict[str, Callable[[Any], NativeValue]] = {
        "S": _text,
        "N": number,
        "B": binary,
        "BOOL": _boolean,
        "NULL": _null,
        "SS": lambda values: collect(map(_text, _members(values))),
        "NS": lambda values: collect(map(number, _members(values))),
        "BS": lambda values: collect(map(binary, _members(values))),
        "L": list_,
        "M": item,
    }

    def value(wire: Mapping[str, Any]) -> NativeValue:
        ((kind, content),) = wire.items()
        return by_type[kind](content)

    return item


_json_item = _readers(_number_json, binary=_base64_text, collect=list)
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
    return _read(_ITEM[numbers], wire)


def json_item(wire: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Turn an item in wire form into what `orjson.dumps` writes as plain JSON: binary as base64 text, sets as arrays.

    Numbers keep every digit, as JSON numbers. Raises as `native_item`.
    """
    return _read(_json_item, wire)


def _read(
    read: Callable[[Mapping[str, Mapping[str, Any]]], dict[str, Any]], wire: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    try:
        return read(wire)
    except KeyError:
        raise ValueError("an attribute has an unknown type") from None
    except (TypeError, AttributeError, ValueError) as error:
        # Python's own texts for a failed unpacking name counts and types, ours name the DynamoDB type.
        raise ValueError(str(error) or "an attribute is not a DynamoDB value") from None
