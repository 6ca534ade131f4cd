"""Lines of `checkpoint export`, damaged: rows, or each mistake told; and positions as people type them."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.near_json import encoded, json_values, spliced, values_replaced
from streamflow.cli.checkpoint import parsed_position
from streamflow.cli.positions_file import line, rows
from streamflow.errors import ConfigError
from streamflow.leases import Lease, LeaseState, WindowState
from streamflow.positions import Position

ROW = Lease(
    pipeline="orders",
    stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
    shard_id="shardId-00000001764085200000-0a1b2c3d",
    checkpoint=Position.after("1100000000017450224518"),
    parents=("shardId-1",),
    state=LeaseState.ACTIVE,
    window=WindowState(60, 120, b'{"total":4}'),
)


def read(lines: list[str]) -> list[Lease]:
    try:
        found = rows(lines, name="positions.jsonl")
    except ConfigError as error:
        assert all(problem.startswith("positions.jsonl") for problem in error.problems)
        return []
    # What was understood can be written and understood again.
    assert rows([line(row) for row in found], name="again") == found
    return found


def test_a_row_comes_back_as_it_was_written() -> None:
    assert read([line(ROW)]) == [ROW]


@given(st.data())
def test_a_line_that_is_nearly_right_is_read_or_refused(data: st.DataObject) -> None:
    damaged = values_replaced(json.loads(line(ROW)), data, json_values)
    read([encoded(damaged).decode(), line(ROW)])


@given(st.data())
def test_damaged_text_is_read_or_refused(data: st.DataObject) -> None:
    read([spliced(line(ROW).encode(), data).decode("utf-8", "surrogateescape")])


@given(st.text(max_size=60))
@example("\ud800")
@example("[" * 5_000)
def test_any_text_is_refused(text: str) -> None:
    assert read([text]) == []


@given(st.text(max_size=30) | st.text("AT_SEQUNCMIPRFHD:0123456789.e+-", max_size=40))
@example("AT_TIMESTAMP:nan")
@example("AT_TIMESTAMP:1_0")
@example("٣")
@example("9" * 129)
def test_a_position_is_understood_or_refused(text: str) -> None:
    try:
        position = parsed_position(text)
    except ConfigError:
        return
    assert Position.parse(str(position)) == position
    assert position.order >= position.order
