"""DynamoDB attribute values, as the wire has them, into native Python.

`S` str · `N` Decimal (exact, 38 digits) · `B` bytes · `BOOL` bool · `NULL` None · `SS`/`NS`/`BS` set · `L` list · `M` dict.
"""

from __future__ import annotations

import base64
import binascii
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import orjson
from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NativeValue: TypeAlias = (
    "str | int | float | Decimal | bytes | bool | set[Any] | list[NativeValue] | dict[str, NativeValue] | None"
)
Numbers: TypeAlias = Literal["decimal", "int_float"]

# DynamoDB holds 38 digits and exponents within ±130; far beyond that a number is an attack on the reader, not data: Python
# takes half a minute to make an int of 1E+1000000.
_NUMBER_CHARACTERS_MAX = 400
_EXPONENT_MAX = 400
# DynamoDB nests 32 levels. What is deeper than this could be read, and not be written: orjson ends at 254.
_LEVELS_MAX = 200


def _number_exact(text: str) -> Decimal:
    if len(text) <= _NUMBER_CHARACTERS_MAX and type(text) is str and text.isdecimal():
        return Decimal(text)  # what most numbers are, and nothing else to look at
    if len(text) > _NUMBER_CHARACTERS_MAX:
        raise ValueError(f"a number of {len(text)} characters")
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise ValueError("not a number in N") from None
    if type(text) is not str or not number.is_finite():
        raise ValueError("not a number in N")
    if abs(number.adjusted()) > _EXPONENT_MAX:
        raise ValueError(f"a number with an exponent beyond {_EXPONENT_MAX}")
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


class _Value(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One attribute value in wire form, `{"S": "text"}`. Of several types in one value, which nobody sends, one counts."""

    S: str | UnsetType = UNSET
    N: str | UnsetType = UNSET
    M: dict[str, _Value] | UnsetType = UNSET
    L: list[_Value] | UnsetType = UNSET
    BOOL: bool | UnsetType = UNSET
    SS: list[str] | UnsetType = UNSET
    B: str | UnsetType = UNSET
    NS: list[str] | UnsetType = UNSET
    BS: list[str] | UnsetType = UNSET
    NULL: bool | UnsetType = UNSET


_Item: TypeAlias = "dict[str, _Value]"
_decode = msgspec.json.Decoder(dict[str, _Value]).decode


def _reader(
    number: Callable[[str], Any],
    *,
    binary: Callable[[str], Any] = _binary,
    collect: Callable[[Iterable[Any]], Any] = set,
) -> Callable[[_Item], dict[str, Any]]:
    """The walk for one treatment of numbers, binary values and sets."""

    def item(values: _Item, level: int = 1) -> dict[str, Any]:
        # The two types that most attributes have, without a call.
        return {
            name: text
            if (text := found.S) is not UNSET
            else number(digits)
            if (digits := found.N) is not UNSET
            else value(found, level)
            for name, found in values.items()
        }

    def value(found: _Value, level: int) -> Any:
        if found.S is not UNSET:
            return found.S
        if found.N is not UNSET:
            return number(found.N)
        if level > _LEVELS_MAX:
            raise ValueError(f"nested more than {_LEVELS_MAX} levels deep")
        if found.M is not UNSET:
            return item(found.M, level + 1)
        if found.L is not UNSET:
            return [value(each, level + 1) for each in found.L]
        if found.BOOL is not UNSET:
            return found.BOOL
        if found.SS is not UNSET:
            return collect(found.SS)
        if found.B is not UNSET:
            return binary(found.B)
        if found.NS is not UNSET:
            return collect(map(number, found.NS))
        if found.BS is not UNSET:
            return collect(map(binary, found.BS))
        if found.NULL is not UNSET:
            return None
        raise ValueError("an attribute has no type")

    return item


_json_item = _reader(_number_json, binary=_base64_text, collect=list)
_NATIVE: dict[Numbers, Callable[[_Item], dict[str, Any]]] = {
    "decimal": _reader(_number_exact),
    "int_float": _reader(_number_int_float),
}


def native_image(json: bytes | memoryview, *, numbers: Numbers = "decimal") -> dict[str, NativeValue]:
    """Read an item in wire form (`{"id": {"S": "1"}}`), as JSON, into native Python.

    `numbers="int_float"` gives `int` for whole numbers and `float` for the rest, which is fast and loses digits beyond 17.

    Raises:
        ValueError: it is no JSON, or an attribute is not a DynamoDB value; the message names no content.
        RecursionError: it is nested beyond all reason.
    """
    return _NATIVE[numbers](_decoded(json))


def json_image(json: bytes | memoryview) -> dict[str, Any]:
    """The same into what `orjson.dumps` writes as plain JSON: binary as base64 text, sets as arrays.

    Numbers keep every digit, as JSON numbers. Raises as `native_image`.
    """
    return _json_item(_decoded(json))


def native_item(wire: Mapping[str, Mapping[str, Any]], *, numbers: Numbers = "decimal") -> dict[str, NativeValue]:
    """As `native_image`, of an item that is decoded from JSON already."""
    return native_image(msgspec.json.encode(wire), numbers=numbers)


def json_item(wire: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """As `json_image`, of an item that is decoded from JSON already."""
    return json_image(msgspec.json.encode(wire))


def _decoded(json: bytes | memoryview) -> _Item:
    try:
        return _decode(json)
    except msgspec.ValidationError as error:
        # The library's own text quotes the name of a field that it does not know.
        text = "an attribute has an unknown type" if "unknown field" in str(error) else str(error)
        raise ValueError(text) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("its JSON is broken") from None
