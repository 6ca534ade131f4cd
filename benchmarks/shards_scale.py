"""Claim: the same records over thousands of shards instead of one are read almost as fast.

The pages of a `Shape` are those of the whole stream; each contender spreads the same number of pages over its shards. These
stay open, as those of a table that is written to do, and behind their last page they are polled on. The interval is the
default, but with more than 250 shards so long that all together are polled a thousand times a second.

Starting up is not measured: every shard is open and was polled before the server lets the records come. The time runs from the
first page that has any to the last record in the handler.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.contend import Stopwatch
from benchmarks.floors import read_and_drop
from benchmarks.live_stream import open_shape
from benchmarks.open_shards import by_streamflow, live_server, open_table
from benchmarks.replay_stream import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.claims import Measurement
    from streamflow.events import Event
    from streamflow.records import Record

_DEFAULT_INTERVAL_S = 0.25
_POLLS_PER_S = 1_000
_SOME_SHARDS = 100


async def one_shard(_url: str, shape: Shape) -> Measurement:
    return await _streamflow(shape, 1)


async def some_shards(_url: str, shape: Shape) -> Measurement:
    return await _streamflow(shape, _SOME_SHARDS)


async def shard_for_each_page(_url: str, shape: Shape) -> Measurement:
    return await _streamflow(shape, shape.pages)


async def over_its_shards(_url: str, shape: Shape) -> Measurement:
    """As many shards and pages as the shape says."""
    return await _streamflow(Shape(1, shape.shards * shape.pages, shape.content), shape.shards)


async def floor_for_each_page(url: str, shape: Shape) -> Measurement:
    """From the replay server: the same pages, as many connections as aiohttp opens by itself."""
    return await read_and_drop(url, Shape(shape.pages, 1, shape.content))


def spread(shape: Shape, shards: int) -> Shape:
    """The same pages in so many shards.

    Raises:
        ValueError: they cannot be shared out evenly.
    """
    if shape.pages % shards:
        raise ValueError(f"{shape.pages} pages are not shared out evenly among {shards} shards")
    return open_shape(shards, shape.pages // shards, shape)


async def _streamflow(shape: Shape, shards: int) -> Measurement:
    lap, interval_s = _Lap(shape.records), max(_DEFAULT_INTERVAL_S, shards / _POLLS_PER_S)
    with open_table(spread(shape, shards)) as live:
        async with by_streamflow(live, lap.take, interval_s=interval_s, observers=[lap]):
            live.release()
            await lap.complete.wait()
    return lap.measurement()


class _Lap:
    """Counts records, and observes: its watch runs from the first page that has any to the last record."""

    def __init__(self, expected: int) -> None:
        self.complete = anyio.Event()
        self._expected = expected
        self._count = 0
        self._watch: Stopwatch | None = None
        self._read: Measurement | None = None

    def __call__(self, event: Event) -> None:
        if self._watch is None and type(event).__name__ == "PageRead" and event.records:  # type: ignore[union-attr]
            self._watch = Stopwatch()

    def take(self, records: Sequence[Record]) -> None:
        self._count += len(records)
        if self._count >= self._expected:
            assert self._watch is not None
            self._read = self._watch.read(self._count)
            self.complete.set()

    def measurement(self) -> Measurement:
        assert self._read is not None
        return self._read


def cpu_us(measurement: Measurement) -> float:
    return measurement.cpu_s / measurement.count * 1e6


CLAIM = Claim(
    name="shards_scale",
    words=(
        "The same records over 2,000 open shards and over one: records per second fall by less than 20 %. Starting up is not\n"
        "measured; polling shards that have no more records is. A quick run has 200 shards."
    ),
    unit="records/s",
    ours=Contender(name="streamflow, a shard for each page", work=shard_for_each_page, pages=2_000),
    peers=(
        Contender(name="streamflow, 1 shard", work=one_shard, pages=2_000),
        Contender(name="streamflow, 100 shards", work=some_shards, pages=2_000, quick=False),
    ),
    floors=(Contender(name="aiohttp, bytes dropped", work=floor_for_each_page, pages=2_000),),
    goal=Goal(peer_ratio_min=0.8),
    shards=1,
    long=True,
    serve=partial(live_server, "filled"),
)
CPU = replace(
    CLAIM,
    name="shards_scale_cpu",
    words=(
        "The same runs by CPU time, which a busy machine changes least and no waiting adds to: a record of 2,000 shards costs\n"
        "at most 1.25 times as much as one of a single shard."
    ),
    unit="µs of CPU per record",
    figure=cpu_us,
    less_is_better=True,
    waits=True,
)
CLAIMS = (CLAIM, CPU)
