"""Sinks under the engine, in virtual time: records told apart, and sinks that keep the checkpoint themselves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow import events
from streamflow.errors import FencedError, PartialFailure, UnaccountedRecordsError
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.leases import STREAM_ROW
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.protocols import Handler
    from streamflow.records import Record, Shard

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


def key_of(record: Record) -> str:
    return str(record.keys["id"])


def version_of(record: Record) -> int:
    return int((record.new_image or {})["version"])  # type: ignore[arg-type]


# --- records told apart ----------------------------------------------------------------------------------------------


@dataclass
class PickySink:
    """Refuses the items that it is told, and takes what is left."""

    world: World
    refused: frozenset[str]
    kind: str = "refused"
    attempts: Counter[str] = field(default_factory=Counter)

    async def write(self, batch: Batch) -> None:
        failures = []
        for record in batch:
            key = key_of(record)
            self.attempts[key] += 1
            if key in self.refused:
                failures.append(RecordFailure(record, self.kind, "the target has no such type"))  # type: ignore[arg-type]
            else:
                self.world.deliveries.append((key, version_of(record)))
        if failures:
            raise RecordsFailedError(failures)


@pytest.mark.fault("F12")
async def test_what_a_sink_refuses_is_dead_lettered_at_once_and_the_rest_is_written_once() -> None:
    world = World(shards=1)
    sink = PickySink(world, frozenset({"poison"}))
    world.write("a", "poison", "b", "a")
    async with world.working(sink.write):
        await world.until(lambda: len(world.of(events.RecordsDiscarded)) == 1)
        await world.until(lambda: len(world.deliveries) == 3)
    assert sorted(world.deliveries) == [("a", 1), ("a", 2), ("b", 1)]
    assert sink.attempts["poison"] == 1
    (letter,) = await world.letters("dead")
    assert (letter.reason, letter.error_type) == ("RecordRefused", "RecordRefusedError")
    assert letter.error_text == "the target has no such type"
    (row,) = (await world.rows()).values()
    assert int(row.checkpoint.sequence_number) == world.last_number()


async def test_the_checkpoint_does_not_pass_a_refused_record_before_its_letter_is_kept() -> None:
    world = World(shards=1)
    sink = PickySink(world, frozenset({"poison"}))
    world.write("poison", "a")
    world.store.refuse_letters = True
    async with world.working(sink.write):
        await world.until(lambda: ("a", 1) in world.deliveries)
        await world.until(lambda: bool(world.of(events.DestinationFailed)))
        (row,) = (await world.rows()).values()
        assert str(row.checkpoint) == "TRIM_HORIZON"
        world.store.refuse_letters = False
        await world.until(lambda: bool(world.of(events.RecordsDiscarded)))
    assert len(await world.letters("dead")) == 1


async def test_a_refused_record_holds_its_shard_where_poison_blocks() -> None:
    world = World(shards=1)
    sink = PickySink(world, frozenset({"poison"}))
    world.write("a", "poison", "b")
    async with world.working(sink.write, on_poison="block") as worker:
        await world.until(lambda: sink.attempts["poison"] >= 3)
        assert sorted(world.deliveries) == [("a", 1), ("b", 1)]
        worker.stop_now()
    assert await world.letters("dead") == []


async def test_a_refused_record_parks_its_item_with_all_later_changes() -> None:
    world = World(shards=1)
    sink = PickySink(world, frozenset({"poison"}))
    world.write("a", "poison", "b", "poison", "a")
    async with world.working(sink.write, on_poison="park_key", maximum_retry_attempts=5, batch_size=2):
        await world.until(lambda: len(world.deliveries) == 3)
        await world.until(lambda: sum(event.records for event in world.of(events.RecordsParked)) == 2)
    assert [letter.reason for letter in await world.letters("parked")] == ["RecordRefused", "KeyParked"]
    assert sink.attempts["poison"] == 1


async def test_waiting_uses_up_no_retry() -> None:
    world = World(shards=1)
    sink = PickySink(world, frozenset({"slow"}), kind="waiting")
    world.write("slow", "a")
    async with world.working(sink.write, maximum_retry_attempts=0):
        await world.until(lambda: sink.attempts["slow"] >= 4)
        sink.refused = frozenset()
        await world.until(lambda: ("slow", 1) in world.deliveries)
    assert await world.letters("dead") == []
    assert Counter(world.deliveries) == {("slow", 1): 1, ("a", 1): 1}


async def test_a_record_that_a_layer_hid_from_the_sink_fails_the_batch_although_others_were_told_apart() -> None:
    world = World(shards=1)
    sink = PickySink(world, frozenset({"poison"}))

    async def hide(batch: Batch, call_next: Handler) -> None:
        await call_next(batch.select([record for record in batch if key_of(record) != "hidden"]))

    world.write("poison", "hidden", "a")
    async with world.working(sink.write, middleware=[hide]) as worker:
        await world.until(lambda: len(world.of(events.BatchFailed)) >= 2)
        worker.stop_now()
    assert all(isinstance(event.error, UnaccountedRecordsError) for event in world.of(events.BatchFailed))
    assert world.of(events.RecordsDiscarded) == []


@pytest.mark.fault("F22")
async def test_a_failure_of_a_record_that_is_not_in_the_batch_fails_all_of_it() -> None:
    world = World(shards=1)
    seen: list[Record] = []

    async def confused(batch: Batch) -> None:
        if not seen:
            seen.extend(batch)
        elif len(world.deliveries) == 1:
            world.deliveries.append(("-", 0))
            raise RecordsFailedError([RecordFailure(seen[0], "refused", "of another batch")])
        for record in batch:
            world.deliveries.append((key_of(record), version_of(record)))

    world.write("a", "b")
    async with world.working(confused, batch_size=1):
        await world.until(lambda: ("b", 1) in world.deliveries)
    assert world.of(events.RecordsDiscarded) == []


# --- sinks that keep the checkpoint ----------------------------------------------------------------------------------


@dataclass
class TransactionalTarget:
    """A database in memory: rows and checkpoints change together or not at all."""

    rows: list[tuple[str, int]] = field(default_factory=list)
    checkpoints: dict[str, tuple[int, Position | None]] = field(default_factory=dict)
    fail: Callable[[str], bool] = lambda _: False

    def numbers(self) -> list[int]:
        return [int(position.sequence_number) for _, position in self.checkpoints.values() if position is not None]

    async def fence(self, shard: Shard, epoch: int) -> Position | None:
        self._may_fail("fence")
        newest, position = self.checkpoints.get(shard.shard_id, (0, None))
        if newest > epoch:
            raise FencedError(f"epoch {newest} has written", epoch=newest)
        self.checkpoints[shard.shard_id] = (epoch, position)
        return position

    async def advance(self, shard: Shard, epoch: int, position: Position) -> None:
        await anyio.sleep(0.01)
        self._commit(shard, epoch, position, [])

    async def write(self, batch: Batch) -> None:
        self._may_fail("before")
        await anyio.sleep(0.01)
        self._commit(batch.shard, batch.epoch, batch.last, [(key_of(record), version_of(record)) for record in batch])
        self._may_fail("after")

    def _commit(self, shard: Shard, epoch: int, position: Position, rows: list[tuple[str, int]]) -> None:
        newest, stored = self.checkpoints.get(shard.shard_id, (0, None))
        if newest != epoch:
            raise FencedError(f"epoch {newest} has written")
        if stored is not None and position.order <= stored.order:
            return
        assert not set(rows) & set(self.rows)
        self.rows += rows
        self.checkpoints[shard.shard_id] = (epoch, position)

    def _may_fail(self, where: str) -> None:
        if self.fail(where):
            raise ConnectionError(where)


async def test_a_lost_commit_answer_writes_nothing_twice() -> None:
    world = World(shards=1)
    target = TransactionalTarget()
    failures = iter([True, False, True])
    target.fail = lambda where: where == "after" and next(failures, False)
    world.write("a", "b", "a", "c")
    async with world.working(target.write, fence=target, batch_size=2):
        await world.until(lambda: len(target.rows) == 4)
    assert target.rows == world.written


async def test_the_sinks_checkpoint_is_the_truth_where_the_lease_is_behind() -> None:
    world = World(shards=1)
    target = TransactionalTarget()
    world.write("a", "b", "c")

    async def write_and_cut_off(batch: Batch) -> None:
        await target.write(batch)
        world.store.down = True

    async with world.working(write_and_cut_off, fence=target):
        await world.until(lambda: len(target.rows) == 3)
    world.store.down = False
    (row,) = (await world.rows()).values()
    assert str(row.checkpoint) == "TRIM_HORIZON"
    world.write("d")
    batches: list[int] = []

    async def write(batch: Batch) -> None:
        batches.append(len(batch))
        await target.write(batch)

    async with world.working(write, fence=target, worker_id="w2"):
        await world.until(lambda: len(target.rows) == 4)
    assert (target.rows, batches) == (world.written, [1])


async def test_an_owner_that_only_a_row_of_before_has_fenced_moves_beyond_it() -> None:
    """The row was deleted by hand, or its store replaced, and made again by a clock that is far behind."""
    world = World(shards=1)
    (shard_id,) = world.controls.tables.stream_of("orders").shards
    target = TransactionalTarget(checkpoints={shard_id: (9_000_000_000_000, None)})
    world.write("a", "b")
    async with world.working(target.write, fence=target):
        await world.until(lambda: len(target.rows) == 2)
    assert target.checkpoints[shard_id][0] == (await world.rows())[shard_id].epoch > 9_000_000_000_000


async def test_a_handler_that_refuses_old_owners_lets_in_the_one_that_there_is() -> None:
    world, newest = World(shards=1), 9_000_000_000_000

    async def write(batch: Batch) -> None:
        if batch.epoch < newest:
            raise FencedError("a newer owner has written", epoch=newest)
        await world.accept(batch)

    world.write("a", "b")
    async with world.working(write):
        await world.until(world.everything_delivered)
    assert len(world.of(events.LeaseLost)) == 1


async def test_two_fleets_over_two_stores_do_not_take_turns() -> None:
    """The other one moves beyond us whenever we have moved beyond it."""
    world, step = World(shards=1), 1_000_000
    refused: list[int] = []

    async def write(batch: Batch) -> None:
        refused.append(batch.epoch)
        raise FencedError("a newer owner has written", epoch=batch.epoch + step)

    world.write("a")
    async with world.working(write):
        await world.until(lambda: len(refused) == 5)
    assert [later - earlier >= step for earlier, later in pairwise(refused)] == [True, False, False, False]


async def test_whoever_is_fenced_by_a_newer_owner_leaves_its_row_alone() -> None:
    world = World(shards=1)
    refused: list[int] = []

    async def write(batch: Batch) -> None:
        if not refused:
            # Somebody else takes the shard while we are at it.
            row = (await world.rows())[batch.shard.shard_id]
            taken = await world.store.update(
                replace(row, owner="w2", epoch=row.epoch + 1), expected_version=row.version
            )
            assert taken is not None
            refused.append(taken.epoch)
            raise FencedError("a newer owner has written", epoch=taken.epoch)
        await world.accept(batch)

    world.write("a")
    async with world.working(write):
        await world.until(lambda: bool(world.of(events.LeaseLost)))
        (row,) = (row for row in (await world.rows()).values() if row.shard_id != STREAM_ROW)
        assert (row.owner, row.epoch) == ("w2", refused[0])


async def test_the_sinks_checkpoint_is_the_truth_where_the_lease_is_ahead() -> None:
    """A database that was restored from a backup gets again what it lost."""
    world = World(shards=1)
    target = TransactionalTarget()
    world.write("a", "b")
    async with world.working(target.write, fence=target):
        await world.until(lambda: len(target.rows) == 2)
    backup = TransactionalTarget(rows=list(target.rows), checkpoints=dict(target.checkpoints))
    world.write("c", "d")
    async with world.working(target.write, fence=target):
        await world.until(lambda: len(target.rows) == 4)
    async with world.working(backup.write, fence=backup):
        await world.until(lambda: len(backup.rows) == 4)
    assert backup.rows == world.written


async def test_records_that_a_filter_left_out_move_the_sinks_checkpoint() -> None:
    world = World(shards=1)
    target = TransactionalTarget()
    world.write("a", "b", "b", "b")
    only_a = '{"dynamodb": {"Keys": {"id": {"S": ["a"]}}}}'
    async with world.working(target.write, fence=target, filters=(only_a,)):
        await world.until(lambda: target.numbers() == [world.last_number()])
    assert target.rows == [("a", 1)]


@pytest.mark.fault("F29")
async def test_a_zombie_is_fenced_and_stops() -> None:
    world = World(shards=1)
    target = TransactionalTarget()
    held = anyio.Event()

    async def held_up(batch: Batch) -> None:
        await held.wait()
        await target.write(batch)

    world.write("a")
    async with world.working(held_up, fence=target) as zombie:
        await world.until(lambda: bool(target.checkpoints))
        (shard_id,) = target.checkpoints
        target.checkpoints[shard_id] = (99, None)  # somebody else has the shard
        held.set()
        await world.until(lambda: bool(world.of(events.LeaseLost)))
        assert target.rows == []
        zombie.stop()
    assert "newer owner" in world.of(events.LeaseLost)[0].reason


async def test_a_sink_that_cannot_be_fenced_yet_is_asked_until_it_answers() -> None:
    world = World(shards=1)
    target = TransactionalTarget()
    failures = iter([True, True])
    target.fail = lambda where: where == "fence" and next(failures, False)
    world.write("a")
    async with world.working(target.write, fence=target):
        await world.until(lambda: target.rows == [("a", 1)])
    assert len(world.of(events.CheckpointFailed)) == 2


async def test_a_gap_does_not_send_a_shard_back_to_the_sinks_old_checkpoint() -> None:
    world = World(shards=1)
    target = TransactionalTarget()
    world.write("a")
    async with world.working(target.write, fence=target):
        await world.until(lambda: target.rows == [("a", 1)])
    world.write("b", "c")
    world.controls.trim("orders")
    world.write("d")
    async with world.working(target.write, fence=target, on_trimmed="continue"):
        await world.until(lambda: ("d", 1) in target.rows)
    assert target.rows == [("a", 1), ("d", 1)]


@pytest.mark.parametrize("hidden", ["before", "behind"])
async def test_a_record_that_a_layer_hid_is_not_settled_by_a_partial_failure_behind_it(hidden: str) -> None:
    """Behind the failure it comes again with the rest, as it should: nothing is said then."""
    world = World(shards=1)

    async def hide(batch: Batch, call_next: Handler) -> None:
        await call_next(batch.select([record for record in batch if key_of(record) != hidden]))

    async def fail_once(batch: Batch) -> None:
        for record in batch:
            if key_of(record) == "bad" and len(world.of(events.BatchFailed)) < 3:
                raise PartialFailure([record.sequence_number])
        world.deliveries += [(key_of(record), version_of(record)) for record in batch]

    world.write("before", "bad", "behind")
    async with world.working(fail_once, middleware=[hide]) as worker:
        await world.until(lambda: len(world.of(events.BatchFailed)) >= 2)
        worker.stop_now()
    first = world.of(events.BatchFailed)[0].error
    assert isinstance(first, UnaccountedRecordsError if hidden == "before" else PartialFailure)
    (row,) = (await world.rows()).values()
    if hidden == "before":
        assert str(row.checkpoint) == "TRIM_HORIZON"
