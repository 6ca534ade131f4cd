"""Claim: a sink gets Lambda events as JSON bytes far faster than a loop gets to see the records at all.

The first peer is the plain loop, which makes no JSON: that is the harder comparison. The second makes the same events and
writes them with orjson, the fastest way in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from orjson import dumps

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.floors import DROPPED, PARSED
from benchmarks.loops import AIOBOTO3, read_by_aioboto3
from benchmarks.pipelines import run
from benchmarks.throughput_lambda_event import lambda_events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.claims import Measurement
    from benchmarks.loops import ReadRecord
    from benchmarks.replay_stream import Shape
    from streamflow.sdk import Batch

# What a synchronous invocation takes: a sink looks whether the event is larger before it makes it.
EVENT_BYTES_MAX = 6_291_456


class EventSink:
    """A sink that does what `lambda_invoke` does up to the call of the service, and drops the event."""

    def __init__(self) -> None:
        self.records = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def write(self, batch: Batch, /) -> None:
        if batch.lambda_event_bytes > EVENT_BYTES_MAX:
            raise ValueError("the event is too large for one invocation")
        self.send(batch.lambda_event_json())
        self.records += len(batch)

    def send(self, event: bytes) -> None:
        """Where an invocation would be."""


async def streamflow(url: str, shape: Shape) -> Measurement:
    sink = EventSink()
    lap = await run(url, shape, sink)
    return lap.measurement(sink.records)


async def aioboto3_loop(url: str, shape: Shape) -> Measurement:
    def take(records: Sequence[ReadRecord]) -> int:
        for event in lambda_events(records, shape.stream_arn):
            dumps(event)
        return len(records)

    return await read_by_aioboto3(url, shape, take)


CLAIM = Claim(
    name="throughput_splice",
    words=(
        "The same pipeline, whose sink gets the Lambda event of each batch as JSON bytes: they come many times faster than\n"
        "a plain aioboto3 loop gets to see the records, without making any JSON of them."
    ),
    unit="records/s",
    ours=Contender(name="streamflow, event bytes", work=streamflow, pages=100),
    peers=(AIOBOTO3, Contender(name="aioboto3 loop, orjson.dumps", work=aioboto3_loop, pages=3, quick=False)),
    floors=(DROPPED, PARSED),
    goal=Goal(peer_ratio_min=60.0),
)
