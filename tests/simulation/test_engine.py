"""Whole workers over a simulated stream and store, in virtual time: nothing lost, in order, whatever happens."""

from __future__ import annotations

import asyncio
import math
from sys import getrefcount
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from streamflow import events
from streamflow.batches import Batch  # noqa: TC001 - handlers are inspected
from streamflow.engine.buffer import RECORD_OVERHEAD_BYTES
from streamflow.errors import PartialFailure, RequestRefusedError, SourceError, StreamflowError, TrimmedError
from streamflow.leases import STREAM_ROW, LeaseState
from streamflow.positions import PositionKind
from streamflow.testing.memory_source import MemorySource
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.records import Record, Shard

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


KEYS = [f"k{number}" for number in range(12)]


async def test_what_was_written_arrives_once_and_in_order() -> None:
    world = World(shards=4)
    world.write(*KEYS)
    async with world.working():
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written)
    world.check_order()


async def test_children_come_after_their_parents_through_splits_and_rollovers() -> None:
    world = World(shards=2)
    async with world.working():
        for _ in range(6):
            world.write(*KEYS)
            world.controls.split("orders")
            world.write(*KEYS)
            world.controls.rollover("orders")
            await anyio.sleep(0.3)
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written)
    world.check_order()


async def test_a_graceful_stop_stores_and_releases_and_a_restart_repeats_nothing() -> None:
    world = World()
    world.write(*KEYS)
    async with world.working():
        await world.until(world.everything_delivered)
    assert all(row.owner is None for row in (await world.rows()).values())
    world.write(*KEYS)
    async with world.working(worker_id="w2"):
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written)


async def test_latest_starts_with_what_comes_after_running() -> None:
    world = World()
    world.write("before")
    async with world.working(starting_position="LATEST"):
        world.write("after")
        await world.until(lambda: ("after", 1) in world.deliveries)
    assert world.deliveries == [("after", 1)]


async def test_latest_is_stored_before_running_so_that_a_crash_loses_nothing() -> None:
    world = World()
    world.write("before")
    await anyio.sleep(5)
    async with anyio.create_task_group() as tasks:
        worker = await world.worker(starting_position="LATEST")
        tasks.start_soon(worker.run)
        await worker.wait_started()
        world.store.down = True  # as with SIGKILL: nothing that it does from here on reaches the store
        tasks.cancel_scope.cancel()
    world.store.down = False
    assert PositionKind.LATEST not in {row.checkpoint.kind for row in (await world.rows()).values()}
    world.write("while down")
    await anyio.sleep(3600)
    async with world.working(starting_position="LATEST"):
        await world.until(lambda: ("while down", 1) in world.deliveries)
    assert ("before", 1) not in world.deliveries


async def test_children_start_at_the_horizon_also_under_latest() -> None:
    world = World(shards=1)
    async with world.working(starting_position="LATEST"):
        world.controls.split("orders")
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written)


async def test_a_killed_worker_repeats_at_most_what_it_had_not_stored() -> None:
    world = World()
    world.write(*KEYS)
    async with anyio.create_task_group() as tasks:
        worker = await world.worker(checkpoint_interval_s=60)
        tasks.start_soon(worker.run)
        await world.until(world.everything_delivered)
        world.write(*KEYS)
        await world.until(world.everything_delivered)
        world.store.down = True
        tasks.cancel_scope.cancel()
    world.store.down = False
    before = len(world.deliveries)
    async with world.working():
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    repeated = len(world.deliveries) - before - len(KEYS)
    assert 0 < repeated <= 2 * len(KEYS)
    world.check_order()


async def test_checkpoints_are_an_interval_apart_while_the_frontier_keeps_moving() -> None:
    world = World(shards=1)
    async with world.working(checkpoint_interval_s=5, poll_interval_s=0.01):
        for _ in range(300):
            world.write("a")
            await anyio.sleep(0.1)
        await world.until(world.everything_delivered)
        stored = world.of(events.CheckpointStored)
        assert 4 <= len(stored) <= 8


