"""Everything public that waits is cancelled wherever it waits: nothing is leaked, nothing lost, and it can be done again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import orjson
import pytest

import streamflow
from cancelled_stores import check_leases, check_letters
from cancelling import CountingLoop, cancelled_at, cancelled_in_turn, everywhere, leaving_nothing
from discards import discarded
from discards import record as discarded_record
from opened_sinks import opened
from servers.webhook import running_webhook
from streamflow import App, HttpOptions, Pipeline
from streamflow.aws.session import open_aws
from streamflow.batches import Batch
from streamflow.dead_letters import LetterQuery, letters_of
from streamflow.destinations.letters import LettersDestination
from streamflow.engine.lease_loop import DistantStore, open_lease_loop
from streamflow.engine.redrive import Redrive
from streamflow.launch import open_redrive, running
from streamflow.leases import WORKERS
from streamflow.middleware.chain import compose
from streamflow.pipeline import AwsOptions, DynamoDBStream, PipelineOptions
from streamflow.positions import TRIM_HORIZON, Position
from streamflow.sinks.http import http
from streamflow.sinks.jsonl import jsonl
from streamflow.sinks.sqlite import sqlite
from streamflow.sources.dynamodb import open_dynamodb_stream
from streamflow.sources.shared import SharedSource
from streamflow.stores.sqlite import open_sqlite_store
from streamflow.testing import LocalStreams
from streamflow.testing.sink_contract import Changes
from world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from streamflow.protocols import Source, StateStore

pytestmark = pytest.mark.anyio


# --- sources -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def over_http() -> AsyncIterator[tuple[Any, Source]]:
    async with LocalStreams(shards=1) as streams:
        streams.create_table("orders")
        aws = AwsOptions(endpoint_url=streams.endpoint_url, region="us-east-1")
        async with open_aws(aws) as session, open_dynamodb_stream(session, DynamoDBStream(table="orders")) as source:
            yield streams, source


@asynccontextmanager
async def in_memory() -> AsyncIterator[tuple[Any, Source]]:
    world = World(shards=1)
    yield world.controls, world.source()


@asynccontextmanager
async def shared() -> AsyncIterator[tuple[Any, Source]]:
    async with in_memory() as (controls, source):
        yield controls, SharedSource(source, log_bytes_max=1_000)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")


@pytest.mark.parametrize("opening", [over_http, in_memory, shared])
@pytest.mark.parametrize("call", ["describe", "shards", "children"])
async def test_a_source_can_be_asked_again(opening: Any, call: str, credentials: None) -> None:
    with leaving_nothing():
        async with opening() as (controls, source):
            shards = await source.shards()
            controls.split("orders")
            ask = getattr(source, call)
            if call == "children":
                ask = partial(ask, *shards.values())
            said = await ask()
            assert await everywhere(ask, anyio.lowlevel.checkpoint)
            assert await ask() == said


@pytest.mark.parametrize("opening", [over_http, in_memory, shared])
async def test_a_tip_can_be_pinned_again(opening: Any, credentials: None) -> None:
    with leaving_nothing():
        async with opening() as (controls, source):
            (shard,) = (await source.shards()).values()
            assert await everywhere(partial(source.pin, shard), anyio.lowlevel.checkpoint)
            pin = await source.pin(shard)
            controls.put("orders", {"id": {"S": "behind the tip"}})
            async with source.open(shard, pin.position, cursor=pin.cursor) as reader:
                assert [record.keys["id"] for record in (await reader.read(records_max=9)).records] == [
                    "behind the tip"
                ]


@pytest.mark.parametrize("opening", [over_http, in_memory, shared])
async def test_a_read_that_is_cancelled_skips_nothing(opening: Any, credentials: None) -> None:
    with leaving_nothing():
        async with opening() as (controls, source):
            for number in range(9):
                controls.put("orders", {"id": {"S": str(number)}})
            (shard,) = (await source.shards()).values()
            suspensions = 0
            cancelled = True
            while cancelled:
                suspensions += 1
                async with source.open(shard, TRIM_HORIZON) as reader:
                    read = [record.keys["id"] for record in (await reader.read(records_max=2)).records]
                    controls.expire_iterators()  # so that a read asks three times
                    cancelled = await cancelled_at(suspensions, reader.read(records_max=2))
                    if not cancelled:
                        break
                    while page := (await reader.read(records_max=2)).records:
                        read += [record.keys["id"] for record in page]
                assert read == [str(number) for number in range(9)]
            assert suspensions > 2


# --- stores ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def in_a_file(folder: Path) -> AsyncIterator[StateStore]:
    async with open_sqlite_store(folder / "store.db") as store:
        yield store


@asynccontextmanager
async def in_another_loop(folder: Path) -> AsyncIterator[StateStore]:
    """As workers use it: from the loop of the handlers."""
    async with open_lease_loop(partial(open_sqlite_store, folder / "store.db")) as loop:
        yield DistantStore(loop)


@pytest.mark.parametrize("opening", [in_a_file, in_another_loop])
@pytest.mark.parametrize("check", [check_leases, check_letters])
async def test_a_store_is_as_before_or_as_it_should_be(opening: Any, check: Any, tmp_path: Path) -> None:
    with leaving_nothing():
        async with opening(tmp_path) as store:
            await check(store)


@pytest.mark.parametrize("opening", [in_a_file, in_another_loop])
async def test_a_store_can_be_opened_again(opening: Any, tmp_path: Path) -> None:
    async def use() -> None:
        async with opening(tmp_path) as store:
            await store.list("p", "arn")

    with leaving_nothing():
        assert await everywhere(use, use)


# --- sinks and destinations --------------------------------------------------------------------------------------------


async def test_a_destination_takes_a_batch_again(tmp_path: Path) -> None:
    batch = discarded()
    with leaving_nothing():
        async with open_sqlite_store(tmp_path / "store.db") as store:
            assert await everywhere(lambda: LettersDestination(store).send(batch), anyio.lowlevel.checkpoint)
            await LettersDestination(store).send(batch)
            assert await store.count(LetterQuery(drawer="dead")) == len(batch.batch)


@pytest.mark.parametrize("kind", ["http", "jsonl", "sqlite"])
async def test_a_sink_takes_a_batch_again_and_can_be_opened_again(kind: str, tmp_path: Path) -> None:
    records = Changes().put_many(5)
    batch = Batch(pipeline="p", shard=records[0].shard, records=records, epoch=1)

    async def use() -> None:
        async with opened(sink) as target:
            if kind == "sqlite":
                await target.writer.fence(batch.shard, 1)
            await target.writer.write(batch)

    with running_webhook() as webhook:
        sink: Any = {
            "http": http(url=webhook.url),
            "jsonl": jsonl(path=tmp_path / "orders.jsonl"),
            "sqlite": sqlite(path=tmp_path / "orders.db", table="orders", transactional=True, mode="append"),
        }[kind]
        with leaving_nothing():
            assert await everywhere(use, use) > 2


# --- whole workers, in virtual time ------------------------------------------------------------------------------------

IN_VIRTUAL_TIME = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"loop_factory": CountingLoop})], ids=["virtual"]
)


class CancelledWorld(World):
    """A stream that ends, with a split in it and one item that no handler takes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.options = {
            "batch_size": 2,
            "checkpoint_interval_s": 0,
            "maximum_retry_attempts": 0,
            "bisect_batch_on_function_error": True,
        }
        self.write(*"abcab")
        self.controls.split("orders")
        self.write(*"abca")

    async def handle(self, batch: Batch) -> None:
        await anyio.sleep(0.01)
        if any(record.keys["id"] == "c" for record in batch):
            raise RuntimeError("poison")
        await self.accept(batch)

    async def until_accounted(self) -> None:
        with anyio.fail_after(60):
            while await self.accounted() != set(self.written):  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.1)

    async def is_shared(self) -> bool:
        """Whether each of two workers has taken a shard."""
        return {"w1", "w2"} <= {row.owner for row in (await self.rows()).values() if row.claimant is None}

    async def accounted(self) -> set[tuple[str, int]]:
        """What was delivered, or is kept because it was given up."""
        return {*self.deliveries, *map(change_in, [each.record for each in await self.letters("dead")])}

    async def check(self) -> None:
        """No checkpoint has passed a record that is not accounted for, and order was kept."""
        accounted, rows = await self.accounted(), await self.rows()
        for shard_id, shard in self.controls.tables.stream_of("orders").shards.items():
            stored = rows[shard_id].checkpoint.order if shard_id in rows else TRIM_HORIZON.order
            for number, body in zip(shard.numbers, shard.bodies, strict=True):
                assert Position.after(str(number)).order > stored or change_in(body) in accounted
        self.check_order()

    async def finish(self, worker_id: str) -> None:
        """Another life reads the stream to its end."""
        self.controls.disable_stream("orders")
        worker = await self.worker(self.handle, worker_id=worker_id)
        with anyio.fail_after(60):
            await worker.run()
        await self.check_end()

    async def check_end(self) -> None:
        """Everything is accounted for, and nobody has anything any more.

        Nothing was delivered twice: what a handler has taken is stored, also by a worker that is cancelled.
        """
        assert await self.accounted() == set(self.written)
        assert len(self.deliveries) == len(set(self.deliveries))
        await self.check()
        assert {row.owner for row in (await self.rows()).values()} == {None}
        assert await self.store.inner.list(*WORKERS) == []


