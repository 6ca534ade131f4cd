"""Finding the stream: by table name, by ARN, and what is said when there is none."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from scripted_aws import Received, isolate, json_answer, refusal, serving
from streamflow.aws.session import open_aws
from streamflow.errors import AccessDeniedError, NotFoundError, SourceError, StreamDisabledError
from streamflow.pipeline import AwsOptions, DynamoDBStream
from streamflow.positions import Position
from streamflow.protocols import StreamInfo
from streamflow.records import Shard
from streamflow.sources.dynamodb import open_dynamodb_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from streamflow.protocols import Source

pytestmark = pytest.mark.anyio

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
SHARD = Shard(stream_arn=ARN, shard_id="shardId-00000001")
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)


@dataclass(slots=True)
class OneTable:
    """Knows the table `orders`. `streams` maps ARN to status; `refuses` maps operation to the code of its refusal."""

    table: dict[str, Any] = field(default_factory=lambda: {"TableName": "orders", "LatestStreamArn": ARN})
    streams: dict[str, str] = field(default_factory=lambda: {ARN: "ENABLED"})
    refuses: dict[str, str] = field(default_factory=dict)

    def __call__(self, received: Received) -> web.Response:
        request = orjson.loads(received.body)
        if code := self.refuses.get(received.operation):
            return refusal(code)
        if received.operation == "DescribeTable":
            return json_answer({"Table": self.table}) if request["TableName"] == "orders" else _not_found()
        if received.operation == "GetShardIterator":
            assert request["ShardIteratorType"] == "LATEST"
            return json_answer({"ShardIterator": "tip"}, Date=format_datetime(NOW, usegmt=True))
        if request["StreamArn"] not in self.streams:
            return _not_found()
        description = {
            "StreamArn": request["StreamArn"],
            "StreamStatus": self.streams[request["StreamArn"]],
            "StreamViewType": "NEW_IMAGE",
            "TableName": "orders",
            "Shards": [],
        }
        return json_answer({"StreamDescription": description})


def _not_found() -> web.Response:
    return refusal("ResourceNotFoundException", "Requested resource not found")


@asynccontextmanager
async def source_of(service: OneTable, declared: DynamoDBStream) -> AsyncIterator[Source]:
    async with (
        serving(service) as server,
        open_aws(AwsOptions(region="eu-west-1", endpoint_url=server.url)) as aws,
        open_dynamodb_stream(aws, declared) as source,
    ):
        yield source


BY_TABLE = DynamoDBStream(table="orders")
BY_ARN = DynamoDBStream(stream_arn=ARN)


@pytest.mark.parametrize("declared", [BY_TABLE, BY_ARN])
async def test_a_stream_is_found_by_table_and_by_arn(declared: DynamoDBStream) -> None:
    async with source_of(OneTable(), declared) as source:
        assert await source.describe() == StreamInfo(stream_arn=ARN, name="orders", view_type="NEW_IMAGE", enabled=True)


async def test_a_stream_that_is_being_disabled_can_be_read_to_its_end() -> None:
    service = OneTable(streams={ARN: "DISABLED"})
    async with source_of(service, BY_TABLE) as source:
        assert not (await source.describe()).enabled


async def test_a_table_that_was_created_again_has_another_stream() -> None:
    service, later = OneTable(), ARN.replace("2026-01-01", "2026-02-02")
    async with source_of(service, BY_TABLE) as source:
        service.table["LatestStreamArn"] = later
        service.streams = {later: "ENABLED"}
        with pytest.raises(NotFoundError):
            await source.describe()
        with pytest.raises(NotFoundError):
            await source.shards()
    async with source_of(service, BY_TABLE) as source:
        assert (await source.describe()).stream_arn == later


COMMAND = (
    "aws dynamodb update-table --table-name orders "
    "--stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
)


@pytest.mark.parametrize("service", [OneTable(table={"TableName": "orders"}), OneTable(streams={})])
async def test_a_table_without_a_stream_names_the_command_that_turns_it_on(service: OneTable) -> None:
    with pytest.raises(StreamDisabledError) as caught:
        async with source_of(service, BY_TABLE):
            pass
    assert COMMAND in str(caught.value)


async def test_an_unknown_table_is_named_with_its_region() -> None:
    with pytest.raises(NotFoundError, match="no table invoices in eu-west-1"):
        async with source_of(OneTable(), DynamoDBStream(table="invoices")):
            pass


async def test_an_unknown_stream_is_named_with_its_region() -> None:
    with pytest.raises(NotFoundError, match=f"no stream {ARN} in eu-west-1"):
        async with source_of(OneTable(streams={}), BY_ARN):
            pass


@pytest.mark.parametrize("declared", [BY_TABLE, BY_ARN])
async def test_wrong_credentials_are_denied_access(declared: DynamoDBStream) -> None:
    code = "UnrecognizedClientException"
    with pytest.raises(AccessDeniedError, match="check the access key") as caught:
        async with source_of(OneTable(refuses={"DescribeTable": code, "DescribeStream": code}), declared):
            pass
    assert caught.value.code == code


async def test_an_endpoint_that_cannot_be_reached_is_named() -> None:
    async with serving(OneTable()) as server:
        pass
    with pytest.raises(SourceError, match=f"127.0.0.1:{server.port}"):
        async with (
            open_aws(AwsOptions(region="eu-west-1", endpoint_url=server.url)) as aws,
            open_dynamodb_stream(aws, BY_ARN),
        ):
            pass


async def test_a_pin_is_a_cursor_and_the_second_before_the_services_own() -> None:
    async with source_of(OneTable(), BY_ARN) as source:
        pin = await source.pin(SHARD)
    assert pin.cursor == "tip"
    assert pin.position == Position.at_timestamp(NOW.timestamp() - 1)
