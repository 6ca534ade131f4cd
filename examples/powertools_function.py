"""An AWS Lambda function with Powertools' batch processor, as it is deployed; run as a script, behind a table's stream.

Its processor keeps the batch on itself, in a global, so the function must not be called twice at a time: on AWS it never
is, and here neither, unless `LambdaFunction.concurrency` is more than 1.
"""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.dynamo_db_stream_event import DynamoDBRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

logger = Logger(service="orders")
processor = BatchProcessor(event_type=EventType.DynamoDBStreams)


def note_change(record: DynamoDBRecord, lambda_context: LambdaContext) -> None:
    """Raising reports this record: Lambda, and streamflow, send it and what follows it again."""
    change = record.dynamodb
    if change is None or record.event_name is None:
        raise ValueError("not a change of an item")
    total = change.new_image.get("total", 0)  # native Python: numbers are Decimal
    logger.info(
        "order changed",
        id=change.keys["id"],
        event=record.event_name.name,
        total=float(total),
        left_ms=lambda_context.get_remaining_time_in_millis(),
    )


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> object:
    return process_partial_response(event=event, record_handler=note_change, processor=processor, context=context)


if __name__ == "__main__":
    import asyncio

    import streamflow

    orders = streamflow.Pipeline(
        name="orders-powertools",
        source=streamflow.DynamoDBStream(table="orders"),
        handler=streamflow.LambdaFunction(
            target="powertools_function:handler", timeout_s=30.0, report_batch_item_failures=True
        ),
        starting_position="TRIM_HORIZON",
    )
    asyncio.run(streamflow.run(streamflow.App(pipelines=(orders,), store="sqlite:///orders-powertools.db")))
