"""Cruel handlers, records, destinations and moments: nothing is lost, nothing stands still, and no worker falls."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import orjson
import pytest

from streamflow import events
from streamflow.dead_letters import LetterQuery
from streamflow.engine.buffer import RECORD_OVERHEAD_BYTES
from streamflow.engine.redrive import Redrive
from streamflow.errors import PartialFailure, SinkBusyError, TrimmedError
from streamflow.middleware.chain import compose
from streamflow.pipeline import PipelineOptions
from streamflow.testing.faults import EmptyPage
from streamflow.testing.memory_source import MemoryShardReader
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.dead_letters import DiscardedBatch, Drawer
    from streamflow.protocols import Page

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


class BrokenText(Exception):  # noqa: N818 - what a user may have
    def __str__(self) -> str:
        raise RuntimeError("no text")


def names(batch: Batch) -> set[str]:
    return {str(record.keys["id"]) for record in batch}


async def kept(world: World, drawer: Drawer) -> list[tuple[str, int]]:
    letters = await world.store.letters(LetterQuery(drawer=drawer, pipeline="p"))
    images = [orjson.loads(letter.record)["dynamodb"]["NewImage"] for letter in letters]
    return [(image["id"]["S"], int(image["version"]["N"])) for image in images]


def spoil(world: World, place: int, old: bytes, new: bytes) -> None:
    """Change the JSON of one record of the first shard."""
    shard = world.controls.tables.stream(world.stream_arn).shard(world.controls.shard_ids("orders")[0])
    assert old in shard.bodies[place]
    shard.bodies[place] = shard.bodies[place].replace(old, new)


# --- what plugins raise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
async def test_handler_that_awaits_something_cancelled_is_a_failed_attempt(lanes: int, ended: bool) -> None:
    world = World(shards=1)
    raised: list[bool] = []

    async def cancelled_once(batch: Batch) -> None:
        if not raised and "k1" in names(batch):
            raised.append(True)
            raise asyncio.CancelledError
        await world.accept(batch)

    world.write(*[f"k{number}" for number in range(12)])
    if ended:
        world.controls.rollover("orders")
        world.write("late")
    async with world.working(cancelled_once, parallelization_factor=lanes, batch_size=2):
        await world.until(world.everything_delivered)
    world.check_order()
    assert world.of(events.BatchFailed)


@pytest.mark.parametrize("lanes", [1, 3])
async def test_next_worker_delivers_what_a_cancelled_handler_left(lanes: int) -> None:
    world = World(shards=1)

    async def cancelled(batch: Batch) -> None:
        raise asyncio.CancelledError

    world.write(*[f"k{number}" for number in range(12)])
    async with world.working(cancelled, parallelization_factor=lanes, batch_size=2):
        await anyio.sleep(30)
    assert world.of(events.BatchFailed), "the worker went on"
    async with world.working(worker_id="w2", parallelization_factor=lanes):
        await world.until(world.everything_delivered)


@pytest.mark.parametrize("kind", [GeneratorExit, SystemExit])
async def test_handler_may_raise_what_is_no_exception(kind: type[BaseException]) -> None:
    world = World(shards=1)
    raised: list[bool] = []

    async def leave_once(batch: Batch) -> None:
        if not raised:
            raised.append(True)
            raise kind
        await world.accept(batch)

    world.write("a", "b")
    async with world.working(leave_once):
        await world.until(world.everything_delivered)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
async def test_destination_may_raise_what_is_no_exception(kind: type[BaseException]) -> None:
    world = World(shards=1)
    taken: list[DiscardedBatch] = []

    class Leaving:
        name = "leaving"
        calls = 0

        async def send(self, discarded: DiscardedBatch) -> None:
            self.calls += 1
            if self.calls == 1:
                raise kind
            taken.append(discarded)

    async def fail(batch: Batch) -> None:
        if "bad" in names(batch):
            raise RuntimeError("poison")
        await world.accept(batch)

    world.write("bad", "a")
    async with world.working(fail, destinations=[Leaving()], maximum_retry_attempts=0, batch_size=1):
        await world.until(lambda: ("a", 1) in world.deliveries)
    assert len(taken) == 1


@pytest.mark.parametrize("on_poison", ["dead_letter", "park_key"])
async def test_error_whose_text_fails_holds_no_record(on_poison: str) -> None:
    world = World(shards=1)

    async def fail(batch: Batch) -> None:
        if "bad" in names(batch):
            raise BrokenText
        await world.accept(batch)

    world.write("bad", "a")
    async with world.working(fail, maximum_retry_attempts=0, batch_size=1, on_poison=on_poison):
        await world.until(lambda: ("a", 1) in world.deliveries)
    assert await kept(world, "parked" if on_poison == "park_key" else "dead") == [("bad", 1)]


@pytest.mark.fault("F21", "F22")
@pytest.mark.parametrize("named", [[{"itemIdentifier": "1"}], [["1"]], [1], [None], "12", ["1", "2"]])
async def test_partial_failure_that_names_nonsense_is_a_failed_batch(named: Any) -> None:
    world = World(shards=1)

    async def fail_once(batch: Batch) -> None:
        if batch.attempt == 1:
            raise PartialFailure(named)
        await world.accept(batch)

    world.write("a", "b")
    async with world.working(fail_once):
        await world.until(world.everything_delivered)
    assert world.deliveries == world.written


@pytest.mark.parametrize("retry_after_s", [0, -1.0, 1e-9])
async def test_sink_that_is_busy_without_a_pause_does_not_keep_the_loop_busy(retry_after_s: float) -> None:
    world = World(shards=1)
    calls: list[float] = []

    async def busy(batch: Batch) -> None:
        calls.append(world.clock.monotonic())
        if len(calls) < 2_000:
            raise SinkBusyError("busy", retry_after_s=retry_after_s)
        await world.accept(batch)

    world.write("a")
    async with world.working(busy):
        await world.until(lambda: len(calls) >= 100, within_s=600)
        assert calls[99] - calls[0] > 0.5


@pytest.mark.parametrize("retry_after_s", [None, "1", float("nan")])
async def test_sink_that_is_busy_for_no_time_that_there_is_fells_no_worker(retry_after_s: Any) -> None:
    world = World(shards=1)

    async def busy(batch: Batch) -> None:
        if batch.attempt == 1 and not world.of(events.BatchFailed):
            raise SinkBusyError("busy", retry_after_s=retry_after_s)
        await world.accept(batch)

    world.write("a")
    async with world.working(busy):
        await world.until(world.everything_delivered)


async def test_handler_that_never_waits_leaves_turns_to_the_others() -> None:
    world = World(shards=1)
    turns: list[int] = []
    called = anyio.Event()

    async def deliver(batch: Batch) -> None:
        called.set()
        await world.accept(batch)

    async def take_turns() -> None:
        nonlocal called
        while True:
            await called.wait()
            called = anyio.Event()
            turns.append(len(world.batches))

    world.write(*[f"k{number}" for number in range(900)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns)
        async with world.working(deliver, batch_size=1):
            await world.until(world.everything_delivered)
        tasks.cancel_scope.cancel()
    steps = [later - earlier for earlier, later in pairwise(turns)]
    assert max(steps) < 300, "batches in a row without a turn for anybody else"


# --- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [1, 2])
async def test_page_that_arrives_at_the_moment_of_the_stop_is_left_for_the_next_run(
    monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    world = World(shards=1)
    gate: list[anyio.Event] = []
    waiting: list[bool] = []
    read = MemoryShardReader.read

    async def read_and_wait(self: MemoryShardReader, *, records_max: int) -> Page:
        page = await read(self, records_max=records_max)
        if page.records and gate:
            waiting.append(True)
            await gate[0].wait()
        return page

    async def slow(batch: Batch) -> None:
        await anyio.sleep(1)
        await world.accept(batch)

    monkeypatch.setattr(MemoryShardReader, "read", read_and_wait)
    world.write(*["a", "b"] * 5)
    async with world.working(slow, batch_size=1, parallelization_factor=lanes) as worker:
        await world.until(lambda: len(world.deliveries) > 1)
        gate.append(anyio.Event())
        world.write(*["a", "b"] * 5)
        await world.until(lambda: bool(waiting))
        gate[0].set()  # the answer is there, and in the same turn of the loop the stop comes
        worker.stop()
    gate.clear()
    first = len(world.deliveries)
    async with world.working(worker_id="w2"):
        await world.until(world.everything_delivered)
    world.check_order()
    assert first < len(world.written)
    assert sorted(world.deliveries) == sorted(world.written), "nothing repeats"


async def test_stop_while_the_last_window_of_windows_turned_off_is_closed() -> None:
    world = World(shards=1)
    closing = anyio.Event()
    go_on = anyio.Event()

    async def handle(batch: Batch) -> None:
        if batch.window is not None and batch.window.is_final:
            closing.set()
            await go_on.wait()
            return
        await world.accept(batch)

    world.write("a")
    async with world.working(handle, tumbling_window_s=600):
        await world.until(world.everything_delivered)
    world.write(*[f"k{number}" for number in range(30)])
    async with world.working(handle, worker_id="w2", parallelization_factor=3, batch_size=1) as worker:
        await world.until(lambda: len(world.deliveries) > 10)
        assert closing.is_set()
        worker.stop()
        go_on.set()
    async with world.working(handle, worker_id="w3", parallelization_factor=3):
        await world.until(world.everything_delivered)
    assert sorted(world.deliveries) == sorted(world.written), "nothing repeats"


async def test_stop_while_the_sink_is_busy_for_ever_loses_nothing() -> None:
    world = World(shards=1)

    async def busy(batch: Batch) -> None:
        raise SinkBusyError("busy", retry_after_s=1e9)

    world.write("a", "b")
    async with world.working(busy, parallelization_factor=2):
        await world.until(lambda: bool(world.of(events.BatchFailed)))
        before = world.clock.monotonic()
    assert world.clock.monotonic() - before < 5
    async with world.working(worker_id="w2"):
        await world.until(world.everything_delivered)


# --- parking ---------------------------------------------------------------------------------------------------------


async def test_full_shard_goes_on_once_parked_items_are_healed() -> None:
    world = World(shards=1)

    async def fail(batch: Batch) -> None:
        if names(batch) & {"x", "y", "z"}:
            raise RuntimeError("poison")
        await world.accept(batch)

    world.write("x", "y", "z", "a")
    async with world.working(fail, on_poison="park_key", maximum_retry_attempts=0, parked_keys_max=2):
        await anyio.sleep(60)
        letters = await world.store.letters(LetterQuery(drawer="parked", pipeline="p"))
        assert len(letters) == 2
        await world.store.remove("parked", [letter.id for letter in letters])
        await world.until(lambda: ("a", 1) in world.deliveries, within_s=3_600)
    assert await kept(world, "parked") == [("z", 1)]


async def test_partial_failure_without_retries_parks_the_item_that_failed_and_no_other() -> None:
    world = World(shards=1)

    async def partial(batch: Batch) -> None:
        bad = next((place for place, record in enumerate(batch) if record.keys["id"] == "bad"), None)
        await world.accept(batch.select(batch.records[:bad]))
        if bad is not None:
            raise PartialFailure([batch.records[bad].sequence_number])

    world.write("a", "bad", "b", "bad", "c")
    async with world.working(partial, on_poison="park_key", maximum_retry_attempts=0):
        await world.until(lambda: ("c", 1) in world.deliveries)
    assert await kept(world, "parked") == [("bad", 1), ("bad", 2)]
    assert sorted(set(world.deliveries)) == [("a", 1), ("b", 1), ("c", 1)]


# --- records that nobody can read ------------------------------------------------------------------------------------

DEEP = b'{"x":' * 3_000 + b"1" + b"}" * 3_000
DEEP_KEYS = b'{"id":' * 300 + b"1" + b"}" * 300


@pytest.mark.fault("F6", "F7", "F11")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"parallelization_factor": 3},
        {"on_poison": "park_key"},
        {"tumbling_window_s": 60},
        {"maximum_record_age_s": 3_600},
        {"filters": ('{"dynamodb": {"NewImage": {"id": {"S": [{"exists": true}]}}}}',)},
    ],
    ids=lambda options: next(iter(options), "plain"),
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"NewImage":{', b'"NewImage":{"deep":' + DEEP + b","),
        (b'"Keys":{', b'"Keys":{"deep":' + DEEP_KEYS + b","),
        (b'"Keys":{', b'"Keys":{"id":{"S":"\xff"},'),
        (b'"Keys":{', b'"Keys":[],"x":{'),
        (b'"Keys":{', b'"Keys":null,"x":{'),
        (b'"SequenceNumber":"', b'"SequenceNumber":"x'),
        (b"{", b"["),
        (b'"dynamodb":', b'"other":'),
    ],
    ids=["deep image", "deep keys", "keys no text", "keys a list", "keys null", "no number", "no object", "no change"],
)
async def test_record_that_cannot_be_read_ends_in_a_drawer(old: bytes, new: bytes, options: dict[str, Any]) -> None:
    world = World(shards=1)

    async def handle(batch: Batch) -> None:
        for record in batch:
            record.lambda_event()
            assert record.keys["id"]
        await world.accept(batch)

    world.write("a", "broken", "b")
    shard = world.controls.tables.stream(world.stream_arn).shard(world.controls.shard_ids("orders")[0])
    shard.bodies[1] = shard.bodies[1].replace(old, new, 1)
    settings = {"maximum_retry_attempts": 0, "bisect_batch_on_function_error": True, **options}
    async with world.working(handle, **settings):
        await world.until(lambda: {("a", 1), ("b", 1)} <= set(world.deliveries))
    letters = [
        letter
        for drawer in ("dead", "parked")
        for letter in await world.store.letters(LetterQuery(drawer=drawer, pipeline="p"))
    ]
    assert [letter.record for letter in letters] == [shard.bodies[1]]


# --- windows ---------------------------------------------------------------------------------------------------------


async def test_empty_page_on_the_way_to_the_tip_closes_no_window() -> None:
    world = World(shards=1)
    finals: list[int] = []

    async def count(batch: Batch) -> None:
        assert batch.window is not None
        if batch.window.is_final:
            finals.append(batch.window.state["count"])
            return
        batch.window.state["count"] = batch.window.state.get("count", 0) + len(batch)
        await world.accept(batch)

    await anyio.sleep(60 - world.clock.wall() % 60)
    world.write("a", "b")
    async with world.working(count, tumbling_window_s=60):
        await world.until(world.everything_delivered)
    world.write("c")
    await anyio.sleep(120)
    # The service answers with empty pages where the next records are in a later part of the shard.
    world.controls.faults.add(EmptyPage(), operation="GetRecords", times=2)
    async with world.working(count, worker_id="w2", tumbling_window_s=60):
        await world.until(world.everything_delivered)
        await anyio.sleep(30)
    assert finals == [3]


@pytest.mark.parametrize("state_bytes", [600, 900])
async def test_state_that_fits_its_limit_makes_no_record_too_large(state_bytes: int) -> None:
    world = World(shards=1, event_bytes_max=1_500)

    async def remember(batch: Batch) -> None:
        assert batch.window is not None
        batch.window.state["text"] = "x" * state_bytes
        if not batch.window.is_final:
            await world.accept(batch)

    world.write("a", "b", "c")
    async with world.working(remember, tumbling_window_s=60, batch_bytes_max=1_500, batch_size=1):
        await world.until(world.everything_delivered)


async def test_state_that_is_as_deep_as_it_may_be_fells_no_worker() -> None:
    world = World(shards=1, event_bytes_max=6_291_456)

    async def deepen(batch: Batch) -> None:
        assert batch.window is not None
        for _ in range(250):
            batch.window.state = {"in": batch.window.state}
            try:
                orjson.dumps({"in": batch.window.state})
            except TypeError:
                break
        await world.accept(batch)

    world.write("a", "b", "c")
    async with world.working(deepen, tumbling_window_s=600, batch_size=1):
        await world.until(lambda: ("a", 1) in world.deliveries)
        await anyio.sleep(30)


async def test_state_beyond_its_limit_left_by_a_part_of_a_batch_blocks_no_record() -> None:
    world = World(shards=1, event_bytes_max=6_291_456)

    async def partial(batch: Batch) -> None:
        assert batch.window is not None
        if batch.window.is_final:
            return
        first = batch.select(batch.records[:1])
        batch.window.state["text"] = batch.window.state.get("text", "") + "x" * 3_200_000
        await world.accept(first)
        if len(batch) > 1:
            raise PartialFailure([batch.records[1].sequence_number])

    world.write("a", "b", "c", "d")
    async with world.working(partial, tumbling_window_s=600):
        await world.until(world.everything_delivered)


# --- what else a user may do -----------------------------------------------------------------------------------------


@pytest.mark.fault("F60")
async def test_handler_that_takes_records_out_of_its_batch_loses_none() -> None:
    world = World(shards=1)
    failed: list[bool] = []

    async def use_up(batch: Batch) -> None:
        pending = batch.records
        first = pending[0]
        if isinstance(pending, list):
            pending.pop(0)
        if not failed:
            failed.append(True)
            raise RuntimeError("after the record was taken, before it was used")
        await world.accept(batch.select([first, *(record for record in pending if record is not first)]))

    world.write("a", "b", "c")
    world.controls.rollover("orders")
    async with world.working(use_up):
        await anyio.sleep(60)
    async with world.working(worker_id="w2"):
        await world.until(world.everything_delivered)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
async def test_observer_may_raise_what_is_no_exception(kind: type[BaseException]) -> None:
    world = World(shards=1)

    def observe(event: events.Event) -> None:
        if isinstance(event, events.BatchDelivered):
            raise kind

    world.write("a", "b")
    worker = await world.worker(batch_size=1)
    (flow,) = worker.flows
    flow.around = replace(flow.around, observers=(observe, *flow.around.observers))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.run)
        await world.until(world.everything_delivered)
        worker.stop()


async def test_stop_without_a_store_says_what_will_repeat() -> None:
    world = World(shards=1)
    world.write("a", "b")
    async with world.working(checkpoint_interval_s=60) as worker:
        await world.until(lambda: bool(world.of(events.CheckpointStored)))
        world.write("c")
        await world.until(world.everything_delivered)
        world.store.down = True
    world.store.down = False
    (told,) = world.of(events.PipelineStopped)
    before = len(world.deliveries)
    async with world.working(worker_id="w2"):
        await anyio.sleep(60)
    assert world.deliveries[before:] == [("c", 1)], "it came again"
    assert worker.repeating()
    assert told.repeating
    assert not told.drained


@pytest.mark.parametrize("lanes", [1, 4])
async def test_store_that_is_down_anywhere_loses_nothing(lanes: int) -> None:
    world = World(shards=2)

    async def fail(batch: Batch) -> None:
        if names(batch) & {"k3", "k5"}:
            raise RuntimeError("poison")
        await world.accept(batch)

    options = {"on_poison": "park_key", "maximum_retry_attempts": 0, "parallelization_factor": lanes, "batch_size": 3}
    for life in range(12):
        async with world.working(fail, worker_id=f"w{life % 2}", checkpoint_interval_s=0, **options):
            world.write(*[f"k{number}" for number in range(8)])
            await anyio.sleep(0.1 * life)
            world.store.down = True
            await anyio.sleep(life * 1.5)
            world.store.down = False
            await anyio.sleep(0.3)
    async with world.working(fail, worker_id="w3", **options):
        await world.until(lambda: ("k7", 12) in world.deliveries)
        await anyio.sleep(60)
    parked = await kept(world, "parked")
    assert {*world.deliveries, *parked} == set(world.written)
    assert {key for key, _ in parked} == {"k3", "k5"}
    world.check_order()


async def test_filters_that_leave_out_nearly_everything_keep_no_page() -> None:
    world = World(shards=1)
    only = ('{"dynamodb": {"Keys": {"id": {"S": ["wanted"]}}}}',)
    async with world.working(filters=only, buffer_bytes_max=65_536, maximum_batching_window_s=5) as worker:
        for _ in range(20):
            world.write(*["noise"] * 500)
            world.write("wanted")
            await anyio.sleep(1)
        await world.until(lambda: len(world.deliveries) == 20)
        await anyio.sleep(30)
        assert worker.flows[0].around.read_ahead.bytes == 0
        pages = world.of(events.PageRead)
        biggest = max(page.bytes + page.records * RECORD_OVERHEAD_BYTES for page in pages)
        assert max(page.buffered_bytes for page in pages) <= 65_536 + biggest


async def test_redrive_goes_on_behind_an_error_whose_text_fails() -> None:
    world = World(shards=1)

    async def fail(batch: Batch) -> None:
        raise RuntimeError("poison")

    async def fail_again(batch: Batch) -> None:
        if "bad" in names(batch):
            raise BrokenText
        await world.accept(batch)

    world.write("bad", "a")
    async with world.working(fail, maximum_retry_attempts=0, batch_size=1):
        await world.until(lambda: len(world.of(events.RecordsDiscarded)) == 2)
    redrive = Redrive(
        store=world.store,
        chain=compose((), fail_again),
        pipeline="p",
        drawer="dead",
        options=PipelineOptions(),
        clock=world.clock,
        owner="r1",
    )
    report = await redrive.run(LetterQuery(drawer="dead"))
    assert (report.delivered, report.failed) == (1, 1)
    assert await kept(world, "dead") == [("bad", 1)]


@pytest.mark.parametrize("on_trimmed", ["fail", "continue"])
async def test_records_that_were_trimmed_close_no_window_twice(on_trimmed: str) -> None:
    world = World(shards=1)
    finals: list[tuple[int, int]] = []

    async def count(batch: Batch) -> None:
        assert batch.window is not None
        if batch.window.is_final:
            finals.append((batch.window.start_s, batch.window.state["count"]))
            return
        batch.window.state["count"] = batch.window.state.get("count", 0) + len(batch)
        await world.accept(batch)

    await anyio.sleep(900 - world.clock.wall() % 900)
    world.write("a", "b")
    async with world.working(count, tumbling_window_s=900):
        await world.until(world.everything_delivered)
    world.write("lost", "c")
    # Retention takes the next record, but not the last one of the same window.
    stream = world.controls.tables.stream(world.stream_arn).shard(world.controls.shard_ids("orders")[0])
    world.controls.trim("orders", before=str(stream.numbers[3]))
    worker = await world.worker(count, worker_id="w2", tumbling_window_s=900, on_trimmed=on_trimmed)
    try:
        with anyio.move_on_after(2_000):
            await worker.run()
    except TrimmedError:
        worker = await world.worker(count, worker_id="w2", tumbling_window_s=900, on_trimmed="continue")
        with anyio.move_on_after(2_000):
            await worker.run()
    assert len(finals) == 1
