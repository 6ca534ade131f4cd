"""Each operator of filter patterns answers as one that was written to be obvious, whatever it takes and is given."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from streamflow.errors import PatternError
from streamflow.rules.patterns.compiling import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

texts = st.text("ab*", max_size=6) | st.text("ab*\\AÄß", max_size=8)
numbers = st.integers(-2, 2) | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
values = texts | numbers | st.booleans() | st.none() | st.just("1.5")


def answer(condition: Any, value: Any) -> bool | None:
    """What is asked of one value, as the pattern would answer; None where the pattern is refused."""
    try:
        return compile_pattern(json.dumps({"a": [condition]}))({"a": value})
    except PatternError:
        return None


# --- wildcards -------------------------------------------------------------------------------------------------------


def tokens(wildcard: str) -> list[str | None] | None:
    """Its characters, None for a star; None as a whole where it is none."""
    found: list[str | None] = []
    place = 0
    while place < len(wildcard):
        if wildcard[place] == "\\":
            if wildcard[place + 1 : place + 2] not in ("*", "\\"):
                return None
            found.append(wildcard[place + 1])
            place += 1
        elif wildcard[place] == "*":
            if found and found[-1] is None and wildcard[place - 1] == "*":
                return None
            found.append(None)
        else:
            found.append(wildcard[place])
        place += 1
    return found


def matches_slowly(wildcard: list[str | None], text: str) -> bool:
    """Every way to part the text is tried."""
    if not wildcard:
        return not text
    if wildcard[0] is None:
        return any(matches_slowly(wildcard[1:], text[taken:]) for taken in range(len(text) + 1))
    return text[:1] == wildcard[0] and matches_slowly(wildcard[1:], text[1:])


@given(texts, texts)
@example("*a*b", "aab")
@example("ab*ba", "aba")
@example("*b*b", "b")
@example("\\*", "*")
def test_a_wildcard_matches_what_trying_every_way_matches(wildcard: str, text: str) -> None:
    read = tokens(wildcard)
    assert answer({"wildcard": wildcard}, text) == (None if read is None else matches_slowly(read, text))


# --- the other operators ---------------------------------------------------------------------------------------------


@given(st.sampled_from(["prefix", "suffix"]), texts, values)
def test_ends_are_compared_without_case_as_texts_in_lower_case(operator: str, operand: str, value: Any) -> None:
    lowered = value.lower() if isinstance(value, str) else value
    assert answer({operator: {"equals-ignore-case": operand}}, value) == answer({operator: operand.lower()}, lowered)


@given(st.sampled_from(["prefix", "suffix", "equals-ignore-case", "exactly"]), texts, values)
def test_texts_are_compared_from_their_ends(operator: str, operand: str, value: Any) -> None:
    slow: Callable[[str], bool] = {
        "prefix": lambda text: text[: len(operand)] == operand,
        "suffix": lambda text: text[len(text) - len(operand) :] == operand and len(text) >= len(operand),
        "equals-ignore-case": lambda text: text.lower() == operand.lower(),
        "exactly": lambda text: text == operand,
    }[operator]
    assert answer({operator: operand}, value) == (isinstance(value, str) and slow(value))


@given(st.sampled_from(["=", "<", "<=", ">", ">="]), numbers, values)
def test_numbers_are_compared_as_doubles(comparison: str, bound: Any, value: Any) -> None:
    sign = {"=": {0}, "<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}}[comparison]
    found = answer({"numeric": [comparison, bound]}, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        assert found is False
    else:
        one, other = Decimal(float(value)), Decimal(float(bound))
        assert found == (((one > other) - (one < other)) in sign)


@given(numbers, numbers, numbers)
def test_a_range_is_both_of_its_comparisons(bottom: Any, top: Any, value: Any) -> None:
    found = answer({"numeric": [">", bottom, "<=", top]}, value)
    both = answer({"numeric": [">", bottom]}, value) and answer({"numeric": ["<=", top]}, value)
    exact = [Decimal(json.dumps(bound)) for bound in (bottom, top)]
    assert found == (None if exact[0] >= exact[1] else both)


@given(st.lists(texts, min_size=1, max_size=3) | st.lists(numbers, min_size=1, max_size=3), values)
def test_anything_but_is_the_opposite_of_any_of_them(excluded: list[Any], value: Any) -> None:
    assert answer({"anything-but": excluded}, value) == (not any(answer(each, value) for each in excluded))


@given(st.sampled_from(["prefix", "suffix", "equals-ignore-case", "wildcard"]), st.lists(texts, min_size=1), values)
def test_anything_but_of_an_operator_is_its_opposite(operator: str, operands: list[str], value: Any) -> None:
    found = answer({"anything-but": {operator: operands}}, value)
    each = [answer({operator: operand}, value) for operand in operands]
    if None in each or (operator in {"prefix", "suffix"} and "" in operands):
        assert found is None
    else:
        assert found == (not any(each))


addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6, network="2001:db8::/120") | st.ip_addresses(v=6)


@given(addresses, st.integers(0, 130), addresses)
def test_a_network_is_its_first_bits(network: Any, bits: int, address: Any) -> None:
    length = network.max_prefixlen
    found = answer({"cidr": f"{network}/{bits}"}, str(address))
    if bits > length:
        assert found is None
    else:
        same = network.version == address.version and int(network) >> (length - bits) == int(address) >> (length - bits)
        assert found == same