async def test_a_failing_batch_comes_again_and_pins_the_checkpoint() -> None:
    world = World(shards=1)
    attempts: list[int] = []
    request_ids: set[str] = set()

    async def fail_twice(batch: Batch) -> None:
        attempts.append(batch.attempt)
        request_ids.add(batch.request_id)
        (row,) = (await world.rows()).values()
        assert row.checkpoint.kind is PositionKind.TRIM_HORIZON
        if batch.attempt <= 2:
            raise RuntimeError("not yet")
        await world.accept(batch)

    world.write(*KEYS)
    async with world.working(fail_twice):
        await world.until(world.everything_delivered)
    assert attempts == [1, 2, 3]
    assert len(request_ids) == 1
    assert [event.attempt for event in world.of(events.BatchFailed)] == [1, 2]


@pytest.mark.fault("F23")
async def test_a_partial_failure_repeats_from_the_first_failed_record_on() -> None:
    world = World(shards=1)
    seen: list[int] = []

    async def third_fails_once(batch: Batch) -> None:
        seen.append(len(batch))
        if len(seen) == 1:
            raise PartialFailure([batch.records[4].sequence_number, batch.records[2].sequence_number])
        await world.accept(batch)

    world.write(*KEYS)
    async with world.working(third_fails_once):
        await world.until(lambda: len(world.deliveries) == len(KEYS) - 2)
    assert seen == [12, 10]
    assert sum(event.delivered for event in world.of(events.BatchDelivered)) == 12


@pytest.mark.fault("F16")
async def test_a_handler_that_takes_too_long_is_cancelled_and_retried() -> None:
    world = World(shards=1)

    async def slow_at_first(batch: Batch) -> None:
        if batch.attempt == 1:
            await anyio.sleep(3600)
        await world.accept(batch)

    world.write("a")
    async with world.working(slow_at_first, handler_timeout_s=5):
        await world.until(world.everything_delivered)
    (failed,) = world.of(events.BatchFailed)
    assert type(failed.error).__name__ == "HandlerTimeoutError"


@pytest.mark.fault("F27")
async def test_a_stop_in_the_middle_of_a_checkpoint_stores_and_releases_all_the_same() -> None:
    world = World(shards=1)
    async with world.working(checkpoint_interval_s=0) as worker:
        world.write("a")
        await world.until(world.everything_delivered)
        await anyio.sleep(0.06)  # the first checkpoint is on its way back
        worker.stop()
    (row,) = (await world.rows()).values()
    assert row.owner is None
    assert row.checkpoint.kind is PositionKind.AFTER_SEQUENCE_NUMBER


async def test_an_idle_worker_stops_at_once() -> None:
    world = World(shards=3)
    async with world.working() as worker:
        await anyio.sleep(100)
        worker.stop()
        stopped_at = anyio.current_time()
    assert anyio.current_time() - stopped_at < 0.5


async def test_a_stop_waits_for_the_batch_in_flight() -> None:
    world = World(shards=1)

    async def slow(batch: Batch) -> None:
        await anyio.sleep(10)
        await world.accept(batch)

    world.write("a")
    async with world.working(slow) as worker:
        await anyio.sleep(2)
        worker.stop()
    assert world.deliveries == [("a", 1)]
    (row,) = (await world.rows()).values()
    assert row.checkpoint.kind is PositionKind.AFTER_SEQUENCE_NUMBER
    assert world.of(events.PipelineStopped)[0].drained


@pytest.mark.fault("F27")
async def test_a_batch_that_outlives_the_drain_is_given_up_and_named() -> None:
    world = World(shards=1)

    async def stuck(batch: Batch) -> None:
        await anyio.sleep_forever()

    world.write("a")
    async with world.working(stuck):
        await anyio.sleep(2)
    (stopped,) = world.of(events.PipelineStopped)
    assert not stopped.drained
    assert list(stopped.repeating) == list(await world.rows())
    # Whatever the handler started may still go on somewhere: the lease runs out instead of being handed over.
    (row,) = (await world.rows()).values()
    assert row.owner == "w1"


async def test_a_block_that_is_cancelled_tells_what_will_come_again() -> None:
    world = World(shards=1)

    async def stuck(batch: Batch) -> None:
        await anyio.sleep_forever()

    world.write("a")
    async with anyio.create_task_group() as tasks:
        worker = await world.worker(stuck)
        tasks.start_soon(worker.run)
        await worker.wait_started()
        await anyio.sleep(2)
        tasks.cancel_scope.cancel()
    (stopped,) = world.of(events.PipelineStopped)
    assert list(stopped.repeating) == list(await world.rows())


