"""The three calls of DynamoDB Streams with typed answers. An answer that is not what it must be is an error, never an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import msgspec
import orjson
from anyio.lowlevel import RunVar

from streamflow.aws.errors import corrupt_answer
from streamflow.clock import SystemClock
from streamflow.positions import PositionKind
from streamflow.sources.bucket import TokenBucket

if TYPE_CHECKING:
    from streamflow.aws.wire import Response
    from streamflow.positions import Position

SHARDS_MAX = 100  # of one page of DescribeStream
_TARGET = "DynamoDBStreams_20120810."

# DescribeStream: at most 10 calls a second for an account in a region. One bucket for the process, which is one for each
# event loop, because what waits on one loop cannot know the time of another.
_DESCRIBE_PER_S = 10
_bucket: RunVar[TokenBucket] = RunVar("describe_stream_bucket")


class SequenceNumberRange(msgspec.Struct, rename="pascal"):
    ending_sequence_number: str | None = None


class ListedShard(msgspec.Struct, rename="pascal"):
    shard_id: str
    parent_shard_id: str | None = None
    sequence_number_range: SequenceNumberRange | None = None

    @property
    def closed(self) -> bool:
        numbers = self.sequence_number_range
        return numbers is not None and numbers.ending_sequence_number is not None


class StreamDescription(msgspec.Struct, rename="pascal"):
    stream_arn: str
    shards: list[ListedShard]
    stream_status: str = ""
    stream_view_type: str = ""
    table_name: str = ""
    last_evaluated_shard_id: str | None = None

    @property
    def enabled(self) -> bool:
        return self.stream_status in {"ENABLED", "ENABLING"}


class _DescribeStreamAnswer(msgspec.Struct, rename="pascal"):
    stream_description: StreamDescription


class _ShardIteratorAnswer(msgspec.Struct, rename="pascal"):
    shard_iterator: str


class RecordsAnswer(msgspec.Struct, rename="pascal", gc=False):
    """`records` are raw slices of the one buffer that the answer's body is."""

    records: list[msgspec.Raw]
    next_shard_iterator: str | None = None


class Caller(Protocol):
    """What posts the calls: `streamflow.aws.wire.Wire`, or whatever stands in for the service."""

    async def call(self, target: str, body: bytes) -> Response: ...


class StreamCalls:
    """The calls for one stream. Each may be cancelled anywhere and repeated, and raises `SourceError` as the wire does.

    `bucket` is for simulations, in which one loop runs several processes.
    """

    def __init__(self, wire: Caller, stream_arn: str, bucket: TokenBucket | None = None) -> None:
        self.stream_arn = stream_arn
        self._wire = wire
        self._own_bucket = bucket

    async def describe_stream(
        self, *, after: str | None = None, children_of: str | None = None, shards_max: int = SHARDS_MAX
    ) -> StreamDescription:
        """One page of shards, behind `after`. Waits for a token of the process's bucket."""
        request: dict[str, Any] = {"StreamArn": self.stream_arn, "Limit": shards_max}
        if after is not None:
            request["ExclusiveStartShardId"] = after
        if children_of is not None:
            request["ShardFilter"] = {"Type": "CHILD_SHARDS", "ShardId": children_of}
        await _wait_for_token(self._own_bucket or _bucket_of_process())
        response = await self._wire.call(f"{_TARGET}DescribeStream", orjson.dumps(request))
        return _decode(response, _DescribeStreamAnswer).stream_description

    async def shard_iterator(self, shard_id: str, position: Position) -> tuple[str, Response]:
        """An iterator at `position`, good for 15 minutes. There is none at a timestamp: that one is at the trim horizon."""
        kind = position.kind
        if kind is PositionKind.AT_TIMESTAMP:
            kind = PositionKind.TRIM_HORIZON
        request = {"StreamArn": self.stream_arn, "ShardId": shard_id, "ShardIteratorType": kind.value}
        if position.sequence_number:
            request["SequenceNumber"] = position.sequence_number
        response = await self._wire.call(f"{_TARGET}GetShardIterator", orjson.dumps(request))
        return _decode(response, _ShardIteratorAnswer).shard_iterator, response

    async def records(self, iterator: str, *, records_max: int) -> tuple[RecordsAnswer, int]:
        """One page, and the size of its body in bytes."""
        request = {"ShardIterator": iterator, "Limit": records_max}
        response = await self._wire.call(f"{_TARGET}GetRecords", orjson.dumps(request))
        return _decode(response, RecordsAnswer), len(response.body)


Answer = TypeVar("Answer")


def _decode(response: Response, shape: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(response.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise corrupt_answer("that is truncated or corrupt") from error


def new_bucket() -> TokenBucket:
    """What one process may ask of DescribeStream."""
    return TokenBucket(rate_per_s=_DESCRIBE_PER_S, burst=_DESCRIBE_PER_S)


def _bucket_of_process() -> TokenBucket:
    bucket = _bucket.get(None)
    if bucket is None:
        bucket = new_bucket()
        _bucket.set(bucket)
    return bucket


async def _wait_for_token(bucket: TokenBucket) -> None:
    delay_s = bucket.reserve(SystemClock().monotonic())
    if delay_s > 0:
        await anyio.sleep(delay_s)
