"""The stream that the guard reads, and every answer of the service to it, made before anything is counted.

A record is the same but for its number, and nothing is drawn: what is read never changes, so neither does what it costs.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import orjson

REGION = "eu-west-1"
STREAM_ARN = f"arn:aws:dynamodb:{REGION}:000000000000:table/orders/stream/2026-01-01T00:00:00.000"
CREATED_AT_S = 1_767_225_600.0

# DescribeStream lists at most 100 shards in one answer.
_SHARDS_LISTED_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A disabled stream of closed shards: each has `pages` of `records`, and then `empty_pages`."""

    shards: int = 1
    pages: int = 1
    records: int = 100
    empty_pages: int = 0


class Answers:
    """Of DynamoDB Streams to every request about the one stream: HTTP answers with head and body."""

    def __init__(self, stream: Stream) -> None:
        self._by_request: dict[tuple[bytes, str], bytes] = {}
        for shard in range(stream.shards):
            for page in range(stream.pages + stream.empty_pages):
                self._put(b"GetRecords", _iterator(shard, page), _page(stream, shard, page))
            self._put(b"GetShardIterator", _shard_id(shard), {"ShardIterator": _iterator(shard, 0)})
        for first_listed in range(0, stream.shards, _SHARDS_LISTED_MAX):
            after = _shard_id(first_listed - 1) if first_listed else ""
            self._put(b"DescribeStream", after, _description(stream, first_listed))
        self._put(b"DescribeStream", _CHILDREN, _description(stream, stream.shards))

    def to(self, operation: bytes, body: bytes) -> bytes:
        """One request; `KeyError` where nobody foresaw it."""
        request = orjson.loads(body)
        asked = request.get("ShardIterator") or request.get("ExclusiveStartShardId", "")
        if "ShardFilter" in request:
            asked = _CHILDREN
        elif operation == b"GetShardIterator":
            asked = request["ShardId"]
        return self._by_request[operation, asked]

    def _put(self, operation: bytes, asked: str, answer: dict[str, Any]) -> None:
        body = orjson.dumps(answer)
        self._by_request[operation, asked] = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\nx-amz-crc32: %d\r\n"
            b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n" % (len(body), zlib.crc32(body)) + body
        )


_CHILDREN = "children"


def _iterator(shard: int, page: int) -> str:
    """Real ones are opaque, and as long as this."""
    return f"{STREAM_ARN}|1|{shard}/{page}".ljust(240, "=")


def _shard_id(shard: int) -> str:
    return f"shardId-{1_767_225_600_000:020}-{shard:08x}"


def _sequence_number(shard: int, place: int) -> str:
    """21 digits and more in the order of the places, as real ones."""
    return f"4000000{shard:06}{place:012}"


def _page(stream: Stream, shard: int, page: int) -> dict[str, Any]:
    numbers = range(page * stream.records, (page + 1) * stream.records) if page < stream.pages else ()
    answer: dict[str, Any] = {"Records": [_record(shard, number) for number in numbers]}
    if page + 1 < stream.pages + stream.empty_pages:
        answer["NextShardIterator"] = _iterator(shard, page + 1)
    return answer


def _record(shard: int, number: int) -> dict[str, Any]:
    """A change of some 800 bytes with both images: a nested map, a list, a set, numbers, text beyond ASCII."""
    keys = {"order": {"S": f"order-{shard:06}-{number:09}"}, "line": {"N": "7"}}
    attributes = {
        "total": {"N": "1234.50"},
        "customer": {"M": {"name": {"S": "Zoë"}, "tier": {"N": "2"}}},
        "steps": {"L": [{"S": "paid"}, {"N": "123456789"}, {"BOOL": True}]},
        "tags": {"SS": ["label-12", "tag-34"]},
        "note": {"S": "front door"},
    }
    return {
        "eventID": f"{shard:016x}{number:016x}",
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": CREATED_AT_S,
            "Keys": keys,
            "NewImage": keys | attributes,
            "OldImage": keys | attributes,
            "SequenceNumber": _sequence_number(shard, number),
            "SizeBytes": 226,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
    }


def _description(stream: Stream, first: int) -> dict[str, Any]:
    listed = range(first, min(stream.shards, first + _SHARDS_LISTED_MAX))
    description: dict[str, Any] = {
        "StreamArn": STREAM_ARN,
        "StreamStatus": "DISABLED",
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        "TableName": "orders",
        "Shards": [
            {
                "ShardId": _shard_id(shard),
                "SequenceNumberRange": {
                    "StartingSequenceNumber": _sequence_number(shard, 0),
                    "EndingSequenceNumber": _sequence_number(shard, stream.pages * stream.records),
                },
            }
            for shard in listed
        ],
    }
    if listed and listed.stop < stream.shards:
        description["LastEvaluatedShardId"] = _shard_id(listed[-1])
    return {"StreamDescription": description}
