"""Items as DynamoDB stores them: checked, numbers and sets in one normal form, measured.

The normal form is what makes "this write changes nothing" an equality.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from streamflow.testing.refusals import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WireItem: TypeAlias = "dict[str, dict[str, Any]]"
KeySchema: TypeAlias = "Mapping[str, str]"
"""Name to type (S, N or B) of the one or two key attributes, the partition key first."""
ItemKey: TypeAlias = tuple[str, ...]

ITEM_BYTES_MAX = 409_600  # DynamoDB: 400 KB for names and values together
_DEPTH_MAX = 32  # DynamoDB: nested lists and maps
_DIGITS_MAX = 38  # DynamoDB: significant digits of a number
_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,37}\Z")
_EXACT = Context(prec=60)


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item in normal form with its JSON. `size_bytes` counts as DynamoDB does: names and values, not their JSON."""

    attributes: WireItem
    json: bytes
    size_bytes: int


def store_item(wire: object) -> StoredItem:
    """Bring an item, as a request has it, into normal form.

    Raises:
        RefusedError: an attribute is not a DynamoDB value, or the item is too large or too deep.
    """
    attributes, size_bytes = _map(wire, depth=0)
    if size_bytes > ITEM_BYTES_MAX:
        raise invalid("Item size has exceeded the maximum allowed size")
    return StoredItem(attributes, orjson.dumps(attributes), size_bytes)


def key_of_item(item: StoredItem, schema: KeySchema) -> ItemKey:
    """The key values of a whole item."""
    for name in schema:
        if name not in item.attributes:
            raise invalid(f"One or more parameter values were invalid: Missing the key {name} in the item")
    return _key(item, schema)


def key_of_key(key: StoredItem, schema: KeySchema) -> ItemKey:
    """The key values of a `Key` member, which must have the key attributes and no others."""
    if key.attributes.keys() != schema.keys():
        raise invalid("The provided key element does not match the schema")
    return _key(key, schema)


def key_attributes(item: StoredItem, schema: KeySchema) -> WireItem:
    return {name: item.attributes[name] for name in schema}


def attributes_bytes(attributes: WireItem) -> int:
    """Bytes of names and values as DynamoDB counts them; normal form is expected."""
    return _map(attributes, depth=0)[1]


def _key(item: StoredItem, schema: KeySchema) -> ItemKey:
    values = []
    for name, expected in schema.items():
        ((kind, value),) = item.attributes[name].items()
        if kind != expected:
            raise invalid(
                "One or more parameter values were invalid: "
                f"Type mismatch for key {name} expected: {expected} actual: {kind}"
            )
        if not value:
            raise invalid(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an "
                f"empty {'binary' if kind == 'B' else 'string'} value. Key: {name}"
            )
        values.append(value)
    return tuple(values)


# --- normal form and size, type by type; each returns the value and its bytes -------------------------------------------


def _text(value: object, _: int) -> tuple[str, int]:
    if not isinstance(value, str):
        raise invalid("The parameter cannot be converted to a string value")
    return value, len(value.encode())


def _number(value: object, _: int) -> tuple[str, int]:
    if not isinstance(value, str):
        raise invalid("The parameter cannot be converted to a numeric value")
    text = value if _PLAIN_INTEGER.match(value) else _normal_number(value)
    digits = text.lstrip("-").replace(".", "").strip("0")
    return text, (len(digits) + 1) // 2 + 1 + text.startswith("-")


def _normal_number(text: str) -> str:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise invalid("The parameter cannot be converted to a numeric value") from None
    if not number.is_finite():
        raise invalid("The parameter cannot be converted to a numeric value")
    if not number:
        return "0"
    number = number.normalize(_EXACT)
    if len(number.as_tuple().digits) > _DIGITS_MAX:
        raise invalid("Attempting to store more than 38 significant digits in a Number")
    if not -130 <= number.adjusted() <= 125:  # DynamoDB: 1E-130 to 9.99…E+125
        raise invalid("Number overflow. Attempting to store a number with magnitude outside the supported range")
    return format(number, "f")


def _binary(value: object, _: int) -> tuple[str, int]:
    try:
        content = base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise invalid("The parameter cannot be converted to a binary value") from None
    return base64.b64encode(content).decode(), len(content)


def _boolean(value: object, _: int) -> tuple[bool, int]:
    if not isinstance(value, bool):
        raise invalid("The parameter cannot be converted to a boolean value")
    return value, 1


def _null(value: object, _: int) -> tuple[bool, int]:
    if value is not True:
        raise invalid(
            "One or more parameter values were invalid: Null attribute value types must have the value of true"
        )
    return True, 1


def _set_of(member: Callable[[object, int], tuple[str, int]]) -> Callable[[object, int], tuple[list[str], int]]:
    def set_(value: object, depth: int) -> tuple[list[str], int]:
        if not isinstance(value, list) or not value:
            raise invalid("One or more parameter values were invalid: An set may not be empty")
        members = [member(text, depth) for text in value]
        texts = {text for text, _ in members}
        if len(texts) < len(members):
            raise invalid("One or more parameter values were invalid: Input collection contains duplicates.")
        return sorted(texts), sum(size for _, size in members)

    return set_


def _list(value: object, depth: int) -> tuple[list[dict[str, Any]], int]:
    if not isinstance(value, list):
        raise invalid("The parameter cannot be converted to a list value")
    members = [_value(member, depth + 1) for member in value]
    return [member for member, _ in members], 3 + sum(1 + size for _, size in members)


def _nested_map(value: object, depth: int) -> tuple[WireItem, int]:
    attributes, size_bytes = _map(value, depth + 1)
    return attributes, 3 + len(attributes) + size_bytes


def _map(wire: object, depth: int) -> tuple[WireItem, int]:
    if not isinstance(wire, dict):
        raise invalid("The parameter cannot be converted to a map value")
    attributes: WireItem = {}
    size_bytes = 0
    for name, value in wire.items():
        attributes[name], value_bytes = _value(value, depth)
        size_bytes += len(name.encode()) + value_bytes
    return attributes, size_bytes


_TYPES: dict[str, Callable[[object, int], tuple[Any, int]]] = {
    "S": _text,
    "N": _number,
    "B": _binary,
    "BOOL": _boolean,
    "NULL": _null,
    "SS": _set_of(_text),
    "NS": _set_of(_number),
    "BS": _set_of(_binary),
    "L": _list,
    "M": _nested_map,
}


def _value(wire: object, depth: int) -> tuple[dict[str, Any], int]:
    if depth > _DEPTH_MAX:
        raise invalid("Nesting Levels have exceeded supported limits")
    if not isinstance(wire, dict) or len(wire) != 1:
        raise invalid(
            "Supplied AttributeValue is empty or has more than one type, must contain exactly one of the supported datatypes"
        )
    ((kind, content),) = wire.items()
    if kind not in _TYPES:
        raise invalid("Supplied AttributeValue is empty, must contain exactly one of the supported datatypes")
    value, size_bytes = _TYPES[kind](content, depth)
    return {kind: value}, size_bytes
