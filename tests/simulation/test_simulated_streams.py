"""The simulated stream: each way in which listings, iterators, reads and answers go wrong, as a caller meets it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from simulated_ports import Ports
from streamflow.errors import (
    AccessDeniedError,
    IteratorExpiredError,
    NotFoundError,
    RequestRefusedError,
    SourceError,
    ThrottledError,
    TrimmedError,
)
from streamflow.positions import TRIM_HORIZON, Position
from streamflow.testing.refusals import RefusedError
from streamflow.testing.simulation.facts import (
    Called,
    Heard,
    RecordMade,
    RecordsGone,
    ShardFinished,
    ShardGone,
    ShardMade,
)
from streamflow.testing.simulation.loop import SimulatedLoop
from streamflow.testing.simulation.refusals import OUTAGE_S, REFUSALS
from streamflow.testing.simulation.streams import HANGS_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.protocols import Page, ShardReader
    from streamflow.records import Record, Shard
    from streamflow.sources.dynamodb_calls import StreamDescription

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": lambda: SimulatedLoop(1)}


def ids(page: StreamDescription) -> list[str]:
    return [shard.shard_id for shard in page.shards]


async def only_shard(ports: Ports) -> Shard:
    (shard,) = (await ports.source().shards()).values()
    return shard


async def pages_to_the_end(reader: ShardReader, *, pages_max: int = 2_000, records_max: int = 100) -> list[Page]:
    pages: list[Page] = []
    while len(pages) < pages_max:
        pages.append(await reader.read(records_max=records_max))
        if pages[-1].ended:
            return pages
    raise AssertionError("the shard did not end")


def numbers(records: Sequence[Record]) -> list[int]:
    return [int(record.sequence_number) for record in records]


def read_numbers(pages: Sequence[Page]) -> list[int]:
    return [number for page in pages for number in numbers(page.records)]


def written(ports: Ports) -> list[int]:
    return [fact.number for fact in ports.of(RecordMade)]


# --- listings --------------------------------------------------------------------------------------------------------


async def test_a_stale_listing_shows_the_stream_as_it_was() -> None:
    ports = Ports({"listing.stale": 1.0}, shards=2)
    calls = ports.calls()
    old = ports.controls.shard_ids("orders")
    await anyio.sleep(60)
    ports.table.split(old[0])
    page = await calls.describe_stream()
    assert ids(page) == list(old)
    assert not any(shard.closed for shard in page.shards)
    await anyio.sleep(31)
    page = await calls.describe_stream()
    assert len(page.shards) == 4
    assert [shard.closed for shard in page.shards if shard.shard_id == old[0]] == [True]


async def test_a_stream_that_was_disabled_a_moment_ago_may_still_show_as_enabled() -> None:
    ports = Ports({"listing.stale": 1.0})
    await anyio.sleep(60)
    ports.table.disable()
    assert (await ports.source().describe()).enabled
    await anyio.sleep(31)
    assert not (await ports.source().describe()).enabled


async def test_hosts_that_flap_never_show_what_is_not() -> None:
    ports = Ports({"listing.stale": 0.5}, shards=2)
    source = ports.source()
    await anyio.sleep(60)
    children = ports.table.split(ports.controls.shard_ids("orders")[0])
    shown = [sum(child in listed for child in children) for listed in [await source.shards() for _ in range(60)]]
    assert set(shown) == {0, 2}, "both children are shown, or none"
    assert shown != sorted(shown), "and none again when both were"


async def test_a_page_may_be_cut_short_and_goes_on() -> None:
    ports = Ports({"listing.page_cut": 1.0}, shards=5)
    calls = ports.calls()
    page = await calls.describe_stream()
    assert 1 <= len(page.shards) < 5
    assert page.last_evaluated_shard_id == page.shards[-1].shard_id
    assert list(await ports.source().shards()) == list(ports.controls.shard_ids("orders"))


@pytest.mark.parametrize(("kind", "missing"), [("listing.left_out", 1), ("listing.empty", 4)])
async def test_shards_may_be_missing_in_a_page(kind: str, missing: int) -> None:
    ports = Ports({kind: 1.0}, shards=4)
    assert len((await ports.calls().describe_stream()).shards) == 4, "a stream that is new is another matter"
    await anyio.sleep(31)
    page = await ports.calls().describe_stream()
    assert len(page.shards) == 4 - missing
    assert page.last_evaluated_shard_id is None
    # Whoever asks again sees what was missing, if perhaps not the rest.
    again = await ports.calls().describe_stream()
    assert set(ids(page)) | set(ids(again)) == set(ports.controls.shard_ids("orders"))
    await anyio.sleep(121)
    assert len((await ports.calls().describe_stream()).shards) == 4 - missing


@pytest.mark.parametrize("kind", ["listing.left_out", "listing.parents_late"])
async def test_no_parent_is_missing_in_the_union_of_two_listings(kind: str) -> None:
    """What the product counts on when it calls a parent trimmed."""
    ports = Ports({kind: 1.0, "listing.page_cut": 0.5}, shards=3, tables={"page_size": 2})
    for _ in range(6):
        ports.table.split(ports.controls.shard_ids("orders", open_only=True)[0])
        await anyio.sleep(60)
        listed = await ports.source().shards()
        assert {parent for shard in listed.values() for parent in shard.parents} <= listed.keys()
        assert ports.faults.injected[kind]


async def test_children_are_never_listed_minutes_before_their_parents() -> None:
    ports = Ports({"lineage.children_late": 0.5})
    for _ in range(20):
        ports.table.roll_over(ports.controls.shard_ids("orders", open_only=True)[0])
    listed_at_s = [shard.listed_at_s for shard in ports.table.stream.shards.values()]
    assert len(set(listed_at_s)) > 2
    assert listed_at_s == sorted(listed_at_s)


async def test_children_may_be_listed_before_their_parents() -> None:
    ports = Ports({"listing.parents_late": 1.0}, shards=2)
    parent, other = ports.controls.shard_ids("orders")
    children = ports.table.split(parent)
    await anyio.sleep(31)
    page = await ports.calls().describe_stream()
    assert set(ids(page)) == {other, *children}
    assert {shard.parent_shard_id for shard in page.shards} == {None, parent}


async def test_a_shard_that_was_known_is_looked_for_twice() -> None:
    """The product's own rule over a fault that strikes now and then."""
    ports = Ports({"listing.left_out": 0.5}, shards=6)
    source = ports.source()
    everything = sorted(await source.shards())
    for _ in range(40):
        await anyio.sleep(130)
        assert sorted(await source.shards()) == everything
    assert ports.faults.injected["listing.left_out"] > 10


