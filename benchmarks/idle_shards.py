"""Claims: what a shard costs in which nothing happens: CPU time for each poll, and memory.

The pages of a `Shape` are the seconds of a contender's window. For CPU time all contenders poll each shard once a second, as
ours polls an idle one by default; four times a second would be more than the peer can do. It is that of the whole process, so
ours has in it what a worker does beside polling: its sign of life, its looks at the leases, its metrics. For memory, which no
poll adds to, they take their time, so that thousands of shards do not fill the core.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.live_stream import open_shape
from benchmarks.memory import resident_bytes
from benchmarks.open_shards import by_aioboto3, by_aiohttp, by_streamflow, live_server, open_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.claims import Measurement
    from benchmarks.open_shards import Polling
    from benchmarks.replay_stream import Shape

_POLL_INTERVAL_S = 1.0
_POLL_INTERVAL_OF_MEMORY_S = 4.0
_BYTES_PER_SHARD = "bytes_per_shard"


async def streamflow_polls(_url: str, shape: Shape) -> Measurement:
    return await _cpu(by_streamflow, shape)


async def aioboto3_polls(_url: str, shape: Shape) -> Measurement:
    return await _cpu(by_aioboto3, shape)


async def aiohttp_polls(_url: str, shape: Shape) -> Measurement:
    return await _cpu(by_aiohttp, shape)


async def streamflow_memory(_url: str, shape: Shape) -> Measurement:
    return await _memory(by_streamflow, shape)


async def aioboto3_memory(_url: str, shape: Shape) -> Measurement:
    return await _memory(by_aioboto3, shape)


async def aiohttp_memory(_url: str, shape: Shape) -> Measurement:
    return await _memory(by_aiohttp, shape)


async def _cpu(polling: Polling, shape: Shape) -> Measurement:
    with open_table(open_shape(shape.shards, 0)) as live:
        async with polling(live, _refuse, interval_s=_POLL_INTERVAL_S):
            return await live.window(shape.pages)


async def _memory(polling: Polling, shape: Shape) -> Measurement:
    """By how much the resident set grows with so many shards; what imports, code and one shard need is there before."""
    with open_table(open_shape(1, 0)) as live:
        async with polling(live, _refuse, interval_s=_POLL_INTERVAL_OF_MEMORY_S):
            pass
    gc.collect()
    before = resident_bytes()
    with open_table(open_shape(shape.shards, 0)) as live:
        async with polling(live, _refuse, interval_s=_POLL_INTERVAL_OF_MEMORY_S):
            measurement = await live.window(shape.pages)
            gc.collect()
            grown = resident_bytes() - before
    return replace(measurement, details={_BYTES_PER_SHARD: grown / shape.shards})


def _refuse(records: Sequence[object]) -> None:
    raise AssertionError(f"{len(records)} records came from idle shards")


def cpu_us(measurement: Measurement) -> float:
    return measurement.cpu_s / measurement.count * 1e6


def kb_per_shard(measurement: Measurement) -> float:
    return measurement.details[_BYTES_PER_SHARD] / 1_000


_LIVE = partial(live_server, "filled")

CPU = Claim(
    name="idle_poll_cpu",
    words=(
        "A thousand open shards in which nothing happens, each polled once a second: CPU time of the whole process for each\n"
        "poll that the server answered, in a window after the start. Ours is at most a fifth of the aioboto3 client's."
    ),
    unit="µs of CPU per poll",
    ours=Contender(name="streamflow", work=streamflow_polls, pages=20),
    peers=(Contender(name="aioboto3 client", work=aioboto3_polls, pages=20),),
    floors=(Contender(name="aiohttp, orjson.loads", work=aiohttp_polls, pages=20),),
    goal=Goal(peer_ratio_min=5.0),
    shards=1_000,
    long=True,
    waits=True,
    figure=cpu_us,
    less_is_better=True,
    counted=lambda _: None,
    serve=_LIVE,
)

MEMORY = Claim(
    name="shards_memory",
    words=(
        "Two thousand open shards in which nothing happens, in one process: the resident set grows by at most 40 KB for each,\n"
        "compared with one shard in the same process before."
    ),
    unit="KB per shard",
    ours=Contender(name="streamflow", work=streamflow_memory, pages=5),
    peers=(Contender(name="aioboto3 client", work=aioboto3_memory, pages=5),),
    floors=(Contender(name="aiohttp, orjson.loads", work=aiohttp_memory, pages=5),),
    goal=Goal(figure_max=40.0),
    shards=2_000,
    quick=False,
    long=True,
    waits=True,
    figure=kb_per_shard,
    less_is_better=True,
    counted=lambda _: None,
    serve=_LIVE,
)
