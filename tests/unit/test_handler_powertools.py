"""Functions written with Powertools for AWS Lambda run as they are, and what they report arrives."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor,
    BatchProcessor,
    EventType,
    async_process_partial_response,
    process_partial_response,
)
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError
from aws_lambda_powertools.utilities.data_classes import DynamoDBStreamEvent, event_source
from aws_lambda_powertools.utilities.parser.models import DynamoDBStreamRecordModel

from streamflow import App, LambdaFunction, Pipeline, events, running
from streamflow.batches import Batch, Window
from streamflow.errors import LambdaFunctionError, PartialFailure
from streamflow.handlers.adapt import open_handler
from streamflow.records import Record, Shard
from streamflow.testing.controls import Controls
from streamflow.testing.memory_source import MemorySource

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
    from aws_lambda_powertools.utilities.typing import LambdaContext

pytestmark = pytest.mark.anyio

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l", shard_id="shardId-1")
LOG = io.StringIO()
logger = Logger(service="orders", stream=LOG)


def number(place: int) -> str:
    return f"{place:021d}"


def a_record(place: int) -> Record:
    image = {"id": {"S": f"order-{place}"}, "total": {"N": "12.50"}, "tags": {"SS": ["new"]}}
    change = {
        "ApproximateCreationDateTime": 1_764_085_200,
        "Keys": {"id": image["id"]},
        "NewImage": image,
        "SequenceNumber": number(place),
        "SizeBytes": 54,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    envelope = {"eventID": f"{place:032x}", "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb"}
    text = json.dumps(envelope | {"awsRegion": "eu-west-1", "dynamodb": change})
    return Record(msgspec.Raw(text.encode()), SHARD)


def a_batch(records: int = 4) -> Batch:
    return Batch(pipeline="orders", shard=SHARD, records=[a_record(place) for place in range(1, records + 1)])


class Orders:
    """What the functions below were called with, and what they refuse."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.poison: set[str] = set()

    def take(self, order_id: str, what: object) -> None:
        if order_id in self.poison:
            raise ValueError(order_id)
        self.seen.append(what)


ORDERS = Orders()


@pytest.fixture
def orders() -> Orders:
    """Fresh: the functions below find it where a function's globals are."""
    ORDERS.seen, ORDERS.poison = [], set()
    return ORDERS


# --- the functions ---------------------------------------------------------------------------------------------------

processor = BatchProcessor(event_type=EventType.DynamoDBStreams)
lenient_processor = BatchProcessor(event_type=EventType.DynamoDBStreams, raise_on_entire_batch_failure=False)
model_processor = BatchProcessor(event_type=EventType.DynamoDBStreams, model=DynamoDBStreamRecordModel)
async_processor = AsyncBatchProcessor(event_type=EventType.DynamoDBStreams)


def take_record(record: DynamoDBRecord, lambda_context: LambdaContext) -> None:
    assert record.dynamodb is not None
    assert lambda_context.get_remaining_time_in_millis() > 0
    ORDERS.take(record.dynamodb.keys["id"], (lambda_context.aws_request_id, record.dynamodb.new_image))


def take_model(record: DynamoDBStreamRecordModel) -> None:
    ORDERS.take(record.dynamodb.Keys["id"], record)


async def take_record_async(record: DynamoDBRecord) -> None:
    assert record.dynamodb is not None
    ORDERS.take(record.dynamodb.keys["id"], record.event_id)


def typed(event: dict[str, Any], context: LambdaContext) -> object:
    return process_partial_response(event=event, record_handler=take_record, processor=processor, context=context)


def lenient(event: dict[str, Any], context: LambdaContext) -> object:
    return process_partial_response(
        event=event, record_handler=take_record, processor=lenient_processor, context=context
    )


def modelled(event: dict[str, Any], context: LambdaContext) -> object:
    return process_partial_response(event=event, record_handler=take_model, processor=model_processor, context=context)


def concurrent(event: dict[str, Any], context: LambdaContext) -> object:
    return async_process_partial_response(
        event=event, record_handler=take_record_async, processor=async_processor, context=context
    )


@event_source(data_class=DynamoDBStreamEvent)
def data_class(event: DynamoDBStreamEvent, context: LambdaContext) -> object:
    if event.window is None:
        ORDERS.seen += [record.event_name.name for record in event.records if record.event_name]
        return None
    ORDERS.seen += [event.window.start, event.state, event.shard_id, event.is_final_invoke_for_window]
    return {"state": {"orders": event.state["orders"] + len(list(event.records))}}


@logger.inject_lambda_context(log_event=True, clear_state=True)
def logged(event: dict[str, Any], context: LambdaContext) -> None:
    logger.info("taken", records=len(event["Records"]))


