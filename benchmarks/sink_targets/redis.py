"""Valkey from the emulators' wheel, in front of redis-py."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import orjson

from benchmarks.sink_targets.target import Pages, Place, Target, on_core, own_name, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from benchmarks.sink_targets.target import Record, WritePage


@contextmanager
def _serve(core: int) -> Iterator[str]:
    with on_core(core):
        from servers.valkey import running_valkey

        with running_valkey() as server:
            yield server.url()


@asynccontextmanager
async def _open_keys(url: str) -> AsyncIterator[Place]:
    from redis.asyncio import Redis

    from streamflow_redis import redis

    prefix = f"{own_name()}:"

    async def count() -> int:
        async with Redis.from_url(url) as client:
            return sum([1 async for _ in client.scan_iter(f"{prefix}*", count=10_000, _type="string")])

    yield Place(sink=redis(url=url, key_prefix=prefix), open_loop=partial(_pipeline_loop, url, prefix), count=count)
    async with Redis.from_url(url) as client:
        await client.flushdb()


@asynccontextmanager
async def _pipeline_loop(url: str, prefix: str) -> AsyncIterator[WritePage]:
    from redis.asyncio import Redis

    async with Redis.from_url(url) as client:

        async def write(records: Sequence[Record]) -> None:
            living, gone = split(records)
            async with client.pipeline(transaction=False) as pipeline:
                for key, item in living:
                    pipeline.set(prefix + key, orjson.dumps(item))
                for key in gone:
                    pipeline.delete(prefix + key)
                await pipeline.execute()

        yield write


TARGETS = (
    Target(
        name="redis",
        server="Valkey from a wheel, appendfsync always",
        loop="redis-py pipeline of SET and DEL",
        holds="items",
        pages=Pages(ours=30, peer=5, floor=20),
        serve=_serve,
        open_place=_open_keys,
    ),
)
