"""Settings of the NATS sink, and records as messages."""

from __future__ import annotations

from typing import Any

import pytest

from streamflow.sdk import ConfigError, RecordRefusedError
from streamflow.testing.sink_contract import Changes
from streamflow_nats import nats
from streamflow_nats.connections import read_ack
from streamflow_nats.messages import Encoder, is_stored, key_hash, message_bytes, subject_token


def encoder(**values: Any) -> Encoder:
    given = {"pipeline": "orders", "stream": "CDC", "subject": "cdc.{table}.{key_hash}", "form": "lambda"}
    return Encoder(**{**given, "bytes_max": 1_000_000, **values})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"servers": "nats://somebody:hunter2@localhost:4222"}, "settings of these names"),
        ({"subject": "cdc.*"}, "a subject is names with dots"),
        ({"subject": "cdc..x"}, "a subject is names with dots"),
        ({"subject": "cdc.{tabel}"}, "a subject is names with dots"),
        ({"stream": "a.b"}, "stream"),
        ({"username": "somebody"}, "username and password go together"),
        ({"username": "somebody", "password": "hunter2", "token": "hunter2"}, "choose one"),
        ({"certificate_file": "a.pem"}, "certificate_file and key_file go together"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_reason(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        nats(**{"servers": "nats://localhost:4222", "stream": "CDC", **values})
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value).replace("somebody:hunter2@", "")


def test_the_window_of_idempotence_is_the_one_that_is_asked_for() -> None:
    declared = nats(servers="nats://localhost:4222", stream="CDC", duplicate_window_s=600)
    assert declared.capabilities.idempotence_window_s == 600


def test_a_message_says_which_change_it_is() -> None:
    changes = Changes()
    record = changes.put("item")
    message, size = encoder()(record)
    assert message.subject == f"cdc.contract.{key_hash(record.item_key)}"
    assert message.payload == record.lambda_event_json()
    assert message.headers["Nats-Msg-Id"] == f"orders/{record.event_id}"
    assert message.headers["Nats-Expected-Stream"] == "CDC"
    assert message.headers["_sf_shard"] == record.shard.shard_id
    assert message.headers["_sf_event_name"] == "INSERT"
    assert size == message_bytes(message) > len(message.payload)


def test_all_changes_of_an_item_have_one_subject_and_other_items_others() -> None:
    changes = Changes()
    first, second, other = changes.put("item"), changes.delete("item"), changes.put("other")
    subjects = [encoder()(record)[0].subject for record in (first, second, other)]
    assert subjects[0] == subjects[1] != subjects[2]


def test_two_pipelines_do_not_take_each_others_messages_for_repetitions() -> None:
    record = Changes().put("item")
    one, other = (encoder(pipeline=name)(record)[0].headers["Nats-Msg-Id"] for name in ("orders", "audit"))
    assert one != other


def test_sequence_numbers_of_any_length_order_as_text() -> None:
    records = Changes().put_many(40, items=4)
    numbers = [encoder()(record)[0].headers["_sf_seq"] for record in records]
    assert len({len(record.sequence_number) for record in records}) > 1
    assert numbers == sorted(numbers)


def test_a_message_beyond_the_limit_is_refused_and_one_at_it_is_not() -> None:
    record = Changes().put("item", blob={"S": "x" * 2_000})
    _, size = encoder()(record)
    assert encoder(bytes_max=size)(record)[1] == size
    with pytest.raises(RecordRefusedError, match=f"{size} bytes"):
        encoder(bytes_max=size - 1)(record)


def test_a_dot_in_a_tables_name_begins_no_other_part_of_the_subject() -> None:
    assert subject_token("shop.orders-eu") == "shop_orders-eu"


@pytest.mark.parametrize(
    ("subject", "filters", "stored"),
    [
        ("orders", ["orders"], True),
        ("orders", ["payments", "orders"], True),
        ("orders", ["orders.>"], False),
        ("orders", [">"], True),
        ("cdc.orders.1", ["cdc.>"], True),
        ("cdc.orders.1", ["cdc.*.1"], True),
        ("cdc.orders.1", ["cdc.*"], False),
        ("cdc.orders", ["cdc.*.*"], False),
        ("cdc.orders", ["*.orders.>"], False),
        ("cdc.orders", [], False),
    ],
)
def test_which_subjects_a_stream_stores(subject: str, filters: list[str], stored: bool) -> None:
    assert is_stored(subject, filters) is stored


@pytest.mark.parametrize(
    ("data", "headers", "kind", "known"),
    [
        (b'{"stream":"CDC","seq":1}', None, None, False),
        (b'{"stream":"CDC","seq":1,"duplicate":true}', None, None, True),
        (b"", {"Status": "503"}, "failed", False),
        (
            b'{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum"}}',
            None,
            "refused",
            False,
        ),
        (b'{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}', {}, "failed", False),
    ],
)
def test_what_an_acknowledgement_says(
    data: bytes, headers: dict[str, str] | None, kind: str | None, known: bool
) -> None:
    rejection, had = read_ack(data, headers)
    assert (None if rejection is None else rejection.kind, had) == (kind, known)
