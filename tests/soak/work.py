"""What one worker does in a process of its own, judged by an oracle inside; started as contenders of benchmarks are."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from subprocess import PIPE
from time import monotonic_ns  # noqa: TID251 - the machine's time is measured
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from benchmarks.contend import Stopwatch
from benchmarks.latency import native_moments
from benchmarks.live_stream import drips, open_shape
from benchmarks.memory import resident_bytes
from benchmarks.open_shards import by_streamflow, open_table
from benchmarks.pipelines import Lap, declared
from benchmarks.samples import percentile
from soak.bad_sink import BadSink
from soak.marks import Marks
from soak.samples import Lag, Memory, slope
from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from benchmarks.claims import Measurement
    from benchmarks.replay_stream import Shape
    from streamflow.batches import Batch
    from streamflow.records import Record

# Environment variables of the process: how long it works, what half of the shards get meanwhile, and from which core it is
# scraped: on its own one that would take its caches as well.
SECONDS, KIND, SCRAPING_CORE = "STREAMFLOW_SOAK_SECONDS", "STREAMFLOW_SOAK_KIND", "STREAMFLOW_SOAK_SCRAPING_CORE"
# Far more idle connections than the server keeps open, and scrapes are still answered.
SCRAPES_PER_S, IDLE_CONNECTIONS = 50, 500
_STALL_CYCLE_S_MAX = 4.0
BUFFER_MB = 32
_POLL_INTERVAL_S = 0.25
_LATE_S = 60.0
_RECORDS_PER_S_MIN = 1_000


def closed(shape: Shape) -> Marks:
    """Of a stream whose shards end: all of its pages are full."""
    return Marks(shape, [shape.pages * shape.records_per_page] * shape.shards)


# --- a stream with an end --------------------------------------------------------------------------------------------


async def worked_off(url: str, shape: Shape) -> Measurement:
    return await _worked_off(url, shape, scraped=False)


async def worked_off_under_scrapes(url: str, shape: Shape) -> Measurement:
    return await _worked_off(url, shape, scraped=True)


async def _worked_off(url: str, shape: Shape, *, scraped: bool) -> Measurement:
    """With the admin server open in either case."""
    import streamflow as product
    from streamflow.cli import garbage

    marks, lag, lap = closed(shape), Lag(), Lap()

    async def accept(batch: Batch) -> None:
        marks.take(batch.records)
        # As whoever writes them anywhere waits: one that never does keeps the loop for a page of each shard.
        await anyio.lowlevel.checkpoint()

    told: dict[str, float] = {}
    with garbage.put_off(), declared(url, shape, accept) as app:
        served = app.model_copy(update={"http": product.HttpOptions(port=0)})
        async with product.running(served, observers=[lap]) as worker, anyio.create_task_group() as tasks:
            garbage.settle()
            tasks.start_soon(lag.sample, name="lag")
            async with _scraping(worker.admin_url if scraped else None, told):
                await worker.wait()
            tasks.cancel_scope.cancel()
    details = {**marks.details(), "lag_p99_ms": lag.p99_ms(), **told}
    return replace(lap.measurement(marks.received), details=details)


@asynccontextmanager
async def _scraping(url: str | None, told: dict[str, float]) -> AsyncIterator[None]:
    """Somebody else's process that scrapes for the length of the block; afterwards `told` has what it says."""
    if url is None:
        yield
        return
    arguments = [url, str(SCRAPES_PER_S), str(IDLE_CONNECTIONS), os.environ[SCRAPING_CORE]]
    async with await anyio.open_process([sys.executable, "-m", "soak.scraping", *arguments], stdin=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield
        await process.stdin.aclose()
        said = b"".join([part async for part in process.stdout])
    told.update(orjson.loads(said))


# --- streams without an end ------------------------------------------------------------------------------------------


async def backlog_beside_live(_url: str, shape: Shape) -> Measurement:
    """Half of the shards are full when reading begins; the others get their records meanwhile, if the server has it so."""
    opened = open_shape(shape.shards, shape.pages, shape)
    half = shape.shards // 2
    dripping = os.environ[KIND] == "mixed"
    full, live_count = shape.pages * shape.records_per_page, drips(opened) if dripping else 0
    marks = Marks(opened, [full] * half + [live_count] * (shape.shards - half))
    arrivals = _Arrivals(marks, half=half, backlog=full * half)
    with open_table(opened) as live:
        async with by_streamflow(live, arrivals.take, interval_s=_POLL_INTERVAL_S):
            watch = Stopwatch()
            live.release()
            with anyio.move_on_after(shape.pages + _LATE_S):
                await arrivals.worked_off.wait()
            worked_off = watch.read(full * half)
            with anyio.move_on_after(shape.pages + _LATE_S):
                await arrivals.complete.wait()
    return replace(worked_off, details={**marks.details(), "live_p99_ms": arrivals.live_p99_ms()})


class _Arrivals:
    def __init__(self, marks: Marks, *, half: int, backlog: int) -> None:
        self.worked_off, self.complete = anyio.Event(), anyio.Event()
        self._marks, self._half, self._backlog = marks, half, backlog
        self._live_ns: list[int] = []

    def take(self, records: Sequence[Record]) -> None:
        now_ns, before = monotonic_ns(), self._marks.received
        self._marks.take(records)
        if self._marks.place_of(records[0])[0] >= self._half:
            self._live_ns += [now_ns - native_moments(record)[0] for record in records]
        else:
            self._backlog -= self._marks.received - before
        if self._backlog == 0:
            self.worked_off.set()
        if self._marks.lost() == 0:
            self.complete.set()

    def live_p99_ms(self) -> float:
        return percentile(self._live_ns, 0.99) / 1e6 if self._live_ns else 0.0


async def through_a_bad_sink(_url: str, shape: Shape) -> Measurement:
    """Three in ten records fail once, one in ten thousand always; what is given up must be exactly these."""
    import streamflow as product
    from streamflow.dead_letters import LetterQuery
    from streamflow.plugins import open_store

    opened = open_shape(shape.shards, shape.pages, shape)
    marks = Marks(opened, [shape.pages * shape.records_per_page] * shape.shards)
    sink = BadSink(marks)
    options: dict[str, Any] = {"maximum_retry_attempts": 3, "poll_interval_s": _POLL_INTERVAL_S}
    with open_table(opened) as live, declared(live.url, opened, sink, **options) as app:
        async with product.running(app, observers=[sink.discarded]) as worker:
            await worker.wait_started()
            await live.wait_polled()
            watch = Stopwatch()
            live.release()
            with anyio.move_on_after(shape.records / _RECORDS_PER_S_MIN + _LATE_S):
                await sink.complete.wait()
            measured = watch.read(marks.received)
        async with open_store(app.store) as store:
            letters = await store.letters(LetterQuery(drawer="dead", limit=shape.records))
    kept = [letter.sequence_number for letter in letters]
    details = {
        **marks.details(),
        "failed_once": sink.failed_once,
        "poison": len(sink.poison),
        "letters": len(kept),
        "letters_missing": len(sink.poison - set(kept)),
        "letters_too_many": len(set(kept) - sink.poison) + len(kept) - len(set(kept)),
        # A record that is given up was never written.
        "lost": marks.lost() - len(sink.poison),
    }
    # Without the pauses of the last poison.
    return replace(measured, wall_s=sink.newest_s - sink.began_s, details=details)


async def stalled_half_of_the_time(_url: str, shape: Shape) -> Measurement:
    """More than can be read in the time, for a handler that stands still for every other half of a cycle."""
    import streamflow as product
    from streamflow.cli import garbage

    opened = open_shape(shape.shards, shape.pages, shape)
    seconds = float(os.environ[SECONDS])
    stalling = _Stalling(seconds, Marks(opened, [shape.pages * shape.records_per_page] * shape.shards))
    pace = {"poll_interval_s": _POLL_INTERVAL_S, "idle_poll_interval_s": _POLL_INTERVAL_S}
    with open_table(opened) as live, garbage.put_off(), declared(live.url, opened, stalling.accept, **pace) as app:
        bounded = app.model_copy(update={"buffer_bytes_max": BUFFER_MB * 1_000_000})
        async with product.running(bounded) as worker, anyio.create_task_group() as tasks:
            await worker.wait_started()
            await live.wait_polled()
            garbage.settle()
            stalling.begin()
            live.release()
            tasks.start_soon(stalling.memory.sample, name="memory")
            await anyio.sleep(seconds)
            stalling.end()
            tasks.cancel_scope.cancel()
    return stalling.measurement()


class _Stalling:
    """The handler, what it was given, and what the process held meanwhile."""

    def __init__(self, seconds: float, marks: Marks) -> None:
        self._cycle_s = max(1.0, min(_STALL_CYCLE_S_MAX, seconds / 10))
        self.memory = Memory(self._cycle_s)
        self._marks = marks
        self.begin()
        self.end()

    def begin(self) -> None:
        self._before_mb, self._began_s, self._watch = resident_bytes() / 1e6, thread_monotonic(), Stopwatch()

    def end(self) -> None:
        self._read = self._watch.read(self._marks.received)

    async def accept(self, batch: Batch) -> None:
        into_s = (thread_monotonic() - self._began_s) % self._cycle_s
        if into_s < self._cycle_s / 2:
            await anyio.sleep(self._cycle_s / 2 - into_s)
        self._marks.take(batch.records)

    def measurement(self) -> Measurement:
        """The first third is warming up: connections open, the read-ahead fills."""
        peaks = self.memory.peaks
        steady = peaks[len(peaks) // 3 :]
        details = {
            **self._marks.details(complete=False),
            "growth_mb_per_min": slope(steady) * 60 / self._cycle_s,
            "points": len(steady),
            "held_mb": max(peaks) - self._before_mb,
        }
        return replace(self._read, details=details)
