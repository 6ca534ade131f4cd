"""What arrives at the far end of the messaging sinks, beyond the payload, on MiniStack."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from far_messages import REGION, Bus, Delivery, Queue, Stream, Topic
from streamflow.sdk import AwsSettings, RecordsFailedError, payload
from streamflow.testing.sink_contract import Changes
from streamflow.testing.sink_contract.opened import open_sink
from streamflow_aws.eventbridge import eventbridge
from streamflow_aws.firehose import firehose
from streamflow_aws.kinesis import kinesis
from streamflow_aws.sns import sns
from streamflow_aws.sqs import sqs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.sdk import SinkDeclaration
    from streamflow.testing.sink_contract.opened import OpenSink

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@asynccontextmanager
async def opened(endpoint: str, sink: SinkDeclaration) -> AsyncIterator[OpenSink]:
    aws = AwsSettings(region=REGION, endpoint_url=endpoint)
    async with open_sink(sink, pipeline="orders", aws=aws) as writer:
        yield writer


async def test_a_message_of_a_queue_has_attributes(ministack: str) -> None:
    queue, changes = Queue(ministack, "orders"), Changes()
    record = changes.put("a", note={"S": "\ufffe żółć \uffff"})
    async with opened(ministack, sqs(queue_url=queue.url, payload="image")) as sink:
        await sink.write(changes.batch(record))
    (body,) = queue.receive()
    queue.close()
    assert json.loads(body) == json.loads(payload(record, "image"))
    assert {name: value["StringValue"] for name, value in queue.messages[0]["MessageAttributes"].items()} == {
        "event_id": record.event_id,
        "event_name": "INSERT",
        "sequence_number": record.sequence_number,
        "shard_id": record.shard.shard_id,
    }


async def test_a_fifo_queue_shows_each_items_changes_in_order_and_a_repetition_once(ministack: str) -> None:
    queue, changes = Queue(ministack, "orders.fifo"), Changes()
    records = changes.put_many(12, items=3)
    async with opened(ministack, sqs(queue_url=queue.url)) as sink:
        for _ in range(2):
            await sink.write(changes.batch(*records))
    assert len(queue.receive()) == 12
    queue.close()
    groups: dict[str, list[str]] = {}
    for message in queue.messages:
        group = message["Attributes"]["MessageGroupId"]
        groups.setdefault(group, []).append(message["Attributes"]["MessageDeduplicationId"])
    expected = [[record.event_id for record in records[item::3]] for item in range(3)]
    assert sorted(groups.values()) == sorted(expected)


@pytest.mark.fault("F12")
async def test_a_record_beyond_the_limit_of_the_queue_is_refused_and_the_others_arrive(ministack: str) -> None:
    queue, changes = Queue(ministack, "orders", MaximumMessageSize="2048"), Changes()
    small, large, last = changes.put("a"), changes.put("b", blob={"S": "x" * 3000}), changes.put("c")
    async with opened(ministack, sqs(queue_url=queue.url, attributes=False)) as sink:
        with pytest.raises(RecordsFailedError) as failed:
            await sink.write(changes.batch(small, large, last))
    assert [(each.record, each.kind) for each in failed.value.failures] == [(large, "refused")]
    assert sorted(queue.receive()) == sorted(payload(record, "lambda").decode() for record in (small, last))
    queue.close()


async def test_a_notification_has_attributes_that_filter_policies_can_match(ministack: str) -> None:
    topic, changes = Topic(ministack, "orders"), Changes()
    record = changes.put("a")
    async with opened(ministack, sns(topic_arn=topic.arn, payload="change")) as sink:
        await sink.write(changes.batch(record))
    (notification,) = topic.notifications()
    topic.close()
    assert json.loads(notification["Message"]) == json.loads(payload(record, "change"))
    assert notification["MessageAttributes"]["event_name"] == {"Type": "String", "Value": "INSERT"}


async def test_an_event_has_source_and_type_and_the_stream_as_resource(ministack: str) -> None:
    # Its time is not looked at: MiniStack tells that of the call, whatever it is sent.
    bus, changes = Bus(ministack, "orders", source="shop.orders"), Changes()
    record = changes.put("a")
    settings = {"source": "shop.orders", "detail_type": "order {event_name}", "payload": "image"}
    async with opened(ministack, eventbridge(bus="orders", **settings)) as sink:
        await sink.write(changes.batch(record))
    (event,) = bus.events()
    bus.close()
    assert event["detail-type"] == "order INSERT"
    assert event["resources"] == [changes.stream_arn]
    assert event["detail"] == json.loads(payload(record, "image"))


async def test_all_changes_of_an_item_are_in_one_shard_and_in_order(ministack: str) -> None:
    stream, changes = Stream(ministack, "orders", shards=4), Changes()
    records = changes.put_many(60, items=6)
    async with opened(ministack, kinesis(stream="orders")) as sink:
        await sink.write(changes.batch(*records))
    found = stream.records()
    stream.close()
    for item in range(6):
        expected = records[item::6]
        ours = [each for each in found if each["PartitionKey"] == expected[0].item_key]
        assert [each["Data"] for each in ours] == [payload(record, "lambda") for record in expected]


async def test_a_stream_may_be_named_by_its_arn(ministack: str) -> None:
    stream, changes = Stream(ministack, "orders"), Changes()
    record = changes.put("a")
    arn = f"arn:aws:kinesis:{REGION}:000000000000:stream/orders"
    async with opened(ministack, kinesis(stream=arn, payload="image")) as sink:
        await sink.write(changes.batch(record))
    assert [each["Data"] for each in stream.records()] == [payload(record, "image")]
    stream.close()


async def test_firehose_delivers_lines(ministack: str) -> None:
    delivery, changes = Delivery(ministack, "orders"), Changes()
    records = changes.put_many(3)
    async with opened(ministack, firehose(stream="orders", payload="change")) as sink:
        await sink.write(changes.batch(*records))
    assert sorted(delivery.lines()) == sorted(payload(record, "change") for record in records)
    delivery.close()
