"""The chain: layers outermost first, and no record that nobody accounted for."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from streamflow.batches import Batch, Window
from streamflow.errors import ConfigError, PartialFailure, UnaccountedRecordsError
from streamflow.middleware.chain import compose
from streamflow.middleware.concurrency_limit import concurrency_limit
from streamflow.middleware.dedupe import dedupe
from streamflow.middleware.drop import drop
from streamflow.middleware.log_batches import log_batches
from streamflow.middleware.timeout import timeout
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from streamflow.protocols import Handler, Middleware

pytestmark = pytest.mark.anyio

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l", shard_id="shardId-1")


def a_batch(records: int = 4) -> Batch:
    texts = [f'{{"dynamodb":{{"SequenceNumber":"{number:021d}"}}}}' for number in range(1, records + 1)]
    return Batch(pipeline="orders", shard=SHARD, records=[Record(msgspec.Raw(text.encode()), SHARD) for text in texts])


class Journal:
    """A handler and layers that write down when they are called."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.batches: list[Batch] = []

    async def handler(self, batch: Batch) -> None:
        self.lines.append("handler")
        self.batches.append(batch)

    def layer(self, name: str) -> Middleware:
        async def layer(batch: Batch, call_next: Handler) -> None:
            self.lines.append(f"{name} in")
            await call_next(batch)
            self.lines.append(f"{name} out")

        return layer


def is_even(record: Record) -> bool:
    return int(record.sequence_number) % 2 == 0


async def test_layers_run_outermost_first() -> None:
    journal = Journal()
    await compose([journal.layer("a"), journal.layer("b")], journal.handler)(a_batch())
    assert journal.lines == ["a in", "b in", "handler", "b out", "a out"]


async def test_without_layers_the_handler_gets_the_very_batch() -> None:
    journal, batch = Journal(), a_batch()
    await compose([], journal.handler)(batch)
    assert journal.batches == [batch]
    assert batch.ledger.unaccounted() == []


async def test_a_layer_may_be_an_object_a_method_or_a_partial() -> None:
    class Counting:
        calls = 0

        async def __call__(self, batch: Batch, call_next: Handler) -> None:
            self.calls += 1
            await call_next(batch)

        async def method(self, batch: Batch, call_next: Handler) -> None:
            await self(batch, call_next)

        async def adding(self, number: int, batch: Batch, call_next: Handler) -> None:
            self.calls += number
            await call_next(batch)

    layer, journal = Counting(), Journal()
    await compose([layer, layer.method, partial(layer.adding, 10)], journal.handler)(a_batch())
    assert layer.calls == 12
    assert journal.lines == ["handler"]


# --- the ledger ------------------------------------------------------------------------------------------------------


async def test_a_forgotten_call_next_is_caught() -> None:
    async def forgetful(batch: Batch, call_next: Handler) -> None:
        pass

    batch = a_batch(2)
    with pytest.raises(UnaccountedRecordsError, match=r"2 records.*await call_next") as caught:
        await compose([forgetful], Journal().handler)(batch)
    assert caught.value.sequence_numbers == tuple(record.sequence_number for record in batch)


async def test_records_sliced_off_in_silence_are_caught() -> None:
    async def slicing(batch: Batch, call_next: Handler) -> None:
        await call_next(batch.select(batch.records[1:-1]))

    batch = a_batch(4)
    with pytest.raises(UnaccountedRecordsError) as caught:
        await compose([slicing], Journal().handler)(batch)
    assert caught.value.sequence_numbers == (batch.records[0].sequence_number, batch.records[3].sequence_number)


async def test_a_batch_delivered_in_pieces_is_accounted_for() -> None:
    async def one_by_one(batch: Batch, call_next: Handler) -> None:
        for record in batch:
            await call_next(batch.select([record]))

    journal, batch = Journal(), a_batch(3)
    await compose([one_by_one], journal.handler)(batch)
    assert [record for piece in journal.batches for record in piece] == list(batch)


async def test_records_left_out_aloud_are_counted_by_reason() -> None:
    layers = [drop(is_even, reason="even"), drop(lambda record: record.sequence_number.endswith("3"), reason="three")]
    journal, batch = Journal(), a_batch(5)
    await compose(layers, journal.handler)(batch)
    assert [int(record.sequence_number) for record in journal.batches[0]] == [1, 5]
    assert batch.ledger.dropped(batch.records) == {"even": 2, "three": 1}
    assert batch.ledger.unaccounted() == []


