"""Attribute values at their edges; what is equal for all items is in tests/property/test_record_views.py."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streamflow.attributes import native_item


@pytest.mark.fault("F9")
def test_38_digits_and_the_widest_exponents_are_exact() -> None:
    texts = [
        "1234567890" * 3 + "12345678",
        "0." + "0" * 129 + "1",
        "9.9999999999999999999999999999999999999E+125",
        "-0",
    ]
    read = native_item({"n": {"NS": texts[:3]}, "zero": {"N": texts[3]}})
    assert read == {"n": {Decimal(text) for text in texts[:3]}, "zero": Decimal(0)}


def test_numbers_as_int_and_float_lose_digits_but_not_kind() -> None:
    read = native_item({"i": {"N": "-" + "9" * 38}, "f": {"N": "1.0"}, "e": {"N": "1E+2"}}, numbers="int_float")
    assert read == {"i": -(10**38) + 1, "f": 1.0, "e": 100.0}
    assert [type(value) for value in read.values()] == [int, float, float]


def test_empty_values_are_values() -> None:
    wire: dict[str, dict[str, Any]] = {
        "": {"S": ""},
        "b": {"B": ""},
        "l": {"L": []},
        "m": {"M": {}},
        "n": {"NULL": True},
    }
    assert native_item(wire) == {"": "", "b": b"", "l": [], "m": {}, "n": None}
    assert native_item({}) == {}


def test_an_attribute_may_be_named_like_a_type() -> None:
    assert native_item({"S": {"M": {"N": {"S": "x"}}}, "M": {"L": [{"M": {"L": {"N": "1"}}}]}}) == {
        "S": {"N": "x"},
        "M": [{"L": Decimal(1)}],
    }


@pytest.mark.fault("F6")
@pytest.mark.parametrize(
    "value",
    [
        {"SS": "secret"},
        {"NS": "123"},
        {"BS": "AAAA"},
        {"SS": {"secret": 1}},
        {"SS": ["a", 1]},
        {"SS": [["secret"]]},
        {"N": 1},
        {"N": [0, [1], 0]},
        {"N": None},
        {"S": None},
        {"B": "sécret"},
        {"B": "AAA"},
        {"B": 7},
        {"L": "secret"},
        {"L": {"S": "secret"}},
        {"M": [{"S": "secret"}]},
        {"BOOL": 1},
        {"secret": "a"},
        {},
        None,
        [],
        "secret",
    ],
    ids=repr,
)
@pytest.mark.parametrize("numbers", ["decimal", "int_float"])
def test_what_is_no_attribute_value_is_refused_without_quoting_it(value: Any, numbers: Any) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        native_item({"a": value}, numbers=numbers)
    assert type(caught.value) is ValueError
    assert "secret" not in str(caught.value)


@pytest.mark.fault("F11")
def test_nesting_far_beyond_dynamodbs_32_levels_is_an_error_and_no_crash() -> None:
    value: dict[str, Any] = {"S": "deep"}
    for _ in range(5_000):
        value = {"L": [value]}
    with pytest.raises(RecursionError):
        native_item({"a": value})
