"""Requests to answers: the protocol around `Tables`, without any transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from streamflow.pipeline import TABLE_NAME
from streamflow.testing import requests
from streamflow.testing.faults import EmptyPage, LeaveOut, Refuse
from streamflow.testing.items import key_of_item, key_of_key, store_item
from streamflow.testing.iterators import ShardIterator
from streamflow.testing.refusals import RefusedError, invalid

if TYPE_CHECKING:
    from streamflow.testing.faults import Fault
    from streamflow.testing.items import KeySchema
    from streamflow.testing.streams import LocalShard
    from streamflow.testing.tables import Listing, LocalTable, RecordPage, Tables

_WRITES_MAX = 25  # BatchWriteItem


def shard_of(request: requests.Request) -> str | None:
    """The shard that a request reads, where it reads one."""
    match request:
        case requests.GetShardIterator(shard_id=shard_id):
            return shard_id
        case requests.GetRecords(shard_iterator=iterator):
            try:
                return ShardIterator.parse(iterator).shard_id
            except RefusedError:
                return None
    return None


def error_body(error: RefusedError) -> bytes:
    return orjson.dumps({"__type": error.wire_type, "message": error.message})


def page_body(page: RecordPage) -> bytes:
    """The answer to GetRecords."""
    following = b"" if page.next_iterator is None else b',"NextShardIterator":"' + page.next_iterator.encode() + b'"'
    return b'{"Records":[' + b",".join(page.bodies) + b"]" + following + b"}"


def listing_body(listing: Listing) -> bytes:
    """The answer to DescribeStream."""
    stream = listing.stream
    description = {
        "StreamArn": stream.stream_arn,
        "StreamLabel": stream.label,
        "StreamStatus": "ENABLED" if stream.disabled_at_s > listing.as_of_s else "DISABLED",
        "StreamViewType": stream.view_type,
        "CreationRequestDateTime": stream.created_at_s,
        "TableName": stream.table_name,
        "KeySchema": _wire_key_schema(stream.key_schema),
        "Shards": [_wire_shard(shard, listing.as_of_s) for shard in listing.shards],
    }
    if listing.last_evaluated is not None:
        description["LastEvaluatedShardId"] = listing.last_evaluated
    return orjson.dumps({"StreamDescription": description})


@dataclass(frozen=True, slots=True)
class Wire:
    """Answers requests from `tables`."""

    tables: Tables

    def answer(self, request: requests.Request, fault: Fault | None = None) -> bytes:
        """Do what the request asks; returns the body of a 200. Of the faults it knows those that are no transport's.

        Raises:
            RefusedError: the answer is an error.
        """
        if isinstance(fault, Refuse):
            raise RefusedError(fault.code, fault.message)
        match request:
            case requests.GetRecords():
                return self._get_records(request, empty=isinstance(fault, EmptyPage))
            case requests.DescribeStream():
                leave_out = fault.shard_ids if isinstance(fault, LeaveOut) else frozenset()
                return self._describe_stream(request, leave_out)
            case requests.GetShardIterator():
                iterator = self.tables.shard_iterator(
                    request.stream_arn, request.shard_id, request.shard_iterator_type, request.sequence_number
                )
                return orjson.dumps({"ShardIterator": iterator})
            case requests.ListStreams():
                return orjson.dumps(self._list_streams(request))
        return orjson.dumps(self._answer_item(request))

    # -- streams --------------------------------------------------------------------------------------------------------

    def _get_records(self, request: requests.GetRecords, *, empty: bool) -> bytes:
        return page_body(self.tables.get_records(request.shard_iterator, limit=request.limit, empty=empty))

    def _describe_stream(self, request: requests.DescribeStream, leave_out: frozenset[str]) -> bytes:
        listing = self.tables.describe_stream(
            request.stream_arn,
            limit=request.limit,
            after=request.exclusive_start_shard_id,
            children_of=request.shard_filter.shard_id if request.shard_filter else None,
            leave_out=leave_out,
        )
        return listing_body(listing)

    def _list_streams(self, request: requests.ListStreams) -> dict[str, Any]:
        found = self.tables.list_streams(
            request.table_name, limit=request.limit, after=request.exclusive_start_stream_arn
        )
        answer: dict[str, Any] = {
            "Streams": [
                {"StreamArn": stream.stream_arn, "TableName": stream.table_name, "StreamLabel": stream.label}
                for stream in found
            ]
        }
        if len(found) == request.limit:
            answer["LastEvaluatedStreamArn"] = found[-1].stream_arn
        return answer

    # -- items ----------------------------------------------------------------------------------------------------------

    def _answer_item(self, request: requests.Request) -> dict[str, Any]:
        match request:
            case requests.PutItem():
                old = self.tables.put(request.table_name, request.item)
                return {"Attributes": old} if old is not None and request.return_values == "ALL_OLD" else {}
            case requests.DeleteItem():
                old = self.tables.delete(request.table_name, request.key)
                return {"Attributes": old} if old is not None and request.return_values == "ALL_OLD" else {}
            case requests.GetItem():
                item = self.tables.get(request.table_name, request.key)
                return {} if item is None else {"Item": item}
            case requests.BatchWriteItem():
                return self._batch_write(request)
        return self._answer_table(request)

    def _batch_write(self, request: requests.BatchWriteItem) -> dict[str, Any]:
        """Check everything before anything is written, as AWS does."""
        count = sum(len(writes) for writes in request.request_items.values())
        if not 1 <= count <= _WRITES_MAX:
            raise invalid(f"1 validation error detected: 1 to {_WRITES_MAX} write requests are needed, found {count}")
        for name, writes in request.request_items.items():
            schema = self.tables.table(name).key_schema
            keys = {_written_key(write, schema) for write in writes}
            if len(keys) < len(writes):
                raise invalid("Provided list of item keys contains duplicates")
        for name, writes in request.request_items.items():
            for write in writes:
                if write.put_request is not None:
                    self.tables.put(name, write.put_request.item)
                elif write.delete_request is not None:
                    self.tables.delete(name, write.delete_request.key)
        return {"UnprocessedItems": {}}

    # -- tables ---------------------------------------------------------------------------------------------------------

    def _answer_table(self, request: requests.Request) -> dict[str, Any]:
        match request:
            case requests.CreateTable():
                return {"TableDescription": self._table(self._create_table(request))}
            case requests.UpdateTable():
                return {"TableDescription": self._table(self._update_table(request))}
            case requests.DeleteTable():
                table = self.tables.delete_table(request.table_name)
                return {"TableDescription": self._table(table) | {"TableStatus": "DELETING"}}
            case requests.DescribeTable():
                return {"Table": self._table(self.tables.table(request.table_name))}
            case requests.ListTables():
                return self._list_tables(request)
        raise AssertionError(request)

    def _create_table(self, request: requests.CreateTable) -> LocalTable:
        if not TABLE_NAME.match(request.table_name):
            raise invalid("TableName must be 3 to 255 characters of a-z, A-Z, 0-9, '_', '-' and '.'")
        types = {definition.attribute_name: definition.attribute_type for definition in request.attribute_definitions}
        names = {element.key_type: element.attribute_name for element in request.key_schema}
        if [element.key_type for element in request.key_schema] not in (["HASH"], ["HASH", "RANGE"]):
            raise invalid("Invalid KeySchema: one HASH element is needed, and at most one RANGE element may follow")
        if not types.keys() >= set(names.values()) or len(set(names.values())) < len(names):
            raise invalid("One or more parameter values were invalid: Some index key attributes are not defined")
        stream = request.stream_specification
        view_type = _view_type(stream) if stream is not None and stream.stream_enabled else None
        schema = {name: types[name] for name in names.values()}
        return self.tables.create_table(request.table_name, schema, view_type=view_type)

    def _update_table(self, request: requests.UpdateTable) -> LocalTable:
        if request.stream_specification is not None:
            if request.stream_specification.stream_enabled:
                self.tables.enable_stream(request.table_name, _view_type(request.stream_specification))
            else:
                self.tables.disable_stream(request.table_name)
        return self.tables.table(request.table_name)

    def _list_tables(self, request: requests.ListTables) -> dict[str, Any]:
        after = request.exclusive_start_table_name or ""
        names = sorted(name for name in self.tables.tables if name > after)
        answer: dict[str, Any] = {"TableNames": names[: request.limit]}
        if len(names) > request.limit:
            answer["LastEvaluatedTableName"] = names[request.limit - 1]
        return answer

    def _table(self, table: LocalTable) -> dict[str, Any]:
        description: dict[str, Any] = {
            "TableName": table.name,
            "TableArn": self.tables.table_arn(table.name),
            "TableStatus": "ACTIVE",
            "CreationDateTime": table.created_at_s,
            "KeySchema": _wire_key_schema(table.key_schema),
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind} for name, kind in table.key_schema.items()
            ],
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            "ItemCount": len(table.items),
            "TableSizeBytes": sum(item.size_bytes for item in table.items.values()),
        }
        if table.stream is not None:
            description |= {"LatestStreamArn": table.stream.stream_arn, "LatestStreamLabel": table.stream.label}
            if table.stream.enabled:
                description["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": table.stream.view_type}
        return description


def _view_type(specification: requests.StreamSpecification) -> Any:
    if specification.stream_view_type is None:
        raise invalid("One or more parameter values were invalid: StreamViewType is needed to enable a stream")
    return specification.stream_view_type


def _written_key(write: requests.WriteRequest, schema: KeySchema) -> tuple[str, ...]:
    match write.put_request, write.delete_request:
        case requests.PutRequest(item=item), None:
            return key_of_item(store_item(item), schema)
        case None, requests.DeleteRequest(key=key):
            return key_of_key(store_item(key), schema)
    raise invalid("Supplied WriteRequest must contain exactly one of PutRequest and DeleteRequest")


def _wire_key_schema(schema: KeySchema) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(schema, ("HASH", "RANGE"), strict=False)]


def _wire_shard(shard: LocalShard, as_of_s: float) -> dict[str, Any]:
    numbers = {"StartingSequenceNumber": str(shard.starting_number)}
    if shard.ending_number is not None and shard.closed_at_s <= as_of_s:
        numbers["EndingSequenceNumber"] = str(shard.ending_number)
    wire: dict[str, Any] = {"ShardId": shard.shard_id, "SequenceNumberRange": numbers}
    if shard.parent_id is not None:
        wire["ParentShardId"] = shard.parent_id
    return wire
