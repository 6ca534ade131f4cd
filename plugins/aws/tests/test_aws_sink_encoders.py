"""Records as entries of requests: what is in them, and how many bytes the service counts."""

from __future__ import annotations

import re
from datetime import UTC
from typing import Any

import msgspec
import orjson
import pytest

from streamflow.errors import MalformedRecordError
from streamflow.sdk import ConfigError, Record, payload
from streamflow.testing.sink_contract.changes import Changes
from streamflow_aws import eventbridge, firehose, kinesis, sns, sqs
from streamflow_aws.messages import MessageSettings, encoded

ACCOUNT = "123456789012"
STANDARD = sqs.sqs.configured({"queue_url": f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/orders"})
FIFO = sqs.sqs.configured({"queue_url": f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/orders.fifo"})
TOPIC = sns.sns.configured({"topic_arn": f"arn:aws:sns:eu-west-1:{ACCOUNT}:orders.fifo", "payload": "image"})


def changed(record: Record, **members: Any) -> Record:
    """The same record with other members at the top, or in its change."""
    body = orjson.loads(record.raw)
    body |= {name: value for name, value in members.items() if name in body}
    body["dynamodb"] |= {name: value for name, value in members.items() if name in body["dynamodb"]}
    return Record(msgspec.Raw(orjson.dumps(body)), record.shard)


def attribute_bytes(attributes: dict[str, dict[str, str]]) -> int:
    return sum(
        len(name.encode()) + sum(len(part.encode()) for part in value.values()) for name, value in attributes.items()
    )


# --- sqs, sns --------------------------------------------------------------------------------------------------------


def test_a_message_is_the_payload_with_attributes() -> None:
    record = Changes().put("a", note={"S": "żółć"})
    entry, size = sqs.encode(record, STANDARD)
    assert entry["MessageBody"].encode() == payload(record, "lambda")
    assert {name: value["StringValue"] for name, value in entry["MessageAttributes"].items()} == {
        "event_id": record.event_id,
        "event_name": "INSERT",
        "sequence_number": record.sequence_number,
        "shard_id": record.shard.shard_id,
    }
    assert size == len(payload(record, "lambda")) + attribute_bytes(entry["MessageAttributes"])
    assert entry.keys() == {"MessageBody", "MessageAttributes"}


def test_attributes_can_be_left_out() -> None:
    settings = STANDARD.model_copy(update={"attributes": False})
    record = Changes().put("a")
    assert sqs.encode(record, settings) == (
        {"MessageBody": payload(record, "lambda").decode()}, len(payload(record, "lambda"))
    )  # fmt: skip


def test_changes_of_one_item_are_a_group_and_each_is_a_message_of_its_own() -> None:
    changes = Changes()
    first, again, other = (sqs.encode(changes.put(name), FIFO)[0] for name in ("a", "a", "b"))
    assert first["MessageGroupId"] == again["MessageGroupId"] != other["MessageGroupId"]
    assert first["MessageDeduplicationId"] == changes.records[0].event_id
    assert len({entry["MessageDeduplicationId"] for entry in (first, again, other)}) == 3
    assert re.fullmatch("[0-9a-f]{64}", first["MessageGroupId"])


@pytest.mark.parametrize("event_id", ["", "with a space", "ü", "x" * 129])
def test_an_event_id_that_cannot_be_used_is_replaced_by_the_place_in_the_stream(event_id: str) -> None:
    changes = Changes()
    first, second = (changed(changes.put("a"), eventID=event_id) for _ in range(2))
    found = [sqs.encode(record, FIFO)[0]["MessageDeduplicationId"] for record in (first, first, second)]
    assert found[0] == found[1] != found[2]
    assert re.fullmatch("[0-9a-f]{64}", found[0])


def test_an_attribute_without_a_value_is_left_out() -> None:
    entry, _ = sqs.encode(changed(Changes().put("a"), eventID=""), STANDARD)
    assert entry["MessageAttributes"].keys() == {"event_name", "sequence_number", "shard_id"}


@pytest.mark.parametrize("form", ["lambda", "image", "change"])
def test_characters_that_sqs_does_not_take_are_escaped(form: str) -> None:
    record = Changes().put("a", note={"S": "\ufffe \uffff \x00 \x1f \U0001f600"})
    settings = MessageSettings.model_validate({"payload": form})
    entry, _ = encoded(record, settings, text_member="Message", is_fifo=False)
    # The set that SQS documents for message bodies.
    assert re.fullmatch("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*", entry["Message"])
    assert orjson.loads(entry["Message"]) == orjson.loads(payload(record, settings.payload))


def test_a_message_of_a_topic_has_the_same_parts() -> None:
    record = Changes().put("a")
    entry, size = sns.encode(record, TOPIC)
    assert entry["Message"].encode() == payload(record, "image")
    assert entry["MessageDeduplicationId"] == record.event_id
    assert size == len(payload(record, "image")) + attribute_bytes(entry["MessageAttributes"])


def test_the_name_tells_what_can_be_promised() -> None:
    standard = sqs.sqs(queue_url=STANDARD.queue_url).capabilities
    assert (standard.order, standard.idempotence) == ("none", "none")
    for fifo in (sqs.sqs(queue_url=FIFO.queue_url).capabilities, sns.sns(topic_arn=TOPIC.topic_arn).capabilities):
        assert (fifo.order, fifo.idempotence, fifo.idempotence_window_s) == ("key", "window", 300)
        assert fifo.idempotence_key == "event id"
    assert standard.record_bytes_max == 1 << 20
    assert standard.request_bytes_max == 700 << 10
    assert fifo.request_bytes_max == 256 << 10


# --- eventbridge -----------------------------------------------------------------------------------------------------


def test_an_event_tells_source_type_time_and_stream() -> None:
    settings = eventbridge.eventbridge.configured(
        {"bus": "orders", "source": "shop.orders", "detail_type": "order {event_name}", "payload": "change"}
    )
    changes = Changes()
    changes.put("a")
    record = changes.delete("a")
    entry, size = eventbridge.encode(record, settings)
    assert entry["DetailType"] == "order REMOVE"
    assert entry["Source"] == "shop.orders"
    assert entry["EventBusName"] == "orders"
    assert entry["Time"].timestamp() == record.created_at_s
    assert entry["Time"].tzinfo is UTC
    assert entry["Detail"].encode() == payload(record, "change")
    # 14 for the time, and the UTF-8 bytes of the others: how EventBridge says that it counts.
    assert size == 14 + sum(
        len(text.encode()) for text in (entry["Source"], entry["DetailType"], entry["Detail"], *entry["Resources"])
    )


@pytest.mark.parametrize("form", ["lambda", "image", "change"])
def test_the_detail_of_an_event_is_an_object(form: str) -> None:
    settings = eventbridge.eventbridge.configured({"payload": form})
    changes = Changes()
    for record in (changes.put("a"), changes.delete("a")):
        assert isinstance(orjson.loads(eventbridge.encode(record, settings)[0]["Detail"]), dict)


def test_a_record_without_a_time_gets_that_of_the_call() -> None:
    record = changed(Changes().put("a"), ApproximateCreationDateTime=0)
    assert "Time" not in eventbridge.encode(record, eventbridge.eventbridge.configured({}))[0]


def test_a_source_of_aws_itself_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="source: cannot begin with aws"):
        eventbridge.eventbridge(source="aws.orders")


# --- kinesis, firehose -----------------------------------------------------------------------------------------------


def test_the_partition_key_is_the_items_key() -> None:
    record = Changes().put("a")
    entry, size = kinesis.encode(record, kinesis.kinesis.configured({"stream": "orders"}))
    assert entry == {"Data": payload(record, "lambda"), "PartitionKey": record.item_key}
    assert size == len(entry["Data"]) + len(entry["PartitionKey"].encode())


def test_a_key_that_is_too_long_for_a_partition_key_is_hashed_and_stays_one_key() -> None:
    changes = Changes()
    keys = [kinesis.partition_key(changes.put(name)) for name in ("x" * 300, "x" * 300, "x" * 301)]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == 64


def test_a_newline_ends_each_record_where_it_is_asked_for() -> None:
    record = Changes().put("a")
    text = payload(record, "lambda")
    assert b"\n" not in text
    assert firehose.encode(record, firehose.firehose.configured({"stream": "orders"})) == (
        {"Data": text + b"\n"},
        len(text) + 1,
    )
    bare = firehose.firehose.configured({"stream": "orders", "newline": False})
    assert firehose.encode(record, bare) == ({"Data": text}, len(text))
    lines = kinesis.kinesis.configured({"stream": "orders", "newline": True})
    assert kinesis.encode(record, lines)[0]["Data"] == text + b"\n"


def test_a_record_that_cannot_be_read_is_malformed() -> None:
    record = Record(msgspec.Raw(b'{"eventID": 1}'), Changes().put("a").shard)
    with pytest.raises(MalformedRecordError):
        sqs.encode(record, FIFO)
    with pytest.raises(MalformedRecordError):
        kinesis.encode(record, kinesis.kinesis.configured({"stream": "orders"}))
