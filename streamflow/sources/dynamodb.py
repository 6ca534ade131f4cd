"""A DynamoDB stream as a source: found by table name or ARN, read over the wire."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from streamflow.aws.errors import translate, with_code
from streamflow.clock import SystemClock
from streamflow.errors import NotFoundError, StreamDisabledError
from streamflow.positions import LATEST, Position
from streamflow.protocols import Pin, StreamInfo
from streamflow.sources.dynamodb_calls import StreamCalls
from streamflow.sources.dynamodb_listing import Listing
from streamflow.sources.dynamodb_reader import DynamoDBShardReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streamflow.attributes import Numbers
    from streamflow.aws.session import Aws
    from streamflow.clock import Clock
    from streamflow.pipeline import DynamoDBStream
    from streamflow.protocols import Source
    from streamflow.records import Shard


class DynamoDBSource:
    """Keeps `streamflow.protocols.Source` for the one stream that was found when it was opened."""

    def __init__(self, calls: StreamCalls, *, numbers: Numbers, clock: Clock) -> None:
        self._calls = calls
        self._listing = Listing(calls)
        self._numbers: Numbers = numbers
        self._clock = clock

    async def describe(self) -> StreamInfo:
        """See `Source.describe`."""
        found = await self._calls.describe_stream(shards_max=1)
        return StreamInfo(
            stream_arn=self._calls.stream_arn,
            name=found.table_name,
            view_type=found.stream_view_type,
            enabled=found.enabled,
        )

    async def shards(self) -> Mapping[str, Shard]:
        """See `Source.shards`."""
        return await self._listing.shards()

    async def children(self, shard: Shard) -> Sequence[Shard]:
        """See `Source.children`."""
        return await self._listing.children(shard)

    async def pin(self, shard: Shard) -> Pin:
        """See `Source.pin`. The position is the service's own time, in whole seconds as those of the records.

        Less a second: the host that answers and those that date records need not agree to the last moment, and a restart
        that repeats a second's records is better than one that misses one.
        """
        cursor, response = await self._calls.shard_iterator(shard.shard_id, LATEST)
        now_s = response.server_time_s
        return Pin(
            position=Position.at_timestamp(math.floor(self._clock.wall() if now_s is None else now_s) - 1.0),
            cursor=cursor,
        )

    @asynccontextmanager
    async def open(
        self, shard: Shard, start: Position, *, cursor: str | None = None
    ) -> AsyncIterator[DynamoDBShardReader]:
        """See `Source.open`. The first call to the service is that of the first read."""
        yield DynamoDBShardReader(self._calls, shard, start, cursor=cursor, numbers=self._numbers)


@asynccontextmanager
async def open_dynamodb_stream(
    aws: Aws, declared: DynamoDBStream, *, numbers: Numbers = "decimal", clock: Clock | None = None
) -> AsyncIterator[Source]:
    """Find the stream and open a way to it.

    A stream that is disabled is readable for 24 h and opens; a table's later stream, after it was re-enabled or
    re-created, is another one and found by opening anew.

    Raises:
        NotFoundError: there is no such table or stream.
        StreamDisabledError: the table has no stream; the text has the command that turns it on.
        AccessDeniedError: the role may not look.
    """
    async with aws.open_wire("dynamodbstreams") as wire:
        arn = declared.stream_arn or await _latest_stream_arn(aws, str(declared.table))
        calls = StreamCalls(wire, arn)
        source = DynamoDBSource(calls, numbers=numbers, clock=clock or SystemClock())
        try:
            await source.describe()
        except NotFoundError as error:
            if declared.table is not None:
                raise _disabled(declared.table) from error
            message = f"there is no stream {arn} in {aws.region}; a disabled stream is gone after 24 h"
            raise with_code(NotFoundError(message), str(error.code)) from error
        yield source


async def _latest_stream_arn(aws: Aws, table: str) -> str:
    async with aws.client("dynamodb") as client:
        try:
            answer: dict[str, Any] = await client.describe_table(TableName=table)
        except Exception as error:
            found = translate(error)
            if isinstance(found, NotFoundError):
                message = (
                    f"there is no table {table} in {aws.region}; see `aws dynamodb list-tables --region {aws.region}`"
                )
                raise with_code(NotFoundError(message), str(found.code)) from error
            raise found from error
    arn: str | None = answer.get("Table", {}).get("LatestStreamArn")
    if arn is None:
        raise _disabled(table)
    return arn


def _disabled(table: str) -> StreamDisabledError:
    message = (
        f"the table {table} has no stream; turn it on: aws dynamodb update-table --table-name {table} "
        "--stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
    )
    return StreamDisabledError(message)
