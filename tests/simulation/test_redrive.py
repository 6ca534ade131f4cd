"""Kept letters through the chain again: in order per item, nothing lost, whatever happens. In virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import orjson
import pytest

from streamflow import events
from streamflow.dead_letters import DeadLetter, LetterQuery, letters_of
from streamflow.engine import letters as letter_reading
from streamflow.engine.redelivery import BUSY_MAX
from streamflow.engine.redrive import Redrive, RedriveReport
from streamflow.errors import LeaseLostError, PartialFailure, SinkBusyError, StoreError
from streamflow.leases import LeaseKey
from streamflow.middleware.chain import compose
from streamflow.middleware.drop import drop
from streamflow.pipeline import PipelineOptions
from streamflow.records import Record, Shard
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.dead_letters import Drawer

pytestmark = pytest.mark.anyio

PARK = {"on_poison": "park_key", "maximum_retry_attempts": 1}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


# --- letters, and a redrive of them ----------------------------------------------------------------------------------


def record(key: str, version: int, *, shard: str = "shard-0", padding: str = "") -> Record:
    """A change; versions of all items share one line of sequence numbers."""
    change = {
        "eventID": f"{key}-{version}",
        "eventName": "MODIFY",
        "dynamodb": {
            "Keys": {"id": {"S": key}},
            "NewImage": {"id": {"S": key}, "version": {"N": str(version)}, "padding": {"S": padding}},
            "SequenceNumber": f"{version:021}",
            "ApproximateCreationDateTime": 1_764_000_000,
        },
    }
    return Record(msgspec.Raw(orjson.dumps(change)), Shard(stream_arn="arn:stream", shard_id=shard))


def letters(*records: Record, pipeline: str = "p") -> list[DeadLetter]:
    error = ValueError("before")
    return letters_of(
        records, pipeline=pipeline, reason="RetryAttemptsExhausted", kept_at_s=1.0, error=error, invoke_count=3
    )


async def in_store(world: World, drawer: Drawer = "dead") -> list[DeadLetter]:
    return list(await world.store.inner.letters(LetterQuery(drawer=drawer)))


async def kept(world: World, drawer: Drawer = "dead") -> list[tuple[str, int]]:
    images = [orjson.loads(letter.record)["dynamodb"]["NewImage"] for letter in await in_store(world, drawer)]
    return [(image["id"]["S"], int(image["version"]["N"])) for image in images]


@dataclass
class Fussy:
    """A handler that refuses batches with one of these versions in them."""

    world: World
    refused: set[tuple[str, int]] = field(default_factory=set)

    async def __call__(self, batch: Batch) -> None:
        for each in batch:
            image = each.new_image or {}
            if (str(image["id"]), int(str(image["version"]))) in self.refused:
                raise RuntimeError("refused again")
        await self.world.accept(batch)


def redriving(
    world: World,
    handler: Any = None,
    *,
    drawer: Drawer = "dead",
    middleware: tuple[Any, ...] = (),
    owner: str = "r1",
    take_over: bool = False,
    rate_max: float | None = None,
    event_bytes_max: int | None = None,
    **options: Any,
) -> Redrive:
    return Redrive(
        store=world.store,
        chain=compose(middleware, handler or world.accept),
        pipeline="p",
        drawer=drawer,
        options=PipelineOptions(**options),
        clock=world.clock,
        owner=owner,
        take_over=take_over,
        rate_max=rate_max,
        event_bytes_max=event_bytes_max,
    )


async def redriven(
    world: World,
    handler: Any = None,
    *,
    accepts: Callable[[Record], bool] | None = None,
    limit: int | None = None,
    ids: Sequence[int] = (),
    drawer: Drawer = "dead",
    **how: Any,
) -> RedriveReport:
    redrive = redriving(world, handler, drawer=drawer, **how)
    return await redrive.run(LetterQuery(drawer=drawer, ids=tuple(ids)), accepts=accepts, limit=limit)


def report(**counts: Any) -> RedriveReport:
    nothing = {"delivered": 0, "dropped": 0, "failed": 0, "held_back": 0, "skipped": 0, "stopped": False}
    return RedriveReport(**{**nothing, **counts})


# --- what becomes of them --------------------------------------------------------------------------------------------


async def test_what_is_delivered_leaves_the_store() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("b", 2), record("a", 3)))
    assert await redriven(world) == report(delivered=3)
    assert world.deliveries == [("a", 1), ("b", 2), ("a", 3)]
    assert await kept(world) == []
    assert [(batch.pipeline, batch.epoch, batch.attempt) for batch in world.batches] == [("p", 0, 1)]


async def test_what_fails_again_stays_with_its_id_and_the_new_error_and_holds_back_its_item() -> None:
    world = World()
    before = letters(record("a", 1), record("bad", 2), record("bad", 3), record("b", 4), record("bad", 5))
    await world.store.keep(before)
    assert await redriven(world, Fussy(world, {("bad", 2)})) == report(delivered=2, failed=1, held_back=2)
    assert world.deliveries == [("a", 1), ("b", 4)]
    failed, *behind = await in_store(world)
    assert (failed.id, failed.error_type, failed.error_text, failed.invoke_count) == (
        2,
        "RuntimeError",
        "refused again",
        4,
    )
    assert failed.kept_at_s > 1.0
    assert [(letter.id, letter.error_text, letter.invoke_count) for letter in behind] == [
        (3, "before", 3),
        (5, "before", 3),
    ]


async def test_item_that_failed_is_held_back_in_later_batches_and_shards() -> None:
    world = World()
    await world.store.keep(letters(record("bad", 1), record("bad", 2, shard="shard-1"), record("a", 3)))
    assert await redriven(world, Fussy(world, {("bad", 1)}), batch_size=1) == report(delivered=1, failed=1, held_back=1)
    assert await kept(world) == [("bad", 1), ("bad", 2)]


async def test_what_is_before_the_first_failed_record_of_a_partial_failure_is_done() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("b", 2), record("c", 3)))

    async def partly(batch: Batch) -> None:
        for place, each in enumerate(batch):
            if each.keys["id"] == "b":
                await world.accept(batch.select(batch.records[:place]))
                raise PartialFailure([each.sequence_number])
        await world.accept(batch)

    assert await redriven(world, partly) == report(delivered=2, failed=1)
    assert world.deliveries == [("a", 1), ("c", 3)]
    assert await kept(world) == [("b", 2)]


async def test_what_middleware_leaves_out_is_settled() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("b", 2)))
    layer = drop(lambda each: each.keys["id"] == "a", reason="unwanted")
    assert await redriven(world, middleware=(layer,)) == report(delivered=1, dropped=1)
    assert await kept(world) == []


async def test_filters_of_the_pipeline_are_not_asked_again() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1)))
    assert await redriven(world, filters=('{"eventName": ["INSERT"]}',)) == report(delivered=1)


async def test_only_what_is_chosen_is_delivered() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("b", 2), record("a", 3)))
    await world.store.keep(letters(record("a", 9), pipeline="another"))
    assert await redriven(world, accepts=lambda each: each.keys["id"] == "a") == report(delivered=2, skipped=1)
    assert world.deliveries == [("a", 1), ("a", 3)]
    assert await kept(world) == [("b", 2), ("a", 9)]


async def test_limit_ends_it_with_the_rest_untouched() -> None:
    world = World()
    await world.store.keep(letters(*(record("a", version) for version in range(1, 8))))
    assert await redriven(world, limit=5, batch_size=3) == report(delivered=5, stopped=True)
    assert await kept(world) == [("a", 6), ("a", 7)]


async def test_letter_that_cannot_be_read_fails_alone() -> None:
    world = World()
    broken = Record(msgspec.Raw(b'{"dynamodb": {}}'), Shard(stream_arn="arn:stream", shard_id="shard-0"))
    await world.store.keep(letters(record("a", 1), broken, record("b", 2)))
    assert await redriven(world) == report(delivered=2, failed=1)
    assert [letter.error_type for letter in await in_store(world)] == ["MalformedRecordError"]


async def test_batches_have_one_shard_and_keep_their_limits() -> None:
    world = World()
    large = "x" * 2_000
    await world.store.keep(
        letters(
            *(record("a", version) for version in range(1, 6)),
            record("b", 6, shard="shard-1"),
            *(record("c", version, padding=large) for version in range(7, 10)),
        )
    )
    await redriven(world, batch_size=3, batch_bytes_max=5_000)
    sizes = [(batch.shard.shard_id, len(batch)) for batch in world.batches]
    assert sizes == [("shard-0", 3), ("shard-0", 2), ("shard-1", 1), ("shard-0", 2), ("shard-0", 1)]
    assert all(batch.lambda_event_bytes <= 5_000 for batch in world.batches)


async def test_record_too_large_for_an_event_never_reaches_the_handler() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1, padding="x" * 2_000)))
    assert await redriven(world, event_bytes_max=1_000) == report(failed=1)
    assert world.deliveries == []


async def test_handler_that_takes_too_long_has_failed() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1)))

    async def slow(_: Batch) -> None:
        await anyio.sleep(60)

    assert await redriven(world, slow, handler_timeout_s=30.0) == report(failed=1)
    assert [letter.error_type for letter in await in_store(world)] == ["HandlerTimeoutError"]


# --- order -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_letters", [2, 3, 100])
async def test_record_kept_late_goes_before_its_successors(monkeypatch: pytest.MonkeyPatch, page_letters: int) -> None:
    monkeypatch.setattr(letter_reading, "PAGE_LETTERS", page_letters)
    world = World()
    # As after a crash: version 1 was delivered before it, and failed when it was repeated after it.
    await world.store.keep(letters(record("a", 2), record("x", 3), record("a", 4), record("y", 5), record("a", 1)))
    await world.store.keep(letters(record("a", 6), record("x", 7)))
    assert await redriven(world) == report(delivered=7)
    world.check_order()
    assert len(world.deliveries) == 7


async def test_changes_in_a_child_shard_come_after_those_in_its_parent() -> None:
    world = World()
    await world.store.keep(letters(record("a", 8, shard="parent"), record("a", 2, shard="child"), record("a", 7)))
    await redriven(world)
    assert world.deliveries == [("a", 8), ("a", 2), ("a", 7)]


@pytest.mark.parametrize("seed", range(20))
async def test_order_holds_over_redrives_with_random_failures(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(letter_reading, "PAGE_LETTERS", 7)
    random = Random(seed)
    world = World()
    changes = [(random.choice("abcdef"), version) for version in range(1, 61)]
    for start in range(0, 60, 10):  # kept out of order, as after crashes
        await world.store.keep(letters(*(record(*each) for each in random.sample(changes[start : start + 10], 10))))
    while left := await kept(world):
        refused = set(random.sample(sorted(left), len(left) // 4))
        size = random.randint(1, 20)
        found = await redriven(world, Fussy(world, refused), batch_size=size)
        assert found.delivered + found.failed + found.held_back == len(left)
    world.check_order()
    assert sorted(world.deliveries) == sorted(changes)


# --- pace ------------------------------------------------------------------------------------------------------------


async def test_rate_is_kept() -> None:
    world = World()
    await world.store.keep(letters(*(record("a", version) for version in range(1, 101))))
    started = world.clock.monotonic()
    assert await redriven(world, rate_max=5.0) == report(delivered=100)
    assert 19.0 <= world.clock.monotonic() - started <= 21.0
    assert max(len(batch) for batch in world.batches) == 5


async def test_rate_below_one_record_per_second_is_kept() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("a", 2), record("a", 3)))
    started = world.clock.monotonic()
    await redriven(world, rate_max=0.1)
    assert 20.0 <= world.clock.monotonic() - started <= 21.0


async def test_stop_ends_after_the_invocation_that_runs() -> None:
    world = World()
    await world.store.keep(letters(*(record("a", version) for version in range(1, 10))))

    async def stopping(batch: Batch) -> None:
        redrive.stop()
        await anyio.sleep(1)
        await world.accept(batch)

    redrive = redriving(world, stopping, batch_size=2)
    assert await redrive.run(LetterQuery(drawer="dead")) == report(delivered=2, stopped=True)
    assert len(await kept(world)) == 7


async def test_stop_does_not_wait_for_the_rate() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("a", 2)))
    redrive = redriving(world, rate_max=0.001)
    started = world.clock.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(redrive.run, LetterQuery(drawer="dead"))
        await world.until(lambda: len(world.deliveries) == 1)
        redrive.stop()
    assert world.clock.monotonic() - started < 10
    assert await kept(world) == [("a", 2)]


async def test_busy_sink_is_waited_for() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1)))
    busy = iter([True] * (BUSY_MAX - 1))

    async def sink(batch: Batch) -> None:
        if next(busy, False):
            raise SinkBusyError("busy", retry_after_s=7.0)
        await world.accept(batch)

    started = world.clock.monotonic()
    assert await redriven(world, sink) == report(delivered=1)
    assert world.clock.monotonic() - started >= 7.0 * (BUSY_MAX - 1)
    assert len({batch.request_id for batch in world.batches}) == 1


async def test_sink_that_stays_busy_has_failed_without_an_invocation() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("b", 2)))
    calls = 0

    async def sink(_: Batch) -> None:
        nonlocal calls
        calls += 1
        raise SinkBusyError("busy", retry_after_s=1.0)

    assert await redriven(world, sink) == report(failed=2)
    assert calls == BUSY_MAX
    assert [(each.error_type, each.invoke_count) for each in await in_store(world)] == [("SinkBusyError", 3)] * 2


# --- crashes and rivals ----------------------------------------------------------------------------------------------


async def test_crash_between_delivery_and_removal_repeats_and_leaves_a_claim_that_can_be_taken_over() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("a", 2)))

    async def then_down(batch: Batch) -> None:
        await world.accept(batch)
        world.store.down = True

    with pytest.raises(StoreError, match="the store is down"):
        await redriven(world, then_down, owner="killed")
    world.store.down = False
    assert await kept(world) == [("a", 1), ("a", 2)]
    with pytest.raises(StoreError, match=r"killed .*--take-over"):
        await redriven(world)
    assert await redriven(world, take_over=True) == report(delivered=2)
    assert world.deliveries == [("a", 1), ("a", 2)] * 2
    assert await redriven(world) == report()


async def test_lost_answers_of_the_store_lose_no_letter() -> None:
    world = World()
    await redriven(world)  # leaves a row, so that the claim is an update next time
    await world.store.keep(letters(record("a", 1), record("bad", 2)))
    world.store.lose_answers = 1
    assert await redriven(world, Fussy(world, {("bad", 2)})) == report(delivered=1, failed=1)
    assert world.store.lose_answers == 0
    assert await kept(world) == [("bad", 2)]


async def test_short_fault_of_the_store_delivers_nothing_twice() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1)))

    async def down_for_a_moment(batch: Batch) -> None:
        await world.accept(batch)
        world.store.down = True
        tasks.start_soon(up_again)

    async def up_again() -> None:
        await anyio.sleep(0.2)
        world.store.down = False

    async with anyio.create_task_group() as tasks:
        assert await redriven(world, down_for_a_moment) == report(delivered=1)
    assert world.deliveries == [("a", 1)]
    assert await kept(world) == []


async def test_two_redrives_of_the_same_letters_exclude_each_other() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1)))
    await world.store.park(letters(record("b", 2)), opening=True)
    entered, leave = anyio.Event(), anyio.Event()

    async def waiting(batch: Batch) -> None:
        entered.set()
        await leave.wait()
        await world.accept(batch)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(redriving(world, waiting, owner="first").run, LetterQuery(drawer="dead"))
        await entered.wait()
        with pytest.raises(StoreError, match=r"another redrive of p .* first"):
            await redriven(world, owner="second")
        assert await redriven(world, drawer="parked", owner="second") == report(delivered=1)
        leave.set()
    assert await redriven(world, owner="second") == report()
    assert world.deliveries == [("b", 2), ("a", 1)]


async def test_redrive_that_was_taken_over_delivers_nothing_more() -> None:
    world = World()
    await world.store.keep(letters(record("a", 1), record("a", 2)))

    async def overtaken(batch: Batch) -> None:
        await world.accept(batch)
        if len(world.deliveries) == 1:
            await redriven(world, take_over=True, owner="second")

    with pytest.raises(LeaseLostError):
        await redriven(world, overtaken, batch_size=1, owner="first")
    # The record in flight was delivered twice, and nothing out of order.
    assert world.deliveries == [("a", 1), ("a", 1), ("a", 2)]


async def test_claim_is_no_lease_of_the_stream() -> None:
    world = World()
    world.write("a")
    async with world.working():
        await world.until(world.everything_delivered)
        before = await world.rows()
        await redriven(world)
        assert (await world.rows()).keys() == before.keys()
    claim = await world.store.get(LeaseKey("p", "redrive", "dead"))
    assert claim is not None
    assert claim.owner is None


# --- parked items ----------------------------------------------------------------------------------------------------


async def test_parked_items_are_healed_whole_whichever_change_was_chosen() -> None:
    world = World()
    await world.store.park(letters(record("a", 1), record("b", 2), record("a", 3), record("c", 4)), opening=True)
    assert await redriven(world, drawer="parked", ids=(3,)) == report(delivered=2)
    assert world.deliveries == [("a", 1), ("a", 3)]
    chosen = await redriven(world, drawer="parked", accepts=lambda each: each.keys["id"] == "c")
    assert chosen == report(delivered=1, skipped=1)
    assert await kept(world, "parked") == [("b", 2)]


async def test_item_that_fails_stays_parked_from_that_change_on() -> None:
    world = World()
    await world.store.park(letters(record("a", 1), record("a", 2), record("a", 3), record("b", 4)), opening=True)
    assert await redriven(world, Fussy(world, {("a", 2)}), drawer="parked") == report(
        delivered=2, failed=1, held_back=1
    )
    assert world.deliveries == [("a", 1), ("b", 4)]
    assert [(letter.id, letter.invoke_count) for letter in await in_store(world, "parked")] == [(2, 4), (3, 3)]
    assert await world.store.parked_keys("p", "arn:stream") == {record("a", 1).item_key}


async def test_parked_changes_that_were_kept_out_of_order_are_delivered_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(letter_reading, "PAGE_LETTERS", 2)
    world = World()
    await world.store.park(letters(*(record("a", version) for version in (4, 2, 5, 1, 3))), opening=True)
    assert await redriven(world, drawer="parked") == report(delivered=5)
    assert world.deliveries == [("a", version) for version in range(1, 6)]


async def test_change_that_fails_while_its_item_is_dropped_is_parked_again() -> None:
    world = World()
    await world.store.park(letters(record("a", 1)), opening=True)

    async def dropped(_: Batch) -> None:
        await world.store.remove("parked", [1])
        raise RuntimeError("refused again")

    assert await redriven(world, dropped, drawer="parked") == report(failed=1)
    assert await kept(world, "parked") == [("a", 1)]


async def test_item_is_healed_in_order_while_a_worker_keeps_parking_its_changes() -> None:
    world = World(shards=1)
    mended = False
    parked = 0

    async def handler(batch: Batch) -> None:
        if not mended and any(each.keys["id"] == "bad" for each in batch):
            raise RuntimeError("poison")
        await anyio.sleep(0.1)
        await world.accept(batch)

    async def keep_writing() -> None:
        for _ in range(100):
            world.write("bad", "good")
            await anyio.sleep(0.1)

    async with world.working(handler, **PARK):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_writing)
            await world.until(lambda: sum(event.records for event in world.of(events.RecordsParked)) > 20)
            mended = True
            found = await redriven(world, handler, drawer="parked", batch_size=4)
            parked = sum(event.records for event in world.of(events.RecordsParked))
            assert found == report(delivered=parked)
        await world.until(world.everything_delivered)
    assert parked > 21, "the worker parked nothing while the item was healed"
    assert sorted(world.deliveries) == sorted(world.written), "something was lost or delivered twice"
    assert [version for key, version in world.deliveries if key == "bad"] == list(range(1, 101))
    assert await kept(world, "parked") == []
