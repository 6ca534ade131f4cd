"""What every source keeps: the one in memory, the simulated one, and the product's own over HTTP, so that none can drift."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pytest

from scripted_aws import isolate
from simulated_ports import Ports
from streamflow.aws.session import open_aws
from streamflow.errors import NotFoundError, RequestRefusedError, TrimmedError
from streamflow.pipeline import AwsOptions, DynamoDBStream
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position
from streamflow.sources.dynamodb import open_dynamodb_stream
from streamflow.testing import LocalStreams, MemorySource
from streamflow.testing.controls import Controls
from streamflow.testing.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.protocols import Page, Source
    from streamflow.records import Shard

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Opened:
    """A source, and what a test does to its stream."""

    source: Source
    controls: Controls

    def put(self, *keys: str) -> None:
        for key in keys:
            self.controls.put("orders", {"id": {"S": key}})

    async def oldest(self) -> Shard:
        """The shard that has no parent."""
        (shard,) = [shard for shard in (await self.source.shards()).values() if not shard.parents]
        return shard

    async def read(
        self, shard: Shard, start: Position, *, cursor: str | None = None, records_max: int = 2
    ) -> list[Page]:
        """Pages up to the end, or to the first empty one."""
        pages: list[Page] = []
        async with self.source.open(shard, start, cursor=cursor) as reader:
            while not pages or (pages[-1].records and not pages[-1].ended):
                pages.append(await reader.read(records_max=records_max))
        return pages


def keys_of(pages: list[Page]) -> list[object]:
    return [record.keys["id"] for page in pages for record in page.records]


def numbers_of(pages: list[Page]) -> list[str]:
    return [record.sequence_number for page in pages for record in page.records]


class SourceContract:
    """Asks for a fixture `opened`: the source of the table `orders` with one shard and three shards to a page."""

    pytestmark = pytest.mark.anyio

    async def test_it_describes_its_stream(self, opened: Opened) -> None:
        info = await opened.source.describe()
        assert (info.name, info.view_type, info.enabled) == ("orders", "NEW_AND_OLD_IMAGES", True)
        opened.controls.disable_stream("orders")
        assert not (await opened.source.describe()).enabled

    async def test_a_listing_is_complete_and_children_name_their_parents(self, opened: Opened) -> None:
        first = await opened.oldest()
        assert not first.closed
        assert list(await opened.source.children(first)) == []
        for _ in range(4):
            opened.controls.split("orders")
        listed = await opened.source.shards()
        assert sorted(listed) == list(opened.controls.shard_ids("orders"))
        assert {shard_id for shard_id, shard in listed.items() if not shard.closed} == set(
            opened.controls.shard_ids("orders", open_only=True)
        )
        children = await opened.source.children(first)
        assert [child.parents for child in children] == [(first.shard_id,)] * 2
        assert all(listed[child.shard_id].parents == child.parents for child in children)

    async def test_records_come_in_pages_oldest_first_and_none_is_left_out(self, opened: Opened) -> None:
        opened.put(*"abcde")
        shard = await opened.oldest()
        pages = await opened.read(shard, TRIM_HORIZON)
        assert [len(page.records) for page in pages] == [2, 2, 1, 0]
        assert keys_of(pages) == list("abcde")
        assert not any(page.ended for page in pages)
        assert all(page.bytes > 0 for page in pages if page.records)

    async def test_a_closed_shard_ends_and_an_ended_one_has_nothing(self, opened: Opened) -> None:
        opened.put(*"abc")
        shard = await opened.oldest()
        opened.controls.rollover("orders")
        pages = await opened.read(shard, TRIM_HORIZON)
        assert (keys_of(pages), pages[-1].ended) == (list("abc"), True)
        (over,) = await opened.read(shard, SHARD_END)
        assert (list(over.records), over.ended) == ([], True)

    async def test_every_record_is_a_place_to_go_on_from(self, opened: Opened) -> None:
        opened.put(*"abc")
        shard = await opened.oldest()
        numbers = numbers_of(await opened.read(shard, TRIM_HORIZON))
        for place, number in enumerate(numbers):
            assert numbers_of(await opened.read(shard, Position.at(number))) == numbers[place:]
            assert numbers_of(await opened.read(shard, Position.after(number))) == numbers[place + 1 :]

    async def test_a_pin_finds_everything_that_is_written_behind_it(self, opened: Opened) -> None:
        opened.put("before")
        shard = await opened.oldest()
        pin = await opened.source.pin(shard)
        opened.put("later")
        assert keys_of(await opened.read(shard, pin.position, cursor=pin.cursor)) == ["later"]
        assert keys_of(await opened.read(shard, pin.position))[-1:] == ["later"]

    async def test_an_iterator_that_expired_is_replaced_at_the_last_position(self, opened: Opened) -> None:
        opened.put("a")
        shard = await opened.oldest()
        async with opened.source.open(shard, TRIM_HORIZON) as reader:
            assert keys_of([await reader.read(records_max=9)]) == ["a"]
            opened.put("b")
            opened.controls.advance(1_000)
            assert keys_of([await reader.read(records_max=9)]) == ["b"]

    async def test_what_is_gone_has_an_error_of_its_own(self, opened: Opened) -> None:
        opened.put("a", "b")
        shard = await opened.oldest()
        numbers = numbers_of(await opened.read(shard, TRIM_HORIZON))
        opened.controls.rollover("orders")
        opened.controls.trim("orders", shard.shard_id, before=numbers[1])
        with pytest.raises(TrimmedError):
            await opened.read(shard, Position.after(numbers[0]))
        assert numbers_of(await opened.read(shard, TRIM_HORIZON)) == numbers[1:]
        opened.controls.forget("orders", shard.shard_id)
        with pytest.raises(NotFoundError):
            await opened.read(shard, TRIM_HORIZON)

    async def test_a_number_that_the_shard_never_had_is_refused(self, opened: Opened) -> None:
        with pytest.raises(RequestRefusedError):
            await opened.read(await opened.oldest(), Position.at("9" * 22))

    async def test_a_read_that_is_cancelled_skips_nothing(self, opened: Opened) -> None:
        opened.put("a")
        shard = await opened.oldest()
        async with opened.source.open(shard, TRIM_HORIZON) as reader:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await reader.read(records_max=9)
            assert scope.cancelled_caught
            assert keys_of([await reader.read(records_max=9)]) == ["a"]


class TestMemorySource(SourceContract):
    @pytest.fixture
    def opened(self) -> Opened:
        controls = Controls(shards=1, page_size=3)
        return Opened(MemorySource(controls.tables, controls.create_table("orders")), controls)


class TestSimulatedSource(SourceContract):
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return "asyncio", {"loop_factory": lambda: SimulatedLoop(1)}

    @pytest.fixture
    async def opened(self) -> Opened:
        ports = Ports(tables={"page_size": 3})
        return Opened(ports.source(), ports.controls)


class TestDynamoDBSource(SourceContract):
    @pytest.fixture
    async def opened(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
        isolate(monkeypatch)
        async with _over_http() as opened:
            yield opened


@asynccontextmanager
async def _over_http() -> AsyncIterator[Opened]:
    async with LocalStreams(shards=1, page_size=3) as streams:
        declared = DynamoDBStream(stream_arn=streams.create_table("orders"))
        async with (
            open_aws(AwsOptions(region="us-east-1", endpoint_url=streams.endpoint_url)) as aws,
            open_dynamodb_stream(aws, declared) as source,
        ):
            yield Opened(source, streams)
