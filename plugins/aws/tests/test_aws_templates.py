"""Texts with places: filled once, never parsed again."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow_aws.templates import parse

OPENINGS: tuple[Literal["{", "${"], ...] = ("{", "${")


@pytest.mark.parametrize(
    ("opening", "text", "filled"),
    [
        ("${", "plain", "plain"),
        ("${", "x${a}y${b.c}z", "xAyB.Cz"),
        ("${", "$${a} costs $5", "${a} costs $5"),
        ("${", "$${${a}}", "${A}"),
        ("${", '{"a": ${a}, "b": {}}', '{"a": A, "b": {}}'),
        ("{", "{a}{a}", "AA"),
        ("{", "ORDER#{id}", "ORDER#ID"),
        ("{", "{{a} ${a}", "{a} $A"),
    ],
)
def test_a_name_is_replaced_and_an_escaped_one_is_not(opening: Literal["{", "${"], text: str, filled: str) -> None:
    assert parse(text, opening=opening).text(str.upper) == filled


@given(opening=st.sampled_from(OPENINGS), value=st.text())
def test_a_value_is_never_parsed(opening: Literal["{", "${"], value: str) -> None:
    assert parse(f"<{opening}a}}>", opening=opening).text(lambda _: value) == f"<{value}>"


@pytest.mark.parametrize(("text", "only"), [("{a}", "a"), ("{a} ", None), ("{a}{b}", None), ("a", None)])
def test_one_place_and_nothing_else_may_stand_for_any_value(text: str, only: str | None) -> None:
    assert parse(text, opening="{").only == only


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("rest", ["", "}", "a", "a b}"])
def test_a_place_that_is_not_closed_is_a_mistake(opening: Literal["{", "${"], rest: str) -> None:
    with pytest.raises(ValueError, match=r"without a name and its }: write \$?\{name}"):
        parse(f"x {opening}{rest}", opening=opening)
