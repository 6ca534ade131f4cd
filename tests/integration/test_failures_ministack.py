"""Whole pipelines whose destination is down for a while, against MiniStack: nothing is lost, and the backlog is delivered."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from outages import BUCKET, QUEUE, TOPIC, Failed, closed_port, reachable
from streamflow import App, AwsOptions, Batch, Pipeline, events, running
from streamflow.dead_letters import LetterQuery
from streamflow.errors import DestinationError
from streamflow.leases import STREAM_ROW
from streamflow.plugins import open_store
from streamflow.positions import Position
from streamflow.testing import MemorySource
from streamflow.testing.controls import Controls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from streamflow.dead_letters import DeadLetter

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

UUID = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:orders"
PATIENCE_S = 20.0
NOTE = '"ü\n' * 5_000
MISSING = {
    QUEUE: {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"},
    TOPIC: {"NotFound", "NotFoundException"},
    BUCKET: {"NoSuchBucket"},
}


class Orders:
    """A table of two shards, whose stream outlives its workers, and a handler that fails for poison."""

    def __init__(self, folder: Path) -> None:
        self.controls = Controls(shards=2)
        self.stream_arn = self.controls.create_table("orders")
        self.delivered: list[str] = []
        self.failed: Counter[tuple[str, ...]] = Counter()
        """Invocations of each batch that failed, by its sequence numbers."""
        self.events: list[events.Event] = []
        self._store = f"sqlite:///{folder / 'orders.db'}"
        self._versions = 0

    # -- the stream ---------------------------------------------------------------------------------------------------

    def write(self, *keys: str, poison: bool = False) -> None:
        for key in keys:
            self._versions += 1
            item: dict[str, Any] = {"id": {"S": key}, "version": {"N": str(self._versions)}, "poison": {"BOOL": poison}}
            self.controls.put("orders", {**item, "note": {"S": NOTE}})

    def stream(self) -> dict[str, dict[str, Any]]:
        """Shard id to sequence number to the record as the service has it."""
        shards = self.controls.tables.stream_of("orders").shards.values()
        return {
            shard.shard_id: dict(zip(map(str, shard.numbers), map(json.loads, shard.bodies), strict=True))
            for shard in shards
        }

    def written(self) -> set[str]:
        return {number for records in self.stream().values() for number in records}

    # -- the worker ---------------------------------------------------------------------------------------------------

    async def deliver(self, batch: Batch) -> None:
        numbers = tuple(record.sequence_number for record in batch)
        if any((record.new_image or {}).get("poison") for record in batch):
            self.failed[numbers] += 1
            raise ValueError("poison")
        self.delivered += numbers

    @asynccontextmanager
    async def worker(self, port: int, *on_failure: str) -> AsyncIterator[None]:
        pipeline = Pipeline(
            name="orders",
            source=MemorySource(self.controls.tables, self.stream_arn),
            handler=self.deliver,
            starting_position="TRIM_HORIZON",
            batch_size=2,
            maximum_retry_attempts=1,
            on_failure=on_failure,
            uuid=UUID,
            poll_interval_s=0.05,
            checkpoint_interval_s=0,
        )
        aws = AwsOptions(region="us-east-1", endpoint_url=f"http://127.0.0.1:{port}")
        app = App(pipelines=(pipeline,), store=self._store, worker_id="orders-0", aws=aws)
        async with running(app, observers=[self.events.append]) as worker:
            await worker.wait_started()
            yield

    def failures(self) -> list[events.DestinationFailed]:
        return [event for event in self.events if isinstance(event, events.DestinationFailed)]

    async def wait_failures(self, count: int) -> Sequence[events.DestinationFailed]:
        """Wait for so many more failures of the destination."""
        known = len(self.failures())
        await until(lambda: len(self.failures()) >= known + count)
        return self.failures()[known:]

    # -- what is stored -----------------------------------------------------------------------------------------------

    async def checkpoints(self) -> dict[str, Position]:
        async with open_store(self._store) as store:
            rows = await store.list("orders", self.stream_arn)
        return {row.shard_id: row.checkpoint for row in rows if row.shard_id != STREAM_ROW}

    async def letters(self) -> Sequence[DeadLetter]:
        async with open_store(self._store) as store:
            return await store.letters(LetterQuery(drawer="dead"))

    async def wait_checkpoints(self, expected: dict[str, Position]) -> None:
        with anyio.fail_after(PATIENCE_S):
            while await self.checkpoints() != expected:  # noqa: ASYNC110 - they are in a file
                await anyio.sleep(0.02)

    def ends(self) -> dict[str, Position]:
        return {shard_id: Position.after(list(records)[-1]) for shard_id, records in self.stream().items()}


async def until(fact: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not fact():  # noqa: ASYNC110 - what is looked at is on a server
            await anyio.sleep(0.02)


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path)


@pytest.fixture
def failed(ministack: str, request: pytest.FixtureRequest) -> Iterator[Failed]:
    """The destination, made; an SQS queue where the test asks for nothing else."""
    found = Failed(ministack, getattr(request, "param", QUEUE))
    found.create()
    yield found
    found.close()


def check_nothing_lost(orders: Orders, failed: Failed) -> None:
    """Every record is delivered once, or in exactly one failure record, which tells all that it should of its batch."""
    given_up = [number for numbers in orders.failed for number in numbers]
    assert sorted([*orders.delivered, *given_up]) == sorted(orders.written())
    by_ends = {(numbers[0], numbers[-1]): numbers for numbers in orders.failed}
    found = [record["DDBStreamBatchInfo"] for record in failed.records]
    assert sorted((each["startSequenceNumber"], each["endSequenceNumber"]) for each in found) == sorted(by_ends)
    for record in failed.records:
        info = record["DDBStreamBatchInfo"]
        numbers = by_ends[info["startSequenceNumber"], info["endSequenceNumber"]]
        bodies = orders.stream()[info["shardId"]]
        assert info["batchSize"] == len(numbers) > 0
        assert info["streamArn"] == orders.stream_arn
        assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert record["requestContext"]["functionArn"] == FUNCTION
        assert record["responseContext"]["functionError"] == "Unhandled"
        assert ("payload" in record) == (failed.arn == BUCKET)
        if "payload" in record:
            sent = json.loads(record["payload"])["Records"]
            assert [each["dynamodb"] for each in sent] == [bodies[number]["dynamodb"] for number in numbers]
            assert all(each["dynamodb"]["NewImage"]["note"]["S"] == NOTE for each in sent)


@pytest.mark.fault("F26")
@pytest.mark.parametrize("failed", [QUEUE, TOPIC, BUCKET], indirect=True)
async def test_backlog_of_a_destination_that_was_down_is_delivered(
    ministack: str, failed: Failed, orders: Orders
) -> None:
    port = await closed_port(ministack)
    async with orders.worker(port, failed.arn):
        # Nothing listens: the connection is refused.
        other, stuck = await poison_one_shard(orders)
        refused = await orders.wait_failures(1)
        assert_failures(refused, stuck, {"EndpointConnectionError"})
        await assert_held(orders, stuck, other)
        async with reachable(ministack, port=port):
            await orders.wait_checkpoints(orders.ends())
            assert failed.take() == len(orders.failed) == 1
            # The server is there, but what it names is gone.
            failed.delete()
            other, stuck = await poison_one_shard(orders)
            missing = await orders.wait_failures(2)
            assert_failures(missing, stuck, MISSING[failed.arn])
            await assert_held(orders, stuck, other)
            failed.create()
            await orders.wait_checkpoints(orders.ends())
            await until(lambda: failed.take() >= len(orders.failed))
    assert len(failed.records) == 2
    assert set(orders.failed.values()) == {2}, "a batch is not invoked again because its destination was down"
    assert {record["requestContext"]["approximateInvokeCount"] for record in failed.records} == {2}
    check_nothing_lost(orders, failed)


async def poison_one_shard(orders: Orders) -> tuple[str, str]:
    """Write poison into one shard, in front of good records, and good ones into the other; the latter's id comes first."""
    before = {shard_id: len(records) for shard_id, records in orders.stream().items()}
    orders.write("poison", poison=True)
    stuck = next(shard_id for shard_id, records in orders.stream().items() if len(records) > before[shard_id])
    (other,) = set(before) - {stuck}
    orders.write(*(f"good-{number}" for number in range(12)))
    assert all(len(records) >= before[shard_id] + 4 for shard_id, records in orders.stream().items())
    return other, stuck


