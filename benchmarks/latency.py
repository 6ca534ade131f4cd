"""Claims: how soon a record that is visible at the server is in the handler, on shards that are caught up.

Each record carries two moments of the monotonic clock that all processes share: when it became visible, at any phase of the
polls, and when the server answered the poll that carried it. Up to the second it waited for the next poll, which whoever
polls has to; what comes behind it is what the client costs. The pages of a `Shape` are seconds, each with the same number
of records in every shard.

The interval is 250 ms, that of Lambda and our default: with nothing but waiting the median is 125 ms and the 99th percentile
247.5 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic_ns  # noqa: TID251 - the machine's time is measured
from typing import TYPE_CHECKING, Any

import anyio

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.contend import Stopwatch
from benchmarks.live_stream import drips, open_shape
from benchmarks.open_shards import by_aioboto3, by_aiohttp, by_streamflow, live_server, open_table
from benchmarks.samples import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from benchmarks.claims import Measurement
    from benchmarks.open_shards import Polling
    from benchmarks.replay_stream import Shape
    from streamflow.records import Record

_POLL_INTERVAL_S = 0.25
# Beyond the time in which the records become visible.
_LATE_S = 30.0

Moments: TypeAlias = "tuple[int, int]"
"""When a record became visible, and when the poll that carried it was answered, in nanoseconds."""


async def streamflow_latency(_url: str, shape: Shape) -> Measurement:
    return await _latency(by_streamflow, native_moments, shape)


async def aioboto3_latency(_url: str, shape: Shape) -> Measurement:
    return await _latency(by_aioboto3, wire_moments, shape)


async def aiohttp_latency(_url: str, shape: Shape) -> Measurement:
    return await _latency(by_aiohttp, wire_moments, shape)


def native_moments(record: Record) -> Moments:
    """What a record of ours says."""
    image: Any = record.new_image
    return int(image["visible_ns"]), int(image["answered_ns"])


def wire_moments(record: Mapping[str, Any]) -> Moments:
    """What a record says as aioboto3 or `orjson.loads` gives it."""
    image = record["dynamodb"]["NewImage"]
    return int(image["visible_ns"]["N"]), int(image["answered_ns"]["N"])


@dataclass(slots=True)
class Arrivals:
    """What came, and when. Nothing is looked into before all is there, so that no record waits for it."""

    expected: int
    complete: anyio.Event = field(default_factory=anyio.Event)
    count: int = 0
    _taken: list[tuple[int, Sequence[Any]]] = field(default_factory=list)

    def take(self, records: Sequence[Any]) -> None:
        self._taken.append((monotonic_ns(), records))
        self.count += len(records)
        if self.count >= self.expected:
            self.complete.set()

    def moments(self, of: Callable[[Any], Moments]) -> list[tuple[int, int, int]]:
        """For each record, when it became visible, when its poll was answered, and when it was here."""
        return [(*of(record), called_ns) for called_ns, records in self._taken for record in records]


def percentiles(moments: Sequence[tuple[int, int, int]]) -> dict[str, float]:
    """Of what `Arrivals.moments` gives, in milliseconds."""
    latencies = [(called_ns - visible_ns) / 1e6 for visible_ns, _, called_ns in moments]
    overheads = [(called_ns - answered_ns) / 1e6 for _, answered_ns, called_ns in moments]
    return {
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "overhead_p99_ms": percentile(overheads, 0.99),
    }


async def _latency(polling: Polling, moments: Callable[[Any], Moments], shape: Shape) -> Measurement:
    arrivals = Arrivals(expected=expected(shape))
    with open_table(open_shape(shape.shards, shape.pages)) as live:
        async with polling(live, arrivals.take, interval_s=_POLL_INTERVAL_S):
            # Two looks more: every shard has been found empty, so that all are caught up.
            await anyio.sleep(2 * _POLL_INTERVAL_S)
            watch = Stopwatch()
            live.release()
            with anyio.fail_after(shape.pages + _LATE_S):
                await arrivals.complete.wait()
            measurement = watch.read(arrivals.count)
    return replace(measurement, details=percentiles(arrivals.moments(moments)))


def expected(shape: Shape) -> int:
    """The records that all shards of this claim's shape get together."""
    return shape.shards * drips(open_shape(shape.shards, shape.pages))


def _claim(name: str, detail: str, words: str, *, at_most_ms: float) -> Claim:
    return Claim(
        name=name,
        words=words,
        unit="ms",
        ours=Contender(name="streamflow", work=streamflow_latency, pages=20),
        peers=(Contender(name="aioboto3 client", work=aioboto3_latency, pages=20),),
        floors=(Contender(name="aiohttp, orjson.loads", work=aiohttp_latency, pages=20),),
        goal=Goal(figure_max=at_most_ms),
        shards=20,
        long=True,
        waits=True,
        figure=lambda measurement: measurement.details[detail],
        less_is_better=True,
        counted=expected,
        serve=_LIVE,
    )


_LIVE = partial(live_server, "dripping")

CLAIM = _claim(
    "latency",
    "p50_ms",
    "From the moment at which a record is visible to the call of the handler, on 20 shards that are caught up and polled\n"
    "every 250 ms: half of the records take at most 130 ms. The mean wait for the next poll is 125 ms.",
    at_most_ms=130.0,
)
P99 = _claim("latency_p99", "p99_ms", "The same: 99 % of the records take at most 270 ms.", at_most_ms=270.0)
OVERHEAD = _claim(
    "latency_overhead_p99",
    "overhead_p99_ms",
    "From the moment at which the server answered the poll that carries the record to the call of the handler, which is\n"
    "all but the waiting: at most 5 ms for 99 % of the records.",
    at_most_ms=5.0,
)
CLAIMS = (CLAIM, P99, OVERHEAD)
