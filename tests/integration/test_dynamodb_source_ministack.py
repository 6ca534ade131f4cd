"""The DynamoDB source against MiniStack, a server that nobody here wrote, and against what boto3 reads from it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer

from streamflow.aws.session import open_aws
from streamflow.errors import NotFoundError, RequestRefusedError, StreamDisabledError, TrimmedError
from streamflow.pipeline import AwsOptions, DynamoDBStream
from streamflow.positions import TRIM_HORIZON, Position
from streamflow.sources.dynamodb import open_dynamodb_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from streamflow.positions import Position as Start
    from streamflow.protocols import ShardReader, Source
    from streamflow.records import Record, Shard

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}


def create_table(dynamodb: Any, name: str = "orders", stream: Mapping[str, Any] = STREAM) -> None:
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=stream,
    )


def put(dynamodb: Any, number: int, **attributes: Any) -> None:
    dynamodb.put_item(TableName="orders", Item={"id": {"S": f"order-{number}"}, **attributes})


@asynccontextmanager
async def source_of(endpoint: str, table: str = "orders") -> AsyncIterator[Source]:
    async with (
        open_aws(AwsOptions(region="us-east-1", endpoint_url=endpoint)) as aws,
        open_dynamodb_stream(aws, DynamoDBStream(table=table)) as source,
    ):
        yield source


async def only_shard(source: Source) -> Shard:
    (shard,) = (await source.shards()).values()
    return shard


async def read_all(reader: ShardReader, *, records_max: int = 1000) -> list[Record]:
    """Everything up to the end, or to the first empty page."""
    found: list[Record] = []
    while True:
        page = await reader.read(records_max=records_max)
        found += page.records
        if page.ended or not page.records:
            return found


async def read_from(source: Source, start: Start, **options: Any) -> list[Record]:
    async with source.open(await only_shard(source), start, **options) as reader:
        return await read_all(reader)


def as_boto3_reads(dynamodbstreams: Any, source_arn: str) -> list[dict[str, Any]]:
    shard_id = dynamodbstreams.describe_stream(StreamArn=source_arn)["StreamDescription"]["Shards"][0]["ShardId"]
    iterator = dynamodbstreams.get_shard_iterator(
        StreamArn=source_arn, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    found: list[dict[str, Any]] = []
    while True:
        answer = dynamodbstreams.get_records(ShardIterator=iterator)
        found += answer["Records"]
        iterator = answer.get("NextShardIterator")
        if not answer["Records"] or iterator is None:
            return found


def native(image: dict[str, Any] | None) -> dict[str, Any] | None:
    """As boto3's own deserializer has it, with plain bytes."""
    return None if image is None else {name: _plain(TypeDeserializer().deserialize(v)) for name, v in image.items()}


def _plain(value: Any) -> Any:
    match value:
        case Binary():
            return value.value
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case set():
            return {_plain(inner) for inner in value}
    return value


def change_items_in_every_way(dynamodb: Any) -> None:
    everything = {
        "n": {"N": "12345678901234567890.123456789012345678"},
        "b": {"B": b"\x00\xff"},
        "flag": {"BOOL": True},
        "nothing": {"NULL": True},
        "empty": {"S": ""},
        "sets": {"M": {"ss": {"SS": ["a", "b"]}, "ns": {"NS": ["1", "2.5"]}, "bs": {"BS": [b"x"]}}},
        "list": {"L": [{"S": "🎁"}, {"L": []}, {"M": {}}]},
    }
    put(dynamodb, 1, **everything)
    dynamodb.update_item(
        TableName="orders",
        Key={"id": {"S": "order-1"}},
        UpdateExpression="SET n = :n",
        ExpressionAttributeValues={":n": {"N": "2"}},
    )
    batch = [{"PutRequest": {"Item": {"id": {"S": f"batch-{number}"}}}} for number in range(5)]
    dynamodb.batch_write_item(RequestItems={"orders": batch})
    items = [{"Put": {"TableName": "orders", "Item": {"id": {"S": f"transact-{number}"}}}} for number in range(3)]
    dynamodb.transact_write_items(TransactItems=items)
    dynamodb.delete_item(TableName="orders", Key={"id": {"S": "order-1"}})


