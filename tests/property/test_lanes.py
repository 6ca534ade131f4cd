"""All changes of one item go to one lane, whatever their JSON looks like."""

from __future__ import annotations

import json
from collections import defaultdict

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamflow.records import Record, Shard
from streamflow.rules.lanes import Lanes

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/x", shard_id="shardId-1")
values = st.one_of(
    st.builds(lambda text: {"S": text}, st.text(max_size=8)), st.builds(lambda n: {"N": str(n)}, st.integers())
)


def record(keys: object, *, indent: int | None = None) -> Record:
    body = {"dynamodb": {"SequenceNumber": "1", "Keys": keys}}
    return Record(msgspec.Raw(json.dumps(body, indent=indent).encode()), SHARD)


@given(values, values, st.integers(1, 10))
def test_lane_does_not_depend_on_the_order_of_attributes(partition: object, sort: object, count: int) -> None:
    lanes = Lanes(count)
    lane = lanes.of(record({"id": partition, "at": sort}).glimpse())
    assert 0 <= lane < count
    assert lanes.of(record({"at": sort, "id": partition}, indent=2).glimpse()) == lane
    assert Lanes(count).of(record({"id": partition, "at": sort}).glimpse()) == lane


def test_items_spread_over_all_lanes() -> None:
    lanes = Lanes(10)
    spread: dict[int, int] = defaultdict(int)
    for number in range(2_000):
        spread[lanes.of(record({"id": {"S": f"order-{number}"}}).glimpse())] += 1
    assert len(spread) == 10
    assert min(spread.values()) > 100


def test_lanes_are_the_same_in_every_process_and_for_ever() -> None:
    lanes = Lanes(10)
    assert [lanes.of(record({"id": {"S": f"order-{number}"}}).glimpse()) for number in range(8)] == [
        3,
        2,
        0,
        3,
        2,
        7,
        9,
        0,
    ]


def test_record_whose_key_cannot_be_read_goes_to_the_first_lane() -> None:
    lanes = Lanes(10)
    assert lanes.of(Record(msgspec.Raw(b"{"), SHARD).glimpse()) == 0
    assert lanes.of(Record(msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"1"}}'), SHARD).glimpse()) == 0
    assert lanes.of(Record(msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"1","Keys":{]}}'), SHARD).glimpse()) == 0