async def test_a_shard_may_be_shown_twice_over_the_border_of_two_pages() -> None:
    ports = Ports({"listing.shard_twice": 1.0}, shards=3, tables={"page_size": 2})
    first = await ports.calls().describe_stream()
    second = await ports.calls().describe_stream(after=first.last_evaluated_shard_id)
    assert ids(second)[0] == ids(first)[-1]
    assert len(await ports.source().shards()) == 3


async def test_the_token_for_the_next_page_may_be_refused() -> None:
    ports = Ports({"listing.token_expired": 1.0}, shards=3, tables={"page_size": 2})
    with pytest.raises(SourceError) as raised:
        await ports.source().shards()
    assert (type(raised.value), raised.value.code) == (SourceError, "ExpiredNextTokenException")


@pytest.mark.parametrize("page_size", [2, 100])
async def test_a_listing_that_goes_in_circles_is_no_listing(page_size: int) -> None:
    ports = Ports({"listing.token_repeats": 1.0}, shards=3, tables={"page_size": page_size})
    with pytest.raises(SourceError) as raised:
        await ports.source().shards()
    assert raised.value.code == "ListingIncomplete"
    ports.faults.quiet = True
    assert len(await ports.source().shards()) == 3


# --- iterators -------------------------------------------------------------------------------------------------------


async def test_an_iterator_may_expire_at_any_time_and_the_reader_opens_another() -> None:
    ports = Ports({"iterator.expired": 0.4})
    shard = await only_shard(ports)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        ports.put(*"abc")
        for _ in range(40):
            with_page: Page | None = None
            try:
                with_page = await reader.read(records_max=1)
            except IteratorExpiredError:
                continue
            if with_page.reopened:
                break
        else:
            raise AssertionError("no iterator was opened anew")
    assert ports.faults.injected["iterator.expired"] > 0


async def test_two_iterators_that_expire_in_a_row_are_an_error_to_be_tried_again() -> None:
    ports = Ports({"iterator.expired": 1.0})
    shard = await only_shard(ports)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        with pytest.raises(IteratorExpiredError):
            await reader.read(records_max=1)


