"""Records as items of a DynamoDB table, in wire form: keys, marks, tombstones, and what does not fit."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import orjson
import pytest

from streamflow.sdk import Record, RecordRefusedError, sortable
from streamflow.testing.items import attributes_bytes
from streamflow.testing.sink_contract import Changes
from streamflow_aws.dynamodb_items import Form, Table, encode
from streamflow_aws.dynamodb_sizes import item_bytes
from streamflow_aws.templates import parse

COPY = Form(table=Table(name="copy", key={"id": "S"}))
VIEW = Form(
    table=Table(name="view", key={"pk": "S"}),
    key={"pk": parse("ITEM#{id}", opening="{")},
    attributes={"amount": "total"},
)


def item_of(record: Record, form: Form = COPY) -> dict[str, Any]:
    change, _ = encode(record, form)
    assert change is not None
    assert change.item is not None
    return change.item


def marks(record: Record) -> dict[str, Any]:
    return {
        "_sf_seq": {"S": sortable(record.sequence_number)},
        "_sf_shard": {"S": record.shard.shard_id},
        "_sf_event_id": {"S": record.event_id},
    }


def changed(record: Record, **members: Any) -> Record:
    """The same record with other members of its change; None takes one away."""
    body = orjson.loads(record.raw)
    body["dynamodb"] |= members
    body["dynamodb"] = {name: value for name, value in body["dynamodb"].items() if value is not None}
    return Record(msgspec.Raw(orjson.dumps(body)), record.shard)


def test_an_item_is_the_image_as_the_stream_has_it_with_marks() -> None:
    changes = Changes()
    attributes: dict[str, Any] = {
        "n": {"N": "12345678901234567890123456789012345678"},
        "m": {"M": {"l": {"L": [{"NULL": True}]}}},
    }
    record = changes.put("a", **attributes)
    key = {"id": {"S": changes.item("a")}}
    assert item_of(record) == {**key, "version": {"N": "1"}, **attributes, **marks(record)}
    change, size = encode(record, COPY)
    assert change is not None
    assert change.key == key
    assert change.version == sortable(record.sequence_number)
    assert size == len(record.raw)


def test_binary_values_become_bytes_wherever_they_are() -> None:
    text = base64.b64encode(b"\x00\xff").decode()
    record = Changes().put("a", b={"B": text}, bs={"BS": [text]}, l={"L": [{"M": {"b": {"B": text}}}]}, s={"S": "B"})
    item = item_of(record)
    assert item["b"] == {"B": b"\x00\xff"}
    assert item["bs"] == {"BS": [b"\x00\xff"]}
    assert item["l"] == {"L": [{"M": {"b": {"B": b"\x00\xff"}}}]}
    assert item["s"] == {"S": "B"}


def test_a_delete_leaves_a_tombstone_or_goes() -> None:
    changes = Changes()
    changes.put("a", total={"N": "1"})
    record = changes.delete("a")
    key = {"id": {"S": changes.item("a")}}
    assert item_of(record) == {**key, **marks(record), "_sf_deleted": {"BOOL": True}}
    expiring = Form(table=COPY.table, tombstone_ttl_s=86_400.0)
    assert item_of(record, expiring)["_sf_expires"] == {"N": str(int(record.created_at_s) + 86_400)}
    gone, _ = encode(record, Form(table=COPY.table, tombstones=False))
    assert gone is not None
    assert (gone.item, gone.key) == (None, key)


def test_an_image_that_is_itself_such_a_copy_gets_marks_of_its_own() -> None:
    record = Changes().put("a", _sf_seq={"S": "other"}, _sf_shard={"S": "other"}, _sf_event_id={"S": "other"})
    assert {name: value for name, value in item_of(record).items() if name in marks(record)} == marks(record)


def test_the_tombstone_of_a_copy_is_a_delete() -> None:
    record = Changes().put("a", _sf_deleted={"BOOL": True}, _sf_seq={"S": "other"})
    item = item_of(record)
    assert item["_sf_deleted"] == {"BOOL": True}
    assert "version" not in item


def test_another_form_has_the_key_of_its_template_and_the_attributes_that_were_chosen() -> None:
    changes = Changes()
    record = changes.put("a", total={"N": "7.5"}, secret={"S": "x"})
    assert item_of(record, VIEW) == {"pk": {"S": f"ITEM#{changes.item('a')}"}, "amount": {"N": "7.5"}, **marks(record)}
    assert "amount" not in item_of(changes.put("b"), VIEW)
    assert item_of(changes.delete("a"), VIEW).keys() == {"pk", *marks(record), "_sf_deleted"}


def test_a_template_that_is_one_name_keeps_the_type() -> None:
    record = changed(Changes().put("a"), Keys={"n": {"N": "5"}, "s": {"S": "x"}})
    form = Form(
        table=Table(name="view", key={"pk": "N", "sk": "S"}),
        key={"pk": parse("{n}", opening="{"), "sk": parse("{s}#{n}", opening="{")},
    )
    item = item_of(record, form)
    assert (item["pk"], item["sk"]) == ({"N": "5"}, {"S": "x#5"})


@pytest.mark.parametrize(
    ("form", "members", "reason"),
    [
        (COPY, {"Keys": {"other": {"S": "x"}}}, "the table copy has the key id, and the item has other"),
        (COPY, {"Keys": {"id": {"N": "1"}}}, "the key id of the table copy is of type S"),
        (COPY, {"NewImage": None}, "no new images"),
        (COPY, {"NewImage": {"id": {"S": "x"}, "b": {"B": "?"}}}, "no DynamoDB value"),
        (COPY, {"Keys": 5}, "no DynamoDB value"),
        (VIEW, {"Keys": {"id": {"S": "x"}, "more": {"S": "y"}}}, "made of id, that of the item is id, more"),
        (VIEW, {"Keys": {"id": {"B": "eA=="}}}, "id is binary"),
        (COPY, {"NewImage": {"id": {"S": "x"}, "s": {"S": "ż" * 205_000}}}, "DynamoDB takes 409600"),
    ],
)
def test_what_does_not_fit_is_refused(form: Form, members: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordRefusedError, match=reason):
        encode(changed(Changes().put("a"), **members), form)


def test_the_size_of_an_item_is_what_dynamodb_takes_it_to_be() -> None:
    attributes: dict[str, dict[str, Any]] = {
        "text": {"S": "ż" * 7}, "n": {"N": "-12.50"}, "big": {"N": "1" + "0" * 30}, "b": {"B": "AAEC"}, "t": {"BOOL": True},
        "ss": {"SS": ["a", "bc"]}, "ns": {"NS": ["1", "22.5"]}, "bs": {"BS": ["AA==", "AAE="]}, "z": {"NULL": True},
        "l": {"L": [{"S": "x"}, {"L": []}]}, "m": {"M": {"k": {"M": {}}, "i": {"N": "0"}}},
    }  # fmt: skip
    item = item_of(Changes().put("a", **attributes))
    wire = orjson.loads(orjson.dumps(item, default=lambda value: base64.b64encode(value).decode()))
    assert item_bytes(item) == attributes_bytes(wire)


# --- replication in both directions ----------------------------------------------------------------------------------

BOTH_WAYS = Form(table=COPY.table, skip_replicated=True)


def test_a_change_that_a_sink_made_is_left_out_and_one_of_a_user_is_not() -> None:
    changes = Changes()
    written = changes.put("a", _sf_event_id={"S": "one"})
    written_again = changes.put("a", _sf_event_id={"S": "two"})
    updated = changes.put("a", _sf_event_id={"S": "two"}, note={"S": "of a user, who left the marks alone"})
    replaced = changes.put("a", note={"S": "of a user, who wrote all of it anew"})
    deleted = changes.delete("a")
    found = [encode(record, BOTH_WAYS)[0] is None for record in changes.records]
    assert found == [True, True, False, False, False]
    assert changes.records == [written, written_again, updated, replaced, deleted]
    assert encode(written, COPY)[0] is not None


def test_telling_them_apart_takes_both_images() -> None:
    changes = Changes()
    changes.put("a")
    record = changed(changes.put("a", _sf_event_id={"S": "one"}), OldImage=None)
    with pytest.raises(RecordRefusedError, match="NEW_AND_OLD_IMAGES"):
        encode(record, BOTH_WAYS)
