"""`python -m soak.scraping URL PER_SECOND IDLE CORE`: scrapes metrics at an even pace, and holds idle connections.

When its input ends it says in one line of JSON how often it was answered, and how often not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
import anyio

from benchmarks.contend import bind

# A server that has enough connections closes the oldest; whoever insists on being idle comes again after about this, and not
# all in one moment.
_AGAIN_S = 10.0


async def main(url: str, per_s: float, idle: int) -> None:
    ended, loop = anyio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    told = {"scrapes": 0, "scrapes_failed": 0}
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    async with aiohttp.ClientSession() as http, anyio.create_task_group() as tasks:
        for number in range(idle):
            tasks.start_soon(_idle, place.hostname, place.port, _AGAIN_S * (0.5 + number / idle))
        while not ended.is_set():
            tasks.start_soon(_scrape, http, url, told)
            with anyio.move_on_after(1 / per_s):
                await ended.wait()
        tasks.cancel_scope.cancel()
    loop.remove_reader(sys.stdin.fileno())
    print(json.dumps(told))


async def _scrape(http: aiohttp.ClientSession, url: str, told: dict[str, int]) -> None:
    try:
        async with http.get(f"{url}/metrics") as response:
            await response.read()
            told["scrapes" if response.status == 200 else "scrapes_failed"] += 1
    except aiohttp.ClientError:
        told["scrapes_failed"] += 1


async def _idle(host: str, port: int, again_s: float) -> None:
    while True:
        with suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            async with await anyio.connect_tcp(host, port) as stream:
                await stream.receive()
        await anyio.sleep(again_s)


if __name__ == "__main__":
    bind(int(sys.argv[4]))
    anyio.run(main, sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