def assert_failures(found: Sequence[events.DestinationFailed], stuck: str, codes: set[str]) -> None:
    assert {event.shard_id for event in found} == {stuck}
    for event in found:
        assert isinstance(event.error, DestinationError)
        assert event.error.code in codes
        assert event.retry_after_s > 0
    assert [event.attempt for event in found] == list(range(1, len(found) + 1))


async def assert_held(orders: Orders, stuck: str, other: str) -> None:
    """The other shard goes on to its end; the stuck one stops in front of the batch that cannot be sent."""
    await orders.wait_checkpoints({**await orders.checkpoints(), other: orders.ends()[other]})
    held = list(orders.failed)[-1]
    numbers = list(orders.stream()[stuck])
    place = numbers.index(held[0])
    assert (await orders.checkpoints())[stuck].sequence_number == (numbers[place - 1] if place else "")
    assert not set(orders.delivered) & set(numbers[place:]), "nothing overtakes it"


@pytest.mark.parametrize("failed", [QUEUE], indirect=True)
async def test_each_of_two_destinations_gets_it_also_when_the_first_was_down(
    ministack: str, failed: Failed, orders: Orders
) -> None:
    port = await closed_port(ministack)
    async with orders.worker(port, QUEUE, "dead_letters"):
        await poison_one_shard(orders)
        await orders.wait_failures(1)
        assert await orders.letters() == [], "they are sent to in turn"
        async with reachable(ministack, port=port):
            await orders.wait_checkpoints(orders.ends())
            await until(lambda: failed.take() >= 1)
    check_nothing_lost(orders, failed)
    (given_up,) = orders.failed
    letters = await orders.letters()
    assert tuple(letter.sequence_number for letter in letters) == given_up
    bodies = {number: body for records in orders.stream().values() for number, body in records.items()}
    assert [json.loads(letter.record) for letter in letters] == [bodies[number] for number in given_up]


async def test_worker_that_is_stopped_while_its_destination_is_down_loses_nothing(
    ministack: str, failed: Failed, orders: Orders
) -> None:
    port = await closed_port(ministack)
    async with orders.worker(port, "dead_letters", QUEUE):
        other, stuck = await poison_one_shard(orders)
        await orders.wait_failures(1)
        await assert_held(orders, stuck, other)
    (held,) = orders.failed
    assert failed.take() == 0
    assert tuple(letter.sequence_number for letter in await orders.letters()) == held
    await assert_held(orders, stuck, other)
    (stopped,) = (event for event in orders.events if isinstance(event, events.PipelineStopped))
    assert set(stopped.repeating) == {stuck}
    async with orders.worker(port, "dead_letters", QUEUE):
        await orders.wait_failures(1)
        async with reachable(ministack, port=port):
            await orders.wait_checkpoints(orders.ends())
            await until(lambda: failed.take() >= 1)
    assert list(orders.failed) == [held]
    assert orders.failed[held] == 4, "each worker gave it up by itself"
    assert tuple(letter.sequence_number for letter in await orders.letters()) == held, "no second letter"
    check_nothing_lost(orders, failed)
