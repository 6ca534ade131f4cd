"""Positions have a text form that stores keep, and an order in which checkpoints may only grow."""

from __future__ import annotations

import pytest

from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position


@pytest.mark.parametrize(
    "position",
    [
        TRIM_HORIZON,
        LATEST,
        SHARD_END,
        Position.after("1" * 40),
        Position.at("000000000000000000001"),
        Position.at_timestamp(1764085200.25),
    ],
)
def test_the_text_form_comes_back(position: Position) -> None:
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text", ["", "NOWHERE", "AFTER_SEQUENCE_NUMBER:", "AT_SEQUENCE_NUMBER:12x", "LATEST:1", "AT_TIMESTAMP:x"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Position.parse(text)


def test_positions_grow_from_the_horizon_to_the_end() -> None:
    ordered = [
        Position.at_timestamp(5.0),
        TRIM_HORIZON,
        LATEST,
        Position.at("9"),
        Position.after("9"),
        Position.after("10"),
        SHARD_END,
    ]
    backwards = list(reversed(ordered))
    assert sorted(backwards, key=lambda position: position.order) == ordered
