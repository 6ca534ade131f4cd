"""Each built-in layer, alone around a fake rest of the chain."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from streamflow.batches import Batch
from streamflow.errors import ConfigError, HandlerTimeoutError
from streamflow.middleware import concurrency_limit, dedupe, drop, log_batches, timeout
from streamflow.records import Record, Shard
from streamflow.testing.simulation.loop import SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l", shard_id="shardId-1")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


def a_batch(*event_ids: str, pipeline: str = "orders") -> Batch:
    texts = [
        f'{{"eventID":"{event_id}","dynamodb":{{"SequenceNumber":"{number:021d}",'
        f'"NewImage":{{"name":{{"S":"secret-{event_id}"}}}}}}}}'
        for number, event_id in enumerate(event_ids, start=1)
    ]
    return Batch(pipeline=pipeline, shard=SHARD, records=[Record(msgspec.Raw(text.encode()), SHARD) for text in texts])


class Rest:
    """The rest of the chain: notes the event ids it gets, and fails while `error` is set."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.error: Exception | None = None

    async def __call__(self, batch: Batch) -> None:
        self.calls.append([record.event_id for record in batch])
        if self.error is not None:
            raise self.error


# --- drop ------------------------------------------------------------------------------------------------------------


async def test_drop_leaves_out_what_the_predicate_says_and_counts_it() -> None:
    rest, batch = Rest(), a_batch("a", "test-b", "c")
    await drop(lambda record: record.event_id.startswith("test-"), reason="test order")(batch, rest)
    assert rest.calls == [["a", "c"]]
    assert batch.ledger.dropped(batch.records) == {"test order": 1}


async def test_drop_asks_once_per_record_and_passes_an_untouched_batch_on_as_it_is() -> None:
    asked: list[Record] = []
    passed: list[Batch] = []
    batch = a_batch("a", "b")

    async def rest(batch: Batch) -> None:
        passed.append(batch)

    await drop(lambda record: bool(asked.append(record)), reason="never")(batch, rest)  # type: ignore[func-returns-value]
    assert asked == list(batch)
    assert passed == [batch]


# --- dedupe ----------------------------------------------------------------------------------------------------------


async def passed_on(batches: Sequence[Batch], capacity: int = 100) -> list[list[str]]:
    layer, rest = dedupe(capacity), Rest()
    for batch in batches:
        await layer(batch, rest)
    return rest.calls


async def test_dedupe_leaves_out_what_was_delivered_before() -> None:
    batch = a_batch("b", "c")
    assert await passed_on([a_batch("a", "b"), batch]) == [["a", "b"], ["c"]]
    assert batch.ledger.dropped(batch.records) == {"duplicate": 1}


async def test_dedupe_leaves_out_duplicates_within_one_batch() -> None:
    batch = a_batch("a", "b", "a", "a")
    assert await passed_on([batch]) == [["a", "b"]]
    assert batch.ledger.dropped(batch.records) == {"duplicate": 2}


async def test_dedupe_remembers_only_after_success() -> None:
    layer, rest, batch = dedupe(), Rest(), a_batch("a", "b")
    rest.error = ConnectionError()
    with pytest.raises(ConnectionError):
        await layer(batch, rest)
    rest.error = None
    await layer(batch.again(), rest)
    await layer(a_batch("a", "b"), rest)
    assert rest.calls == [["a", "b"], ["a", "b"], []]


async def test_dedupe_remembers_the_newest_ids_up_to_its_capacity() -> None:
    batches = [a_batch("a", "b", "c"), a_batch("b", "c"), a_batch("a")]
    assert await passed_on(batches, capacity=2) == [["a", "b", "c"], [], ["a"]]


async def test_dedupe_never_takes_records_without_an_id_for_duplicates() -> None:
    assert await passed_on([a_batch("", ""), a_batch("")]) == [["", ""], [""]]


async def test_pipelines_that_share_a_dedupe_do_not_take_records_from_each_other() -> None:
    assert await passed_on([a_batch("a"), a_batch("a", pipeline="audit")]) == [["a"], ["a"]]


# --- concurrency_limit -----------------------------------------------------------------------------------------------


