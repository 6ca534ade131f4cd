"""Contenders of the throughput claims against the replay server: each reads everything, and ours and the peers see the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from benchmarks import (
    loops,
    pipelines,
    throughput_envelope,
    throughput_lambda_event,
    throughput_native,
    throughput_rules,
    throughput_shapes,
    throughput_splice,
)
from benchmarks.harness import Cores, environment, replay_server
from benchmarks.replay_stream import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.claims import Contender
    from benchmarks.loops import ReadRecord
    from benchmarks.replay_stream import Content
    from streamflow import Batch

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CLAIMS = [
    throughput_envelope.CLAIM,
    throughput_native.CLAIM,
    throughput_lambda_event.CLAIM,
    throughput_splice.CLAIM,
    throughput_rules.CLAIM,
    throughput_rules.WORST_CASE,
    *throughput_shapes.CLAIMS,
]
RUNS = {
    f"{contender.target} {claim.content}": (contender, claim.content)
    for claim in CLAIMS
    for contender in claim.contenders
}
SHAPE = Shape(1, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with replay_server(Cores.available().server) as url:
        yield url


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the environment that a contender has."""
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    return server


@pytest.mark.parametrize(("contender", "content"), RUNS.values(), ids=RUNS)
async def test_every_contender_reads_the_whole_stream(url: str, contender: Contender, content: Content) -> None:
    shape = Shape(2, 2, content)
    measurement = await contender.work(url, shape)
    assert measurement.count == shape.records
    assert measurement.wall_s > 0


async def test_ours_and_the_peers_read_the_same_native_items(url: str) -> None:
    # The recorded pages have a value of every type.
    for shape in (SHAPE, Shape(1, 3, "recorded")):
        ours: list[throughput_native.Item] = []
        theirs: list[throughput_native.Item] = []

        def take_ours(batch: Batch, seen: list[throughput_native.Item] = ours) -> int:
            seen.extend(throughput_native.our_items(batch))
            return len(batch)

        def take_theirs(records: Sequence[ReadRecord], seen: list[throughput_native.Item] = theirs) -> int:
            seen.extend(throughput_native.boto3_items(records))
            return len(records)

        await pipelines.run_pipeline(url, shape, take=take_ours)
        await loops.read_by_aioboto3(url, shape, take_theirs)
        assert len(ours) == shape.records
        assert ours == theirs


async def test_the_lambda_function_gets_the_same_events_from_ours_and_from_the_loop(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await events_of_ours(url, monkeypatch)
    from_loop = seen_events(monkeypatch)
    await throughput_lambda_event.aioboto3_loop(url, SHAPE)
    assert [len(event["Records"]) for event in events] == [100] * 10
    assert from_loop == events


async def test_the_bytes_that_the_sink_gets_are_the_event_that_the_lambda_function_gets(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(throughput_splice.EventSink, "send", lambda _, event: sent.append(event))
    await throughput_splice.streamflow(url, SHAPE)
    assert [orjson.loads(event) for event in sent] == await events_of_ours(url, monkeypatch)


async def test_the_loop_writes_the_event_that_the_sink_gets(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(throughput_splice, "dumps", lambda event: sent.append(orjson.dumps(event)))
    await throughput_splice.aioboto3_loop(url, SHAPE)
    assert [orjson.loads(event) for event in sent] == await events_of_ours(url, monkeypatch)


async def events_of_ours(url: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    events = seen_events(monkeypatch)
    await throughput_lambda_event.streamflow(url, SHAPE)
    return events


def seen_events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the Lambda function of the claim is called with, from now on."""
    events: list[dict[str, Any]] = []

    def function(event: dict[str, Any], context: object) -> None:
        events.append(event)

    monkeypatch.setattr(throughput_lambda_event, "function", function)
    return events
