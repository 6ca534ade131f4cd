"""For all items and all damage: what comes out is what boto3 reads, or an error that holds no data."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import msgspec
import orjson
import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer
from hypothesis import given
from hypothesis import strategies as st

from streamflow.attributes import native_item
from streamflow.batches import Batch
from streamflow.errors import MalformedRecordError
from streamflow.positions import Position, PositionKind
from streamflow.records import Record, Shard
from wire_items import items, numbers, texts

SHARD = Shard(
    stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
    shard_id="shardId-00000001764085200000-0a1b2c3d",
)
SEQUENCE_NUMBER = "1100000000017450224518"
SECRET = "geheim"


def as_boto3_reads(item: dict[str, Any]) -> dict[str, Any]:
    """boto3's client turns the base64 of the wire into bytes before its deserializer sees it."""
    return {name: _plain(TypeDeserializer().deserialize(_with_bytes(value))) for name, value in item.items()}


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    ((kind, content),) = value.items()
    match kind:
        case "B":
            content = base64.b64decode(content)
        case "BS":
            content = [base64.b64decode(member) for member in content]
        case "L":
            content = [_with_bytes(member) for member in content]
        case "M":
            content = {name: _with_bytes(member) for name, member in content.items()}
    return {kind: content}


def _plain(value: Any) -> Any:
    """boto3 wraps bytes into a class of its own."""
    match value:
        case Binary():
            return bytes(value.value)
        case set():
            return {_plain(member) for member in value}
        case list():
            return [_plain(member) for member in value]
        case dict():
            return {name: _plain(member) for name, member in value.items()}
    return value


@given(items)
def test_every_item_reads_as_boto3_reads_it(item: dict[str, Any]) -> None:
    native = native_item(orjson.loads(orjson.dumps(item)))
    assert native == as_boto3_reads(item)


@given(numbers)
def test_every_number_is_exact(text: str) -> None:
    (number,) = native_item({"n": {"N": text}}).values()
    assert isinstance(number, Decimal)
    assert number.as_tuple() == Decimal(text).as_tuple()


@given(st.integers(-(10**38) + 1, 10**38 - 1))
def test_whole_numbers_stay_whole_as_int(number: int) -> None:
    read = native_item({"n": {"N": str(number)}}, numbers="int_float")
    assert read == {"n": number}
    assert type(read["n"]) is int


# --- records ---------------------------------------------------------------------------------------------------------


def change(**dynamodb: Any) -> dict[str, Any]:
    return {
        "eventID": "7de3041dd709b024af6f29e4fa13d34c",
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "dynamodb": {"SequenceNumber": SEQUENCE_NUMBER, "SizeBytes": 1, **dynamodb},
    }


def record(json: bytes) -> Record:
    return Record(msgspec.Raw(json), SHARD)


@given(items, items, st.sampled_from([1764085200, 1764085200.0, 1.764085200e9]))
def test_the_lambda_event_is_what_was_sent_and_where_from(old: Any, new: Any, created: float) -> None:
    sent = change(Keys={"id": {"S": "1"}}, OldImage=old, NewImage=new, ApproximateCreationDateTime=created)
    expected = {**sent, "eventSourceARN": SHARD.stream_arn}
    view = record(orjson.dumps(sent))
    assert view.lambda_event() == expected
    assert type(view.lambda_event()["dynamodb"]["ApproximateCreationDateTime"]) is float
    batch = Batch(pipeline="orders", shard=SHARD, records=[view] * 3)
    assert orjson.loads(batch.lambda_event_json()) == {"Records": [expected] * 3}
    assert len(batch.lambda_event_json()) == batch.lambda_event_bytes


@given(items, texts, texts)
def test_a_delete_by_time_to_live_passes_its_images_byte_for_byte(old: Any, kind: str, principal: str) -> None:
    image = orjson.dumps(old)
    sent = orjson.dumps(
        {**change(OldImage=orjson.Fragment(image)), "userIdentity": {"PrincipalId": principal, "Type": kind}}
    )
    spliced = record(sent).lambda_event_json()
    assert image in spliced
    assert orjson.loads(spliced)["userIdentity"] == {"type": kind, "principalId": principal}
    batch = Batch(pipeline="orders", shard=SHARD, records=[record(sent)])
    assert len(batch.lambda_event_json()) <= batch.lambda_event_bytes


# --- damage ----------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.just(SECRET)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["S", "N", "B", "SS", "NS", "BS", "L", "M", "BOOL", SECRET]), inner, max_size=2
        )
    ),
    max_leaves=8,
)


