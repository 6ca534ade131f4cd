"""Each sink of AWS is permitted what it calls on MiniStack, and nothing else; MiniStack itself permits everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
from aiobotocore.client import AioBaseClient

from far_functions import Function
from far_messages import REGION, Bus, Delivery, Queue, Stream, Topic, client
from policies import check_policy
from streamflow.cli.policy import Grant, policy
from streamflow.sdk import AwsSettings
from streamflow.testing.sink_contract import Changes
from streamflow.testing.sink_contract.opened import open_sink
from streamflow_aws.aws_call import aws_call
from streamflow_aws.call_permissions import permission
from streamflow_aws.dynamodb import dynamodb
from streamflow_aws.eventbridge import eventbridge
from streamflow_aws.firehose import firehose
from streamflow_aws.kinesis import kinesis
from streamflow_aws.lambda_invoke import lambda_invoke
from streamflow_aws.s3 import s3
from streamflow_aws.sns import sns
from streamflow_aws.sqs import sqs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.sdk import SinkDeclaration

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

FUNCTION = "def handler(event, context):\n    return {}\n"


class Calls:
    """What IAM would have been asked for the calls of clients: operations, and the parts of transactions."""

    def __init__(self) -> None:
        self.actions: set[str] = set()

    def note(self, service: str, operation: str, arguments: dict[str, Any]) -> None:
        parts = [f"{kind}Item" for item in arguments.get("TransactItems", ()) for kind in item] or [operation]
        self.actions.update(action for part in parts for action in permission(service, part, {}).actions)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    found = Calls()
    call = AioBaseClient._make_api_call

    async def noted(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
        found.note(self.meta.service_model.service_name, operation, arguments)
        return await call(self, operation, arguments)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", noted)
    return found


async def used(sink: SinkDeclaration, endpoint: str) -> set[str]:
    """Write to it as two owners, one after the other, and return the actions that it says it needs."""
    changes = Changes()
    for epoch in (1, 2):
        async with open_sink(sink, pipeline="orders", aws=AwsSettings(region=REGION, endpoint_url=endpoint)) as opened:
            records = [*changes.put_many(3, items=2), changes.delete("item0")]
            keeps_checkpoint = sink.capabilities.idempotence == "transactional"
            if keeps_checkpoint:
                await opened.fence(records[0].shard, epoch)
            for record in records:
                await opened.write(changes.batch(record, epoch=epoch))
            if keeps_checkpoint:
                filtered = changes.put("item1")
                await opened.transactional.advance(filtered.shard, epoch, filtered.position)
    assert sink.plugin.permissions is not None
    needed = sink.plugin.permissions(sink.settings)
    grants = [Grant(role=None, region=REGION, permission=each) for each in needed]
    check_policy(policy(grants, partition=None, region=None, account="123456789012"))
    return {action for each in needed for action in each.actions}


async def test_a_message_sink_needs_what_it_calls(ministack: str, calls: Calls) -> None:
    queue = Queue(ministack, "orders")
    assert await used(sqs(queue_url=queue.url), ministack) == calls.actions
    queue.close()
    calls.actions.clear()
    topic = Topic(ministack, "orders")
    assert await used(sns(topic_arn=topic.arn), ministack) == calls.actions
    topic.close()


async def test_an_event_sink_needs_what_it_calls(ministack: str, calls: Calls) -> None:
    bus = Bus(ministack, "orders", source="streamflow")
    assert await used(eventbridge(bus="orders"), ministack) == calls.actions
    bus.close()


async def test_a_stream_sink_needs_what_it_calls(ministack: str, calls: Calls) -> None:
    stream = Stream(ministack, "orders")
    assert await used(kinesis(stream="orders"), ministack) == calls.actions
    stream.close()
    calls.actions.clear()
    delivery = Delivery(ministack, "orders")
    assert await used(firehose(stream="orders"), ministack) == calls.actions
    delivery.close()


async def test_a_function_may_be_invoked(ministack: str, calls: Calls) -> None:
    function = Function(ministack, "orders", FUNCTION)
    assert await used(lambda_invoke(function="orders"), ministack) == calls.actions == {"lambda:InvokeFunction"}
    await anyio.to_thread.run_sync(function.close)


@pytest.fixture
def tables(ministack: str) -> Iterator[None]:
    opened = client("dynamodb", ministack)
    for table in ("copy", "checkpoints"):
        opened.create_table(
            TableName=table,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    yield
    opened.close()


@pytest.mark.parametrize("tombstones", [True, False])
@pytest.mark.parametrize("transactional", [True, False])
async def test_a_table_sink_needs_what_it_calls(
    ministack: str, tables: None, calls: Calls, tombstones: bool, transactional: bool
) -> None:
    checkpoints = {"transactional": True, "checkpoint_table": "checkpoints"} if transactional else {}
    sink = dynamodb(table="copy", tombstones=tombstones, **checkpoints)
    assert await used(sink, ministack) == calls.actions


@pytest.mark.parametrize("transactional", [True, False])
async def test_an_object_sink_needs_what_it_calls(ministack: str, calls: Calls, transactional: bool) -> None:
    opened = client("s3", ministack)
    opened.create_bucket(Bucket="archive")
    assert await used(s3(bucket="archive", prefix="all", transactional=transactional), ministack) == calls.actions
    opened.close()


async def test_any_call_needs_that_call(ministack: str, calls: Calls) -> None:
    queue = Queue(ministack, "orders")
    sink = aws_call(
        service="sqs",
        operation="SendMessage",
        parameters={"QueueUrl": queue.url, "MessageBody": "${payload}"},
    )
    assert await used(sink, ministack) == calls.actions == {"sqs:SendMessage"}
    queue.close()
