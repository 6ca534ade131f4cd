"""The frontier is the highest position below which everything admitted is settled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.positions import TRIM_HORIZON, Position
from streamflow.rules.frontier import Frontier


@given(st.integers(0, 60), st.randoms(use_true_random=False))
def test_frontier_is_the_end_of_the_settled_prefix(count: int, random: object) -> None:
    rule = Frontier(TRIM_HORIZON)
    tickets = [rule.admit(Position.after(str(number))) for number in range(1, count + 1)]
    order = list(range(count))
    random.shuffle(order)  # type: ignore[attr-defined]
    settled: set[int] = set()
    for index in order:
        rule.settle(tickets[index])
        settled.add(index)
        prefix = next((place for place in range(count) if place not in settled), count)
        assert rule.frontier == (Position.after(str(prefix)) if prefix else TRIM_HORIZON)


@given(st.integers(2, 40), st.data())
def test_split_run_settles_in_two_steps(length: int, data: st.DataObject) -> None:
    rule = Frontier(TRIM_HORIZON)
    first = rule.admit(Position.after(str(length)))
    later = rule.admit(Position.after(str(length + 5)))
    cut = data.draw(st.integers(1, length - 1))
    rest = rule.split(first, Position.after(str(cut)))
    rule.settle(later)
    assert rule.frontier == TRIM_HORIZON
    rule.settle(first)
    assert rule.frontier == Position.after(str(cut))
    rule.settle(rest)
    assert rule.frontier == Position.after(str(length + 5))


def test_settling_twice_is_refused() -> None:
    rule = Frontier(TRIM_HORIZON)
    ticket = rule.admit(Position.after("1"))
    rule.settle(ticket)
    with pytest.raises(ValueError, match="settled already"):
        rule.settle(ticket)