async def invoke(name: str, batch: Batch) -> None:
    declared = LambdaFunction(target=f"{__name__}:{name}", report_batch_item_failures=True)
    async with open_handler(declared, pipeline="orders") as opened:
        await opened(batch)


# --- what comes of them ----------------------------------------------------------------------------------------------


async def test_every_record_reaches_the_record_handler_typed_and_with_the_context(orders: Orders) -> None:
    batch = a_batch()
    await invoke("typed", batch)
    assert [request_id for request_id, _ in orders.seen] == [batch.request_id] * 4
    assert orders.seen[0][1] == {"id": "order-1", "total": Decimal("12.50"), "tags": {"new"}}


@pytest.mark.parametrize("function", ["typed", "lenient", "modelled", "concurrent"])
async def test_the_records_that_it_reports_are_the_ones_that_failed(orders: Orders, function: str) -> None:
    orders.poison = {"order-2", "order-4"}
    with pytest.raises(PartialFailure) as caught:
        await invoke(function, a_batch())
    assert caught.value.sequence_numbers == (number(2), number(4))
    assert len(orders.seen) == 2


@pytest.mark.parametrize("function", ["typed", "modelled", "concurrent"])
async def test_a_batch_of_which_all_records_fail_is_a_function_error(orders: Orders, function: str) -> None:
    orders.poison = {"order-1", "order-2"}
    with pytest.raises(LambdaFunctionError, match="raised BatchProcessingError") as caught:
        await invoke(function, a_batch(2))
    assert caught.value.function_error == "Unhandled"
    assert isinstance(caught.value.__cause__, BatchProcessingError)


async def test_a_processor_that_does_not_raise_reports_all_of_them(orders: Orders) -> None:
    orders.poison = {"order-1", "order-2"}
    with pytest.raises(PartialFailure) as caught:
        await invoke("lenient", a_batch(2))
    assert caught.value.sequence_numbers == (number(1), number(2))


async def test_a_batch_after_a_failed_one_succeeds(orders: Orders) -> None:
    orders.poison = {"order-2"}
    with pytest.raises(PartialFailure):
        await invoke("typed", a_batch())
    orders.poison = set()
    await invoke("typed", a_batch())
    assert len(orders.seen) == 3 + 4


async def test_an_event_data_class_wraps_the_event(orders: Orders) -> None:
    await invoke("data_class", a_batch(3))
    assert orders.seen == ["INSERT"] * 3


async def test_an_event_data_class_shows_the_window(orders: Orders) -> None:
    window = Window(start_s=0, end_s=60, state={"orders": 3})
    await invoke("data_class", Batch(pipeline="orders", shard=SHARD, records=[a_record(1)], window=window))
    assert orders.seen == ["1970-01-01T00:00:00Z", {"orders": 3}, "shardId-1", False]
    assert window.state == {"orders": 4}


async def test_the_logger_gets_its_context() -> None:
    batch = a_batch(2)
    await invoke("logged", batch)
    event, taken = (json.loads(line) for line in LOG.getvalue().splitlines()[-2:])
    assert event["message"] == batch.lambda_event()
    assert {"message": "taken", "records": 2}.items() <= taken.items()
    assert taken["function_request_id"] == batch.request_id
    assert taken["function_name"] == "logged"
    assert taken["function_memory_size"] == "128"
    assert taken["function_arn"] == "arn:aws:lambda:eu-west-1:123456789012:function:logged"


async def test_in_a_pipeline_what_failed_comes_again_until_it_succeeds(orders: Orders) -> None:
    # Two shards share the function's processor, which keeps the batch on itself.
    controls = Controls(now=lambda: 1_764_000_000.0, shards=2)
    stream_arn = controls.create_table("orders")
    for place in range(1, 21):
        controls.put("orders", {"id": {"S": f"order-{place}"}})
    controls.disable_stream("orders")
    orders.poison = {"order-7", "order-12"}
    failed: list[events.BatchFailed] = []

    def heal(event: object) -> None:
        if isinstance(event, events.BatchFailed):
            failed.append(event)
            orders.poison.clear()

    pipeline = Pipeline(
        name="orders",
        source=MemorySource(controls.tables, stream_arn),
        handler=LambdaFunction(target=f"{__name__}:typed", report_batch_item_failures=True),
        starting_position="TRIM_HORIZON",
        poll_interval_s=0.01,
    )
    async with running(App(pipelines=(pipeline,), store="memory:"), observers=(heal,)) as worker:
        await worker.wait()
    assert len(failed) == 1
    assert isinstance(failed[0].error, PartialFailure)
    assert {image["id"] for _, image in orders.seen} == {f"order-{place}" for place in range(1, 21)}
