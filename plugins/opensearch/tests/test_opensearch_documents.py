"""A record as a document and as lines of a bulk request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import orjson
import pytest

from streamflow import Record
from streamflow.records import Shard
from streamflow.sdk import RecordRefusedError
from streamflow_opensearch.documents import (
    Change,
    Stored,
    change,
    conditional_lines,
    document_id,
    is_news,
    lines,
)
from streamflow_opensearch.settings import Versioning

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARD = Shard(
    stream_arn="arn:aws:dynamodb:eu-west-1:000000000000:table/Orders/stream/2026-01-01T00:00:00.000",
    shard_id="shardId-1",
)
SIMPLE = {"id": {"S": "order-1"}}
NUMBER = "3.1415926535897932384626433832795028841"


def record(
    keys: Mapping[str, Any] = SIMPLE,
    image: Mapping[str, Any] | None = None,
    *,
    number: str = "9" * 21,
    name: str = "MODIFY",
) -> Record:
    body: dict[str, Any] = {
        "SequenceNumber": number,
        "Keys": keys,
        "ApproximateCreationDateTime": 1_767_225_600,
    }
    if image is not None:
        body["NewImage"] = {**keys, **image}
    return Record(msgspec.Raw(orjson.dumps({"eventID": "e" * 32, "eventName": name, "dynamodb": body})), SHARD)


def removed(number: str = "9" * 21) -> Change:
    return change(record(name="REMOVE", number=number), index="orders")


def written(**image: Any) -> Change:
    return change(record(image=image), index="orders")


def parsed(text: bytes) -> list[Any]:
    assert text.endswith(b"\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"id": {"S": "order-1"}}, "order-1"),
        ({"id": {"N": "17"}}, "17"),
        ({"id": {"B": "AAE="}}, "AAE="),
        ({"order": {"S": "a"}, "line": {"N": "3"}}, '["3","a"]'),
        ({"id": {"S": "ü" * 256}}, "ü" * 256),
    ],
)
def test_an_id_is_made_of_the_values_of_the_key(keys: dict[str, Any], expected: str) -> None:
    assert change(record(keys, {}), index="orders").id == expected


def test_an_id_of_more_than_512_bytes_is_a_hash_and_another_key_has_another_one() -> None:
    long, other = (document_id(orjson.dumps({"id": {"S": "ü" * 256 + end}}).decode()) for end in "ab")
    assert long.startswith("sha256-")
    assert len(long) <= 512
    assert long != other


def test_a_document_is_the_image_with_all_digits_and_where_it_comes_from() -> None:
    found = written(total={"N": NUMBER}, blob={"B": "AAE="}, tags={"SS": ["a"]})
    assert f'"total":{NUMBER}'.encode() in found.document
    assert json.loads(found.document) | {"total": None} == {
        "id": "order-1",
        "total": None,
        "blob": "AAE=",
        "tags": ["a"],
        "_sf_seq": "021" + "9" * 21,
        "_sf_shard": "shardId-1",
        "_sf_event_id": "e" * 32,
    }


def test_a_tombstone_is_the_keys_and_the_same() -> None:
    found = json.loads(removed().document)
    assert found["id"] == "order-1"
    assert found["_sf_deleted"] is True
    assert found["_sf_seq"] == "021" + "9" * 21


def test_an_index_may_be_named_after_the_table() -> None:
    assert change(record(image={}), index="cdc-{table}").index == "cdc-orders"


def test_a_stream_without_new_images_is_refused() -> None:
    with pytest.raises(RecordRefusedError, match="NEW_IMAGE"):
        change(record(), index="orders")


def test_ordered_lines_write_and_delete() -> None:
    assert parsed(lines(written(), "ordered"))[0] == {"index": {"_index": "orders", "_id": "order-1"}}
    assert parsed(lines(removed(), "ordered")) == [{"delete": {"_index": "orders", "_id": "order-1"}}]


def test_an_external_version_is_a_time_and_fits_into_64_bits() -> None:
    action, document = parsed(lines(removed(number="9" * 40), "external"))
    assert action["index"]["version"] == 1_767_225_600_000_000 < 2**63
    assert action["index"]["version_type"] == "external_gte"
    assert document["_sf_deleted"] is True


def test_a_scripted_line_holds_the_document_once() -> None:
    action, update = parsed(lines(written(total={"N": "1"}), "scripted"))
    assert action["update"]["_id"] == "order-1"
    assert update["scripted_upsert"] is True
    assert update["upsert"] == {}
    assert update["script"]["params"]["document"]["total"] == 1


def test_a_compared_line_depends_on_what_is_there() -> None:
    action, _ = parsed(conditional_lines(written(), Stored(found=False)))
    assert action == {"create": {"_index": "orders", "_id": "order-1"}}
    action, _ = parsed(conditional_lines(written(), Stored(found=True, sequence="", seq_no=7, primary_term=2)))
    assert action == {"index": {"_index": "orders", "_id": "order-1", "if_seq_no": 7, "if_primary_term": 2}}


@pytest.mark.parametrize(
    ("stored", "expected"),
    [("9" * 20, True), ("9" * 21, False), ("1" + "0" * 21, False), (None, True)],
)
def test_sequence_numbers_are_compared_as_numbers_of_any_length(stored: str | None, expected: bool) -> None:
    there = Stored(found=stored is not None, sequence=None if stored is None else f"{len(stored):03}{stored}")
    assert is_news(written(), there) is expected


@pytest.mark.parametrize("key", ["k", '"\x01\n' * 170, "😀" * 128])
@pytest.mark.parametrize("versioning", get_args(Versioning))
def test_lines_are_no_larger_than_they_were_said_to_be(key: str, versioning: Versioning) -> None:
    found = change(record({"id": {"S": key}}, {}), index="i" * 255)
    if versioning == "compared":
        text = conditional_lines(found, Stored(found=True, seq_no=2**63 - 1, primary_term=2**63 - 1))
    else:
        text = lines(found, versioning)
    assert len(text) <= found.bytes_max