async def test_records_equal_those_of_boto3(ministack: str, dynamodb: Any, dynamodbstreams: Any) -> None:
    create_table(dynamodb)
    change_items_in_every_way(dynamodb)
    async with source_of(ministack) as source:
        info = await source.describe()
        records = await read_from(source, TRIM_HORIZON)
    expected = as_boto3_reads(dynamodbstreams, info.stream_arn)
    assert len(records) == len(expected) == 1 + 1 + 5 + 3 + 1
    for ours, theirs in zip(records, expected, strict=True):
        change = theirs["dynamodb"]
        assert ours.event_id == theirs["eventID"]
        assert ours.event_name == theirs["eventName"]
        assert ours.sequence_number == change["SequenceNumber"]
        assert ours.created_at_s == change["ApproximateCreationDateTime"].timestamp()
        assert ours.view_type == change["StreamViewType"] == info.view_type
        assert ours.keys == native(change["Keys"])
        assert ours.new_image == native(change.get("NewImage"))
        assert ours.old_image == native(change.get("OldImage"))
    assert records[0].new_image is not None
    assert records[0].new_image["n"] == Decimal("12345678901234567890.123456789012345678")


async def test_every_start_finds_its_place(ministack: str, dynamodb: Any) -> None:
    create_table(dynamodb)
    for number in range(5):
        put(dynamodb, number)
    async with source_of(ministack) as source:
        numbers = [record.sequence_number for record in await read_from(source, TRIM_HORIZON)]
        for start, expected in [
            (Position.at(numbers[2]), numbers[2:]),
            (Position.after(numbers[2]), numbers[3:]),
            (Position.after(numbers[-1]), []),
            (Position.at_timestamp(0.0), numbers),
            (Position.at_timestamp(32_503_680_000.0), []),
        ]:
            assert [record.sequence_number for record in await read_from(source, start)] == expected


async def test_small_pages_read_as_much_as_large_ones(ministack: str, dynamodb: Any) -> None:
    create_table(dynamodb)
    for number in range(7):
        put(dynamodb, number)
    async with source_of(ministack) as source, source.open(await only_shard(source), TRIM_HORIZON) as reader:
        assert [record.keys["id"] for record in await read_all(reader, records_max=2)] == [
            f"order-{number}" for number in range(7)
        ]


async def test_a_pin_finds_what_is_written_after_it(ministack: str, dynamodb: Any) -> None:
    create_table(dynamodb)
    put(dynamodb, 1)
    async with source_of(ministack) as source:
        pin = await source.pin(await only_shard(source))
        put(dynamodb, 2)
        by_cursor = await read_from(source, pin.position, cursor=pin.cursor)
        by_position = await read_from(source, pin.position)
    assert [record.keys["id"] for record in by_cursor] == ["order-2"]
    assert by_position[-1].keys["id"] == "order-2"


@pytest.mark.fault("F46")
async def test_a_disabled_stream_is_read_to_its_end(ministack: str, dynamodb: Any) -> None:
    create_table(dynamodb)
    put(dynamodb, 1)
    async with source_of(ministack) as source:
        dynamodb.update_table(TableName="orders", StreamSpecification={"StreamEnabled": False})
        assert not (await source.describe()).enabled
        shard = await only_shard(source)
        assert shard.closed
        assert not await source.children(shard)
        async with source.open(shard, TRIM_HORIZON) as reader:
            page = await reader.read(records_max=1000)
    assert len(page.records) == 1
    assert page.ended


@pytest.mark.fault("F45")
async def test_a_table_created_again_has_another_stream(ministack: str, dynamodb: Any) -> None:
    create_table(dynamodb)
    async with source_of(ministack) as source:
        first = await source.describe()
    dynamodb.delete_table(TableName="orders")
    create_table(dynamodb)
    async with source_of(ministack) as source:
        assert (await source.describe()).stream_arn != first.stream_arn


async def test_what_cannot_be_read_is_explained(ministack: str, dynamodb: Any) -> None:
    create_table(dynamodb, "plain", {"StreamEnabled": False})
    with pytest.raises(NotFoundError, match="no table invoices"):
        async with source_of(ministack, "invoices"):
            pass
    with pytest.raises(StreamDisabledError, match="aws dynamodb update-table --table-name plain"):
        async with source_of(ministack, "plain"):
            pass


@pytest.mark.fault("F42")
async def test_a_position_that_the_stream_never_had_is_no_empty_page(ministack: str, dynamodb: Any) -> None:
    create_table(dynamodb)
    put(dynamodb, 1)
    async with (
        source_of(ministack) as source,
        source.open(await only_shard(source), Position.after("1" * 30)) as reader,
    ):
        with pytest.raises((TrimmedError, RequestRefusedError)):
            await reader.read(records_max=1)