async def test_a_batch_that_keeps_failing_does_not_hold_up_a_stop() -> None:
    world = World(shards=1)

    async def broken(batch: Batch) -> None:
        raise RuntimeError("always")

    world.write("a")
    started = anyio.current_time()
    async with world.working(broken):
        await anyio.sleep(30)
    assert anyio.current_time() - started < 32


@pytest.mark.fault("F32")
async def test_a_throttled_reader_backs_off_and_loses_nothing() -> None:
    world = World(shards=1)
    world.controls.fail_next("GetRecords", code="LimitExceededException", times=5)
    world.write(*KEYS)
    async with world.working():
        await world.until(world.everything_delivered)
    failures = world.of(events.ReadFailed)
    assert [failure.throttled for failure in failures] == [True] * 5
    assert sorted(world.deliveries) == sorted(world.written)


@pytest.mark.fault("F25")
async def test_expired_iterators_are_routine() -> None:
    world = World(shards=1)
    async with world.working():
        world.write(*KEYS)
        await world.until(world.everything_delivered)
        world.controls.expire_iterators()
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written)


async def test_children_that_are_listed_late_are_found() -> None:
    world = World(shards=1, tables={"children_delay_s": 40.0})
    async with world.working():
        world.write(*KEYS)
        world.controls.rollover("orders")
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    assert world.of(events.ShardAwaitingChildren)
    assert sorted(world.deliveries) == sorted(world.written)
    assert {row.state for row in (await world.rows()).values()} == {LeaseState.ACTIVE, LeaseState.ENDED}


class LateParent(MemorySource):
    """Complete listings, as it seems, that lack one shard until some time."""

    def __init__(self, world: World, missing: str, until_s: float) -> None:
        super().__init__(world.controls.tables, world.stream_arn)
        self._missing, self._until_s = missing, until_s

    async def shards(self) -> Mapping[str, Shard]:
        hidden = {self._missing} if anyio.current_time() < self._until_s else set()
        return {shard_id: shard for shard_id, shard in (await super().shards()).items() if shard_id not in hidden}


@pytest.mark.parametrize("late_s", [1.0, 55.0])
async def test_a_parent_that_is_listed_after_its_child_is_read_before_it(late_s: float) -> None:
    world = World(shards=1)
    world.write(*KEYS)
    (parent,) = world.controls.shard_ids("orders")
    world.controls.rollover("orders")
    world.write(*KEYS)
    worker = await world.worker()
    worker.flows[0].source = LateParent(world, parent, anyio.current_time() + late_s)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await world.until(world.everything_delivered)
        worker.stop()
    assert world.deliveries == world.written


