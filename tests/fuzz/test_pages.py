"""Any bytes in the place of an answer of the service: an error that says so, or records that can be read or refused."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.near_json import spliced
from streamflow.aws.wire import Response
from streamflow.batches import Batch
from streamflow.errors import MalformedRecordError, SourceError
from streamflow.positions import TRIM_HORIZON
from streamflow.records import Record, Shard, lambda_event_records, newest_outline
from streamflow.rules.filters import compile_filters
from streamflow.sources.dynamodb_calls import StreamCalls
from wire_items import items

SHARD = Shard(
    stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
    shard_id="shardId-00000001764085200000-0a1b2c3d",
)
FILTERS = compile_filters(
    [
        '{"dynamodb": {"NewImage": {"a": {"S": ["b"]}}}}',
        '{"dynamodb": {"Keys": {"id": {"S": [{"prefix": "1"}]}}}, "userIdentity": {"type": ["Service"]}}',
        '{"awsRegion": ["mars-1"]}',
    ]
)


def page(new: Any, old: Any) -> bytes:
    """Two records, one of them deleted by time to live."""
    numbers = ("1100000000017450224518", "1100000000017450224519")
    records = [
        {
            "eventID": "7de3041dd709b024af6f29e4fa13d34c",
            "eventName": name,
            "eventSource": "aws:dynamodb",
            "awsRegion": "eu-west-1",
            "dynamodb": {
                "ApproximateCreationDateTime": 1764085200,
                "Keys": {"id": {"S": "1"}},
                "SequenceNumber": number,
                "SizeBytes": 26,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
                **images,
            },
        }
        for name, number, images in zip(
            ("MODIFY", "REMOVE"), numbers, ({"NewImage": new, "OldImage": old}, {"OldImage": old}), strict=True
        )
    ]
    records[1]["userIdentity"] = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    return orjson.dumps({"Records": records, "NextShardIterator": "next"})


class Answering:
    """In the place of the service: whatever is asked, this body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def call(self, target: str, body: bytes) -> Response:
        return Response(body=self._body)


def records_of(body: bytes) -> list[Record] | None:
    """As the source makes them of an answer; None where it is refused."""

    async def read() -> list[Record]:
        answer, size = await StreamCalls(Answering(body), SHARD.stream_arn).records("iterator", records_max=1_000)
        assert size == len(body)
        return [Record(json, SHARD) for json in answer.records]

    try:
        return anyio.run(read)
    except SourceError:
        return None


LOOKS = (
    "event_id", "event_name", "sequence_number", "position", "created_at_s", "size_bytes", "view_type", "user_identity", "keys",
    "item_key", "new_image", "old_image", "lambda_event", "lambda_event_json",
)  # fmt: skip


def readable(record: Record) -> bool:
    """Look at a record in every way; whether none was refused. Only `MalformedRecordError` may come out."""
    refused = 0
    for look in LOOKS:
        try:
            answer = getattr(record, look)
            if callable(answer):
                answer()
        except MalformedRecordError as error:
            refused += 1
            assert SHARD.shard_id in str(error)
    for which in ("keys", "new", "old"):
        try:
            orjson.dumps(record.json_image(which))
        except MalformedRecordError:
            refused += 1
    assert len(repr(record)) < 300
    return not refused


@given(st.data(), items, items)
def test_a_page_that_is_nearly_right_is_read_or_refused(data: st.DataObject, new: Any, old: Any) -> None:
    read(spliced(page(new, old), data))


@given(st.binary(max_size=200))
@example(b'{"Records":[' + b"[" * 2_000 + b"]" * 2_000 + b"]}")
@example(b'{"Records":[{"dynamodb":{"SequenceNumber":"1","Keys":' + b"[" * 300 + b"]" * 300 + b"}}]}")
@example(b'{"Records":[{"dynamodb":{"SequenceNumber":"1","Keys":"\\ud800"}}]}')
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    read(body)


def read(body: bytes) -> None:
    records = records_of(body)
    if records is None:
        return
    newest_outline(records)
    assert FILTERS is not None
    for record in records:
        # What cannot be read passes: nothing may be left out unseen.
        if not readable(record):
            assert isinstance(FILTERS(record), bool)
    if not records:
        return
    batch = Batch(pipeline="orders", shard=SHARD, records=records)
    one_by_one: list[Any] = []
    try:
        one_by_one = [record.lambda_event() for record in records]
    except MalformedRecordError:
        return
    assert lambda_event_records(records, SHARD.stream_arn) == one_by_one
    assert len(orjson.loads(batch.lambda_event_json())["Records"]) == len(records)


@given(st.data())
def test_a_listing_that_is_nearly_right_is_read_or_refused(data: st.DataObject) -> None:
    body = spliced(
        orjson.dumps(
            {
                "StreamDescription": {
                    "StreamArn": SHARD.stream_arn,
                    "StreamStatus": "ENABLED",
                    "TableName": "orders",
                    "Shards": [
                        {"ShardId": SHARD.shard_id, "ParentShardId": "shardId-1", "SequenceNumberRange": {}},
                        {"ShardId": "shardId-1", "SequenceNumberRange": {"EndingSequenceNumber": "7"}},
                    ],
                }
            }
        ),
        data,
    )

    async def ask() -> None:
        calls = StreamCalls(Answering(body), SHARD.stream_arn)
        try:
            description = await calls.describe_stream()
        except SourceError:
            return
        assert all(isinstance(shard.shard_id, str) for shard in description.shards)
        try:
            await calls.shard_iterator(SHARD.shard_id, TRIM_HORIZON)
        except SourceError:
            return

    anyio.run(ask)
