"""Claims: what the engine costs before a sink, beside the loop that people write by hand.

Ours is a pipeline with the sink at its defaults: metrics on, checkpoints in SQLite, all shards side by side. The peer is
what people write first: aioboto3's `get_records`, shard after shard and page after page, and each page written in the
bulk way of the same client library before the next one is read. The floor is the same loop, reading with aiohttp and
orjson: it has no checkpoints, no order to keep, no failures to tell apart, and no second version of an item to fear.

Which sink a contender has, and where its server is, stands in its environment. Every contender looks, after the clock has
stopped, whether all that it should have written is there.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.claims import Claim, Contender, Goal, Measurement
from benchmarks.contend import Stopwatch
from benchmarks.pipelines import Lap
from benchmarks.replay_pages import Template
from benchmarks.replay_stream import RECORDS_PER_PAGE, Shape
from benchmarks.sink_targets import aws, files, http, kafka, nats, postgres, redis
from benchmarks.sink_targets.target import Target, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from benchmarks.sink_targets.target import Place, Record

TARGETS: Mapping[str, Target] = {
    target.name: target for module in (files, http, postgres, redis, kafka, nats, aws) for target in module.TARGETS
}

SINK, ADDRESS = "STREAMFLOW_BENCHMARK_SINK", "STREAMFLOW_BENCHMARK_ADDRESS"


# --- ours ------------------------------------------------------------------------------------------------------------


async def streamflow(url: str, shape: Shape) -> Measurement:
    """As a user runs it; from the first shard opened to the last one settled and stored."""
    import streamflow as product

    lap = Lap()
    async with _open_place(shape) as place:
        pipeline = product.Pipeline(
            name="replay",
            source=product.DynamoDBStream(table=shape.table),
            handler=place.sink,
            starting_position="TRIM_HORIZON",
        )
        with TemporaryDirectory() as folder:
            store = f"sqlite:///{Path(folder) / 'checkpoints.db'}"
            app = product.App(pipelines=(pipeline,), store=store, aws=product.AwsOptions(endpoint_url=url))
            await product.run(app, observers=[lap])
    return lap.measurement(lap.delivered)


# --- by hand ---------------------------------------------------------------------------------------------------------


async def aioboto3_loop(url: str, shape: Shape) -> Measurement:
    """`get_records` until there is no next iterator, each page written before the next one is read."""
    return await _loop(_pages_by_aioboto3, url, shape)


async def aiohttp_loop(url: str, shape: Shape) -> Measurement:
    """The same over unsigned requests and orjson."""
    return await _loop(_pages_by_aiohttp, url, shape)


async def _loop(pages: Callable[[str, Shape], AsyncIterator[Sequence[Record]]], url: str, shape: Shape) -> Measurement:
    count = 0
    async with _open_place(shape) as place, place.open_loop() as write:
        watch = Stopwatch()
        async for page in pages(url, shape):
            await write(page)
            count += len(page)
        return watch.read(count)


async def _pages_by_aioboto3(url: str, shape: Shape) -> AsyncIterator[Sequence[Record]]:
    import aioboto3

    opening: Any = aioboto3.Session().client("dynamodbstreams", endpoint_url=url)
    async with opening as client:
        for shard in range(shape.shards):
            iterator: str | None = shape.iterator(shard, 0)
            while iterator:
                page = await client.get_records(ShardIterator=iterator, Limit=RECORDS_PER_PAGE)
                yield page["Records"]  # noqa: ASYNC119 - read to its end, or the process ends
                iterator = page.get("NextShardIterator")


async def _pages_by_aiohttp(url: str, shape: Shape) -> AsyncIterator[Sequence[Record]]:
    import aiohttp

    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDBStreams_20120810.GetRecords"}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        for shard in range(shape.shards):
            iterator: str | None = shape.iterator(shard, 0)
            while iterator:
                body = orjson.dumps({"ShardIterator": iterator, "Limit": RECORDS_PER_PAGE})
                async with session.post(url, data=body, headers=headers) as response:
                    page = orjson.loads(await response.read())
                yield page["Records"]  # noqa: ASYNC119 - read to its end, or the process ends
                iterator = page.get("NextShardIterator")


# --- what both have --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_place(shape: Shape) -> AsyncIterator[Place]:
    """The place that the environment names; at the end of the block everything must have arrived there."""
    target = TARGETS[os.environ[SINK]]
    async with target.open_place(os.environ[ADDRESS]) as place:
        yield place
        arrived, expected = await place.count(), expected_count(target, shape)
        if arrived != expected:
            raise RuntimeError(f"{arrived} of {expected} {target.holds} arrived")


def expected_count(target: Target, shape: Shape) -> int:
    """Of the changes that were made, or of the items that are left: no item is in two pages."""
    if target.holds == "changes":
        return shape.records
    page = orjson.loads(b"".join(Template().page(shape, 0, 0).parts))
    living, _ = split(page["Records"])
    return len(living) * shape.shards * shape.pages


@contextmanager
def _serve(target: Target, core: int) -> Iterator[Mapping[str, str]]:
    with target.serve(core) as address:
        yield {SINK: target.name, ADDRESS: address}


def claim_of(target: Target) -> Claim:
    return Claim(
        name=f"sink_{target.name}",
        words=(
            f"The sink {target.name} behind the whole engine writes at least 80 % of the records per second that a\n"
            "hand-written loop on the same client library reads and writes. The floor reads faster than such loops do."
        ),
        target=f"{target.server}; by hand: {target.loop}",
        serve=partial(_serve, target),
        unit="records/s",
        ours=Contender(name="streamflow", work=streamflow, pages=target.pages.ours),
        peers=(Contender(name="aioboto3 loop", work=aioboto3_loop, pages=target.pages.peer),),
        floors=(Contender(name="aiohttp and orjson loop", work=aiohttp_loop, pages=target.pages.floor),),
        goal=Goal(peer_ratio_min=0.8),
    )


CLAIMS: Sequence[Claim] = tuple(map(claim_of, TARGETS.values()))
