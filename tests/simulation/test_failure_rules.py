"""What becomes of records that cannot be delivered, and of all others meanwhile: whole workers in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import orjson
import pytest

from streamflow import events
from streamflow.dead_letters import LetterQuery
from streamflow.errors import DestinationError, EventTooLargeError
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.dead_letters import DeadLetter, DiscardedBatch, Drawer

pytestmark = pytest.mark.anyio

PARK = {"on_poison": "park_key", "maximum_retry_attempts": 1}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


@dataclass
class Poison:
    """A handler that cannot bear some items."""

    world: World
    keys: set[str] = field(default_factory=set)
    attempts: int = 0

    async def __call__(self, batch: Batch) -> None:
        if any(record.keys["id"] in self.keys for record in batch):
            self.attempts += 1
            raise RuntimeError("poison")
        await self.world.accept(batch)


async def letters(world: World, drawer: Drawer) -> list[DeadLetter]:
    return list(await world.store.letters(LetterQuery(drawer=drawer, pipeline="p")))


async def kept(world: World, drawer: Drawer) -> list[tuple[str, int]]:
    images = [orjson.loads(letter.record)["dynamodb"]["NewImage"] for letter in await letters(world, drawer)]
    return [(image["id"]["S"], int(image["version"]["N"])) for image in images]


# --- parked items ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("F14")
async def test_poison_item_is_set_aside_with_its_later_changes_while_others_go_on() -> None:
    world = World(shards=1)
    poison = Poison(world, {"bad"})
    world.write("a", "bad", "b", "bad", "c")
    async with world.working(poison, **PARK):
        await world.until(lambda: {("a", 1), ("b", 1), ("c", 1)} <= set(world.deliveries))
        world.write("bad", "a")
        await world.until(lambda: ("a", 2) in world.deliveries)
    assert await kept(world, "parked") == [("bad", 1), ("bad", 2), ("bad", 3)]
    first, *followers = await letters(world, "parked")
    assert (first.reason, first.error_type, first.error_text, first.invoke_count) == (
        "RetryAttemptsExhausted",
        "RuntimeError",
        "poison",
        2,
    )
    assert {letter.reason for letter in followers} == {"KeyParked"}


async def test_parked_item_stays_parked_over_a_restart_and_a_split() -> None:
    world = World(shards=1)
    poison = Poison(world, {"bad"})
    world.write("bad")
    async with world.working(poison, **PARK):
        await world.until(lambda: bool(world.of(events.RecordsParked)))
    poison.keys = set()
    world.write("bad", "a")
    world.controls.split("orders")
    world.write("bad", "b")
    async with world.working(poison, worker_id="w2", **PARK):
        await world.until(lambda: {("a", 1), ("b", 1)} <= set(world.deliveries))
    assert await kept(world, "parked") == [("bad", 1), ("bad", 2), ("bad", 3)]


async def test_item_is_delivered_again_once_its_letters_are_gone() -> None:
    world = World(shards=1)
    poison = Poison(world, {"bad"})
    world.write("bad")
    async with world.working(poison, **PARK):
        await world.until(lambda: bool(world.of(events.RecordsParked)))
        poison.keys = set()
        await world.store.remove("parked", [letter.id for letter in await letters(world, "parked")])
        world.write("bad")
        await world.until(lambda: ("bad", 2) in world.deliveries)
    assert await kept(world, "parked") == []


async def test_shard_blocks_when_more_items_fail_than_may_be_parked() -> None:
    world = World(shards=1)
    poison = Poison(world, {"x", "y", "z"})
    world.write("x", "y", "z", "a")
    async with world.working(poison, parked_keys_max=2, **PARK):
        await anyio.sleep(300)
        assert await kept(world, "parked") == [("x", 1), ("y", 1)]
        assert world.deliveries == []
        assert poison.attempts > 10, "it is tried again and again"
        poison.keys = set()
        await world.until(lambda: {("z", 1), ("a", 1)} <= set(world.deliveries))


async def test_a_record_for_which_there_is_no_room_comes_again_without_those_that_are_done() -> None:
    world = World(shards=1)
    batches: list[list[str]] = []

    async def refuse(batch: Batch) -> None:
        batches.append([str(record.keys["id"]) for record in batch])
        failures = [RecordFailure(record, "refused", "") for record in batch if record.keys["id"] in {"x", "y", "z"}]
        if failures:
            raise RecordsFailedError(failures)

    world.write("x", "y", "a", "z")
    async with world.working(refuse, parked_keys_max=2, **PARK):
        await world.until(lambda: len(batches) == 3)
    assert batches == [["x", "y", "a", "z"], ["z"], ["z"]]


async def test_parking_waits_for_the_store() -> None:
    world = World(shards=1)
    poison = Poison(world, {"bad"})

    async def fail_with_the_store(batch: Batch) -> None:
        world.store.down = bool(poison.keys) and len(batch) == 1 and batch.attempt == 2
        await poison(batch)

    world.write("bad", "a")
    async with world.working(fail_with_the_store, **PARK):
        await world.until(lambda: bool(world.of(events.ParkingFailed)))
        assert ("a", 1) not in world.deliveries
        world.store.down = False
        await world.until(lambda: ("a", 1) in world.deliveries)
    assert await kept(world, "parked") == [("bad", 1)]


# --- giving up -------------------------------------------------------------------------------------------------------


class Flaky:
    """A destination that can be down."""

    name = "flaky"

    def __init__(self) -> None:
        self.down = True
        self.discarded: list[DiscardedBatch] = []

    async def send(self, discarded: DiscardedBatch) -> None:
        if self.down:
            raise DestinationError("it is down", code="Down")
        self.discarded.append(discarded)


@pytest.mark.fault("F26")
async def test_failing_destination_holds_the_checkpoint_until_it_is_back() -> None:
    world = World(shards=1)
    flaky = Flaky()
    world.write("bad", "a")
    async with world.working(
        Poison(world, {"bad"}), destinations=[flaky], maximum_retry_attempts=0, batch_size=1, checkpoint_interval_s=0
    ):
        await anyio.sleep(600)
        (row,) = (await world.rows()).values()
        assert str(row.checkpoint) == "TRIM_HORIZON"
        assert world.deliveries == []
        assert [event.attempt for event in world.of(events.DestinationFailed)][:3] == [1, 2, 3]
        flaky.down = False
        await world.until(lambda: ("a", 1) in world.deliveries)
    assert [len(discarded.batch) for discarded in flaky.discarded] == [1]
    (told,) = world.of(events.RecordsDiscarded)
    assert (told.records, told.destinations, told.condition) == (1, ("flaky",), "RetryAttemptsExhausted")


async def test_stop_while_a_destination_is_down_loses_nothing() -> None:
    world = World(shards=1)
    flaky = Flaky()
    world.write("bad", "a")
    options = {"destinations": [flaky], "maximum_retry_attempts": 0, "batch_size": 1}
    async with world.working(Poison(world, {"bad"}), **options):
        await world.until(lambda: bool(world.of(events.DestinationFailed)))
    flaky.down = False
    async with world.working(Poison(world, {"bad"}), worker_id="w2", **options):
        await world.until(lambda: ("a", 1) in world.deliveries)
    assert len(flaky.discarded) == 1


async def test_by_default_whole_records_are_kept_in_the_store() -> None:
    world = World(shards=1)
    world.write("bad", "a")
    async with world.working(Poison(world, {"bad"}), maximum_retry_attempts=2, batch_size=1):
        await world.until(lambda: ("a", 1) in world.deliveries)
    (letter,) = await letters(world, "dead")
    assert await kept(world, "dead") == [("bad", 1)]
    assert (letter.reason, letter.invoke_count, letter.error_text) == ("RetryAttemptsExhausted", 3, "poison")
    assert letter.item_key == '{"id":{"S":"bad"}}'
    assert letter.sequence_number.isdigit()


async def test_policy_drop_says_that_records_are_lost() -> None:
    world = World(shards=1)
    world.write("bad", "a")
    async with world.working(Poison(world, {"bad"}), destinations=[], maximum_retry_attempts=0, batch_size=1):
        await world.until(lambda: ("a", 1) in world.deliveries)
    (told,) = world.of(events.RecordsDiscarded)
    assert told.destinations == ()


async def test_blocking_on_poison_never_gives_up() -> None:
    world = World(shards=1)
    poison = Poison(world, {"bad"})
    world.write("bad", "a")
    async with world.working(poison, on_poison="block", maximum_retry_attempts=1):
        await anyio.sleep(600)
        assert world.of(events.RecordsDiscarded) == []
        assert poison.attempts > 10
        poison.keys = set()
        await world.until(world.everything_delivered)


@pytest.mark.fault("F12")
async def test_record_too_large_for_an_event_never_reaches_a_lambda_function() -> None:
    world = World(shards=1, event_bytes_max=1_000)
    world.controls.put("orders", {"id": {"S": "big"}, "version": {"N": "1"}, "text": {"S": "x" * 2_000}})
    world.write("a")
    async with world.working(maximum_retry_attempts=2, batch_bytes_max=1_000):
        await world.until(lambda: ("a", 1) in world.deliveries)
    assert world.deliveries == [("a", 1)]
    failed = world.of(events.BatchFailed)
    assert len(failed) == 3
    assert all(isinstance(event.error, EventTooLargeError) and not event.invoked for event in failed)
    (letter,) = await letters(world, "dead")
    assert letter.invoke_count == 3


@pytest.mark.fault("F6")
async def test_record_that_cannot_be_read_is_given_up_like_any_other_and_kept_as_it_is() -> None:
    world = World(shards=1)
    world.write("a", "broken", "b")
    shard_id = world.controls.shard_ids("orders")[0]
    shard = world.controls.tables.stream(world.stream_arn).shard(shard_id)
    spoiled = shard.bodies[1].replace(b'"NewImage"', b'"NewImage":[,"x"')
    shard.bodies[1] = spoiled
    async with world.working(maximum_retry_attempts=0, bisect_batch_on_function_error=True):
        await world.until(lambda: ("b", 1) in world.deliveries)
    assert list(dict.fromkeys(world.deliveries)) == [("a", 1), ("b", 1)]
    (letter,) = await letters(world, "dead")
    assert (letter.record, letter.error_type) == (spoiled, "MalformedRecordError")
    assert letter.sequence_number.startswith("sha256:")


# --- lanes -----------------------------------------------------------------------------------------------------------


async def test_poison_in_one_lane_does_not_stop_the_others() -> None:
    world = World(shards=1)
    keys = [f"k{number}" for number in range(40)]
    poison = Poison(world, {"k7"})
    world.write(*keys)
    async with world.working(poison, parallelization_factor=10, checkpoint_interval_s=0):
        await anyio.sleep(30)
        delivered = {key for key, _ in world.deliveries}
        assert 30 <= len(delivered) < 40, "all lanes but that of the poison"
        (row,) = (await world.rows()).values()
        assert row.checkpoint.order < world.batches[-1].last.order, "the checkpoint waits for the oldest unfinished"
        poison.keys = set()
        await world.until(world.everything_delivered)
    world.check_order()


async def test_clean_stop_with_lanes_delivers_what_is_older_than_the_newest_delivered() -> None:
    world = World(shards=1)
    order: list[str] = []

    async def slow_for_some(batch: Batch) -> None:
        # One lane is far behind the others when the stop comes.
        await anyio.sleep(5 if "k0" in [record.keys["id"] for record in batch] else 0.01)
        order.extend(str(record.keys["id"]) for record in batch)
        await world.accept(batch)

    world.write(*[f"k{number}" for number in range(30)] * 5)
    async with world.working(slow_for_some, parallelization_factor=5, batch_size=1) as worker:
        await world.until(lambda: len(order) > 20)
    assert worker.repeating() == {}
    first_life = len(world.deliveries)
    async with world.working(worker_id="w2", parallelization_factor=5):
        await world.until(world.everything_delivered)
    assert first_life < len(world.written)
    assert sorted(world.deliveries) == sorted(world.written), "nothing repeats"
    world.check_order()


@pytest.mark.parametrize("batch_size", [1, 100])
async def test_stop_delivers_nothing_behind_a_record_that_a_lane_gives_up(batch_size: int) -> None:
    world = World(shards=1)
    keys = [f"k{number}" for number in range(10)]
    slow = anyio.Event()

    async def fail_or_be_slow(batch: Batch) -> None:
        ids = [record.keys["id"] for record in batch]
        if "poison" in ids:
            raise RuntimeError("poison")
        if "k0" in ids and not slow.is_set():
            slow.set()
            await anyio.sleep(5)
            if len(batch) > 1:
                raise RuntimeError("its older half comes next")
        await world.accept(batch)

    world.write(*keys, "poison", *keys * 4)
    options = {"parallelization_factor": 3, "batch_size": batch_size, "bisect_batch_on_function_error": True}
    async with world.working(fail_or_be_slow, **options) as worker:
        await anyio.sleep(4)
        before = len(world.deliveries)
    last = world.deliveries[before:]
    assert ("k0", 1) in last
    assert worker.repeating() != {}
    async with world.working(worker_id="w2", parallelization_factor=3):
        await world.until(world.everything_delivered)
    assert [world.deliveries.count(delivery) for delivery in last] == [1] * len(last), "what came last comes once"
    world.check_order()


async def test_children_start_when_all_lanes_of_their_parent_are_done() -> None:
    world = World(shards=1)
    poison = Poison(world, {"k3"})
    world.write(*[f"k{number}" for number in range(20)])
    async with world.working(poison, parallelization_factor=4):
        world.controls.split("orders")
        world.write("late")
        await anyio.sleep(60)
        assert len({event.shard_id for event in world.of(events.ShardOpened)}) == 1
        poison.keys = set()
        await world.until(world.everything_delivered)
    assert world.deliveries[-1] == ("late", 1)


# --- tumbling windows ------------------------------------------------------------------------------------------------


@dataclass
class Counting:
    """Counts the records of each window in its state."""

    world: World
    finals: list[tuple[int, int, bool]] = field(default_factory=list)
    fail_finals: int = 0
    bytes_each: int = 0

    async def __call__(self, batch: Batch) -> None:
        window = batch.window
        assert window is not None
        if window.is_final:
            if self.fail_finals:
                self.fail_finals -= 1
                raise RuntimeError("a final invocation may fail")
            self.finals.append((window.start_s, window.state.get("count", 0), window.is_terminated_early))
            return
        window.state["count"] = window.state.get("count", 0) + len(batch)
        if self.bytes_each:
            window.state["text"] = "x" * self.bytes_each
        await self.world.accept(batch)


async def to_window_start(world: World, size_s: int) -> int:
    await anyio.sleep(size_s - world.clock.wall() % size_s)
    return round(world.clock.wall())


async def test_window_state_survives_a_restart_in_its_middle() -> None:
    world = World(shards=1)
    counting = Counting(world)
    start_s = await to_window_start(world, 60)
    world.write("a", "b")
    async with world.working(counting, tumbling_window_s=60):
        await world.until(world.everything_delivered)
    (row,) = (await world.rows()).values()
    assert row.window is not None
    assert (row.window.start_s, orjson.loads(row.window.state)) == (start_s, {"count": 2})
    world.write("c")
    async with world.working(counting, worker_id="w2", tumbling_window_s=60):
        await world.until(lambda: bool(counting.finals))
    assert counting.finals == [(start_s, 3, False)]
    (row,) = (await world.rows()).values()
    assert row.window is None
    assert sorted(world.deliveries) == sorted(world.written)


async def test_killed_worker_repeats_into_the_state_of_the_stored_checkpoint() -> None:
    world = World(shards=1)
    counting = Counting(world)
    await to_window_start(world, 60)
    world.write("a")
    async with anyio.create_task_group() as tasks:
        worker = await world.worker(counting, tumbling_window_s=60, batch_size=1, checkpoint_interval_s=5)
        tasks.start_soon(worker.run)
        await world.until(lambda: bool(world.of(events.CheckpointStored)))
        world.write("b", "c")
        await world.until(world.everything_delivered)
        world.store.down = True
        tasks.cancel_scope.cancel()
    world.store.down = False
    async with world.working(counting, worker_id="w2", tumbling_window_s=60):
        await world.until(lambda: bool(counting.finals))
    assert [count for _, count, _ in counting.finals] == [3], "what repeats is counted from where the checkpoint is"


async def test_shard_end_closes_its_window_and_the_child_begins_anew() -> None:
    world = World(shards=1)
    counting = Counting(world)
    start_s = await to_window_start(world, 600)
    async with world.working(counting, tumbling_window_s=600):
        world.write("a", "b")
        await world.until(world.everything_delivered)
        world.controls.rollover("orders")
        world.write("c")
        await world.until(lambda: ("c", 1) in world.deliveries)
        assert counting.finals == [(start_s, 2, False)]
    (open_row,) = [row for row in (await world.rows()).values() if row.window is not None]
    assert orjson.loads(open_row.window.state)["count"] == 1  # type: ignore[union-attr]


async def test_state_beyond_a_megabyte_closes_the_window_early_and_it_goes_on_empty() -> None:
    world = World(shards=1)
    counting = Counting(world, bytes_each=1_048_576)
    start_s = await to_window_start(world, 60)
    async with world.working(counting, tumbling_window_s=60):
        world.write("a", "b")
        await world.until(lambda: len(counting.finals) == 1)
        counting.bytes_each = 0
        world.write("c")
        await world.until(lambda: len(counting.finals) == 2)
    assert counting.finals == [(start_s, 2, True), (start_s, 1, False)]


async def test_failed_final_invocation_is_bounded_by_the_retries_and_goes_to_the_destination() -> None:
    world = World(shards=1)
    counting = Counting(world, fail_finals=2)
    flaky = Flaky()
    flaky.down = False
    start_s = await to_window_start(world, 10)
    async with world.working(counting, tumbling_window_s=10, maximum_retry_attempts=1, destinations=[flaky]):
        world.write("a")
        await world.until(world.everything_delivered)
        await anyio.sleep(30)
        world.write("b")
        await world.until(lambda: len(counting.finals) == 1)
    (discarded,) = flaky.discarded
    assert len(discarded.batch) == 0
    assert discarded.batch.window is not None
    assert (discarded.batch.window.start_s, discarded.batch.window.is_final) == (start_s, True)
    assert discarded.invoke_count == 2


async def test_windows_that_are_turned_off_are_closed_first() -> None:
    world = World(shards=1)
    counting = Counting(world)
    start_s = await to_window_start(world, 600)
    world.write("a", "b")
    async with world.working(counting, tumbling_window_s=600):
        await world.until(world.everything_delivered)
    world.write("c")
    plain: list[str] = []

    async def without_windows(batch: Batch) -> None:
        if batch.window is not None:
            await counting(batch)
            return
        plain.extend(str(record.keys["id"]) for record in batch)
        await world.accept(batch)

    async with world.working(without_windows, worker_id="w2", parallelization_factor=3):
        await world.until(world.everything_delivered)
        await world.until(lambda: bool(counting.finals))
    assert counting.finals == [(start_s, 2, False)]
    assert plain == ["c"]
    (row,) = (await world.rows()).values()
    assert row.window is None
