"""What contenders that read open shards have in common: a server of such shards, and three ways to poll them.

Each way polls every shard in a task of its own, pauses for the same time behind each answer, and is ready before it is
measured: it has asked each shard at least once. Starting up is not part of these claims.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import anyio
import orjson

from benchmarks.contend import Stopwatch
from benchmarks.harness import server_process
from benchmarks.pipelines import declared
from benchmarks.replay_stream import RECORDS_PER_PAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from benchmarks.claims import Measurement
    from benchmarks.replay_stream import Shape
    from streamflow.batches import Batch
    from streamflow.protocols import Observer
    from streamflow.records import Record

_ADDRESS = "STREAMFLOW_BENCHMARK_LIVE"
# As many as our wire opens: with the SDK's default of 10, a thousand shards wait for each other.
_CONNECTIONS_MAX = 256
# Of thousands of shards, on a machine that is busy with other things too.
_READY_S = 120.0
_LOOK_S = 0.05


@contextmanager
def live_server(kind: str, core: int) -> Iterator[Mapping[str, str]]:
    """For `Claim.serve`: a live server whose shards are `filled` or `dripping`."""
    with server_process("benchmarks.live_server", kind, str(core)) as url:
        yield {_ADDRESS: url}


class LiveTable:
    """A stream of the live server, from its contender's side; open it with `open_table`.

    Its calls block the loop, each for less than a millisecond, and outside of what is measured.
    """

    def __init__(self, shape: Shape, url: str, connection: HTTPConnection) -> None:
        self.shape = shape
        self.url = url
        self._connection = connection
        self._call("Begin")

    def release(self) -> None:
        """Let the records come, from now on."""
        self._call("Release")

    def polls(self) -> int:
        """How many polls were answered so far."""
        return int(self._call("Polls")["Polls"])

    async def wait_polled(self) -> None:
        """Wait until each shard was polled.

        Raises:
            TimeoutError: some were not.
        """
        with anyio.fail_after(_READY_S):
            while self._call("Polls")["Shards"] < self.shape.shards:  # noqa: ASYNC110 - the server is another process
                await anyio.sleep(_LOOK_S)

    async def window(self, duration_s: float) -> Measurement:
        """What this process spends in a time; the count is of the polls that were answered meanwhile."""
        before = self.polls()
        watch = Stopwatch()
        await anyio.sleep(duration_s)
        measurement = watch.read(0)
        return replace(measurement, count=self.polls() - before)

    def _call(self, operation: str) -> Any:
        body = orjson.dumps({"TableName": self.shape.table})
        self._connection.request("POST", "/", body, {"X-Amz-Target": f"Live.{operation}"})
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ConnectionError(f"the live server refused {operation}: {content.decode()}")
        return orjson.loads(content)


@contextmanager
def open_table(shape: Shape) -> Iterator[LiveTable]:
    """A stream that nobody has polled and that is not released."""
    url = os.environ[_ADDRESS]
    with closing(HTTPConnection(urlsplit(url).netloc)) as connection:
        yield LiveTable(shape, url, connection)


class Polling(Protocol):
    """One way to read a stream: `take` is called with the records of each answer or batch that has some."""

    def __call__(
        self, live: LiveTable, take: Callable[[Sequence[Any]], None], *, interval_s: float
    ) -> AbstractAsyncContextManager[None]: ...


# --- ours ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def by_streamflow(
    live: LiveTable,
    take: Callable[[Sequence[Record]], None],
    *,
    interval_s: float,
    observers: Sequence[Observer] = (),
) -> AsyncIterator[None]:
    """A pipeline as `streamflow run` runs it, see `pipelines.run`, but that idle shards are polled at the pace of others."""
    import streamflow as product
    from streamflow.cli import garbage

    async def deliver(batch: Batch) -> None:
        take(batch.records)

    pace = {"poll_interval_s": interval_s, "idle_poll_interval_s": interval_s}
    with garbage.put_off(), declared(live.url, live.shape, deliver, **pace) as app:
        async with product.running(app, observers=observers) as worker:
            await worker.wait_started()
            await live.wait_polled()
            garbage.settle()
            yield


# --- the peer --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def by_aioboto3(
    live: LiveTable, take: Callable[[Sequence[Any]], None], *, interval_s: float
) -> AsyncIterator[None]:
    """`get_records` of an aioboto3 client, with as many connections as ours has."""
    import aioboto3
    from aiobotocore.config import AioConfig

    shape, config = live.shape, AioConfig(max_pool_connections=_CONNECTIONS_MAX)
    opening: Any = aioboto3.Session().client("dynamodbstreams", endpoint_url=live.url, config=config)
    async with opening as client:

        async def poll(shard: int) -> None:
            answer = await client.get_shard_iterator(
                StreamArn=shape.stream_arn, ShardId=shape.shard_id(shard), ShardIteratorType="TRIM_HORIZON"
            )
            iterator = answer["ShardIterator"]
            while True:
                page = await client.get_records(ShardIterator=iterator, Limit=RECORDS_PER_PAGE)
                if page["Records"]:
                    take(page["Records"])
                iterator = page["NextShardIterator"]
                await anyio.sleep(interval_s)

        async with anyio.create_task_group() as tasks:
            for shard in range(shape.shards):
                tasks.start_soon(poll, shard, name=f"peer/{shape.shard_id(shard)}")
            await live.wait_polled()
            yield
            tasks.cancel_scope.cancel()


# --- the floor -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def by_aiohttp(
    live: LiveTable, take: Callable[[Sequence[Any]], None], *, interval_s: float
) -> AsyncIterator[None]:
    """The same requests, unsigned, by aiohttp, and `orjson.loads` of each answer."""
    import aiohttp

    shape = live.shape
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDBStreams_20120810.GetRecords"}

    async def poll(http: aiohttp.ClientSession, shard: int) -> None:
        iterator = shape.iterator(shard, 0)
        while True:
            request = orjson.dumps({"ShardIterator": iterator, "Limit": RECORDS_PER_PAGE})
            async with http.post(live.url, data=request, headers=headers) as response:
                page = orjson.loads(await response.read())
            if page["Records"]:
                take(page["Records"])
            iterator = page["NextShardIterator"]
            await anyio.sleep(interval_s)

    opening = aiohttp.ClientSession(raise_for_status=True, connector=aiohttp.TCPConnector(limit=_CONNECTIONS_MAX))
    async with opening as http, anyio.create_task_group() as tasks:
        for shard in range(shape.shards):
            tasks.start_soon(poll, http, shard, name=f"floor/{shape.shard_id(shard)}")
        await live.wait_polled()
        yield
        tasks.cancel_scope.cancel()
