"""Services as they are on MiniStack: a function that reports, fails and keeps a window; logs, executions and fences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest

from far_functions import Function
from far_messages import REGION, client
from streamflow.batches import Window
from streamflow.sdk import AwsSettings, FencedError, LambdaFunctionError, PartialFailure
from streamflow.testing.sink_contract import Changes
from streamflow.testing.sink_contract.opened import open_sink
from streamflow_aws.aws_call import aws_call
from streamflow_aws.dynamodb import dynamodb
from streamflow_aws.lambda_invoke import lambda_invoke
from streamflow_aws.s3 import s3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.sdk import Batch, SinkDeclaration

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

FUNCTION = """
def handler(event, context):
    records = event["Records"]
    names = [record["dynamodb"]["NewImage"]["id"]["S"].partition("-")[2] for record in records]
    if "raises" in names:
        raise ValueError("the text of an item")
    if "window" in event:
        return {"state": {"seen": event["state"].get("seen", 0) + len(records)}}
    failed = [record["dynamodb"]["SequenceNumber"] for record, name in zip(records, names) if name == "bad"]
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}
"""


@pytest.fixture
def aws(ministack: str) -> AwsSettings:
    return AwsSettings(region=REGION, endpoint_url=ministack)


@pytest.fixture
def function(ministack: str) -> Iterator[SinkDeclaration]:
    made = Function(ministack, "orders", FUNCTION)
    yield lambda_invoke(function="orders", report_batch_item_failures=True)
    made.close()


async def write(sink: SinkDeclaration, batch: Batch, aws: AwsSettings) -> None:
    async with open_sink(sink, pipeline="orders", aws=aws) as opened:
        await opened.write(batch)


async def test_a_function_reports_the_records_that_failed(function: SinkDeclaration, aws: AwsSettings) -> None:
    changes = Changes()
    changes.put("good")
    bad = changes.put("bad")
    changes.put("behind")
    with pytest.raises(PartialFailure) as caught:
        await write(function, changes.batch(*changes.records), aws)
    assert caught.value.sequence_numbers == (bad.sequence_number,)


async def test_a_function_that_raises_fails_the_batch_and_its_text_is_not_told(
    function: SinkDeclaration, aws: AwsSettings
) -> None:
    changes = Changes()
    with pytest.raises(LambdaFunctionError) as caught:
        await write(function, changes.batch(changes.put("raises")), aws)
    assert str(caught.value).startswith("lambda function orders failed: Unhandled ")
    assert "text of an item" not in str(caught.value)


async def test_a_function_keeps_the_state_of_a_window(function: SinkDeclaration, aws: AwsSettings) -> None:
    changes = Changes()
    window = Window(start_s=0, end_s=60, state={"seen": 2})
    await write(function, changes.batch(*changes.put_many(3)).again(window=window), aws)
    assert window.state == {"seen": 5}


async def test_changes_become_events_of_a_log(ministack: str, aws: AwsSettings) -> None:
    logs = client("logs", ministack)
    logs.create_log_group(logGroupName="orders")
    logs.create_log_stream(logGroupName="orders", logStreamName="changes")
    sink = aws_call(
        service="logs",
        operation="PutLogEvents",
        parameters={
            "logGroupName": "orders",
            "logStreamName": "changes",
            "logEvents": [{"timestamp": "${created_at_ms}", "message": "${payload}"}],
        },
        payload="change",
    )
    changes = Changes()
    await write(sink, changes.batch(*changes.put_many(3, items=1)), aws)
    found = await anyio.to_thread.run_sync(lambda: logs.get_log_events(logGroupName="orders", logStreamName="changes"))
    logs.close()
    told = [json.loads(event["message"])["source"]["event_id"] for event in found["events"]]
    assert told == [record.event_id for record in changes.records]


async def test_changes_start_executions_and_each_of_them_once(ministack: str, aws: AwsSettings) -> None:
    steps = client("stepfunctions", ministack)
    definition = {"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
    machine = steps.create_state_machine(
        name="orders", definition=json.dumps(definition), roleArn="arn:aws:iam::000000000000:role/orders"
    )["stateMachineArn"]
    sink = aws_call(
        service="stepfunctions",
        operation="StartExecution",
        parameters={"stateMachineArn": machine, "name": "${event_id}", "input": '{"version": ${new_image.version}}'},
        done_codes=["ExecutionAlreadyExists"],
    )
    changes = Changes()
    changes.put_many(3, items=1)
    for _ in range(2):
        await write(sink, changes.batch(*changes.records), aws)

    def executions() -> dict[str, Any]:
        found = steps.list_executions(stateMachineArn=machine)["executions"]
        return {
            each["name"]: json.loads(steps.describe_execution(executionArn=each["executionArn"])["input"])
            for each in found
        }

    told = await anyio.to_thread.run_sync(executions)
    steps.close()
    assert told == {record.event_id: {"version": place} for place, record in enumerate(changes.records, start=1)}


@pytest.fixture
def tables(ministack: str) -> Iterator[None]:
    service = client("dynamodb", ministack)
    for table in ("copy", "checkpoints"):
        service.create_table(
            TableName=table,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    yield
    service.close()


@pytest.fixture
def bucket(ministack: str) -> Iterator[None]:
    service = client("s3", ministack)
    service.create_bucket(Bucket="archive")
    yield
    service.close()


async def told_newest(sink: SinkDeclaration, aws: AwsSettings) -> int | None:
    """What an owner with the epoch 3 is told, where one with the epoch 7 has been."""
    changes = Changes()
    shard = changes.put("one").shard
    async with open_sink(sink, pipeline="orders", aws=aws) as opened:
        await opened.fence(shard, 7)
        with pytest.raises(FencedError) as fenced:
            await opened.fence(shard, 3)
    return fenced.value.epoch


@pytest.mark.usefixtures("tables")
async def test_an_older_owner_of_a_table_is_told_the_newest_epoch(aws: AwsSettings) -> None:
    assert await told_newest(dynamodb(table="copy", transactional=True, checkpoint_table="checkpoints"), aws) == 7


@pytest.mark.usefixtures("bucket")
async def test_an_older_owner_of_a_bucket_is_told_the_newest_epoch(aws: AwsSettings) -> None:
    assert await told_newest(s3(bucket="archive", prefix="all/orders", transactional=True), aws) == 7
