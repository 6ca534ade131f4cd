"""The main job against a server that nobody here wrote: what boto3 writes arrives as boto3's own reader sees it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import boto3
import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer

from streamflow import App, AwsOptions, Batch, DynamoDBStream, Pipeline, Record, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

OPTIONS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}
ITEM: dict[str, Any] = {
    "id": {"S": "everything"},
    "number": {"N": "12345678901234567890123456789012345.678"},
    "binary": {"B": b"\x00\xff"},
    "boolean": {"BOOL": True},
    "null": {"NULL": True},
    "strings": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2.5"]},
    "binaries": {"BS": [b"x", b"y"]},
    "list": {"L": [{"S": ""}, {"M": {"deep": {"L": [{"N": "-1"}]}}}]},
    "map": {"M": {"emoji": {"S": "🐍"}}},
}


def write_everything(client: Any) -> int:
    """Put, update, delete, batch-write and transact; the answer is the number of changes."""
    client.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    client.put_item(TableName="orders", Item=ITEM)
    client.update_item(
        TableName="orders",
        Key={"id": {"S": "everything"}},
        UpdateExpression="SET #n = :n REMOVE #b",
        ExpressionAttributeNames={"#n": "number", "#b": "boolean"},
        ExpressionAttributeValues={":n": {"N": "7"}},
    )
    client.delete_item(TableName="orders", Key={"id": {"S": "everything"}})
    puts = [{"PutRequest": {"Item": {"id": {"S": f"batch-{number}"}}}} for number in range(25)]
    client.batch_write_item(RequestItems={"orders": puts})
    client.transact_write_items(
        TransactItems=[
            {"Put": {"TableName": "orders", "Item": {"id": {"S": "transacted"}, "n": {"N": "1"}}}},
            {"Delete": {"TableName": "orders", "Key": {"id": {"S": "batch-0"}}}},
        ]
    )
    return 3 + 25 + 2


def read_with_boto3(streams: Any, stream_arn: str) -> list[dict[str, Any]]:
    (shard,) = streams.describe_stream(StreamArn=stream_arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream_arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator)["Records"]
    return records


def native(image: dict[str, Any] | None) -> dict[str, Any] | None:
    """boto3's own idea of native Python, with its Binary as plain bytes."""
    if image is None:
        return None
    deserializer = TypeDeserializer()
    return {name: plain(deserializer.deserialize(value)) for name, value in image.items()}


def plain(value: Any) -> Any:
    match value:
        case Binary():
            return bytes(value.value)
        case set():
            return {plain(element) for element in value}
        case list():
            return [plain(element) for element in value]
        case dict():
            return {name: plain(element) for name, element in value.items()}
        case _:
            return value


async def test_what_boto3_writes_arrives_as_boto3_reads_it(ministack: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client = boto3.client("dynamodb", endpoint_url=ministack, **OPTIONS)
    changes = await anyio.to_thread.run_sync(write_everything, client)
    seen: list[Record] = []

    async def deliver(batch: Batch) -> None:
        seen.extend(batch)

    app = App(
        pipelines=(
            Pipeline(
                name="orders",
                source=DynamoDBStream(table="orders"),
                handler=deliver,
                starting_position="TRIM_HORIZON",
                batch_size=7,
            ),
        ),
        store=f"sqlite:///{tmp_path / 'orders.db'}",
        aws=AwsOptions(endpoint_url=ministack, region="us-east-1"),
    )
    with anyio.fail_after(30):
        async with running(app):
            while len(seen) < changes:  # noqa: ASYNC110 - the handler may be called several times
                await anyio.sleep(0.01)

    stream_arn = client.describe_table(TableName="orders")["Table"]["LatestStreamArn"]
    streams = boto3.client("dynamodbstreams", endpoint_url=ministack, **OPTIONS)
    expected = read_with_boto3(streams, stream_arn)
    assert len(seen) == len(expected) == changes
    for ours, theirs in zip(seen, expected, strict=True):
        change = theirs["dynamodb"]
        assert ours.event_id == theirs["eventID"]
        assert ours.event_name == theirs["eventName"]
        assert ours.sequence_number == change["SequenceNumber"]
        assert ours.created_at_s == change["ApproximateCreationDateTime"].timestamp()
        assert ours.view_type == change["StreamViewType"]
        assert ours.size_bytes == change["SizeBytes"]
        assert ours.keys == native(change["Keys"])
        assert ours.new_image == native(change.get("NewImage"))
        assert ours.old_image == native(change.get("OldImage"))
        assert ours.lambda_event()["eventSourceARN"] == stream_arn
    (put, update, delete) = seen[:3]
    assert put.new_image is not None
    assert put.new_image["number"] == Decimal("12345678901234567890123456789012345.678")
    assert (put.event_name, update.event_name, delete.event_name) == ("INSERT", "MODIFY", "REMOVE")
