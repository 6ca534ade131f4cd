"""Streams and tables that go away, come back as others, or end with something that cannot be delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow import events
from streamflow.errors import NotFoundError, TrimmedError
from streamflow.leases import STREAM_ROW, LeaseState
from streamflow.positions import SHARD_END, Position, PositionKind
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.dead_letters import DeadLetter

pytestmark = pytest.mark.anyio

DAY_S = 86_400


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


def item(letter: DeadLetter) -> str:
    return letter.item_key


# --- poison at the edges ---------------------------------------------------------------------------------------------


@pytest.mark.fault("F14")
@pytest.mark.parametrize("batch_size", [1, 100])
async def test_poison_at_the_end_of_a_shard_is_given_up_alone_and_the_shard_ends(batch_size: int) -> None:
    world = World(shards=1)

    async def handle(batch: Batch) -> None:
        if any(record.keys["id"] == "bad" for record in batch):
            raise RuntimeError("poison")
        await world.accept(batch)

    world.write("a", "b", "bad")
    (parent,) = world.controls.shard_ids("orders")
    world.controls.rollover("orders")
    world.write("c")
    options = {"maximum_retry_attempts": 2, "bisect_batch_on_function_error": True, "batch_size": batch_size}
    async with world.working(handle, **options):
        await world.until(lambda: ("c", 1) in world.deliveries)
    assert world.deliveries == [("a", 1), ("b", 1), ("c", 1)]
    assert [item(letter) for letter in await world.letters("dead")] == ['{"id":{"S":"bad"}}']
    row = (await world.rows())[parent]
    assert (row.state, row.checkpoint) == (LeaseState.ENDED, SHARD_END)


@pytest.mark.fault("F14")
async def test_poison_that_comes_first_after_a_restart_uses_up_its_retries_and_goes() -> None:
    world = World(shards=1)
    attempts: list[str] = []

    async def handle(batch: Batch) -> None:
        attempts.extend(str(record.keys["id"]) for record in batch)
        if any(record.keys["id"] == "bad" for record in batch):
            raise RuntimeError("poison")
        await world.accept(batch)

    world.write("a")
    async with world.working(handle, maximum_retry_attempts=3, batch_size=1):
        await world.until(world.everything_delivered)
        world.write("bad", "b")
        await world.until(lambda: attempts.count("bad") == 1)
    async with world.working(handle, worker_id="w2", maximum_retry_attempts=3, batch_size=1):
        await world.until(lambda: ("b", 1) in world.deliveries)
    assert attempts.count("bad") == 1 + 4, "the new worker's retries are its own"
    assert (attempts.count("a"), attempts.count("b")) == (1, 1)
    assert [item(letter) for letter in await world.letters("dead")] == ['{"id":{"S":"bad"}}']


# --- streams that are gone -------------------------------------------------------------------------------------------


@pytest.mark.fault("F45")
async def test_a_table_that_is_deleted_while_it_is_read_is_read_to_its_end() -> None:
    world = World(shards=2)
    worker = await world.worker()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await worker.wait_started()
        world.write("a", "b")
        world.controls.delete_table("orders")
        with anyio.fail_after(120):
            while not world.of(events.PipelineStopped):  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.05)
    assert sorted(world.deliveries) == sorted(world.written)
    assert world.of(events.StreamEnded)


@pytest.mark.fault("F45")
async def test_records_that_went_with_their_stream_stop_the_pipeline_and_leave_its_place() -> None:
    world = World(shards=1)
    worker = await world.worker()

    async def take_the_stream_away() -> None:
        await worker.wait_started()
        world.write("a")
        await world.until(world.everything_delivered)
        await anyio.sleep(5)
        world.controls.fail_next("GetRecords", code="InternalServerError", times=10_000)
        world.write("b")
        world.controls.delete_table("orders")
        world.controls.advance(2 * DAY_S)
        world.controls.clear_faults()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_the_stream_away)
        with pytest.raises(TrimmedError, match=r"are lost: .*ResourceNotFoundException"):
            await worker.run()
    (row,) = (await world.rows()).values()
    assert row.checkpoint.kind is PositionKind.AFTER_SEQUENCE_NUMBER
    assert (row.state, row.gaps) == (LeaseState.ACTIVE, ())
    with pytest.raises(NotFoundError):
        await world.worker(worker_id="w2")


@pytest.mark.fault("F45", "F42")
async def test_a_stream_of_the_same_table_made_again_inherits_no_checkpoint() -> None:
    world = World(shards=1)
    world.write("a")
    async with world.working():
        await world.until(world.everything_delivered)
    before, old_arn = await world.rows(), world.stream_arn
    world.controls.delete_table("orders")
    world.stream_arn = world.controls.create_table("orders")
    assert world.stream_arn != old_arn
    world.write("a")
    async with world.working(worker_id="w2"):
        await world.until(world.everything_delivered)
    assert world.deliveries == [("a", 1), ("a", 2)]
    assert before.keys().isdisjoint(await world.rows())
    kept = {row.shard_id: row for row in await world.store.inner.list("p", old_arn) if row.shard_id != STREAM_ROW}
    assert {shard_id: row.checkpoint for shard_id, row in kept.items()} == {
        shard_id: row.checkpoint for shard_id, row in before.items()
    }


@pytest.mark.fault("F46")
async def test_another_view_is_another_stream_and_begins_where_the_pipeline_says() -> None:
    world = World(shards=1)
    world.write("a")
    async with world.working():
        await world.until(world.everything_delivered)
    world.controls.disable_stream("orders")
    world.stream_arn = world.controls.enable_stream("orders", "KEYS_ONLY")
    seen: list[tuple[str, str, object]] = []

    async def handle(batch: Batch) -> None:
        seen.extend((str(record.keys["id"]), record.view_type, record.new_image) for record in batch)

    world.write("a")
    async with world.working(handle, worker_id="w2"):
        await world.until(lambda: bool(seen))
    assert seen == [("a", "KEYS_ONLY", None)]


# --- positions that nobody stored ------------------------------------------------------------------------------------


@pytest.mark.fault("F42")
@pytest.mark.parametrize("on_trimmed", ["fail", "continue"])
async def test_a_checkpoint_below_what_is_left_asks_for_a_decision(on_trimmed: str) -> None:
    world = World(shards=1)
    world.write("a", "b", "c")
    async with world.working():
        await world.until(world.everything_delivered)
    (row,) = (await world.rows()).values()
    first = world.controls.tables.stream(world.stream_arn).shard(row.shard_id).numbers[0]
    await world.edit(row, checkpoint=Position.after(str(first - 5)))
    world.controls.trim("orders")
    world.write("d")
    if on_trimmed == "fail":
        with pytest.raises(TrimmedError, match=r'on_trimmed = "continue"'):
            await (await world.worker(worker_id="w2")).run()
        assert ("d", 1) not in world.deliveries
        return
    async with world.working(worker_id="w2", on_trimmed="continue"):
        await world.until(lambda: ("d", 1) in world.deliveries)
    (row,) = (await world.rows()).values()
    assert [gap.lost_from.sequence_number for gap in row.gaps] == [str(first - 5)]
