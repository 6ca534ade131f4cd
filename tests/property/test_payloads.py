"""Payload forms hold what the record holds: every digit, every byte, and nothing of Python's own."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.attributes import native_item
from streamflow.errors import MalformedRecordError, RecordRefusedError
from streamflow.payloads import PayloadForm, image_json, payload, table_of
from streamflow.positions import SEQUENCE_NUMBER_DIGITS_MAX, sortable
from streamflow.records import Record, Shard
from wire_items import items, texts

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
SHARD = Shard(stream_arn=STREAM_ARN, shard_id="shardId-1")


def record(event_name: str = "MODIFY", **images: object) -> Record:
    change = {"Keys": {"id": {"S": "o-1"}}, "SequenceNumber": "1100000000017450224518", **images}
    change["ApproximateCreationDateTime"] = 1_764_000_000
    text = orjson.dumps({"eventID": "e-1", "eventName": event_name, "dynamodb": change})
    return Record(msgspec.Raw(text), SHARD)


def exact(text: bytes) -> Any:
    """JSON with every number as a Decimal."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def plain(value: object) -> object:
    """What plain JSON holds for a native value."""
    match value:
        case bool() | None:
            return value
        case bytes():
            return base64.b64encode(value).decode()
        case set():
            return {"set": sorted(map(repr, {plain(each) for each in value}))}
        case list():
            return [plain(each) for each in value]
        case dict():
            return {name: plain(each) for name, each in value.items()}
        case _:
            return value


def with_sets(value: object, wire: Any) -> object:
    """The plain JSON with sets in no order, as `wire` says where they are."""
    ((kind, content),) = wire.items()
    match kind:
        case "SS" | "NS" | "BS":
            assert isinstance(value, list)
            return {"set": sorted(map(repr, dict.fromkeys(value)))}
        case "L":
            assert isinstance(value, list)
            return [with_sets(each, inner) for each, inner in zip(value, content, strict=True)]
        case "M":
            assert isinstance(value, dict)
            return {name: with_sets(value[name], inner) for name, inner in content.items()}
        case _:
            return value


@given(items)
def test_an_image_in_plain_json_is_the_item_in_native_python(item: dict[str, Any]) -> None:
    found = image_json(record(NewImage={**item, "id": {"S": "o-1"}}))
    assert found is not None
    expected = {**item, "id": {"S": "o-1"}}
    assert with_sets(exact(found), {"M": expected}) == plain(native_item(expected))


@pytest.mark.fault("F10")
@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("1E+30", "1E+30"),
        ("-7", "-7"),
        ("999999999999999", "999999999999999"),
        ("1.10", "1.10"),
        ("0", "0"),
    ],
)
def test_numbers_keep_their_digits(number: str, written: str) -> None:
    assert image_json(record(NewImage={"n": {"N": number}})) == f'{{"n":{written}}}'.encode()


@pytest.mark.parametrize("number", ["NaN", "1,5", "", "Infinity", "9" * 500])
def test_what_is_no_number_is_told_without_its_value(number: str) -> None:
    with pytest.raises(MalformedRecordError) as raised:
        image_json(record(NewImage={"n": {"N": number}}))
    assert "9" * 9 not in str(raised.value)


def test_a_delete_is_its_keys_and_a_mark() -> None:
    deleted = record("REMOVE", OldImage={"id": {"S": "o-1"}, "secret": {"S": "x"}})
    assert image_json(deleted) is None
    assert orjson.loads(payload(deleted, "image")) == {"id": "o-1", "__deleted": True}


def test_a_stream_without_new_images_is_refused_with_the_reason() -> None:
    with pytest.raises(RecordRefusedError, match="view type must be NEW_IMAGE or NEW_AND_OLD_IMAGES"):
        payload(record("MODIFY", OldImage={"id": {"S": "o-1"}}), "image")


@pytest.mark.parametrize(("event_name", "operation"), [("INSERT", "c"), ("MODIFY", "u"), ("REMOVE", "d")])
def test_a_change_has_before_after_and_where_it_comes_from(event_name: str, operation: str) -> None:
    images = {"OldImage": {"total": {"N": "1"}}, "NewImage": {"total": {"N": "2"}}}
    found = orjson.loads(payload(record(event_name, **images), "change"))
    assert (found["op"], found["before"], found["after"], found["key"]) == (
        operation,
        {"total": 1},
        {"total": 2},
        {"id": "o-1"},
    )
    assert found["ts_ms"] == 1_764_000_000_000
    assert found["source"] == {
        "connector": "streamflow",
        "table": "orders",
        "stream_arn": STREAM_ARN,
        "shard_id": "shardId-1",
        "sequence_number": "1100000000017450224518",
        "event_id": "e-1",
        "ts_ms": 1_764_000_000_000,
    }


def test_the_lambda_form_is_spliced_from_what_the_service_sent() -> None:
    whole = record(NewImage={"id": {"S": "o-1"}})
    assert payload(whole, "lambda") == whole.lambda_event_json()
    assert whole.raw[:-1] in payload(whole, "lambda")


@pytest.mark.parametrize("form", ["lambda", "image", "change"])
@given(text=texts)
def test_every_form_is_one_line_of_json(form: PayloadForm, text: str) -> None:
    found = payload(record(NewImage={"id": {"S": "o-1"}, "text": {"S": text}}), form)
    assert b"\n" not in found
    orjson.loads(found)


def test_the_table_is_that_of_the_arn() -> None:
    assert table_of(STREAM_ARN) == "orders"
    assert table_of("none") == "none"


sequence_numbers = st.text("0123456789", min_size=1, max_size=SEQUENCE_NUMBER_DIGITS_MAX)


@given(sequence_numbers, sequence_numbers)
def test_sequence_numbers_sort_as_text_as_they_do_as_numbers(left: str, right: str) -> None:
    assert (sortable(left) < sortable(right)) == (int(left) < int(right))
    assert (sortable(left) == sortable(right)) == (int(left) == int(right))


@pytest.mark.parametrize("text", ["", "-1", "1.5", "\u0661", "9" * 129])
def test_what_is_no_sequence_number_sorts_nowhere(text: str) -> None:
    with pytest.raises(ValueError, match="is no sequence number"):
        sortable(text)