async def test_concurrency_limit_holds_over_batches_and_serves_all() -> None:
    layer, active, peak, served = concurrency_limit(2), 0, 0, 0

    async def rest(batch: Batch) -> None:
        nonlocal active, peak, served
        active += 1
        peak = max(peak, active)
        await anyio.sleep(1)
        active -= 1
        served += 1

    started = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(layer, a_batch(str(number)), rest)
    assert (peak, served) == (2, 6)
    assert anyio.current_time() - started == pytest.approx(3.0)


async def test_concurrency_limit_frees_the_slot_of_a_batch_that_failed() -> None:
    layer, rest = concurrency_limit(1), Rest()
    rest.error = ConnectionError()
    with pytest.raises(ConnectionError):
        await layer(a_batch("a"), rest)
    rest.error = None
    with anyio.fail_after(1):
        await layer(a_batch("b"), rest)
    assert rest.calls == [["a"], ["b"]]


def test_a_limit_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"concurrency_limit\(0\) lets no batch through"):
        concurrency_limit(0)


# --- timeout ---------------------------------------------------------------------------------------------------------


async def test_timeout_cancels_the_rest_and_fails_the_batch() -> None:
    cancelled: list[float] = []
    started = anyio.current_time()

    async def slow(batch: Batch) -> None:
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            cancelled.append(anyio.current_time() - started)
            raise

    with pytest.raises(HandlerTimeoutError, match=r"within 2\.5 s") as caught:
        await timeout(2.5)(a_batch("a"), slow)
    assert caught.value.timeout_s == 2.5
    assert cancelled == [pytest.approx(2.5)]


async def test_timeout_lets_a_quick_batch_and_its_errors_through() -> None:
    rest = Rest()
    await timeout(1)(a_batch("a"), rest)
    rest.error = TimeoutError("of the handler's own")
    with pytest.raises(TimeoutError, match="own"):
        await timeout(1)(a_batch("b"), rest)
    assert rest.calls == [["a"], ["b"]]


async def test_timeout_leaves_a_cancellation_from_outside_alone() -> None:
    async def slow(batch: Batch) -> None:
        await anyio.sleep(60)

    with anyio.move_on_after(1) as scope:
        await timeout(5)(a_batch("a"), slow)
    assert scope.cancelled_caught


@pytest.mark.parametrize("seconds", [0, -1.5])
def test_a_time_that_fails_every_batch_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="fails every batch"):
        timeout(seconds)


# --- log_batches -----------------------------------------------------------------------------------------------------


async def test_a_delivered_batch_is_one_line_of_facts(caplog: pytest.LogCaptureFixture) -> None:
    async def rest(batch: Batch) -> None:
        await anyio.sleep(1.5)

    batch = a_batch("a", "b")
    with caplog.at_level(logging.DEBUG, "streamflow.batches"):
        await log_batches()(batch.again(), rest)
    assert caplog.messages == [
        (
            f"batch pipeline=orders shard=shardId-1 records=2 bytes={len(batch.lambda_event_json())} attempt=2 "
            "seconds=1.500 outcome=delivered"
        )
    ]


async def test_a_failed_batch_is_logged_by_the_kind_of_its_error_and_never_by_content(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = a_batch("a")
    rest = Rest()
    rest.error = ValueError(str(batch.records[0].new_image))
    with caplog.at_level(logging.DEBUG, "streamflow.batches"), pytest.raises(ValueError, match="secret-a"):
        await log_batches()(batch, rest)
    assert caplog.messages[0].endswith("outcome=ValueError")
    assert "secret" not in caplog.text


async def test_a_cancelled_batch_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def slow(batch: Batch) -> None:
        await anyio.sleep(60)

    with caplog.at_level(logging.DEBUG, "streamflow.batches"), anyio.move_on_after(1):
        await log_batches()(a_batch("a"), slow)
    assert caplog.messages[0].endswith("seconds=1.000 outcome=cancelled")


async def test_logger_and_level_are_arguments_and_a_quiet_logger_costs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer, rest = log_batches(logging.getLogger("orders"), level=logging.INFO), Rest()
    with caplog.at_level(logging.WARNING, "orders"):
        await layer(a_batch("a"), rest)
    assert caplog.messages == []
    with caplog.at_level(logging.INFO, "orders"):
        await layer(a_batch("b"), rest)
    assert [(entry.name, entry.levelname) for entry in caplog.records] == [("orders", "INFO")]
    assert rest.calls == [["a"], ["b"]]