async def test_an_emptied_batch_skips_the_handler() -> None:
    journal, batch = Journal(), a_batch(3)
    await compose([journal.layer("a"), drop(lambda record: True, reason="all")], journal.handler)(batch)
    assert journal.lines == ["a in", "a out"]
    assert batch.ledger.dropped(batch.records) == {"all": 3}


def a_final_batch() -> Batch:
    window = Window(start_s=0, end_s=60, state={"orders": 3}, is_final=True)
    return Batch(pipeline="orders", shard=SHARD, records=[], window=window)


async def test_the_final_invocation_of_a_window_reaches_the_handler_without_records() -> None:
    journal, batch = Journal(), a_final_batch()
    await compose([journal.layer("a")], journal.handler)(batch)
    assert journal.lines == ["a in", "handler", "a out"]
    assert journal.batches == [batch]


async def test_a_windows_batch_that_a_layer_empties_skips_the_handler() -> None:
    journal = Journal()
    batch = replace(a_batch(), window=Window(start_s=0, end_s=60, state={}))
    await compose([drop(lambda record: True, reason="all")], journal.handler)(batch)
    assert journal.lines == []


@pytest.mark.parametrize(
    "layer",
    [timeout(60), log_batches(level=logging.CRITICAL), drop(is_even, reason="even"), dedupe(), concurrency_limit(1)],
    ids=["timeout", "log_batches", "drop", "dedupe", "concurrency_limit"],
)
async def test_every_built_in_layer_passes_a_final_invocation_on(
    layer: Middleware, caplog: pytest.LogCaptureFixture
) -> None:
    journal, batch = Journal(), a_final_batch()
    await compose([layer], journal.handler)(batch)
    await compose([layer], journal.handler)(batch.again(window=batch.window))
    assert [len(passed) for passed in journal.batches] == [0, 0]
    assert all("records=0" in line for line in caplog.messages)


async def test_a_retry_layer_may_call_the_rest_twice() -> None:
    async def twice(batch: Batch, call_next: Handler) -> None:
        try:
            await call_next(batch)
        except ConnectionError:
            await call_next(batch)

    attempts: list[Batch] = []

    async def fails_once(batch: Batch) -> None:
        attempts.append(batch)
        if len(attempts) == 1:
            raise ConnectionError

    batch = a_batch()
    await compose([twice, drop(is_even, reason="even")], fails_once)(batch)
    assert [len(attempt) for attempt in attempts] == [2, 2]
    assert batch.ledger.dropped(batch.records) == {"even": 2}
    assert batch.ledger.unaccounted() == []


async def test_a_failure_that_a_layer_swallows_is_not_a_delivery() -> None:
    async def swallow(batch: Batch, call_next: Handler) -> None:
        with suppress(ConnectionError):
            await call_next(batch)

    async def fail(batch: Batch) -> None:
        raise ConnectionError

    with pytest.raises(UnaccountedRecordsError):
        await compose([swallow], fail)(a_batch())


async def test_what_the_handler_raises_goes_through_the_layers_as_it_is() -> None:
    error = PartialFailure(["3"])

    async def fail(batch: Batch) -> None:
        raise error

    with pytest.raises(PartialFailure) as caught:
        await compose([Journal().layer("a")], fail)(a_batch())
    assert caught.value is error


# --- what is refused -------------------------------------------------------------------------------------------------


def plain(batch: Batch, call_next: Handler) -> None: ...


async def narrow(batch: Batch) -> None: ...


async def wide(batch: Batch, call_next: Handler, logger: object) -> None: ...


class PlainLayer:
    def __call__(self, batch: Batch, call_next: Handler) -> None: ...


@pytest.mark.parametrize(
    ("layer", "name", "reason"),
    [
        (plain, "plain", "is not async"),
        (PlainLayer(), "PlainLayer", "is not async"),
        (narrow, "narrow", "must take two arguments, a batch and call_next"),
        (wide, "wide", "must take two arguments, a batch and call_next"),
    ],
)
def test_a_layer_that_is_none_is_refused_by_name(layer: Any, name: str, reason: str) -> None:
    journal = Journal()
    with pytest.raises(ConfigError, match=f"middleware {name} {reason}"):
        compose([journal.layer("fine"), layer], journal.handler)
