"""DynamoDB attribute values, as the wire has them, into native Python.

`S` str · `N` Decimal (exact, 38 digits) · `B` bytes · `BOOL` bool · `NULL` None · `SS`/`NS`/`BS` set · `L` list · `M` dict.
"""

from __future__ import annotations

import base64
import binascii
from decimal import Clamped, Context, Decimal, DecimalException, InvalidOperation, Overflow, Rounded, Subnormal
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


# Takes what is exact within these limits, and nothing else, in one call of C code.
_within_limits = Context(
    prec=_NUMBER_CHARACTERS_MAX,
    Emax=_EXPONENT_MAX,
    Emin=-_EXPONENT_MAX,
    traps=[InvalidOperation, Rounded, Overflow, Subnormal, Clamped],
).create_decimal


def _number_exact(text: str) -> Decimal:
    if len(text) > _NUMBER_CHARACTERS_MAX:
        raise ValueError(f"a number of {len(text)} characters")
    try:
        number = _within_limits(text)
    except InvalidOperation:
        raise ValueError("not a number in N") from None
    except DecimalException:
        raise ValueError(f"a number with an exponent beyond {_EXPONENT_MAX}") from None
    if number.is_finite():
        return number
    raise ValueError("not a number in N")


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
    """The walk for one treatment of numbers, binary values and sets: each value takes the place of its wire form."""

    def fill(into: Any, wire: Iterable[tuple[Any, _Value]], level: int) -> Any:
        if level > _LEVELS_MAX:
            raise ValueError(f"nested more than {_LEVELS_MAX} levels deep")
        # The types that are seen most come first.
        for place, found in wire:
            if (text := found.S) is not UNSET:
                into[place] = text
            elif (digits := found.N) is not UNSET:
                into[place] = number(digits)
            elif (members := found.M) is not UNSET:
                into[place] = fill(members, members.items(), level + 1)
            elif (elements := found.L) is not UNSET:
                into[place] = fill(elements, enumerate(elements), level + 1)
            elif (flag := found.BOOL) is not UNSET:
                into[place] = flag
            elif (texts := found.SS) is not UNSET:
                into[place] = collect(texts)
            else:
                into[place] = rare(found)
        return into

    def rare(found: _Value) -> Any:
        if found.B is not UNSET:
            return binary(found.B)
        if found.NS is not UNSET:
            return collect(map(number, found.NS))
        if found.BS is not UNSET:
            return collect(map(binary, found.BS))
        if found.NULL is not UNSET:
            return None
        raise ValueError("an attribute has no type")

    def item(values: _Item) -> dict[str, Any]:
        read: dict[str, Any] = fill(values, values.items(), 0)
        return read

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
