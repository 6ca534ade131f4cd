"""MemorySource keeps the Source contract over the state machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.errors import NotFoundError, RequestRefusedError, SourceError, ThrottledError, TrimmedError
from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamflow.testing import MemorySource
from streamflow.testing.faults import EmptyPage, FaultPlan, LeaveOut, LoseResponse, Refuse
from streamflow.testing.tables import Tables

if TYPE_CHECKING:
    from streamflow.protocols import Source
    from streamflow.records import Shard

pytestmark = pytest.mark.anyio


class Stream:
    """One table, its stream, and a clock that stands still."""

    def __init__(self, *, shards: int = 1, page_size: int = 100) -> None:
        self.now_s = 1_800_000_000.0
        self.tables = Tables(lambda: self.now_s, shards=shards, page_size=page_size)
        self.tables.create_table("orders", {"id": "S"}, view_type="KEYS_ONLY")
        self.stream = self.tables.stream_of("orders")
        self.faults = FaultPlan()
        self.source = MemorySource(self.tables, self.stream.stream_arn, faults=self.faults)

    def put(self, *keys: str) -> None:
        for key in keys:
            self.tables.put("orders", {"id": {"S": key}})

    def roll_over(self) -> None:
        (shard,) = self.stream.open_shards
        self.stream.roll_over(shard, self.now_s, 0.0)

    async def only_shard(self) -> Shard:
        (shard,) = (await self.source.shards()).values()
        return shard

    async def read(self, shard: Shard, start: Position, *, cursor: str | None = None) -> list[object]:
        async with self.source.open(shard, start, cursor=cursor) as reader:
            return [record.keys["id"] for record in (await reader.read(records_max=1000)).records]


async def test_it_is_a_source() -> None:
    stream = Stream()
    source: Source = stream.source
    info = await source.describe()
    assert (info.name, info.view_type, info.enabled) == ("orders", "KEYS_ONLY", True)
    stream.tables.disable_stream("orders")
    assert not (await source.describe()).enabled


async def test_the_listing_is_complete_and_children_name_their_parent() -> None:
    stream = Stream(shards=5, page_size=2)
    assert len(await stream.source.shards()) == 5
    stream = Stream()
    parent = await stream.only_shard()
    assert await stream.source.children(parent) == []
    stream.roll_over()
    (child,) = await stream.source.children(parent)
    assert child.parents == (parent.shard_id,)
    listed = await stream.source.shards()
    assert (listed[parent.shard_id].closed, listed[child.shard_id].closed) == (True, False)


async def test_a_closed_shard_ends_behind_its_last_record() -> None:
    stream = Stream()
    stream.put("a", "b", "c")
    shard = await stream.only_shard()
    stream.roll_over()
    async with stream.source.open(shard, TRIM_HORIZON) as reader:
        first = await reader.read(records_max=2)
        second = await reader.read(records_max=2)
        third = await reader.read(records_max=2)
    assert [len(page.records) for page in (first, second, third)] == [2, 1, 0]
    assert [page.ended for page in (first, second, third)] == [False, True, True]
    assert await stream.read(shard, SHARD_END) == []


async def test_an_expired_iterator_is_replaced_at_the_last_position() -> None:
    stream = Stream()
    stream.put("a")
    shard = await stream.only_shard()
    async with stream.source.open(shard, TRIM_HORIZON) as reader:
        assert len((await reader.read(records_max=10)).records) == 1
        stream.put("b")
        stream.now_s += 1_000
        assert [record.keys["id"] for record in (await reader.read(records_max=10)).records] == ["b"]


@pytest.mark.parametrize("before", [(), ("a", "b")])
async def test_a_pin_holds_the_tip_by_cursor_and_by_position(before: tuple[str, ...]) -> None:
    stream = Stream()
    stream.put(*before)
    shard = await stream.only_shard()
    pin = await stream.source.pin(shard)
    stream.put("later")
    assert await stream.read(shard, pin.position, cursor=pin.cursor) == ["later"]
    assert await stream.read(shard, pin.position) == ["later"]
    stream.now_s += 1_000
    assert await stream.read(shard, pin.position, cursor=pin.cursor) == ["later"]
    assert await stream.read(shard, LATEST) == []


async def test_what_the_service_refuses_has_the_class_of_its_meaning() -> None:
    stream = Stream()
    stream.put("a", "b")
    shard = await stream.only_shard()
    (local,) = stream.stream.open_shards
    first = str(local.numbers[0])
    local.trim()
    with pytest.raises(TrimmedError):
        await stream.read(shard, Position.after(first))
    with pytest.raises(RequestRefusedError):
        await stream.read(shard, Position.at_timestamp(0.0))
    stream.roll_over()
    stream.stream.forget(local)
    with pytest.raises(NotFoundError):
        await stream.read(shard, TRIM_HORIZON)


async def test_planned_faults_are_performed_and_lose_nothing() -> None:
    stream = Stream()
    stream.put("a", "b")
    shard = await stream.only_shard()
    throttle = Refuse(code="LimitExceededException", message="Rate exceeded")
    stream.faults.add(throttle, operation="GetRecords", shard_id=shard.shard_id)
    stream.faults.add(LoseResponse(), operation="GetRecords")
    stream.faults.add(EmptyPage(), operation="GetRecords")
    stream.faults.add(LeaveOut(shard_ids=frozenset({shard.shard_id})), operation="DescribeStream")
    async with stream.source.open(shard, TRIM_HORIZON) as reader:
        with pytest.raises(ThrottledError) as throttled:
            await reader.read(records_max=10)
        assert throttled.value.code == "LimitExceededException"
        with pytest.raises(SourceError):
            await reader.read(records_max=10)
        assert [len((await reader.read(records_max=10)).records) for _ in range(3)] == [0, 2, 0]
    assert await stream.source.shards() == {}
    assert len(await stream.source.shards()) == 1


async def test_a_cancelled_read_skips_nothing() -> None:
    stream = Stream()
    stream.put("a")
    shard = await stream.only_shard()
    stream.faults.slow("GetRecords", 3_600)
    async with stream.source.open(shard, TRIM_HORIZON) as reader:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await reader.read(records_max=10)
        assert scope.cancelled_caught
        stream.faults.clear()
        assert len((await reader.read(records_max=10)).records) == 1