async def test_an_iterator_is_good_up_to_its_last_moment_and_not_behind_it() -> None:
    ports = Ports()
    shard = await only_shard(ports)
    tables, stream_arn = ports.controls.tables, ports.table.stream.stream_arn
    life_s = tables.iterator_life_s
    place = ports.table.stream.shard(shard.shard_id).horizon
    border = tables.iterator_at(stream_arn, shard.shard_id, place, age_s=life_s)
    tables.get_records(border)
    await anyio.sleep(0.001)
    with pytest.raises(RefusedError, match="ExpiredIteratorException"):
        tables.get_records(border)


async def test_iterators_at_the_border_are_opened_anew_and_lose_nothing() -> None:
    ports = Ports({"iterator.border": 1.0})
    ports.put(*"abcdef")
    shard = await only_shard(ports)
    ports.table.roll_over(shard.shard_id)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        pages = await pages_to_the_end(reader, records_max=1)
    assert [page.reopened for page in pages] == [False, *[True] * 5]
    assert read_numbers(pages) == written(ports)


async def test_the_last_number_of_a_closed_shard_is_a_place_to_read_from() -> None:
    ports = Ports()
    ports.put(*"abc")
    shard = await only_shard(ports)
    ports.table.roll_over(shard.shard_id)
    last = written(ports)[-1]
    for start, expected in ((Position.at(str(last)), [last]), (Position.after(str(last)), [])):
        async with ports.source().open(shard, start) as reader:
            assert read_numbers(await pages_to_the_end(reader)) == expected


async def test_a_number_of_another_shard_is_refused() -> None:
    ports = Ports(shards=2)
    ports.put(*"abcdefgh")
    made = {fact.shard_id: fact.number for fact in ports.of(RecordMade)}
    (one, other) = (await ports.source().shards()).values()
    # Numbers grow over all shards: one shard's newest may lie within the other's range, but not behind its newest.
    newest_in = max(made, key=lambda shard_id: made[shard_id])
    foreign = other if one.shard_id == newest_in else one
    async with ports.source().open(foreign, Position.at(str(made[newest_in]))) as reader:
        with pytest.raises(RequestRefusedError):
            await reader.read(records_max=1)


# --- reads -----------------------------------------------------------------------------------------------------------


async def test_pages_may_be_empty_for_a_long_while_between_records() -> None:
    ports = Ports({"read.empty_pages": 0.5})
    ports.put(*"abcdefghij")
    shard = await only_shard(ports)
    ports.table.roll_over(shard.shard_id)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        pages = await pages_to_the_end(reader, records_max=1, pages_max=10_000)
    empty = [page for page in pages if not page.records]
    assert len(empty) > ports.faults.injected["read.empty_pages"] > 0
    assert read_numbers(pages) == written(ports)


async def test_empty_pages_end_when_faults_are_over() -> None:
    ports = Ports({"read.empty_pages": 1.0})
    ports.put("a")
    shard = await only_shard(ports)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        assert [len((await reader.read(records_max=9)).records) for _ in range(50)] == [0] * 50
        ports.faults.quiet = True
        assert len((await reader.read(records_max=9)).records) == 1


async def test_records_of_one_second_have_the_same_creation_time() -> None:
    ports = Ports()
    ports.put("a")
    await anyio.sleep(0.4)
    ports.put("b")
    shard = await only_shard(ports)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        first, second = (await reader.read(records_max=9)).records
    assert first.created_at_s == second.created_at_s
    assert first.sequence_number < second.sequence_number


async def test_pages_may_be_cut_after_any_record() -> None:
    ports = Ports({"read.page_cut": 1.0})
    ports.put(*[str(number) for number in range(100)])
    shard = await only_shard(ports)
    ports.table.roll_over(shard.shard_id)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        pages = await pages_to_the_end(reader)
    assert len(pages) > 2
    assert 1 in {len(page.records) for page in pages}
    assert read_numbers(pages) == written(ports)


async def test_a_page_may_come_twice_and_the_reader_leaves_out_what_it_has_read() -> None:
    ports = Ports({"read.page_twice": 1.0})
    ports.put(*"ab")
    shard = await only_shard(ports)
    calls = ports.calls()
    iterator, _ = await calls.shard_iterator(shard.shard_id, Position.at(str(written(ports)[0])))
    first, _ = await calls.records(iterator, records_max=1)
    assert first.next_shard_iterator is not None
    again, _ = await calls.records(first.next_shard_iterator, records_max=1)
    assert list(map(bytes, again.records)) == list(map(bytes, first.records))
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        pages = [await reader.read(records_max=1)]
        # A page that begins with what was read before, and goes on behind it.
        pages.append(await reader.read(records_max=2))
        pages += [await reader.read(records_max=2) for _ in range(3)]
    assert [numbers(page.records) for page in pages] == [*([number] for number in written(ports)), [], [], []]


