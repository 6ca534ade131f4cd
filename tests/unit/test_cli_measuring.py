"""How far shards are behind: one question to the stream at a time, and none where the answer is known."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.cli.leased import PlacedStream
from streamflow.cli.measuring import Measurements, open_measurements
from streamflow.leases import Lease, LeaseState
from streamflow.positions import SHARD_END, TRIM_HORIZON
from streamflow.testing.controls import Controls
from streamflow.testing.memory_source import MemorySource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.positions import Position

pytestmark = pytest.mark.anyio

NOW_S = 1_800_000_000.0


class Stream:
    """A table whose time is moved by hand, and which counts what it is asked for."""

    def __init__(self, shards: int = 1, retention_s: float = 86_400.0) -> None:
        self.now_s = NOW_S
        self.controls = Controls(now=lambda: self.now_s, shards=shards, retention_s=retention_s)
        self.controls.create_table("orders")
        self.arn = self.controls.tables.stream_of("orders").stream_arn
        self.shard_ids = self.controls.shard_ids("orders")
        self.asked: list[str] = []
        faults = self.controls.faults
        take, asked = faults.take, self.asked

        def counted(operation: str, shard_id: str | None = None) -> object:
            asked.append(operation)
            return take(operation, shard_id)

        faults.take = counted  # type: ignore[method-assign, assignment]
        self.placed = PlacedStream(
            pipeline="orders",
            stream_arn=self.arn,
            source=MemorySource(self.controls.tables, self.arn, faults=faults),
        )

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s

    def put(self, key: str, *, age_s: float = 0) -> None:
        self.now_s -= age_s
        self.controls.put("orders", {"id": {"S": key}})
        self.now_s += age_s

    def row(self, checkpoint: Position = TRIM_HORIZON, shard: int = 0) -> Lease:
        state = LeaseState.ENDED if checkpoint == SHARD_END else LeaseState.ACTIVE
        return Lease(
            pipeline="orders", stream_arn=self.arn, shard_id=self.shard_ids[shard], checkpoint=checkpoint, state=state
        )

    async def positions(self) -> list[Position]:
        """Behind each record of the only shard."""
        source = self.placed.source
        assert source is not None
        (shard,) = (await source.shards()).values()
        async with source.open(shard, TRIM_HORIZON) as reader:
            return [record.position for record in (await reader.read(records_max=10)).records]

    def pages(self) -> int:
        """How often records were asked for since the last call."""
        count = self.asked.count("GetRecords")
        self.asked.clear()
        return count

    @asynccontextmanager
    async def measuring(self, most: int = 20) -> AsyncIterator[Measurements]:
        async with open_measurements([self.placed], most=most, clock=self) as measurements:
            yield measurements

    def lag_s(self, measurements: Measurements, row: Lease) -> float:
        return measurements.measured[row.key].lag_s(row.checkpoint, now_s=self.now_s, retention_s=86_400.0)


async def test_the_first_record_behind_the_checkpoint_is_found_once() -> None:
    stream = Stream()
    stream.put("a", age_s=90)
    stream.put("b", age_s=30)
    row = stream.row()
    async with stream.measuring() as measurements:
        assert await measurements.measure([row]) == []
        assert (stream.lag_s(measurements, row), stream.pages()) == (90, 1)
        stream.now_s += 10
        await measurements.measure([row])
        assert (stream.lag_s(measurements, row), stream.pages()) == (100, 0)


async def test_a_checkpoint_that_moves_is_measured_anew() -> None:
    stream = Stream()
    stream.put("a", age_s=90)
    stream.put("b", age_s=30)
    first, second = await stream.positions()
    async with stream.measuring() as measurements:
        for checkpoint, lag_s in ((TRIM_HORIZON, 90), (first, 30), (second, 0)):
            row = stream.row(checkpoint)
            assert await measurements.measure([row]) == []
            assert stream.lag_s(measurements, row) == lag_s


async def test_empty_pages_in_front_of_a_record_are_passed_look_by_look() -> None:
    stream = Stream()
    stream.put("a", age_s=90)
    stream.controls.empty_pages(times=2)
    row = stream.row()
    async with stream.measuring() as measurements:
        lags = []
        for _ in range(4):
            await measurements.measure([row])
            lags.append(stream.lag_s(measurements, row))
        assert lags == [0, 0, 90, 90]
        assert stream.asked.count("GetShardIterator") == 1
        assert stream.pages() == 3


async def test_a_checkpoint_that_moves_behind_an_empty_page_is_measured_from_where_it_is() -> None:
    stream = Stream()
    stream.put("a", age_s=90)
    stream.put("b", age_s=30)
    first, _ = await stream.positions()
    stream.controls.empty_pages(times=1)
    async with stream.measuring() as measurements:
        for checkpoint, lag_s in ((TRIM_HORIZON, 0), (first, 30)):
            row = stream.row(checkpoint)
            await measurements.measure([row])
            assert stream.lag_s(measurements, row) == lag_s


async def test_of_a_record_that_does_not_say_when_it_was_made_nothing_is_known() -> None:
    stream = Stream(retention_s=2 * NOW_S)
    stream.put("a", age_s=NOW_S)
    async with stream.measuring() as measurements:
        assert await measurements.measure([stream.row()]) == []
        assert measurements.measured == {}


@pytest.mark.parametrize("gone", [False, True])
async def test_records_that_are_trimmed_or_gone_with_their_shard_are_all_of_retention(gone: bool) -> None:
    stream = Stream()
    for key in "abc":
        stream.put(key)
    row = stream.row((await stream.positions())[0])
    if gone:
        stream.controls.rollover("orders")
        stream.controls.trim("orders", stream.shard_ids[0])
        stream.controls.forget("orders", stream.shard_ids[0])
    else:
        stream.controls.trim("orders")
    async with stream.measuring() as measurements:
        assert await measurements.measure([row]) == []
        assert stream.lag_s(measurements, row) == 86_400


async def test_no_more_shards_than_asked_for_and_each_in_its_turn() -> None:
    stream = Stream(shards=3)
    rows = [stream.row(shard=number) for number in range(3)]
    async with stream.measuring(most=2) as measurements:
        await measurements.measure(rows)
        assert (len(measurements.measured), stream.pages()) == (2, 2)
        stream.now_s += 10
        await measurements.measure(rows)
        assert (len(measurements.measured), stream.pages()) == (3, 2)


async def test_what_fails_is_told_and_tried_again_and_does_not_keep_others_from_their_turn() -> None:
    stream = Stream(shards=2)
    rows = [stream.row(shard=number) for number in range(2)]
    failing = min(rows, key=lambda row: row.shard_id)
    stream.controls.throttle(times=1, shard_id=failing.shard_id)
    async with stream.measuring(most=1) as measurements:
        (problem,) = await measurements.measure(rows)
        assert problem.startswith("orders: lag: ")
        assert measurements.measured == {}
        for _ in range(2):
            stream.now_s += 10
            assert await measurements.measure(rows) == []
        assert len(measurements.measured) == 2


async def test_a_finished_shard_is_forgotten() -> None:
    stream = Stream()
    async with stream.measuring() as measurements:
        await measurements.measure([stream.row()])
        await measurements.measure([stream.row(SHARD_END)])
        assert measurements.measured == {}
        assert stream.pages() == 1


async def test_a_stream_that_hangs_is_left_alone_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.cli.measuring._READ_TIMEOUT_S", 0.01)
    stream = Stream()
    stream.controls.slow("GetRecords", 3_600)
    async with stream.measuring() as measurements:
        with anyio.fail_after(30):
            assert await measurements.measure([stream.row()]) == [
                "orders: lag: the stream did not answer within 0.01 s"
            ]
