"""A DynamoDB Streams endpoint that serves prebuilt pages from memory, in a process of its own.

It speaks just what a reader of closed shards needs: DescribeTable, DescribeStream, GetShardIterator, GetRecords, over
HTTP/1.1 with keep-alive. The stream is disabled and every shard ends, so that a consumer ends by itself. Signatures,
Limit and iterator expiry are not looked at. It is an `asyncio.Protocol` of a few lines, not a web framework, so as not
to be the bottleneck: the benchmark shows its ceiling.

Run it with `python -m benchmarks.replay_server [CORE]`: its first line is its address. It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import partial
from typing import Any, TypeAlias

import orjson

from benchmarks.replay_pages import Body, Template
from benchmarks.replay_stream import Shape, parse_iterator

Answer: TypeAlias = Callable[[str, Mapping[str, Any]], Body]
"""Operation and request to the body of the answer; raises `RefusedError`."""

# DescribeStream lists at most 100 shards in one answer.
_SHARDS_PER_ANSWER = 100
_END_OF_HEAD = b"\r\n\r\n"
# Room for a whole page, so that a page is one system call and the server is ready for the next one; Linux caps it.
_SEND_BUFFER_BYTES = 2 * 1024 * 1024


class RefusedError(Exception):
    """An error answer of the service: its code and a message."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def answer(template: Template, operation: str, request: Mapping[str, Any]) -> Body:
    """The body of the answer to one call.

    Raises:
        RefusedError: the replay has no such stream, iterator or operation.
    """
    match operation:
        case "GetRecords":
            named = parse_iterator(request["ShardIterator"])
            if named is None:
                raise RefusedError("ValidationException", "Invalid ShardIterator")
            return template.page(*named)
        case "GetShardIterator":
            return Body.of(orjson.dumps({"ShardIterator": _iterator(_shape(request["StreamArn"]), request)}))
        case "DescribeStream":
            return Body.of(orjson.dumps({"StreamDescription": _describe_stream(_shape(request["StreamArn"]), request)}))
        case "DescribeTable":
            return Body.of(orjson.dumps({"Table": _describe_table(_shape(request["TableName"]))}))
    raise RefusedError("UnknownOperationException", f"the replay server does not know {operation}")


def _shape(name: str) -> Shape:
    shape = Shape.parse(name)
    if shape is None:
        raise RefusedError("ResourceNotFoundException", f"{name} does not name a replay")
    return shape


def _iterator(shape: Shape, request: Mapping[str, Any]) -> str:
    shard = int(request["ShardId"].rpartition("-")[2], 16)
    match request["ShardIteratorType"]:
        case "TRIM_HORIZON":
            return shape.iterator(shard, 0)
        case "AFTER_SEQUENCE_NUMBER":
            page, place = shape.place_of(request["SequenceNumber"])
            if place != shape.records_per_page - 1:
                raise RefusedError("ValidationException", "the replay server continues only behind a whole page")
            return shape.iterator(shard, page + 1)
        case kind:
            raise RefusedError("ValidationException", f"the replay server does not know {kind}")


def _describe_stream(shape: Shape, request: Mapping[str, Any]) -> dict[str, Any]:
    first = 0
    if start := request.get("ExclusiveStartShardId"):
        first = int(start.rpartition("-")[2], 16) + 1
    children_only = request.get("ShardFilter", {}).get("Type") == "CHILD_SHARDS"
    after = first if children_only else min(shape.shards, first + _SHARDS_PER_ANSWER)
    description = {
        "StreamArn": shape.stream_arn,
        "StreamLabel": shape.stream_arn.rpartition("/")[2],
        "StreamStatus": "DISABLED",
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        "TableName": shape.table,
        "KeySchema": _key_schema(shape),
        "Shards": [
            {
                "ShardId": shape.shard_id(shard),
                "SequenceNumberRange": {
                    "StartingSequenceNumber": shape.sequence_number(shard, 0),
                    "EndingSequenceNumber": shape.sequence_number(shard, shape.pages),
                },
            }
            for shard in range(first, after)
        ],
    }
    if not children_only and after < shape.shards:
        description["LastEvaluatedShardId"] = shape.shard_id(after - 1)
    return description


def _describe_table(shape: Shape) -> dict[str, Any]:
    return {
        "TableName": shape.table,
        "TableArn": shape.table_arn,
        "TableStatus": "ACTIVE",
        "KeySchema": _key_schema(shape),
        "LatestStreamArn": shape.stream_arn,
        "LatestStreamLabel": shape.stream_arn.rpartition("/")[2],
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }


def _key_schema(shape: Shape) -> list[dict[str, str]]:
    names = ("id",) if shape.content == "small" else ("order", "line")
    return [{"AttributeName": name, "KeyType": kind} for name, kind in zip(names, ("HASH", "RANGE"), strict=False)]


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests are answered in order, whole, on arrival of their last byte."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END_OF_HEAD)) >= 0:
            head = self._received[:end].decode("latin-1")
            headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in head.split("\r\n"))}
            body_at = end + len(_END_OF_HEAD)
            after = body_at + int(headers.get("content-length", "0"))
            if len(self._received) < after:
                return
            body, self._received = self._received[body_at:after], self._received[after:]
            self._respond(headers.get("x-amz-target", ""), body)

    def _respond(self, target: str, body: bytes) -> None:
        status = b"200 OK"
        try:
            content = self._answer(target.rpartition(".")[2], orjson.loads(body or b"{}"))
        except RefusedError as error:
            status = b"400 Bad Request"
            content = Body.of(orjson.dumps({"__type": f"com.amazonaws#{error.code}", "message": str(error)}))
        self._transport.write(
            b"HTTP/1.1 %s\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\nx-amz-crc32: %d\r\n"
            b"Date: %s\r\n\r\n" % (status, len(content), content.crc32, formatdate(usegmt=True).encode())
        )
        for part in content.parts:
            self._transport.write(part)


async def serve(answer: Answer) -> None:
    """Serve on a free port of loopback until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answer), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    async with server:
        await ended.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    templates = Template()
    templates.prepare()
    asyncio.run(serve(partial(answer, templates)))