@pytest.mark.parametrize("later", [False, True])
async def test_the_end_may_show_with_the_last_record_or_behind_it(later: bool) -> None:
    ports = Ports({"read.end_later": float(later)})
    ports.put(*"ab")
    shard = await only_shard(ports)
    ports.table.roll_over(shard.shard_id)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        pages = await pages_to_the_end(reader)
    assert [len(page.records) for page in pages] == ([2, 0] if later else [2])


async def test_retention_may_overtake_a_reader_and_says_what_it_took() -> None:
    ports = Ports({"read.trimmed": 1.0})
    ports.put(*"abcdef")
    shard = await only_shard(ports)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        with pytest.raises(TrimmedError):
            await reader.read(records_max=2)
    (gone,) = ports.of(RecordsGone)
    ports.faults.quiet = True
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        left = numbers((await reader.read(records_max=100)).records)
    assert left == [number for number in written(ports) if number > gone.through]
    assert len(left) < 6


async def test_a_checkpoint_before_the_horizon_is_refused_when_it_is_opened() -> None:
    ports = Ports()
    ports.put(*"abcdef")
    shard = await only_shard(ports)
    assert ports.table.trim(shard.shard_id, 4) == 4
    async with ports.source().open(shard, Position.after(str(written(ports)[0]))) as reader:
        with pytest.raises(TrimmedError):
            await reader.read(records_max=2)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        assert numbers((await reader.read(records_max=9)).records) == written(ports)[4:]


# --- answers ---------------------------------------------------------------------------------------------------------

_MEANINGS: dict[str, set[type[SourceError]]] = {
    "refused.throttled": {ThrottledError},
    "refused.server_error": {SourceError},
    "refused.validation": {RequestRefusedError},
    "refused.access_denied": {AccessDeniedError},
    "refused.token_expired": {AccessDeniedError},
    "refused.key": {AccessDeniedError, ThrottledError},
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_each_code_of_the_service_has_the_class_of_its_meaning(kind: str) -> None:
    ports = Ports({kind: 1.0})
    ports.put("a")
    met: dict[str | None, type[SourceError]] = {}
    for _ in range(40):
        with pytest.raises(SourceError) as raised:
            await ports.source().describe()
        met[raised.value.code] = type(raised.value)
    assert set(met.values()) == _MEANINGS[kind]
    assert met.keys() == {code or f"HTTP{status}" for code, status in REFUSALS[kind]}
    assert all(fact.failed for fact in ports.of(Called))


async def test_the_service_may_say_for_how_long_it_wants_a_pause() -> None:
    ports = Ports({"refused.throttled": 1.0})
    pauses = set()
    for _ in range(40):
        with pytest.raises(ThrottledError) as raised:
            await ports.source().describe()
        pauses.add(raised.value.retry_after_s)
    assert None in pauses
    assert len(pauses) > 5


@pytest.mark.parametrize("cut_off", ["describe", "read"])
async def test_an_answer_that_is_cut_off_is_an_error_and_never_an_end(cut_off: str) -> None:
    ports = Ports({"answer.corrupt": 1.0})
    ports.put(*"ab")
    ports.faults.quiet = True
    shard = await only_shard(ports)
    ports.table.roll_over(shard.shard_id)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        ports.faults.quiet = False
        for _ in range(50):
            with pytest.raises(SourceError) as raised:
                await (ports.source().describe() if cut_off == "describe" else reader.read(records_max=9))
            assert (type(raised.value), raised.value.code) == (SourceError, "CorruptAnswer")
        ports.faults.quiet = True
        assert read_numbers(await pages_to_the_end(reader)) == written(ports)


@pytest.mark.parametrize("kind", ["network.refused", "network.request_lost", "network.answer_lost"])
async def test_what_breaks_on_the_way_is_a_plain_error(kind: str) -> None:
    ports = Ports({kind: 1.0})
    with pytest.raises(SourceError) as raised:
        await ports.source().describe()
    assert type(raised.value) is SourceError
    assert len(ports.of(Called)) == (kind == "network.answer_lost")


async def test_a_request_that_is_carried_out_twice_is_answered_once() -> None:
    ports = Ports({"network.twice": 1.0})
    ports.put(*"ab")
    shard = await only_shard(ports)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        assert [numbers((await reader.read(records_max=1)).records) for _ in range(2)] == [
            [number] for number in written(ports)
        ]
    await anyio.sleep(60)
    assert len([fact for fact in ports.of(Called) if fact.operation == "GetRecords"]) == 4


async def test_the_service_may_be_away_for_everybody_and_comes_back() -> None:
    ports = Ports({"outage.all": 1.0})
    for node in ("w1.1", "w2.1"):
        with pytest.raises(SourceError, match="ServiceUnavailable"):
            await ports.source(node).shards()
    ports.faults.rates["outage.all"] = 0.0
    with pytest.raises(SourceError, match="ServiceUnavailable"):
        await ports.source("w2.1").shards()
    await anyio.sleep(OUTAGE_S[1])
    assert await ports.source().shards()


@pytest.mark.parametrize("over", [False, True])
async def test_a_request_for_a_page_may_hang_until_faults_are_over(over: bool) -> None:
    ports = Ports({"read.hangs": 1.0})
    shard = await only_shard(ports)
    began_s = anyio.current_time()
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        ports.faults.quiet = False
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(reader.read, records_max=1))
            await anyio.sleep(1)
            ports.faults.quiet = over
    took_s = anyio.current_time() - began_s
    assert took_s < 10.0 if over else HANGS_S[0] < took_s < HANGS_S[1] + 10.0


