"""What a worker and its supervisor tell each other, and how each learns that the other is gone."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.cli.supervision import channel
from streamflow.cli.supervision.channel import Channel, open_channel
from streamflow.cli.supervision.messages import (
    Declared,
    Message,
    MetricsPage,
    MetricsWanted,
    Report,
    decoded,
    encoded,
)
from streamflow.events import PageRead, PipelineStarted, ReadFailed, ShardOpened
from streamflow.observe.health import Verdict
from streamflow.observe.progress import Progress
from streamflow.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


class FixedClock:
    def monotonic(self) -> float:
        return 100.0

    def wall(self) -> float:
        return 1_764_000_000.0


def report() -> Report:
    progress = Progress(FixedClock())
    shard = {"pipeline": "orders", "shard_id": "shard-0"}
    progress(PipelineStarted(pipeline="orders", stream_arn="arn:x", shards=1))
    progress(ShardOpened(**shard, start=TRIM_HORIZON, epoch=1))
    progress(
        PageRead(
            pipeline="orders", shard_id="shard-0", records=3, bytes=9, duration_s=0.1, last_created_at_s=1_764_000_000.0
        )
    )
    progress(ReadFailed(**shard, code="Throttled", throttled=True, retry_after_s=1.0, message='a "line"\nand another'))
    snapshot = progress.snapshot()
    assert snapshot.errors
    assert snapshot.pipelines[0].shards
    return Report(snapshot=snapshot, live=Verdict(ok=True), ready=Verdict(ok=False, reasons=("orders: starting",)))


MESSAGES: list[Message] = [
    Declared(worker_id="w-1", host="127.0.0.1", port=9102),
    Declared(worker_id="w-1", host=None, port=None),
    Declared(worker_id="w-1", host="0.0.0.0", port=9102, token="0123456789abcdef"),
    Declared(worker_id="w-1", host="0.0.0.0", port=9102, without_token=True),
    MetricsWanted(number=3),
    MetricsPage(number=3, families=[["a", "A.", "gauge", [["a", {"x": "é\n"}, 1.5]]]]),
    report(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
async def test_a_message_is_one_line_and_comes_out_as_it_went_in(message: Message) -> None:
    line = encoded(message)
    assert line.count(b"\n") == 1
    assert decoded(line) == message


def test_the_token_is_not_shown() -> None:
    assert "0123" not in repr(Declared(worker_id="w-1", host="0.0.0.0", port=9102, token="0123456789abcdef"))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b'"Report"',
        b'{"number": 1}',
        b'{"kind": "Unheard"}',
        b'{"kind": ["Report"]}',
        b'{"kind": "MetricsWanted"}',
        b'{"kind": "MetricsWanted", "number": 1, "more": 2}',
        b'{"kind": "Report", "snapshot": {"pipelines": 1}, "live": {}, "ready": {}}',
        b"\xff\xfe",
    ],
)
async def test_what_another_version_says_is_no_message(line: bytes) -> None:
    assert decoded(line) is None


@pytest.fixture
async def ends() -> AsyncGenerator[tuple[Channel, Channel]]:
    ours, theirs = [await open_channel(end) for end in socket.socketpair()]
    yield ours, theirs
    await ours.aclose()
    await theirs.aclose()


async def test_both_sides_hear_each_other_in_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    for number in range(100):
        assert ours.send(MetricsWanted(number=number))
    with anyio.fail_after(10):
        heard = theirs.messages()
        for number in range(100):
            assert await anext(heard) == MetricsWanted(number=number)
        assert theirs.send(report())
        assert await anext(ours.messages()) == report()


async def test_the_end_of_one_side_is_the_end_of_what_the_other_hears(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    ours.send(MetricsWanted(number=1))
    await ours.aclose()
    with anyio.fail_after(10):
        assert [message async for message in theirs.messages()] == [MetricsWanted(number=1)]
    await theirs.aclose()
    assert not theirs.send(report())


async def test_a_side_that_does_not_read_holds_nobody_up(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_FLUSH_S", 0.05)
    ours, theirs = ends
    big = replace(report(), live=Verdict(ok=False, reasons=("x" * 100_000,)))
    sent = 0
    while ours.send(big):
        sent += 1
    assert sent * 100_000 > channel.UNREAD_BYTES_MAX
    with anyio.fail_after(10):
        await ours.aclose()
        # What did arrive is whole: a message is sent as a whole or not at all.
        assert {message async for message in theirs.messages()} <= {big}


async def test_an_endless_line_ends_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LINE_BYTES_MAX", 1_000)
    end, other = socket.socketpair()
    reading = await open_channel(end)
    with other, anyio.fail_after(10):
        other.sendall(encoded(MetricsWanted(number=1)) + b"x" * 5_000)
        assert [message async for message in reading.messages()] == [MetricsWanted(number=1)]
    await reading.aclose()
