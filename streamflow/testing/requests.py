"""The requests that the server understands, member for member; what is not declared here is refused aloud.

Members that change nothing here (capacity, billing, tags, indexes …) are declared and ignored.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from streamflow.testing.items import WireItem  # noqa: TC001 - msgspec reads the annotations
from streamflow.testing.refusals import RefusedError, invalid
from streamflow.testing.tables import LISTING_MAX, RECORDS_MAX

Ignored: TypeAlias = Any


class Request(msgspec.Struct, rename="pascal", forbid_unknown_fields=True, kw_only=True):
    """Members are in Pascal case on the wire."""


# --- streams ---------------------------------------------------------------------------------------------------------


class ShardFilter(Request):
    type: Literal["CHILD_SHARDS"]
    shard_id: str


class ListStreams(Request):
    table_name: str | None = None
    limit: int = LISTING_MAX
    exclusive_start_stream_arn: str | None = None


class DescribeStream(Request):
    stream_arn: str
    limit: int = LISTING_MAX
    exclusive_start_shard_id: str | None = None
    shard_filter: ShardFilter | None = None


class GetShardIterator(Request):
    stream_arn: str
    shard_id: str
    shard_iterator_type: Literal["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"]
    sequence_number: str | None = None


class GetRecords(Request):
    shard_iterator: str
    limit: int = RECORDS_MAX


# --- tables ----------------------------------------------------------------------------------------------------------


class KeyElement(Request):
    attribute_name: str
    key_type: Literal["HASH", "RANGE"]


class AttributeDefinition(Request):
    attribute_name: str
    attribute_type: Literal["S", "N", "B"]


class StreamSpecification(Request):
    stream_enabled: bool
    stream_view_type: Literal["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"] | None = None


class CreateTable(Request):
    table_name: str
    key_schema: list[KeyElement]
    attribute_definitions: list[AttributeDefinition]
    stream_specification: StreamSpecification | None = None
    billing_mode: Ignored = None
    provisioned_throughput: Ignored = None
    on_demand_throughput: Ignored = None
    warm_throughput: Ignored = None
    global_secondary_indexes: Ignored = None
    local_secondary_indexes: Ignored = None
    table_class: Ignored = None
    tags: Ignored = None
    deletion_protection_enabled: Ignored = None
    sse_specification: Ignored = msgspec.field(default=None, name="SSESpecification")


class DescribeTable(Request):
    table_name: str


class DeleteTable(Request):
    table_name: str


class ListTables(Request):
    exclusive_start_table_name: str | None = None
    limit: int = LISTING_MAX


class UpdateTable(Request):
    table_name: str
    stream_specification: StreamSpecification | None = None
    attribute_definitions: Ignored = None
    billing_mode: Ignored = None
    provisioned_throughput: Ignored = None
    deletion_protection_enabled: Ignored = None


class GetItem(Request):
    table_name: str
    key: WireItem
    consistent_read: Ignored = None
    return_consumed_capacity: Ignored = None


class PutItem(Request):
    table_name: str
    item: WireItem
    return_values: Literal["NONE", "ALL_OLD"] = "NONE"
    return_consumed_capacity: Ignored = None
    return_item_collection_metrics: Ignored = None


class DeleteItem(Request):
    table_name: str
    key: WireItem
    return_values: Literal["NONE", "ALL_OLD"] = "NONE"
    return_consumed_capacity: Ignored = None
    return_item_collection_metrics: Ignored = None


class PutRequest(Request):
    item: WireItem


class DeleteRequest(Request):
    key: WireItem


class WriteRequest(Request):
    put_request: PutRequest | None = None
    delete_request: DeleteRequest | None = None


class BatchWriteItem(Request):
    request_items: dict[str, list[WriteRequest]]
    return_consumed_capacity: Ignored = None
    return_item_collection_metrics: Ignored = None


STREAMS_TARGET, TABLES_TARGET = "DynamoDBStreams_20120810", "DynamoDB_20120810"
OPERATIONS: dict[str, type[Request]] = {
    **{
        f"{STREAMS_TARGET}.{kind.__name__}": kind
        for kind in (ListStreams, DescribeStream, GetShardIterator, GetRecords)
    },
    **{
        f"{TABLES_TARGET}.{kind.__name__}": kind
        for kind in (
            *(CreateTable, DescribeTable, ListTables, DeleteTable, UpdateTable),
            *(PutItem, GetItem, DeleteItem, BatchWriteItem),
        )
    },
}
# Conditions, updates, projections, and the forms that AWS had before expressions.
_EXPRESSIONS = {"Expected", "ConditionalOperator", "AttributeUpdates", "AttributesToGet"}


def read_request(target: str, body: bytes) -> Request:
    """Decode a request by its `X-Amz-Target`.

    Raises:
        RefusedError: the operation or a member is unknown, or a member has the wrong type.
    """
    kind = OPERATIONS.get(target)
    if kind is None:
        operation = target.rpartition(".")[2] or "(no X-Amz-Target)"
        raise RefusedError("UnknownOperationException", f"LocalStreams does not offer {operation}")
    try:
        members = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RefusedError("SerializationException", "The request is no JSON") from None
    for name in members if isinstance(members, dict) else ():
        if "Expression" in name or name in _EXPRESSIONS:
            raise invalid(f"LocalStreams takes no expressions: leave {name} out")
    try:
        return msgspec.convert(members, kind)
    except msgspec.ValidationError as error:
        raise invalid(f"1 validation error detected: {error}") from None