def change_in(body: bytes) -> tuple[str, int]:
    image = orjson.loads(body)["dynamodb"]["NewImage"]
    return image["id"]["S"], int(image["version"]["N"])


@IN_VIRTUAL_TIME
@pytest.mark.parametrize("heir", ["w1", "w2"], ids=["the_same_worker", "another_worker"])
async def test_a_worker_that_is_cancelled_anywhere_leaves_the_rest_to_the_next(heir: str) -> None:
    async def live(world: CancelledWorld) -> None:
        worker = await world.worker(world.handle)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await world.until_accounted()
            worker.stop()

    assert await at_every_turn(live, heir) > 100


async def at_every_turn(live: Callable[[CancelledWorld], Awaitable[None]], heir: str) -> int:
    """Cancel that life at each turn of its loop, and have a worker do the rest; the answer is how many turns there are."""
    turn, cancelled = 0, True
    tasks = asyncio.all_tasks()
    with leaving_nothing():
        while cancelled:
            turn += 1
            world = CancelledWorld(shards=1)
            cancelled = await cancelled_in_turn(turn, partial(live, world))
            assert asyncio.all_tasks() == tasks
            await world.check()
            await world.finish(heir)
    return turn


@IN_VIRTUAL_TIME
@pytest.mark.parametrize("victim", ["w1", "w2"], ids=["who_is_asked", "who_asks"])
async def test_a_worker_that_is_cancelled_while_it_hands_a_shard_over_leaves_it_to_the_other(victim: str) -> None:
    turn, cancelled = 0, True
    tasks = asyncio.all_tasks()
    with leaving_nothing():
        while cancelled:
            turn += 1
            world = CancelledWorld(shards=1)
            cancelled = await one_of_two_is_cancelled(world, victim, turn)
            assert asyncio.all_tasks() == tasks
            await world.check_end()
    assert turn > 100


