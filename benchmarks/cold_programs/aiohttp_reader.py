"""A command of one file with click and aiohttp: asks for one page, unsigned, and finds its records."""

from __future__ import annotations

import asyncio

import aiohttp
import click
import orjson

from benchmarks.cold_programs.marking import mark

_HEADERS = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDBStreams_20120810.GetRecords"}


@click.command()
@click.argument("url")
@click.argument("iterator")
def main(url: str, iterator: str) -> None:
    """Print how many records the page of ITERATOR holds."""
    click.echo(asyncio.run(_read(url, iterator)))


async def _read(url: str, iterator: str) -> int:
    request = orjson.dumps({"ShardIterator": iterator})
    async with (
        aiohttp.ClientSession(raise_for_status=True) as http,
        http.post(url, data=request, headers=_HEADERS) as response,
    ):
        records = orjson.loads(await response.read())["Records"]
    if records:
        mark()
    return len(records)


if __name__ == "__main__":
    main()