def touch_everything(view: Record) -> None:
    """Every way to look at a record; each answers or raises `MalformedRecordError`, which names the place only."""
    looks = (
        "event_id", "event_name", "sequence_number", "position", "created_at_s", "size_bytes", "view_type", "user_identity",
        "keys", "new_image", "old_image", "lambda_event", "lambda_event_json",
    )  # fmt: skip
    errors: list[MalformedRecordError] = []
    for look in looks:
        try:
            answer = getattr(view, look)
            if callable(answer):
                answer()
        except MalformedRecordError as error:
            errors.append(error)
    assert [str(error) for error in errors if SHARD.shard_id not in str(error) or SECRET in str(error)] == []
    assert all(error.__cause__ is None and error.__suppress_context__ for error in errors)


@given(json_values, st.sampled_from(["decimal", "int_float"]))
def test_a_damaged_image_is_malformed_and_quotes_nothing(damage: object, treatment: Any) -> None:
    json = orjson.dumps(change(Keys={"id": {"S": "1"}}, NewImage={"a": damage}, OldImage=damage))
    view = Record(msgspec.Raw(json), SHARD, treatment)
    touch_everything(view)
    assert SECRET not in repr(view)


@given(st.dictionaries(st.sampled_from(sorted(change())), json_values), json_values)
def test_a_damaged_envelope_is_malformed_and_quotes_nothing(damage: dict[str, Any], inner: object) -> None:
    touch_everything(record(orjson.dumps({**change(ApproximateCreationDateTime=inner), **damage})))
    touch_everything(record(orjson.dumps(inner)))


@pytest.mark.fault("F7")
@given(st.data())
def test_damaged_bytes_are_malformed_and_quote_nothing(data: st.DataObject) -> None:
    json = orjson.dumps(change(Keys={"id": {"S": SECRET}}, NewImage={SECRET: {"N": "1"}}))
    start = data.draw(st.integers(0, len(json)))
    end = data.draw(st.integers(start, min(len(json), start + 8)))
    touch_everything(record(json[:start] + data.draw(st.binary(max_size=3)) + json[end:]))


@pytest.mark.fault("F9")
@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "inf", SECRET, "", "1" * 401])
@pytest.mark.parametrize("treatment", ["decimal", "int_float"])
def test_what_is_no_number_in_dynamodb_is_malformed(text: str, treatment: Any) -> None:
    for value in ({"N": text}, {"NS": [text]}):
        view = Record(msgspec.Raw(orjson.dumps(change(NewImage={"a": value}))), SHARD, treatment)
        with pytest.raises(MalformedRecordError) as caught:
            _ = view.new_image
        assert SECRET not in str(caught.value)
        assert caught.value.sequence_number == SEQUENCE_NUMBER


@pytest.mark.parametrize("number", ["", "12a", "-1", "1.0", "٣", "1" * 129, SECRET])
def test_a_sequence_number_that_is_not_decimal_is_malformed(number: str) -> None:
    json = orjson.dumps(change(Keys={"id": {"S": "1"}}, SequenceNumber=number))
    with pytest.raises(MalformedRecordError, match="not decimal") as caught:
        _ = record(json).position
    assert SECRET not in str(caught.value)


# --- positions -------------------------------------------------------------------------------------------------------

positions = (
    st.sampled_from([kind for kind in PositionKind if "SEQUENCE" not in kind.name and "TIME" not in kind.name]).map(Position)
    | st.text("0123456789", min_size=1, max_size=56).map(Position.after)
    | st.text("0123456789", min_size=1, max_size=56).map(Position.at)
    | st.floats(0, 4e9).map(Position.at_timestamp)
)  # fmt: skip


@given(positions)
def test_every_position_comes_back_from_its_text(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Position.parse(str(position)).order == position.order


@given(
    st.text(max_size=12) | st.builds("{}:{}".format, st.sampled_from([kind.value for kind in PositionKind]), st.text())
)
def test_any_text_is_a_position_or_a_value_error(text: str) -> None:
    try:
        position = Position.parse(text)
    except ValueError:
        return
    assert Position.parse(str(position)).order == position.order


@given(st.integers(0, 10**40), st.integers(0, 10**40))
def test_sequence_numbers_are_ordered_as_numbers(one: int, other: int) -> None:
    before, after = Position.after(str(one)), Position.after(str(other).zfill(41))
    assert (before.order < after.order) == (one < other)
    assert Position.at(str(one)).order < before.order
