"""A webhook, and OpenSearch's bulk API: aiohttp in front of servers that are processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import orjson

from benchmarks.sink_targets.target import Pages, Place, Target, lambda_record, own_name, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from benchmarks.sink_targets.target import Record, WritePage

_ROOT = Path(__file__).parents[2]
# The sink's own default.
_RECORDS_PER_REQUEST = 100


@contextmanager
def _process(module: str, core: int) -> Iterator[str]:
    """A server that prints its address and ends with its standard input."""
    command = [sys.executable, "-m", module, str(core)]
    path = os.pathsep.join([str(_ROOT / "tests"), str(_ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


# --- webhook ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_webhook(address: str) -> AsyncIterator[Place]:
    from streamflow.sinks.http import http

    url = f"{address}/{own_name()}"

    async def count() -> int:
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as response:
            return int(await response.text())

    yield Place(sink=http(url=url), open_loop=partial(_webhook_loop, url), count=count)


@asynccontextmanager
async def _webhook_loop(url: str) -> AsyncIterator[WritePage]:
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def write(records: Sequence[Record]) -> None:
            for start in range(0, len(records), _RECORDS_PER_REQUEST):
                part = records[start : start + _RECORDS_PER_REQUEST]
                body = orjson.dumps([lambda_record(record) for record in part])
                async with session.post(url, data=body, headers=headers) as response:
                    await response.read()

        yield write


# --- opensearch ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_index(address: str, *, versioning: str) -> AsyncIterator[Place]:
    from streamflow_opensearch import opensearch

    url = f"{address}/{own_name()}"

    async def count() -> int:
        query = {"query": {"bool": {"must_not": {"term": {"_sf_deleted": True}}}}}
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            async with session.post(f"{url}/_refresh") as response:
                await response.read()
            async with session.post(f"{url}/_count", json=query) as response:
                return int(orjson.loads(await response.read())["count"])

    async with aiohttp.ClientSession(raise_for_status=True) as session:
        mapping = {"mappings": {"dynamic": False, "properties": {"_sf_deleted": {"type": "boolean"}}}}
        async with session.put(url, json=mapping) as response:
            await response.read()
        yield Place(
            sink=opensearch(urls=[address], index=own_name(), versioning=versioning),
            open_loop=partial(_bulk_loop, address),
            count=count,
        )
        async with session.delete(url) as response:
            await response.read()


@asynccontextmanager
async def _bulk_loop(address: str) -> AsyncIterator[WritePage]:
    headers = {"Content-Type": "application/x-ndjson"}
    index = own_name()
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def write(records: Sequence[Record]) -> None:
            living, gone = split(records)
            lines = []
            for key, item in living:
                lines.append(orjson.dumps({"index": {"_index": index, "_id": key}}))
                lines.append(orjson.dumps(item))
            lines += [orjson.dumps({"delete": {"_index": index, "_id": key}}) for key in gone]
            async with session.post(f"{address}/_bulk", data=b"\n".join([*lines, b""]), headers=headers) as response:
                answers = orjson.loads(await response.read())["items"]
            statuses = [status["status"] for answer in answers for status in answer.values()]
            if any(status >= 300 and status != 404 for status in statuses):
                raise RuntimeError("a document was not written")

        yield write


TARGETS = (
    Target(
        name="http",
        server="an asyncio receiver that counts records",
        loop="aiohttp post of 100 records",
        holds="changes",
        pages=Pages(ours=30, peer=5, floor=20),
        serve=partial(_process, "benchmarks.sink_targets.http_receiver"),
        open_place=_open_webhook,
    ),
    Target(
        name="opensearch",
        server="the repository's stand-in for OpenSearch, which is no product",
        loop="aiohttp post to _bulk, without versions",
        holds="items",
        pages=Pages(ours=8, peer=4, floor=8),
        serve=partial(_process, "servers.opensearch_fake"),
        open_place=partial(_open_index, versioning="compared"),
    ),
    Target(
        name="opensearch_ordered",
        server="the repository's stand-in for OpenSearch, which is no product",
        loop="aiohttp post to _bulk, without versions",
        holds="items",
        pages=Pages(ours=8, peer=4, floor=8),
        serve=partial(_process, "servers.opensearch_fake"),
        open_place=partial(_open_index, versioning="ordered"),
    ),
)