async def one_of_two_is_cancelled(world: CancelledWorld, victim: str, turn: int) -> bool:
    """The second worker comes when the first has everything; at a turn after that, one of them goes. The other goes on."""
    loop, scopes = asyncio.get_running_loop(), {"w1": anyio.CancelScope(), "w2": anyio.CancelScope()}
    assert isinstance(loop, CountingLoop)

    async def live(worker_id: str) -> None:
        with scopes[worker_id]:
            await (await world.worker(world.handle, worker_id=worker_id)).run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live, "w1")
        await world.until_accounted()
        loop.at, loop.action = loop.turns + turn, scopes[victim].cancel
        tasks.start_soon(live, "w2")
        with anyio.fail_after(60):
            while not (scopes[victim].cancel_called or await world.is_shared()):  # noqa: ASYNC110 - as above
                await anyio.sleep(0.1)
        loop.at = 0
        world.write(*"abcabc")
        await world.until_accounted()
        world.controls.disable_stream("orders")
    return scopes[victim].cancel_called


LETTERS = letters_of(
    [discarded_record(number) for number in range(5)], pipeline="p", reason="RetryAttemptsExhausted", kept_at_s=1.0
)


@IN_VIRTUAL_TIME
async def test_a_redrive_that_is_cancelled_anywhere_can_be_begun_again() -> None:
    turn, cancelled = 0, True
    while cancelled:
        turn += 1
        world = World()
        delivered: list[str] = []
        await world.store.inner.keep(LETTERS)
        cancelled = await cancelled_in_turn(turn, partial(redrive, world, delivered, "r1"))
        await redrive(world, delivered, "r2")
        times = Counter(delivered)
        assert times.keys() == {letter.sequence_number for letter in LETTERS}
        assert max(times.values()) <= 2
        assert await world.store.inner.count(LetterQuery(drawer="dead")) == 0
    assert turn > 10


