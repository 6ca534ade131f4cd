"""Claims: a worker that works off millions of records holds no more memory at the end than at the start, and is no slower.

The shards are open, and have all of their records when every shard was polled. Time runs from the first batch in the handler,
which counts, to the last record there. The first tenth of the samples of memory is warming up: connections and the read-ahead
of the shards fill.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import perf_counter  # noqa: TID251 - the machine's time is measured
from typing import TYPE_CHECKING

import anyio

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.contend import Stopwatch
from benchmarks.floors import read_and_drop
from benchmarks.live_stream import open_shape
from benchmarks.loops import aioboto3_loop
from benchmarks.memory import resident_bytes
from benchmarks.open_shards import by_streamflow, live_server, open_table
from benchmarks.samples import Thirds, peaks_of_thirds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.claims import Measurement
    from benchmarks.replay_stream import Shape
    from streamflow.records import Record

_POLL_INTERVAL_S = 0.25
_SAMPLE_S = 0.1
_WARM_UP = 0.1
_MB = 1_000_000
# What a worker may hold beside the bytes that it has read ahead: connections, views over records, the store.
_BASE_MB = 100
# The default of `App.buffer_bytes_max`.
_BUFFER_MB = 268


async def streamflow_backlog(_url: str, shape: Shape) -> Measurement:
    backlog, before = _Backlog(shape.records), 0
    with open_table(open_shape(shape.shards, shape.pages, shape)) as live:
        async with by_streamflow(live, backlog.take, interval_s=_POLL_INTERVAL_S), anyio.create_task_group() as tasks:
            before = resident_bytes()
            tasks.start_soon(backlog.sample, name="backlog/memory")
            live.release()
            await backlog.complete.wait()
            tasks.cancel_scope.cancel()
    return backlog.measurement(before)


class _Backlog:
    """A handler that counts, and the samples of memory that are taken meanwhile."""

    def __init__(self, expected: int) -> None:
        self.complete = anyio.Event()
        self._expected = expected
        self._count = 0
        self._watch: Stopwatch | None = None
        self._read: Measurement | None = None
        self._thirds = Thirds(expected)
        self._resident: list[int] = []

    def take(self, records: Sequence[Record]) -> None:
        if self._watch is None:
            self._watch = Stopwatch()
            self._thirds.note(0, perf_counter())
        self._count += len(records)
        if self._count >= self._thirds.due:
            self._thirds.note(self._count, perf_counter())
        if self._count >= self._expected:
            self._read = self._watch.read(self._count)
            self.complete.set()

    async def sample(self) -> None:
        """Look at the memory again and again, from the first batch on, until cancelled."""
        while True:
            if self._watch is not None:
                self._resident.append(resident_bytes())
            await anyio.sleep(_SAMPLE_S)

    def measurement(self, before: int) -> Measurement:
        """`before` is the resident set before anything was read."""
        assert self._read is not None
        first, last = peaks_of_thirds(self._resident, warm_up=_WARM_UP)
        rates = self._thirds.rates()
        details = {
            "memory_growth": last / first,
            "slowdown": rates[0] / rates[-1],
            "memory_mb": (max(self._resident) - before) / _MB,
        }
        return replace(self._read, details=details)


def _claim(name: str, unit: str, words: str, *, detail: str, at_most: float, quick: bool = False) -> Claim:
    """Of ours alone: no loop has anything that could grow. In the thirds of a quick run the read-ahead still fills."""
    figure: Callable[[Measurement], float] = lambda measurement: measurement.details[detail]  # noqa: E731
    return Claim(
        name=name,
        words=words,
        unit=unit,
        content="small",
        ours=_OURS,
        peers=(),
        floors=(),
        goal=Goal(figure_max=at_most),
        shards=_SHARDS,
        quick=quick,
        long=True,
        waits=True,
        figure=figure,
        less_is_better=True,
        serve=_LIVE,
    )


_SHARDS = 64
_LIVE = partial(live_server, "filled")
_OURS = Contender(name="streamflow", work=streamflow_backlog, pages=157)

CLAIM = Claim(
    name="backlog",
    words=(
        "Ten million records of 150 bytes, a million in a quick run, over 64 shards: how fast they are worked off. The loop\n"
        "reads fewer. What the next three claims say is measured in the same runs."
    ),
    unit="records/s",
    content="small",
    ours=_OURS,
    peers=(Contender(name="aioboto3 get_records loop", work=aioboto3_loop, pages=2),),
    floors=(Contender(name="aiohttp, bytes dropped", work=read_and_drop, pages=157),),
    goal=Goal(),
    shards=_SHARDS,
    long=True,
    serve=_LIVE,
)
GROWTH = _claim(
    "backlog_growth",
    "last third / first third",
    "The largest resident set in the last third of that run is at most 1.1 times that of the first third.",
    detail="memory_growth",
    at_most=1.1,
)
MEMORY = _claim(
    "backlog_memory",
    "MB",
    f"In that run the resident set grows by no more than a worker may read ahead, which is {_BUFFER_MB} MB by default, and\n"
    f"{_BASE_MB} MB.",
    detail="memory_mb",
    at_most=_BUFFER_MB + _BASE_MB,
    quick=True,
)
SLOWDOWN = _claim(
    "backlog_slowdown",
    "first third / last third",
    "The last third of that run has at least 0.9 times the records per second of the first: at most 1.11 the other way round.",
    detail="slowdown",
    at_most=1 / 0.9,
)
CLAIMS = (CLAIM, GROWTH, MEMORY, SLOWDOWN)
