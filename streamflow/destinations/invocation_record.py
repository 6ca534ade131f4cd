"""What Lambda tells a destination about a batch that was given up: esm.md 3.7, in the member order of the service.

Nothing here raises: a batch is given up because of what is in it, and what cannot be read in it is left out.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamflow.errors import MalformedRecordError

if TYPE_CHECKING:
    from streamflow.batches import Batch, Window
    from streamflow.dead_letters import DiscardedBatch
    from streamflow.records import Record, Shard

_EMPTY_EVENT = b'{"Records":['


@dataclass(frozen=True, slots=True)
class MappingIdentity:
    """What Lambda would call this mapping, and the ARN of the function that it invokes."""

    uuid: str
    function_arn: str


def invocation_record(discarded: DiscardedBatch, identity: MappingIdentity) -> dict[str, Any]:
    """The body for SQS and SNS: where the records are in the stream, never the records."""
    return {
        **_head(discarded, identity),
        "timestamp": _failed_at(discarded),
        **_tail(discarded.batch),
    }


def s3_record(discarded: DiscardedBatch, identity: MappingIdentity) -> dict[str, Any]:
    """The object for S3: the same with `payload`, the text of the complete invocation event."""
    return {
        **_head(discarded, identity),
        "payload": _event_text(discarded.batch),
        "timestamp": _failed_at(discarded),
        **_tail(discarded.batch),
    }


def s3_key(discarded: DiscardedBatch, identity: MappingIdentity) -> str:
    """`aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<uuid>`, in UTC; the same whenever it is sent again."""
    batch = discarded.batch
    at = datetime.fromtimestamp(discarded.discarded_at_s, UTC)
    ends = [_sequence_number(record) or _digest(record) for record in (*batch.records[:1], *batch.records[-1:])]
    name = "/".join([identity.uuid, batch.shard.shard_id, batch.request_id, discarded.condition, *ends])
    folder = f"aws/lambda/{identity.uuid}/{batch.shard.shard_id}/{at:%Y/%m/%d}"
    return f"{folder}/{at:%Y-%m-%dT%H.%M.%S}-{uuid.uuid5(uuid.NAMESPACE_URL, name)}"


# --- the parts -------------------------------------------------------------------------------------------------------


def _head(discarded: DiscardedBatch, identity: MappingIdentity) -> dict[str, Any]:
    head: dict[str, Any] = {
        "requestContext": {
            "requestId": discarded.batch.request_id,
            "functionArn": identity.function_arn,
            "condition": discarded.condition,
            "approximateInvokeCount": discarded.invoke_count,
        }
    }
    if discarded.responded and discarded.condition == "RetryAttemptsExhausted":
        head["responseContext"] = {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": discarded.function_error,
        }
    head["version"] = "1.0"
    return head


def _failed_at(discarded: DiscardedBatch) -> str:
    at = datetime.fromtimestamp(discarded.discarded_at_s, UTC)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _tail(batch: Batch) -> dict[str, Any]:
    tail: dict[str, Any] = {"DDBStreamBatchInfo": _batch_info(batch)}
    if batch.window is not None:
        tail["timeWindowInfo"] = _window_info(batch.window, batch.shard)
    return tail


def _batch_info(batch: Batch) -> dict[str, Any]:
    """Of a final invocation of a window, which has no records, only the shard and the stream."""
    shard = batch.shard
    if not batch.records:
        return {"shardId": shard.shard_id, "streamArn": shard.stream_arn}
    first, last = batch.records[0], batch.records[-1]
    known = {
        "shardId": shard.shard_id,
        "startSequenceNumber": _sequence_number(first),
        "endSequenceNumber": _sequence_number(last),
        "approximateArrivalOfFirstRecord": _arrival(first),
        "approximateArrivalOfLastRecord": _arrival(last),
        "batchSize": len(batch),
        "streamArn": shard.stream_arn,
    }
    return {name: value for name, value in known.items() if value is not None}


def _window_info(window: Window, shard: Shard) -> dict[str, Any]:
    members = window.lambda_members(shard)
    return {name: members[name] for name in ("window", "isFinalInvokeForWindow", "isWindowTerminatedEarly")}


def _event_text(batch: Batch) -> str:
    """The event as the handler would get it. A record that cannot be spliced stands in it as the service sent it.

    Bytes that are no UTF-8 stand as `\\x…`.
    """
    try:
        event = batch.lambda_event_json()
    except MalformedRecordError:
        rest = batch.select(()).lambda_event_json().removeprefix(_EMPTY_EVENT)
        event = _EMPTY_EVENT + b",".join(map(_record_json, batch.records)) + rest
    return event.decode(errors="backslashreplace")


# --- one record, as far as it can be read ----------------------------------------------------------------------------


def _record_json(record: Record) -> bytes:
    try:
        return record.lambda_event_json()
    except MalformedRecordError:
        return record.raw


def _sequence_number(record: Record) -> str | None:
    try:
        return record.sequence_number
    except MalformedRecordError as error:
        return error.sequence_number


def _arrival(record: Record) -> str | None:
    """In whole seconds, as DynamoDB Streams counts them; None where the record does not say, or nonsense."""
    try:
        created_at_s = record.created_at_s
        return f"{datetime.fromtimestamp(created_at_s, UTC):%Y-%m-%dT%H:%M:%SZ}" if created_at_s else None
    except (MalformedRecordError, ValueError, OverflowError, OSError):
        return None


def _digest(record: Record) -> str:
    return hashlib.sha256(record.raw).hexdigest()
