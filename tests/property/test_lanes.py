"""All changes of one item go to one lane, whatever their JSON looks like."""

from __future__ import annotations

import json
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.records import Record, Shard
from streamflow.rules.filters import compile_filters
from streamflow.rules.lanes import by_lane

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/x", shard_id="shardId-1")
values = st.one_of(
    st.builds(lambda text: {"S": text}, st.text(max_size=8)), st.builds(lambda n: {"N": str(n)}, st.integers())
)


def record(keys: object, *, indent: int | None = None) -> Record:
    body = {"dynamodb": {"SequenceNumber": "1", "Keys": keys}}
    return Record(msgspec.Raw(json.dumps(body, indent=indent).encode()), SHARD)


def lane(each: Record, count: int) -> int:
    return by_lane([each], count).index([0])


@given(values, values, st.integers(2, 10))
def test_lane_does_not_depend_on_the_order_of_attributes(partition: object, sort: object, count: int) -> None:
    expected = lane(record({"id": partition, "at": sort}), count)
    assert lane(record({"at": sort, "id": partition}, indent=2), count) == expected


@given(st.dictionaries(st.text(max_size=8), values, min_size=1, max_size=2), st.booleans(), st.integers(2, 10))
def test_lane_is_a_checksum_of_the_item_key_whatever_is_in_it(keys: object, escaped: bool, count: int) -> None:
    body = {"dynamodb": {"SequenceNumber": "1", "Keys": keys}}
    each = Record(msgspec.Raw(json.dumps(body, ensure_ascii=escaped).encode()), SHARD)
    assert lane(each, count) == crc32(each.item_key.encode()) % count


def test_items_spread_over_all_lanes() -> None:
    lanes = by_lane([record({"id": {"S": f"order-{number}"}}) for number in range(2_000)], 10)
    assert sorted(place for places in lanes for place in places) == list(range(2_000))
    assert min(map(len, lanes)) > 100


def test_lanes_are_the_same_in_every_process_and_for_ever() -> None:
    assert [lane(record({"id": {"S": f"order-{number}"}}), 10) for number in range(8)] == [3, 2, 0, 3, 2, 7, 9, 0]


BROKEN = (
    b"{",
    b'{"dynamodb":{"SequenceNumber":"1"}}',
    b'{"dynamodb":{"SequenceNumber":"1","Keys":{]}}',
    b'{"dynamodb":{"SequenceNumber":"1","Keys":{"id":{"N":1}}}}',
    b'{"dynamodb":{"SequenceNumber":"1","Keys":{"id":"order-3"}}}',
)


@pytest.mark.parametrize("broken", BROKEN)
def test_record_whose_key_cannot_be_read_goes_to_the_first_lane(broken: bytes) -> None:
    assert lane(Record(msgspec.Raw(broken), SHARD), 10) == 0


@pytest.mark.parametrize(
    "patterns", [(), ('{"dynamodb": {"Keys": {"id": {"S": [{"suffix": "1"}]}}}, "eventName": ["MODIFY"]}',)]
)
@pytest.mark.parametrize("count", [1, 4])
@given(st.data())
def test_records_that_cannot_be_read_change_nothing_for_others_of_their_page(
    patterns: tuple[str, ...], count: int, data: st.DataObject
) -> None:
    accepts = compile_filters(patterns)
    sound = [
        Record(
            msgspec.Raw(
                b'{"eventName":"MODIFY","dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":"order-%d"}}}}' % number
            ),
            SHARD,
        )
        for number in range(30)
    ]
    broken = [Record(msgspec.Raw(each), SHARD) for each in data.draw(st.lists(st.sampled_from(BROKEN), max_size=5))]
    page = data.draw(st.permutations([*sound, *broken]))
    lanes = by_lane(page, count, accepts)
    assert {id(page[place]) for place in lanes[0]} >= set(map(id, broken))
    for number, places in enumerate(lanes):
        assert list(places) == sorted(places)
        found = {id(page[place]) for place in places} - set(map(id, broken))
        alone = by_lane(sound, count, accepts)[number]
        assert found == {id(sound[place]) for place in alone}
