"""Batches that were given up, and the records in them as DynamoDB Streams sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson

from streamflow.batches import Batch, Window
from streamflow.dead_letters import DiscardedBatch
from streamflow.destinations.invocation_record import MappingIdentity
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.dead_letters import Condition

STREAM_ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2025-11-25T15:00:00.000"
SHARD = Shard(stream_arn=STREAM_ARN, shard_id="shardId-00000001732000000000-a1b2c3d4")
REQUEST_ID = "c9b8fa9f-0d0e-4a3b-9f54-6f4b8e6f5a01"
FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:f:live"
IDENTITY = MappingIdentity(uuid="14e0db71-5d35-4eb5-b481-8945cf9d10c2", function_arn=FUNCTION_ARN)
DISCARDED_AT_S = 1764086904.123  # 2025-11-25T16:08:24.123Z


def record(number: int = 0, *, created_at_s: float | None = 1764086900, note: str = "") -> Record:
    change: dict[str, object] = {
        "Keys": {"id": {"S": "1"}},
        "NewImage": {"id": {"S": "1"}, "note": {"S": note}},
        "SequenceNumber": str(800000000003126276362 + number),
    }
    if created_at_s is not None:
        change = {"ApproximateCreationDateTime": created_at_s, **change}
    return raw_record(orjson.dumps({"eventID": "7de3041dd709b024", "eventName": "INSERT", "dynamodb": change}))


def raw_record(text: bytes) -> Record:
    return Record(msgspec.Raw(text), SHARD)


def discarded(
    records: Sequence[Record] | None = None,
    *,
    condition: Condition = "RetryAttemptsExhausted",
    invoke_count: int = 2,
    responded: bool = True,
    function_error: str | None = "Unhandled",
    request_id: str = REQUEST_ID,
    window: Window | None = None,
    error: BaseException | None = None,
) -> DiscardedBatch:
    return DiscardedBatch(
        batch=Batch(
            pipeline="orders",
            shard=SHARD,
            records=[record()] if records is None else records,
            request_id=request_id,
            window=window,
        ),
        condition=condition,
        invoke_count=invoke_count,
        discarded_at_s=DISCARDED_AT_S,
        error=error,
        responded=responded,
        function_error=function_error,
    )
