"""Claim: a handler that counts records gets them far faster than a plain aioboto3 loop hands them over.

Every contender reads the pages of the same closed shards, to their end, in one process on one core. The peer reads
shard after shard, as such loops do (it is bound by the CPU, so several at once would not be faster); ours and the
floors read all shards side by side.
"""

from __future__ import annotations

import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import orjson

from benchmarks.claims import Claim, Contender, Goal, Measurement
from benchmarks.contend import Stopwatch
from benchmarks.replay_stream import RECORDS_PER_PAGE, Shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from streamflow.batches import Batch
    from streamflow.events import Event
    from streamflow.records import Record

# 400 KB is the largest item that DynamoDB takes; a record with both images may have twice that, and escapes.
_OVERSIZED_BYTES = 1_000_000
# More than the head of an answer, far less than a page.
_HEAD_BYTES = 1_024


# --- ours ------------------------------------------------------------------------------------------------------------


async def streamflow(url: str, shape: Shape) -> Measurement:
    """As a user runs it: by table name, through four layers, checkpoints in SQLite, metrics on, batches of 100."""
    return await run_pipeline(url, shape)


async def run_pipeline(url: str, shape: Shape, **options: Any) -> Measurement:
    """A pipeline with these options besides; what filters leave out is counted too, because it is read and settled.

    The layers are `timeout`, `log_batches` (at DEBUG, which is off), `concurrency_limit` and a `drop` that looks at the
    size of every record. Measured from the first shard opened to the last one settled and stored.
    """
    import streamflow as product
    from streamflow.middleware.concurrency_limit import concurrency_limit
    from streamflow.middleware.drop import drop
    from streamflow.middleware.log_batches import log_batches
    from streamflow.middleware.timeout import timeout

    count = 0

    async def deliver(batch: Batch) -> None:
        nonlocal count
        count += len(batch)

    pipeline = product.Pipeline(
        name="replay",
        source=product.DynamoDBStream(table=shape.table),
        handler=deliver,
        middleware=(
            timeout(30.0),
            log_batches(),
            concurrency_limit(64),
            drop(_oversized, reason="oversized"),
        ),
        batch_size=100,
        starting_position="TRIM_HORIZON",
        **options,
    )
    lap = Lap()
    with TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'checkpoints.db'}"
        app = product.App(pipelines=(pipeline,), store=store, aws=product.AwsOptions(endpoint_url=url))
        await product.run(app, observers=[lap])
    return lap.measurement(count + lap.filtered)


def _oversized(record: Record) -> bool:
    return len(record.json) > _OVERSIZED_BYTES


class Lap:
    """An observer: its watch runs from the first shard opened to the last shard closed."""

    def __init__(self) -> None:
        self._watch: Stopwatch | None = None
        self._read: Measurement | None = None
        self.filtered = 0
        self.delivered = 0

    def __call__(self, event: Event) -> None:
        match type(event).__name__:
            case "ShardOpened" if self._watch is None:
                self._watch = Stopwatch()
            case "PageRead":
                self.filtered += event.filtered  # type: ignore[union-attr]
            case "BatchDelivered":
                self.delivered += event.delivered  # type: ignore[union-attr]
            case "ShardClosed" if self._watch is not None:
                self._read = self._watch.read(0)

    def measurement(self, count: int) -> Measurement:
        assert self._read is not None
        return Measurement(count=count, wall_s=self._read.wall_s, cpu_s=self._read.cpu_s)


# --- the peer --------------------------------------------------------------------------------------------------------


async def aioboto3_loop(url: str, shape: Shape) -> Measurement:
    """What people write first: `get_records` until there is no next iterator, counting what came."""
    import aioboto3

    count = 0
    opening: Any = aioboto3.Session().client("dynamodbstreams", endpoint_url=url)
    async with opening as client:
        watch = Stopwatch()
        for shard in range(shape.shards):
            answer = await client.get_shard_iterator(
                StreamArn=shape.stream_arn, ShardId=shape.shard_id(shard), ShardIteratorType="TRIM_HORIZON"
            )
            iterator = answer["ShardIterator"]
            while iterator:
                page = await client.get_records(ShardIterator=iterator, Limit=RECORDS_PER_PAGE)
                count += len(page["Records"])
                iterator = page.get("NextShardIterator")
        return watch.read(count)


# --- the floors ------------------------------------------------------------------------------------------------------


async def read_and_drop(url: str, shape: Shape) -> Measurement:
    """aiohttp reads the same bytes, unsigned, and drops them: nobody who uses aiohttp can be faster."""

    async def take(response: aiohttp.ClientResponse) -> int:
        await response.read()
        return RECORDS_PER_PAGE

    return await _read_all(url, shape, take)


async def read_and_parse(url: str, shape: Shape) -> Measurement:
    """The same, and `orjson.loads` of each page."""

    async def take(response: aiohttp.ClientResponse) -> int:
        return len(orjson.loads(await response.read())["Records"])

    return await _read_all(url, shape, take)


async def _read_all(url: str, shape: Shape, take: Callable[[aiohttp.ClientResponse], Awaitable[int]]) -> Measurement:
    """All shards side by side; `take` answers with the number of records in a page."""
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


CLAIM = Claim(
    name="throughput_envelope",
    words=(
        "One process on one core, with metrics, checkpoints in SQLite, four layers of middleware and batches of 100:\n"
        "a handler that counts gets records many times faster than a plain aioboto3 get_records loop over the same pages."
    ),
    unit="records/s",
    ours=Contender(name="streamflow", work=streamflow, pages=400),
    peers=(Contender(name="aioboto3 get_records loop", work=aioboto3_loop, pages=10),),
    floors=(
        Contender(name="aiohttp, bytes dropped", work=read_and_drop, pages=800),
        Contender(name="aiohttp, orjson.loads", work=read_and_parse, pages=120),
    ),
    ceiling=Contender(name="replay server, raw sockets", work=raw_sockets, pages=800),
    goal=Goal(peer_ratio_min=25.0),
)
