"""Claim: a Lambda function, unchanged, gets its events as dicts far faster than from a loop that builds the same ones.

The first peer is the plain loop, which makes no events: that is the harder comparison. The second gives the function what
Lambda gives it, in events of 100 records: the time of a change, which aioboto3 has made a `datetime`, as a number again, and
the ARN of the stream. It calls the function where it stands; ours calls it in a thread, with a context, one invocation at a
time, and reads its response, as `LambdaFunction` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.floors import DROPPED, PARSED
from benchmarks.loops import AIOBOTO3, read_by_aioboto3
from benchmarks.pipelines import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.claims import Measurement
    from benchmarks.loops import ReadRecord
    from benchmarks.replay_stream import Shape

_BATCH_SIZE = 100
_counts: list[int] = []


def function(event: dict[str, Any], context: object) -> None:  # noqa: ARG001 - as Lambda calls it
    """A Lambda function that counts: ours finds it by name, the peer calls it."""
    _counts.append(len(event["Records"]))


async def streamflow(url: str, shape: Shape) -> Measurement:
    import streamflow as product

    _counts.clear()
    lap = await run(url, shape, product.LambdaFunction(target=f"{__name__}:{function.__name__}"))
    return lap.measurement(sum(_counts))


async def aioboto3_loop(url: str, shape: Shape) -> Measurement:
    def take(records: Sequence[ReadRecord]) -> int:
        for event in lambda_events(records, shape.stream_arn):
            function(event, None)
        return len(records)

    return await read_by_aioboto3(url, shape, take)


def lambda_events(records: Sequence[ReadRecord], stream_arn: str) -> Iterator[dict[str, Any]]:
    """Events as Lambda sends them; the records are changed in place. Binary values would have to be encoded: here are none."""
    for record in records:
        record["eventSourceARN"] = stream_arn
        change = record["dynamodb"]
        change["ApproximateCreationDateTime"] = change["ApproximateCreationDateTime"].timestamp()
    for start in range(0, len(records), _BATCH_SIZE):
        yield {"Records": records[start : start + _BATCH_SIZE]}


CLAIM = Claim(
    name="throughput_lambda_event",
    words=(
        "The same pipeline, whose handler is a Lambda function that gets events of 100 records as dicts: they come many\n"
        "times faster than a plain aioboto3 loop gets to see the records, without making any events of them."
    ),
    unit="records/s",
    ours=Contender(name="streamflow, LambdaFunction", work=streamflow, pages=15),
    peers=(AIOBOTO3, Contender(name="aioboto3 loop, same events", work=aioboto3_loop, pages=3, quick=False)),
    floors=(DROPPED, PARSED),
    goal=Goal(peer_ratio_min=14.0),
)