async def test_what_a_page_had_and_what_became_of_a_request_are_told() -> None:
    ports = Ports({"network.answer_lost": 1.0})
    ports.put(*"abc")
    source = ports.source()
    ports.faults.quiet = True
    shard = await only_shard(ports)
    async with source.open(shard, TRIM_HORIZON) as reader:
        await reader.read(records_max=2)
        ports.faults.quiet = False
        with pytest.raises(SourceError):
            await reader.read(records_max=2)
    pages = [fact for fact in ports.of(Called) if fact.operation == "GetRecords"]
    assert [(page.records, page.last) for page in pages] == [(2, written(ports)[1]), (1, written(ports)[2])]
    heard = [fact for fact in ports.of(Heard) if fact.operation == "GetRecords"]
    assert [(fact.shard_id, fact.failed) for fact in heard] == [(shard.shard_id, False), (shard.shard_id, True)]


async def test_a_read_that_is_cancelled_has_not_happened() -> None:
    ports = Ports()
    ports.put("a")
    shard = await only_shard(ports)
    async with ports.source().open(shard, TRIM_HORIZON) as reader:
        with anyio.move_on_after(0.001) as scope:
            await reader.read(records_max=9)
        assert scope.cancelled_caught
        assert len((await reader.read(records_max=9)).records) == 1


# --- lineage and the stream as a whole -------------------------------------------------------------------------------


async def test_what_happens_to_shards_is_told_as_it_happens() -> None:
    ports = Ports()
    (parent,) = ports.controls.shard_ids("orders")
    ports.put("a")
    (first, second) = ports.table.split(parent)
    ports.table.trim(parent, 1)
    ports.table.forget(parent)
    (number,) = written(ports)
    assert [type(fact) for fact in ports.facts] == [
        ShardMade, RecordMade, ShardFinished, ShardMade, ShardMade, RecordsGone, ShardGone,
    ]  # fmt: skip
    made = ports.of(ShardMade)
    assert [(fact.shard_id, fact.parents) for fact in made] == [(parent, ()), (first, (parent,)), (second, (parent,))]
    assert ports.of(RecordMade)[0].key == '{"id":{"S":"a"}}'
    assert ports.of(RecordsGone) == [RecordsGone(shard_id=parent, through=number)]


async def test_retention_of_a_day_is_told_too() -> None:
    ports = Ports()
    ports.put("a")
    (parent,) = ports.controls.shard_ids("orders")
    ports.table.roll_over(parent)
    await anyio.sleep(2 * 86_400)
    listed = await ports.source().shards()
    assert parent not in listed
    gone = [fact for fact in ports.facts if isinstance(fact, RecordsGone | ShardGone)]
    assert gone == [RecordsGone(shard_id=parent, through=written(ports)[0]), ShardGone(shard_id=parent)]
    # The child has a parent that is listed no more.
    assert [shard.parents for shard in listed.values()] == [(parent,)]


