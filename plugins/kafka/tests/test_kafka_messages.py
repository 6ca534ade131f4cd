"""Records as messages, and reports on messages as outcomes of records."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from confluent_kafka import KafkaError

from streamflow.sdk import MalformedRecordError, Record, RecordRefusedError, Rejection, Shard
from streamflow.testing.sink_contract import Changes
from streamflow_kafka.messages import encode, key_of, message_bytes
from streamflow_kafka.outcomes import PURGED, failures, rejection
from streamflow_kafka.settings import KafkaSettings
from streamflow_kafka.transactions import select


def settings(**values: Any) -> KafkaSettings:
    return KafkaSettings(**{"bootstrap_servers": "localhost:9092", "topic": "orders", **values})


def broken() -> Record:
    return Record(msgspec.Raw(b'{"eventName":"INSERT"}'), Shard(stream_arn="arn:stream", shard_id="shard"))


def test_a_message_has_the_item_as_its_key_and_says_which_change_it_is() -> None:
    changes = Changes()
    record = changes.put("item")
    message = encode(record, settings())
    assert orjson.loads(message.key) == {"id": {"S": changes.item("item")}}
    assert message.value == record.lambda_event_json()
    headers = dict(message.headers)
    assert headers["_sf_event_id"] == record.event_id.encode()
    assert headers["_sf_shard"] == record.shard.shard_id.encode()
    assert headers["_sf_event_name"] == b"INSERT"


def test_sequence_numbers_of_any_length_order_as_text() -> None:
    changes = Changes()
    records = changes.put_many(40, items=4)
    numbers = [dict(encode(record, settings()).headers)["_sf_seq"] for record in records]
    assert len({len(record.sequence_number) for record in records}) > 1
    assert numbers == sorted(numbers)  # type: ignore[type-var]


@pytest.mark.parametrize("tombstones", [False, True])
def test_a_delete_is_an_image_or_a_tombstone(tombstones: bool) -> None:
    changes = Changes()
    changes.put("item")
    message = encode(changes.delete("item"), settings(payload="image", tombstones=tombstones))
    if tombstones:
        assert message.value is None
    else:
        assert orjson.loads(message.value or b"") == {"id": changes.item("item"), "__deleted": True}


def test_a_message_beyond_the_limit_is_refused_and_one_at_it_is_not() -> None:
    record = Changes().put("item", blob={"S": "x" * 2_000})
    size = message_bytes(encode(record, settings()))
    assert encode(record, settings(record_bytes_max=size))
    with pytest.raises(RecordRefusedError, match=f"{size} bytes"):
        encode(record, settings(record_bytes_max=size - 1))


def test_a_record_that_cannot_be_read_has_no_message() -> None:
    with pytest.raises(MalformedRecordError):
        encode(broken(), settings())
    assert key_of(broken()) is None


def test_later_changes_of_an_item_that_was_not_written_wait() -> None:
    records = Changes().put_many(6, items=2)
    keys = [b"even", b"odd"] * 3
    failed = Rejection("failed", "gone")
    refused = Rejection("refused", "too large")
    told = failures(records, keys, [None, failed, None, None, None, refused])
    assert [(each.record, each.kind) for each in told] == [
        (records[1], "failed"),
        (records[3], "waiting"),
        (records[5], "refused"),
    ]
    assert failures(records, keys, [None] * 6) == []


def test_what_an_error_says_about_a_record() -> None:
    def kind(code: int, *, gave_up: bool = False) -> str:
        return rejection(KafkaError(code), gave_up=gave_up).kind

    assert kind(KafkaError.MSG_SIZE_TOO_LARGE) == "refused"
    assert kind(KafkaError.NOT_LEADER_FOR_PARTITION) == "failed"
    assert kind(KafkaError.TOPIC_AUTHORIZATION_FAILED) == "failed"
    assert kind(KafkaError._PURGE_QUEUE, gave_up=True) == "failed"
    assert rejection(KafkaError(KafkaError._PURGE_INFLIGHT), gave_up=False) == PURGED


def test_a_transaction_takes_what_is_new_up_to_the_first_that_cannot_be() -> None:
    changes = Changes()
    small = changes.put_many(4)
    large = changes.put("large", blob={"S": "x" * 3_000})
    behind = changes.put("behind")
    limit = settings(record_bytes_max=2_000)
    selection = select([*small, large, behind], small[1].position, limit)
    assert (selection.stored, list(selection.records)) == (2, small[2:])
    assert len(selection.messages) == 2
    assert "record_bytes_max" in (selection.refusal or "")
    whole = select(small, None, limit)
    assert (whole.stored, list(whole.records), whole.refusal) == (0, small, None)
    assert select([broken()], small[1].position, limit).refusal is not None
