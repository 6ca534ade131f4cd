"""How large DynamoDB takes an item to be: names and values, not their JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ITEM_BYTES_MAX = 409_600
"""400 KB."""


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Of an item in wire form with binary values as bytes."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "N":
            return _number_bytes(content)
        case "B":
            return len(content)
        case "SS":
            return sum(len(each.encode()) for each in content)
        case "NS":
            return sum(map(_number_bytes, content))
        case "BS":
            return sum(map(len, content))
        case "L":
            return 3 + sum(1 + _value_bytes(each) for each in content)
        case "M":
            return 3 + len(content) + item_bytes(content)
    return 1


def _number_bytes(text: str) -> int:
    """About a byte for two digits, and one more: leading and trailing zeros do not count."""
    digits = text.lstrip("-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + text.startswith("-")