async def test_a_parent_that_no_listing_shows_any_more_keeps_its_child_waiting_for_a_minute() -> None:
    world = World(shards=1)
    (parent,) = world.controls.shard_ids("orders")
    world.controls.rollover("orders")
    world.write("a")
    worker = await world.worker()
    worker.flows[0].source = LateParent(world, parent, math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await world.until(world.everything_delivered, within_s=75.0)
        worker.stop()
    assert [row.parents for row in (await world.rows()).values()] == [()]


async def test_nobody_waits_for_a_parent_that_is_old_enough_to_be_trimmed() -> None:
    world = World(shards=1)
    (parent,) = world.controls.shard_ids("orders")
    world.controls.rollover("orders")
    await anyio.sleep(25 * 3_600.0)
    world.write("a")
    worker = await world.worker()
    worker.flows[0].source = LateParent(world, parent, math.inf)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await world.until(world.everything_delivered, within_s=5.0)
        worker.stop()


@pytest.mark.fault("F54")
async def test_one_shard_that_cannot_be_asked_about_keeps_no_other_waiting() -> None:
    world = World(shards=3, tables={"children_delay_s": 5.0})
    refused = min(world.controls.shard_ids("orders"))

    class Picky(MemorySource):
        async def children(self, shard: Shard) -> Sequence[Shard]:
            if shard.shard_id == refused:
                raise SourceError("not this one")
            return await super().children(shard)

    worker = await world.worker()
    worker.flows[0].source = Picky(world.controls.tables, world.stream_arn)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await worker.wait_started()
        world.controls.rollover("orders")
        await anyio.sleep(90)
        worker.stop()
    states = {shard_id: row.state for shard_id, row in (await world.rows()).items()}
    assert states.pop(refused) is LeaseState.AWAITING_CHILDREN
    assert sorted(states.values(), key=str) == [LeaseState.ACTIVE] * 2 + [LeaseState.ENDED] * 2
    assert world.of(events.DiscoveryFailed)


@pytest.mark.fault("F46")
async def test_a_disabled_stream_is_read_to_its_end_and_then_the_run_ends() -> None:
    world = World(shards=3)
    world.write(*KEYS)
    world.controls.disable_stream("orders")
    worker = await world.worker()
    with anyio.fail_after(60):
        await worker.run()
    assert sorted(world.deliveries) == sorted(world.written)
    assert world.of(events.StreamEnded)


@pytest.mark.fault("F42")
async def test_trimmed_records_stop_the_pipeline_and_say_what_to_do() -> None:
    world = World(shards=1)
    world.write(*KEYS)
    async with world.working():
        await world.until(world.everything_delivered)
    world.write(*KEYS)
    world.controls.trim("orders")
    world.write("later")
    worker = await world.worker()
    with pytest.raises(TrimmedError, match=r'on_trimmed = "continue"'):
        await worker.run()
    assert world.of(events.RecordsTrimmed)
    assert ("later", 1) not in world.deliveries


@pytest.mark.fault("F42")
async def test_trimmed_records_leave_a_gap_in_the_lease_where_the_pipeline_goes_on() -> None:
    world = World(shards=1)
    world.write(*KEYS)
    async with world.working():
        await world.until(world.everything_delivered)
    world.write(*KEYS)
    world.controls.trim("orders")
    world.write("later")
    async with world.working(on_trimmed="continue"):
        await world.until(lambda: ("later", 1) in world.deliveries)
    (row,) = (await world.rows()).values()
    assert len(row.gaps) == 1


@pytest.mark.fault("F30")
async def test_a_lost_answer_of_a_checkpoint_is_recognised_as_our_own_write() -> None:
    world = World(shards=1)
    async with world.working():
        world.write("a")
        world.store.lose_answers = 3
        await world.until(world.everything_delivered)
        await anyio.sleep(30)
        world.write("b")
        await world.until(world.everything_delivered)
    assert not world.of(events.LeaseLost)
    assert sorted(world.deliveries) == sorted(world.written)


@pytest.mark.fault("F30")
async def test_a_lost_request_of_a_checkpoint_is_repeated() -> None:
    world = World(shards=1)
    async with world.working():
        world.store.lose_requests = 2
        world.write("a")
        await world.until(world.everything_delivered)
        await anyio.sleep(10)
    (row,) = (await world.rows()).values()
    assert row.checkpoint.kind is PositionKind.AFTER_SEQUENCE_NUMBER


@pytest.mark.fault("F50")
async def test_a_lease_that_somebody_else_wrote_is_given_up_without_a_word_to_the_store() -> None:
    world = World(shards=1)
    async with world.working():
        (row,) = (await world.rows()).values()
        await world.edit(row, owner="other", epoch=row.epoch + 1)
        await world.until(lambda: bool(world.of(events.LeaseLost)))
        (row,) = (await world.rows()).values()
        assert row.owner == "other"
        world.write("a")
        await world.until(world.everything_delivered)  # "other" never renews: the lease runs out and comes back
    assert sorted(world.deliveries) == sorted(world.written)


async def test_a_stream_row_removed_by_hand_is_restored_without_a_new_start() -> None:
    world = World(shards=1)
    async with world.working(starting_position="LATEST"):
        rows = await world.store.inner.list("p", world.stream_arn)
        (stream,) = (row for row in rows if row.shard_id == "stream")
        assert await world.store.inner.delete(stream.key, expected_version=stream.version)
        await anyio.sleep(20)
        world.write(*KEYS)
        world.controls.rollover("orders")
        world.write(*KEYS)
        await world.until(world.everything_delivered)
    assert sorted(set(world.deliveries)) == sorted(world.written)
    world.check_order()


@pytest.mark.fault("F49")
async def test_leases_that_vanish_altogether_are_reported_and_not_begun_anew() -> None:
    world = World(shards=1)
    async with world.working(starting_position="LATEST"):
        for row in await world.store.inner.list("p", world.stream_arn):
            assert await world.store.inner.delete(row.key, expected_version=row.version)
        await world.until(lambda: bool(world.of(events.DiscoveryFailed)))
        await anyio.sleep(60)
        assert "every lease of pipeline 'p' is gone" in world.of(events.DiscoveryFailed)[0].message
        assert await world.rows() == {}


@pytest.mark.fault("F39")
async def test_a_store_that_fails_stops_dispatching_before_anybody_else_may_own_the_shard() -> None:
    world = World(shards=1)
    async with world.working():
        world.write("a")
        await world.until(world.everything_delivered)
        world.store.down = True
        down_since = anyio.current_time()
        await world.until(lambda: bool(world.of(events.LeaseLost)))
        assert anyio.current_time() - down_since < 10.0  # the lease duration, which observers wait for
        world.write("b")
        await anyio.sleep(30)
        assert ("b", 1) not in world.deliveries
        world.store.down = False
        await world.until(world.everything_delivered)


async def test_a_second_worker_takes_over_when_the_first_falls_silent() -> None:
    world = World()
    async with anyio.create_task_group() as tasks:
        worker = await world.worker(worker_id="w1")
        tasks.start_soon(worker.run)
        await worker.wait_started()
        world.store.down = True
        tasks.cancel_scope.cancel()
    world.store.down = False
    world.write(*KEYS)
    async with world.working(worker_id="w2"):
        assert not world.deliveries
        await world.until(world.everything_delivered, within_s=15)
    taken = [event for event in world.of(events.LeaseTaken) if event.shard_id != STREAM_ROW]
    first = {event.shard_id: event.epoch for event in taken if event.previous_owner is None}
    assert {event.shard_id: event.epoch for event in taken if event.previous_owner == "w1"} == {
        shard_id: epoch + 1 for shard_id, epoch in first.items()
    }
    assert len(first) == world.shards


@pytest.mark.fault("F48")
async def test_a_restart_under_the_same_id_continues_at_once() -> None:
    world = World()
    async with anyio.create_task_group() as tasks:
        worker = await world.worker()
        tasks.start_soon(worker.run)
        await worker.wait_started()
        world.store.down = True
        tasks.cancel_scope.cancel()
    world.store.down = False
    world.write(*KEYS)
    async with world.working():
        await world.until(world.everything_delivered, within_s=1)


@pytest.mark.fault("F25")
async def test_read_ahead_stays_within_its_bound_plus_a_page() -> None:
    world = World(shards=1)
    gate = anyio.Event()

    async def blocked(batch: Batch) -> None:
        await gate.wait()
        await world.accept(batch)

    for _ in range(600):
        world.write(*KEYS)
    async with world.working(blocked, buffer_bytes_max=65_536):
        await anyio.sleep(60)
        pages = world.of(events.PageRead)
        biggest = max(page.bytes + page.records * RECORD_OVERHEAD_BYTES for page in pages)
        assert max(page.buffered_bytes for page in pages) <= 65_536 + biggest
        gate.set()
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written)