async def redrive(world: World, delivered: list[str], owner: str) -> None:
    async def deliver(batch: Batch) -> None:
        await anyio.sleep(0.01)
        delivered.extend(record.sequence_number for record in batch)

    await Redrive(
        store=world.store,
        chain=compose((), deliver),
        pipeline="p",
        drawer="dead",
        options=PipelineOptions(batch_size=2),
        clock=world.clock,
        owner=owner,
    ).run(LetterQuery(drawer="dead"))


# --- an app, in real time ----------------------------------------------------------------------------------------------


def app_of(world: World, accepted: list[str], folder: Path) -> App:
    async def deliver(batch: Batch) -> None:
        accepted.extend(record.sequence_number for record in batch)

    pipeline = Pipeline(name="p", source=world.source(), handler=deliver, starting_position="TRIM_HORIZON")
    store = f"sqlite:///{folder / 'store.db'}"
    return App(pipelines=(pipeline,), store=store, worker_id="w", http=HttpOptions(port=0))


async def test_an_app_that_is_cancelled_anywhere_can_be_run_again(tmp_path: Path) -> None:
    world = World(shards=1)
    world.write(*"abc")
    world.controls.disable_stream("orders")
    accepted: list[str] = []
    app = app_of(world, accepted, tmp_path)
    with leaving_nothing():
        assert await everywhere(lambda: streamflow.run(app), anyio.lowlevel.checkpoint) > 2
        await streamflow.run(app)
    assert sorted(set(accepted)) == sorted({str(number) for number in shard_numbers(world)})


async def test_a_worker_can_be_waited_for_again(tmp_path: Path) -> None:
    world = World(shards=1)
    accepted: list[str] = []
    with leaving_nothing():
        async with running(app_of(world, accepted, tmp_path)) as worker:
            assert await everywhere(worker.wait_started, anyio.lowlevel.checkpoint)
            await worker.wait_started()
            assert await cancelled_at(1, worker.wait())
            world.write("a")
            world.controls.disable_stream("orders")
            await worker.wait()
    assert len(accepted) == 1


async def test_a_redrive_can_be_opened_again(tmp_path: Path) -> None:
    app = app_of(World(), [], tmp_path)

    async def use() -> None:
        async with open_redrive(app, "p", "dead") as redrive:
            await redrive.run(LetterQuery(drawer="dead"))

    with leaving_nothing():
        assert await everywhere(use, use) > 2


async def test_local_streams_can_be_opened_again() -> None:
    async def use() -> None:
        async with LocalStreams() as streams:
            streams.create_table("orders")

    with leaving_nothing():
        assert await everywhere(use, use)


def shard_numbers(world: World) -> list[int]:
    return [number for shard in world.controls.tables.stream_of("orders").shards.values() for number in shard.numbers]
