"""The frontier is the highest position below which everything that any lane was given is settled."""

from __future__ import annotations

import math
from sys import getrefcount
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.positions import TRIM_HORIZON, Position
from streamflow.records import Record, Shard
from streamflow.rules.frontier import Frontier, Remains

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/x", shard_id="shardId-1")
LANES = 3


def record(number: int) -> Record:
    return Record(msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"%d"}}' % number), SHARD)


class Model:
    """Every record by itself: None for one that a filter left out, else the lane that has to settle it."""

    def __init__(self) -> None:
        self.lanes: list[int | None] = []
        self.settled: set[int] = set()

    def unsettled(self, lane: int) -> list[int]:
        return [place for place, of in enumerate(self.lanes) if of == lane and place not in self.settled]

    def position(self) -> Position:
        prefix = 0
        for place, lane in enumerate(self.lanes):
            if lane is not None and place not in self.settled:
                break
            prefix = place + 1
        return Position.after(str(prefix)) if prefix else TRIM_HORIZON


def admit(rule: Frontier, model: Model, lanes: Sequence[int | None], *, weight: int = 0) -> None:
    first = len(model.lanes) + 1
    model.lanes += lanes
    places = [[place for place, of in enumerate(lanes) if of == lane] for lane in range(LANES)]
    rule.admit([record(first + place) for place in range(len(lanes))], places, weight=weight)


pages = st.lists(st.one_of(st.none(), st.integers(0, LANES - 1)), max_size=8)


@pytest.mark.fault("F23")
@given(st.data())
def test_frontier_is_the_end_of_the_settled_prefix(data: st.DataObject) -> None:
    rule, model = Frontier(TRIM_HORIZON, lanes=LANES), Model()
    for _ in range(data.draw(st.integers(1, 25))):
        if data.draw(st.booleans()):
            admit(rule, model, data.draw(pages))
        lane = data.draw(st.integers(0, LANES - 1))
        unsettled = model.unsettled(lane)
        count = data.draw(st.integers(0, len(unsettled)))
        rule.settle(lane, count)
        model.settled.update(unsettled[:count])
        if data.draw(st.booleans()):
            assert rule.position == model.position()
        if data.draw(st.booleans()):
            rule.pop_settled()
    assert rule.position == model.position()


@given(st.lists(st.tuples(pages, st.integers(0, 100)), max_size=6))
def test_weight_comes_back_once_a_page_is_settled_to_its_end(read: list[tuple[list[int | None], int]]) -> None:
    rule, model = Frontier(TRIM_HORIZON, lanes=LANES), Model()
    for lanes, weight in read:
        admit(rule, model, lanes, weight=weight)
    freed = rule.pop_settled()
    for lane in range(LANES):
        rule.settle(lane, len(model.unsettled(lane)))
        freed += rule.pop_settled()
    assert freed == sum(weight for lanes, weight in read if lanes)
    assert rule.pop_settled() == 0


def test_page_without_anything_to_settle_waits_for_what_is_older() -> None:
    rule, model = Frontier(TRIM_HORIZON, lanes=LANES), Model()
    admit(rule, model, [1], weight=5)
    admit(rule, model, [None, None], weight=7)
    assert (rule.position, rule.pop_settled()) == (TRIM_HORIZON, 0)
    rule.settle(1, 1)
    assert rule.pop_settled() == 12
    assert rule.position == Position.after("3")


@pytest.mark.fault("F6")
def test_record_without_a_position_moves_the_frontier_nowhere() -> None:
    rule = Frontier(TRIM_HORIZON)
    rule.admit([record(1), Record(msgspec.Raw(b"{}"), SHARD)], [range(2)])
    rule.settle(0, 2)
    assert rule.position == Position.after("1")


def test_first_record_tells_the_place_of_a_time() -> None:
    rule = Frontier(Position.at_timestamp(1.0))
    assert not rule.begin_at([])
    assert not rule.begin_at([Record(msgspec.Raw(b"{}"), SHARD), record(5)])
    assert rule.begin_at([record(5), record(6)])
    assert rule.position == Position.at("5")
    assert not rule.begin_at([record(6)]), "it is no time any more"


def test_page_behind_the_first_one_tells_no_place() -> None:
    rule = Frontier(Position.at_timestamp(1.0))
    rule.admit([Record(msgspec.Raw(b"{}"), SHARD)], [range(1)])
    assert not rule.begin_at([record(5)])


def test_only_records_that_the_frontier_has_not_passed_are_kept() -> None:
    rule = Frontier(TRIM_HORIZON)
    records = [record(1), record(2)]
    rule.admit(records, [range(2)])
    kept = [getrefcount(each) for each in records]
    rule.settle(0, 1)
    assert [getrefcount(each) for each in records] == [kept[0] - 1, kept[1]]


def test_settling_more_than_was_admitted_is_refused() -> None:
    rule = Frontier(TRIM_HORIZON)
    rule.admit([record(1)], [range(1)])
    rule.settle(0, 1)
    with pytest.raises(ValueError, match="more records are settled than were admitted"):
        rule.settle(0, 1)


def test_lane_is_ahead_while_an_older_record_of_another_is_unsettled() -> None:
    rule, model = Frontier(TRIM_HORIZON, lanes=LANES), Model()
    admit(rule, model, [0, 1])
    rule.settle(1, 1)
    assert rule.ahead
    rule.settle(0, 1)
    assert not rule.ahead


@given(st.data())
def test_stop_keeps_what_is_older_than_the_newest_record_seen(data: st.DataObject) -> None:
    rule, model = Frontier(TRIM_HORIZON, lanes=LANES), Model()
    admit(rule, model, data.draw(st.lists(st.integers(0, LANES - 1), max_size=30)))
    for lane in range(LANES):
        unsettled = model.unsettled(lane)
        count = data.draw(st.integers(0, len(unsettled)))
        rule.settle(lane, count)
        model.settled.update(unsettled[:count])
    in_flight = [data.draw(st.integers(0, len(model.unsettled(lane)))) for lane in range(LANES)]
    seen = {place for lane in range(LANES) for place in model.unsettled(lane)[: in_flight[lane]]} | model.settled
    newest = max(seen, default=-1)
    expected = [sum(place <= newest for place in model.unsettled(lane)) for lane in range(LANES)]
    assert rule.kept_at_stop(in_flight) == expected
    left = data.draw(st.sets(st.integers(0, LANES - 1)))
    behind = [place for lane in left for place in model.unsettled(lane)]
    useful = [
        [place for place in model.unsettled(lane) if place < min(behind, default=math.inf)] for lane in range(LANES)
    ]
    expected = [sum(place <= newest for place in places) for places in useful]
    assert rule.kept_at_stop(in_flight, left) == expected


@given(st.integers(0, 30), st.data())
def test_remains_count_only_the_settled_prefix(length: int, data: st.DataObject) -> None:
    records = [record(number) for number in range(1, length + 1)]
    remains = Remains(records)
    waiting = list(records)
    settled: set[int] = set()
    total = 0
    while waiting:
        some = data.draw(st.lists(st.sampled_from(waiting), min_size=1, unique_by=id))
        waiting = [one for one in waiting if all(one is not each for each in some)]
        settled.update(map(id, some))
        total += remains.settle(some)
        prefix = next((place for place, one in enumerate(records) if id(one) not in settled), length)
        assert (total, len(remains)) == (prefix, length - prefix)
    assert total == length