async def test_one_budget_bounds_the_read_ahead_of_all_shards_and_starves_none() -> None:
    world = World(shards=6, worker_buffer_bytes_max=50_000)
    gate = anyio.Event()

    async def blocked(batch: Batch) -> None:
        await gate.wait()
        await world.accept(batch)

    for _ in range(600):
        world.write(*KEYS)
    async with world.working(blocked) as worker:
        await anyio.sleep(60)
        biggest = max(page.bytes + page.records * RECORD_OVERHEAD_BYTES for page in world.of(events.PageRead))
        read_ahead = worker.flows[0].around.read_ahead
        assert read_ahead.bytes <= 50_000 + 6 * biggest
        assert {event.shard_id for event in world.of(events.PageRead) if event.records} == set(await world.rows())
        gate.set()
        await world.until(world.everything_delivered, within_s=600)
        assert read_ahead.bytes == 0
    assert sorted(world.deliveries) == sorted(world.written)


@pytest.mark.parametrize(
    ("of_worker", "of_shard"), [(4_000, 1 << 20), (1 << 28, 65_536)], ids=["the worker's room", "the shard's room"]
)
async def test_a_batching_window_ends_when_nothing_more_can_be_read(of_worker: int, of_shard: int) -> None:
    """Seed 5 of the worlds that are interrupted: six records went every 20 s, until those behind them were too old."""
    world = World(shards=2, worker_buffer_bytes_max=of_worker, tables={"page_bytes_max": 4_000})
    for _ in range(100):
        world.write(*KEYS)
    async with world.working(maximum_batching_window_s=300, batch_size=10_000, buffer_bytes_max=of_shard):
        await world.until(world.everything_delivered, within_s=330)
    assert sorted(world.deliveries) == sorted(world.written)


