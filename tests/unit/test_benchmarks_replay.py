"""The replayed stream: that its bytes are a real stream of the records that they are said to be."""

from __future__ import annotations

import re
import zlib
from typing import Any

import orjson
import pytest

from benchmarks.replay_pages import Template
from benchmarks.replay_records import RECORDED
from benchmarks.replay_server import RefusedError, answer
from benchmarks.replay_stream import CONTENTS, Content, Shape, parse_iterator

# A page of each content: records, the bytes of one of them, its JSON and the comma behind it, and the digits of event ids.
LIKE = {
    "standard": (1_000, range(750, 790), 32),
    "small": (1_000, range(150, 170), 32),
    "large": (50, range(19_900, 20_100), 32),
    "recorded": (100, range(1_000, 1_200), 36),
}
every_content = pytest.mark.parametrize("shape", [Shape(2, 4, content) for content in CONTENTS], ids=CONTENTS)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template()


def read(template: Template, shape: Shape, shard: int, page: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = orjson.loads(b"".join(template.page(shape, shard, page).parts))["Records"]
    return records


# --- names -----------------------------------------------------------------------------------------------------------


@every_content
def test_every_name_states_the_shape(shape: Shape) -> None:
    assert Shape.parse(shape.table) == Shape.parse(shape.stream_arn) == Shape.of_volume(shape.volume) == shape
    assert parse_iterator(shape.iterator(1, 2)) == (shape, 1, 2)


def test_a_volume_of_unknown_records_is_refused() -> None:
    with pytest.raises(ValueError, match="'huge-4x200' is no volume: write SHARDSxPAGES"):
        Shape.of_volume("huge-4x200")


# --- pages -----------------------------------------------------------------------------------------------------------


@every_content
def test_a_page_has_the_records_that_it_is_said_to_have(template: Template, shape: Shape) -> None:
    count, size, _ = LIKE[shape.content]
    for page in range(shape.pages):
        assert len(read(template, shape, 0, page)) == count == shape.records_per_page
        assert len(template.page(shape, 0, page)) // count in size


@every_content
def test_sequence_numbers_grow_within_a_shard_and_event_ids_are_unique_in_the_stream(
    template: Template, shape: Shape
) -> None:
    shards = [[r for page in range(shape.pages) for r in read(template, shape, shard, page)] for shard in (0, 1)]
    for records in shards:
        numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in records]
        assert numbers == sorted(set(numbers))
    ids = [str(record["eventID"]) for records in shards for record in records]
    assert len(set(ids)) == shape.records
    assert {len(event_id) for event_id in ids} == {LIKE[shape.content][2]}


@pytest.mark.parametrize("content", [content for content in CONTENTS if content != "recorded"])
def test_no_item_of_records_that_were_made_up_is_in_two_pages(template: Template, content: Content) -> None:
    shape = Shape(2, 2, content)
    keys = [
        {orjson.dumps(record["dynamodb"]["Keys"]) for record in read(template, shape, shard, page)}
        for shard in (0, 1)
        for page in (0, 1)
    ]
    assert len(set.union(*keys)) == sum(map(len, keys))


@every_content
@pytest.mark.parametrize(("shard", "page"), [(0, 0), (0, 2), (1, 1), (1, 3)])
def test_the_checksum_put_together_from_digits_is_that_of_the_bytes(
    template: Template, shape: Shape, shard: int, page: int
) -> None:
    body = template.page(shape, shard, page)
    assert body.crc32 == zlib.crc32(b"".join(body.parts))


def test_recorded_pages_are_the_answers_but_for_event_ids_and_sequence_numbers(template: Template) -> None:
    files = sorted(RECORDED.glob("page-*.json"))
    for page in range(len(files) + 1):
        replayed = template.page(Shape(1, len(files) + 1, "recorded"), 0, page)
        answer = files[page % len(files)].read_bytes()
        start = without_numbers(replayed.parts[0])
        assert without_numbers(answer).startswith(start + b', "NextShardIterator"')
        assert start != replayed.parts[0]


def without_numbers(text: bytes) -> bytes:
    return re.sub(rb'("(?:eventID|SequenceNumber)": )"[0-9a-f-]+"', rb"\1", text)


# --- calls -----------------------------------------------------------------------------------------------------------


@every_content
def test_following_the_iterators_reads_every_page_once_and_ends(template: Template, shape: Shape) -> None:
    request = {"StreamArn": shape.stream_arn, "ShardId": shape.shard_id(1), "ShardIteratorType": "TRIM_HORIZON"}
    iterator: str | None = reply(template, "GetShardIterator", request)["ShardIterator"]
    seen = []
    while iterator:
        seen.append(parse_iterator(iterator))
        iterator = reply(template, "GetRecords", {"ShardIterator": iterator}).get("NextShardIterator")
    assert seen == [(shape, 1, page) for page in range(shape.pages)]


def reply(template: Template, operation: str, request: dict[str, str]) -> dict[str, str]:
    content: dict[str, str] = orjson.loads(b"".join(answer(template, operation, request).parts))
    return content


@every_content
def test_reading_goes_on_behind_a_page_and_not_in_the_middle_of_one(template: Template, shape: Shape) -> None:
    request = {
        "StreamArn": shape.stream_arn,
        "ShardId": shape.shard_id(1),
        "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
    }
    behind = request | {"SequenceNumber": shape.sequence_number(1, 0, shape.records_per_page - 1)}
    assert reply(template, "GetShardIterator", behind)["ShardIterator"] == shape.iterator(1, 1)
    with pytest.raises(RefusedError, match="behind a whole page"):
        answer(template, "GetShardIterator", request | {"SequenceNumber": shape.sequence_number(1, 0, 25)})


def test_the_listing_is_complete_over_its_pages_and_every_shard_is_closed(template: Template) -> None:
    shape, listed = Shape(230, 1), []
    start: dict[str, str] = {}
    while True:
        content = b"".join(answer(template, "DescribeStream", {"StreamArn": shape.stream_arn} | start).parts)
        description = orjson.loads(content)["StreamDescription"]
        assert description["StreamStatus"] == "DISABLED"
        listed += description["Shards"]
        if "LastEvaluatedShardId" not in description:
            break
        start = {"ExclusiveStartShardId": description["LastEvaluatedShardId"]}
    assert [shard["ShardId"] for shard in listed] == [shape.shard_id(shard) for shard in range(230)]
    assert all("EndingSequenceNumber" in shard["SequenceNumberRange"] for shard in listed)


@every_content
def test_the_table_says_which_keys_its_records_have(template: Template, shape: Shape) -> None:
    table: Any = reply(template, "DescribeTable", {"TableName": shape.table})["Table"]
    assert {key["AttributeName"] for key in table["KeySchema"]} == read(template, shape, 0, 0)[0]["dynamodb"][
        "Keys"
    ].keys()


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("PutItem", {}, "UnknownOperationException"),
        ("DescribeTable", {"TableName": "orders"}, "ResourceNotFoundException"),
        ("GetRecords", {"ShardIterator": "replay"}, "ValidationException"),
    ],
)
def test_what_the_replay_does_not_have_is_refused(
    template: Template, operation: str, request_: dict[str, str], code: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        answer(template, operation, request_)
    assert refused.value.code == code
