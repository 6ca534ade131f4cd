"""Floors: what reading alone costs; and the ceiling of the replay server. All read the shards side by side, unsigned."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import orjson

from benchmarks.claims import Contender
from benchmarks.contend import Stopwatch
from benchmarks.replay_stream import RECORDS_PER_PAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from benchmarks.claims import Measurement
    from benchmarks.replay_stream import Shape

# More than the head of an answer, far less than a page.
_HEAD_BYTES = 1_024


# --- aiohttp ---------------------------------------------------------------------------------------------------------


async def read_and_drop(url: str, shape: Shape) -> Measurement:
    """aiohttp reads the same bytes, unsigned, and drops them: nobody who uses aiohttp can be faster."""

    async def take(response: aiohttp.ClientResponse) -> int:
        await response.read()
        return shape.records_per_page

    return await _read_all(url, shape, take)


async def read_and_parse(url: str, shape: Shape) -> Measurement:
    """The same, and `orjson.loads` of each page."""

    async def take(response: aiohttp.ClientResponse) -> int:
        return len(orjson.loads(await response.read())["Records"])

    return await _read_all(url, shape, take)


async def _read_all(url: str, shape: Shape, take: Callable[[aiohttp.ClientResponse], Awaitable[int]]) -> Measurement:
    """`take` answers with the number of records in a page."""
    import aiohttp

    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDBStreams_20120810.GetRecords"}
    counts: list[int] = []

    async def read_shard(http: aiohttp.ClientSession, shard: int) -> None:
        for page in range(shape.pages):
            request = orjson.dumps({"ShardIterator": shape.iterator(shard, page), "Limit": RECORDS_PER_PAGE})
            async with http.post(url, data=request, headers=headers) as response:
                counts.append(await take(response))

    # An error answer must not count as a page; a short one is an error of aiohttp's own.
    async with aiohttp.ClientSession(raise_for_status=True) as http:
        watch = Stopwatch()
        async with anyio.create_task_group() as tasks:
            for shard in range(shape.shards):
                tasks.start_soon(read_shard, http, shard, name=f"floor/{shape.shard_id(shard)}")
        return watch.read(sum(counts))


# --- the server's ceiling --------------------------------------------------------------------------------------------


async def raw_sockets(url: str, shape: Shape) -> Measurement:
    """Blocking sockets, one for each shard, received into one buffer and never looked at."""
    address = urlsplit(url)
    pages = [_request(shape, shard, 0) for shard in range(shape.shards)]
    connections = [socket.create_connection((str(address.hostname), address.port or 80)) for _ in pages]
    buffer = bytearray(1 << 20)
    watch = Stopwatch()
    for connection, request in zip(connections, pages, strict=True):
        connection.sendall(request)
    for page in range(shape.pages):
        for shard, connection in enumerate(connections):
            _receive_one(connection, buffer)
            if page + 1 < shape.pages:
                connection.sendall(_request(shape, shard, page + 1))
    measurement = watch.read(shape.records)
    for connection in connections:
        connection.close()
    return measurement


def _request(shape: Shape, shard: int, page: int) -> bytes:
    body = orjson.dumps({"ShardIterator": shape.iterator(shard, page)})
    head = b"POST / HTTP/1.1\r\nX-Amz-Target: DynamoDBStreams_20120810.GetRecords\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def _receive_one(connection: socket.socket, buffer: bytearray) -> None:
    # A short first receive finds the head, so that next to nothing is copied twice.
    first = connection.recv(_HEAD_BYTES)
    head, _, start = first.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError("the replay server did not answer with a page")
    missing = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]) - len(start)
    while missing:
        count = connection.recv_into(buffer, min(missing, len(buffer)))
        if not count:
            raise ConnectionError("the replay server closed the connection")
        missing -= count


DROPPED = Contender(name="aiohttp, bytes dropped", work=read_and_drop, pages=400)
PARSED = Contender(name="aiohttp, orjson.loads", work=read_and_parse, pages=80, quick=False)
CEILING = Contender(name="replay server, raw sockets", work=raw_sockets, pages=400, quick=False)