async def test_a_shard_that_never_settles_does_not_hold_up_the_others_when_the_budget_is_used_up() -> None:
    world = World(shards=3, worker_buffer_bytes_max=20_000)
    stuck: set[str] = set()
    gate = anyio.Event()

    async def one_is_stuck(batch: Batch) -> None:
        stuck.add(min(await world.rows()))
        if batch.shard.shard_id in stuck:
            await gate.wait()
        await anyio.sleep(0.5)  # while the others read ahead
        await world.accept(batch)

    for _ in range(600):
        world.write(*KEYS)
    async with world.working(one_is_stuck):
        await anyio.sleep(120)
        delivered = {batch.shard.shard_id: 0 for batch in world.batches}
        for batch in world.batches:
            delivered[batch.shard.shard_id] += len(batch)
        gate.set()
        await world.until(world.everything_delivered, within_s=600)
    totals = dict.fromkeys(delivered, 0)
    for batch in world.batches:
        if batch.shard.shard_id in totals:
            totals[batch.shard.shard_id] += len(batch)
    assert len(delivered) == 2
    assert delivered == totals


async def test_a_shard_with_nothing_to_do_holds_no_record() -> None:
    """Each record keeps its whole page: two thousand idle shards held 1.8 GB that nobody counted any more."""
    world = World(shards=2)
    handled: list[Record] = []

    async def deliver(batch: Batch) -> None:
        handled.extend(batch.records)

    async with world.working(deliver, batch_size=5):
        world.write(*KEYS)
        await world.until(lambda: len(handled) == len(KEYS))
        await anyio.sleep(10)
        holders = [getrefcount(record) for record in handled]
    assert holders == [getrefcount(ours) for ours in [object()]] * len(KEYS)


async def test_a_busy_loop_lets_a_page_go_on_for_as_long_as_a_free_one() -> None:
    """What others take of a turn is no time that the page had: else each batch waits for all shards, and each is stored."""
    world = World(shards=1)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    turns, of_batches = 0, list[int]()

    async def take_each_turn_long() -> None:
        nonlocal turns
        while True:
            turns += 1
            loop._now += 0.1
            await anyio.lowlevel.checkpoint()

    async def deliver(_: Batch) -> None:
        of_batches.append(turns)

    world.write(*[f"k{number}" for number in range(100)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_each_turn_long)
        async with world.working(deliver, batch_size=10):
            await world.until(lambda: len(of_batches) >= 10)
        tasks.cancel_scope.cancel()
    assert len(set(of_batches)) <= 2


async def test_the_batching_window_collects_several_polls() -> None:
    world = World(shards=1)
    async with world.working(maximum_batching_window_s=5):
        for key in ("a", "b", "c"):
            world.write(key)
            await anyio.sleep(1)
        await world.until(world.everything_delivered)
    assert [len(batch) for batch in world.batches] == [3]


@pytest.mark.fault("F33")
async def test_a_request_that_the_service_refuses_ends_the_run() -> None:
    world = World(shards=1)
    world.controls.fail_next("GetRecords", code="ValidationException")
    worker = await world.worker()
    with pytest.raises(RequestRefusedError):
        await worker.run()
    assert isinstance(world.of(events.PipelineFailed)[0].error, StreamflowError)


async def test_the_task_tree_has_the_documented_names() -> None:
    world = World(shards=1)
    async with world.working():
        await anyio.sleep(1)
        (shard_id,) = await world.rows()
        names = {task.name for task in anyio.get_running_tasks()}
    roles = {f"p/{shard_id}/{role}" for role in ("reader", "delivery", "checkpoint", "lease")}
    assert roles | {"p", "worker/liveness", "p/leases", "p/discovery"} <= names
