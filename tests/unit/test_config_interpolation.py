"""Variables fill strings, and nothing but strings."""

from __future__ import annotations

import pytest

from streamflow.config.interpolation import interpolate

VARIABLES = {"NAME": "orders", "EMPTY": "", "EVIL": '"\nstore = "memory:', "NESTED": "${NAME}"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${NAME}", "orders"),
        ("a-${NAME}-${NAME}.db", "a-orders-orders.db"),
        ("${UNSET:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${UNSET:-}", ""),
        ("${EMPTY}", ""),
        ("${NAME:-default}", "orders"),
        ("$${NAME}", "${NAME}"),
        ("$NAME and $", "$NAME and $"),
        ("${EVIL}", VARIABLES["EVIL"]),
        ("${NESTED}", "${NAME}"),
    ],
)
def test_a_string_is_filled_in(text: str, filled: str) -> None:
    assert interpolate(text, VARIABLES) == (filled, [])


def test_other_values_and_keys_stay_as_they_are() -> None:
    document = {"${NAME}": 1, "table": {"list": [True, "${NAME}", 2.5]}}
    assert interpolate(document, VARIABLES) == ({"${NAME}": 1, "table": {"list": [True, "orders", 2.5]}}, [])


@pytest.mark.fault("F2")
def test_every_unset_variable_is_a_problem_at_its_key() -> None:
    _, problems = interpolate({"a": "${ONE}", "b": [{"c": "${TWO} ${THREE}"}]}, VARIABLES)
    assert [problem.path for problem in problems] == [("a",), ("b", 0, "c"), ("b", 0, "c")]
    assert [problem.message.split()[3] for problem in problems] == ["ONE", "TWO", "THREE"]


@pytest.mark.fault("F2")
@pytest.mark.parametrize("text", ["${", "${}", "${A B}", "${1}", "${NAME:default}"])
def test_a_malformed_place_is_a_problem(text: str) -> None:
    _, [problem] = interpolate({"key": text}, VARIABLES)
    assert "write ${NAME}" in problem.message