async def test_children_may_be_listed_minutes_after_their_parents_end() -> None:
    ports = Ports({"lineage.children_late": 1.0})
    shard = await only_shard(ports)
    ports.put("a")
    (child,) = ports.table.roll_over(shard.shard_id)
    source = ports.source()
    async with source.open(shard, TRIM_HORIZON) as reader:
        assert (await pages_to_the_end(reader))[-1].ended
    assert list(await source.children(shard)) == []
    await anyio.sleep(301)
    assert [found.shard_id for found in await source.children(shard)] == [child]


async def test_a_shard_may_end_without_a_record() -> None:
    ports = Ports({"lineage.empty_shard": 1.0})
    shard = await only_shard(ports)
    (grandchild,) = ports.table.roll_over(shard.shard_id)
    (child,) = await ports.source().children(shard)
    assert child.closed
    async with ports.source().open(child, TRIM_HORIZON) as reader:
        assert [len(page.records) for page in await pages_to_the_end(reader)] == [0]
    assert [found.shard_id for found in await ports.source().children(child)] == [grandchild]


async def test_all_shards_may_roll_over_in_one_moment() -> None:
    ports = Ports(shards=1_000)
    before = set(ports.controls.shard_ids("orders"))
    after = ports.table.roll_over_all()
    assert len(after) == 1_000
    listed = await ports.source().shards()
    assert {shard.shard_id for shard in listed.values() if shard.closed} == before
    assert {listed[shard_id].parents[0] for shard_id in after} == before


async def test_a_disabled_stream_is_read_to_its_end_for_a_day_and_then_gone() -> None:
    ports = Ports()
    ports.put(*"abc")
    shard = await only_shard(ports)
    ports.table.disable()
    source = ports.source()
    assert not (await source.describe()).enabled
    await anyio.sleep(86_000)
    async with source.open(shard, TRIM_HORIZON) as reader:
        assert read_numbers(await pages_to_the_end(reader)) == written(ports)
    await anyio.sleep(1_000)
    with pytest.raises(NotFoundError):
        await source.describe()
    with pytest.raises(NotFoundError):
        async with source.open(shard, TRIM_HORIZON) as reader:
            await reader.read(records_max=1)
    assert ports.of(ShardGone) == [ShardGone(shard_id=shard.shard_id)]


async def test_a_stream_that_is_turned_on_again_is_another_one_with_another_view() -> None:
    ports = Ports()
    ports.put("a")
    before = ports.source()
    ports.table.disable()
    stream_arn = ports.table.enable("KEYS_ONLY")
    ports.put("b")
    info = await ports.source().describe()
    assert (info.stream_arn, info.view_type, info.enabled) == (stream_arn, "KEYS_ONLY", True)
    old = await before.describe()
    assert (old.view_type, old.enabled) == ("NEW_AND_OLD_IMAGES", False)
    assert not (await before.shards()).keys() & (await ports.source().shards()).keys()
    async with ports.source().open(await only_shard(ports), TRIM_HORIZON) as reader:
        (record,) = (await reader.read(records_max=9)).records
    assert (record.keys, record.new_image) == ({"id": "b"}, None)


async def test_a_table_that_is_made_anew_has_no_items_and_another_stream() -> None:
    ports = Ports()
    ports.put("a")
    before = ports.source()
    stream_arn = ports.table.recreate()
    assert stream_arn != (await before.describe()).stream_arn
    assert not (await before.describe()).enabled
    ports.put("a")
    async with ports.source().open(await only_shard(ports), TRIM_HORIZON) as reader:
        (record,) = (await reader.read(records_max=9)).records
    assert record.event_name == "INSERT"


async def test_a_tip_is_pinned_at_the_time_of_the_service_and_not_of_the_node() -> None:
    ports = Ports()
    shard = await only_shard(ports)
    ports.put("before")
    await anyio.sleep(5)
    source = ports.source()
    pin = await source.pin(shard)
    assert pin.position.timestamp_s == math.floor(ports.clock.wall()) - 1.0
    ports.put("later")
    for cursor in (pin.cursor, None):
        async with source.open(shard, pin.position, cursor=cursor) as reader:
            assert numbers((await reader.read(records_max=9)).records) == written(ports)[1:]
