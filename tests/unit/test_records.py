"""A record is a view: it says what the service sent, decodes late, and its errors hold positions, never data."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import msgspec
import orjson
import pytest

from streamflow.batches import Batch
from streamflow.errors import MalformedRecordError
from streamflow.records import Record, Shard, newest_outline

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
SHARD = Shard(stream_arn=ARN, shard_id="shardId-00000001764085200000-0a1b2c3d")
SEQUENCE_NUMBER = "1100000000017450224518"


def wire(**dynamodb: Any) -> dict[str, Any]:
    change = {
        "ApproximateCreationDateTime": 1764085200,
        "Keys": {"id": {"S": "1"}},
        "NewImage": {"id": {"S": "1"}},
        "SequenceNumber": SEQUENCE_NUMBER,
        "SizeBytes": 54,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
        **dynamodb,
    }
    return {
        "eventID": "7de3041dd709b024af6f29e4fa13d34c",
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "dynamodb": {name: value for name, value in change.items() if value is not None},
    }


def record(json: dict[str, Any] | bytes, **options: Any) -> Record:
    return Record(msgspec.Raw(json if isinstance(json, bytes) else orjson.dumps(json)), SHARD, **options)


def test_the_envelope_is_what_the_service_sent() -> None:
    view = record(wire())
    assert view.event_id == "7de3041dd709b024af6f29e4fa13d34c"
    assert view.event_name == "INSERT"
    assert view.sequence_number == SEQUENCE_NUMBER
    assert view.created_at_s == 1764085200.0
    assert view.size_bytes == 54
    assert view.view_type == "NEW_AND_OLD_IMAGES"
    assert view.user_identity is None
    assert view.raw == orjson.dumps(wire())
    assert view.old_image is None


DIGITS = "1234567890123456789012345678901234567.8"


@pytest.mark.parametrize(
    ("value", "native"),
    [
        ({"S": ""}, ""),
        ({"S": "🐍 \u0000 ünï"}, "🐍 \u0000 ünï"),
        ({"N": "0"}, Decimal(0)),
        ({"N": DIGITS}, Decimal(DIGITS)),
        ({"N": "-1E-130"}, Decimal("-1E-130")),
        ({"B": base64.b64encode(b"\x00\xff").decode()}, b"\x00\xff"),
        ({"B": ""}, b""),
        ({"BOOL": False}, False),
        ({"NULL": True}, None),
        ({"SS": ["a", "b"]}, {"a", "b"}),
        ({"NS": ["1", "2.5"]}, {Decimal(1), Decimal("2.5")}),
        ({"BS": [base64.b64encode(b"x").decode()]}, {b"x"}),
        ({"L": []}, []),
        ({"M": {}}, {}),
        ({"L": [{"N": "1"}, {"M": {"k": {"NULL": True}}}]}, [Decimal(1), {"k": None}]),
    ],
)
def test_every_type_becomes_native_python(value: dict[str, Any], native: object) -> None:
    image: Any = record(wire(NewImage={"a": value})).new_image
    assert image == {"a": native}
    assert type(image["a"]) is type(native)


def test_numbers_may_be_int_and_float() -> None:
    image: Any = record(
        wire(NewImage={"i": {"N": "-12"}, "f": {"N": "1.5"}, "s": {"NS": ["3"]}}), numbers="int_float"
    ).new_image
    assert image == {"i": -12, "f": 1.5, "s": {3}}
    assert isinstance(image["i"], int)


def test_nesting_of_32_levels_is_decoded() -> None:
    value: dict[str, Any] = {"S": "deep"}
    for level in range(32):
        value = {"M": {"k": value}} if level % 2 else {"L": [value]}
    image: Any = record(wire(NewImage={"a": value})).new_image
    found = image["a"]
    for level in reversed(range(32)):
        found = found["k"] if level % 2 else found[0]
    assert found == "deep"


def test_an_item_of_400_kilobytes_is_decoded_and_spliced() -> None:
    big = "ä" * 200_000
    view = record(wire(NewImage={"id": {"S": big}}))
    assert view.new_image == {"id": big}
    assert view.lambda_event()["dynamodb"]["NewImage"] == {"id": {"S": big}}


def test_images_are_decoded_once_and_only_when_touched() -> None:
    view = record(wire(NewImage={"a": {"N": "no number"}}))
    assert view.keys == {"id": "1"}
    assert view.keys is view.keys
    with pytest.raises(MalformedRecordError):
        _ = view.new_image


@pytest.mark.parametrize(
    "broken",
    [
        {"a": {"N": "secret"}},
        {"a": {"B": "secret!"}},
        {"a": {"X": "secret"}},
        {"a": {}},
        {"a": "secret"},
        {"a": {"M": "secret"}},
        {"a": {"L": {"secret": 1}}},
        {"a": {"BOOL": "secret"}},
        {"a": {"S": 17}},
        {"a": {"N": "1" * 500}},
    ],
)
def test_a_malformed_image_names_its_place_and_no_data(broken: dict[str, Any]) -> None:
    view = record(wire(NewImage=broken))
    with pytest.raises(MalformedRecordError) as caught:
        _ = view.new_image
    text = str(caught.value)
    assert SEQUENCE_NUMBER in text
    assert SHARD.shard_id in text
    assert "secret" not in text
    assert "111111" not in text
    assert caught.value.sequence_number == SEQUENCE_NUMBER
    assert caught.value.__cause__ is None


@pytest.mark.fault("F6")
@pytest.mark.parametrize(
    "json",
    [
        wire(SequenceNumber=None),
        {"dynamodb": {}},
        {},
        b"[]",
        b'{"dynamodb": {"SequenceNumber": "12", "Keys": {"secret"',
        b'{"dynamodb": {"SequenceNumber": 12}}',
        b'{"eventName": "\xff"}',
    ],
)
def test_a_malformed_envelope_names_its_place(json: dict[str, Any] | bytes) -> None:
    with pytest.raises(MalformedRecordError, match=SHARD.shard_id) as caught:
        _ = record(json).sequence_number
    assert "secret" not in str(caught.value)


@pytest.mark.fault("F6")
def test_a_record_without_keys_says_so() -> None:
    with pytest.raises(MalformedRecordError, match="no Keys"):
        _ = record(wire(Keys=None)).keys


def test_an_unknown_event_name_is_refused() -> None:
    with pytest.raises(MalformedRecordError, match="eventName"):
        _ = record({**wire(), "eventName": "UPSERT"}).event_name


def test_its_representation_shows_position_and_no_data() -> None:
    shown = repr(record(wire(NewImage={"id": {"S": "secret"}})))
    assert SEQUENCE_NUMBER in shown
    assert "secret" not in shown


def test_the_lambda_event_is_the_record_with_the_event_source() -> None:
    view = record(wire(OldImage={"bin": {"B": "Zm9v"}}))
    expected = {**wire(OldImage={"bin": {"B": "Zm9v"}}), "eventSourceARN": ARN}
    expected["dynamodb"]["ApproximateCreationDateTime"] = 1764085200.0
    event = view.lambda_event()
    assert event == expected
    assert isinstance(event["dynamodb"]["ApproximateCreationDateTime"], float)
    assert list(event) == [
        "eventID", "eventName", "eventVersion", "eventSource", "awsRegion", "dynamodb", "eventSourceARN",
    ]  # fmt: skip
    assert orjson.loads(view.lambda_event_json()) == expected


def test_a_delete_by_time_to_live_shows_who_did_it_in_lambdas_words() -> None:
    identity = {"PrincipalId": "dynamodb.amazonaws.com", "Type": "Service"}
    view = record({**wire(NewImage=None), "eventName": "REMOVE", "userIdentity": identity})
    assert view.user_identity is not None
    assert (view.user_identity.type, view.user_identity.principal_id) == ("Service", "dynamodb.amazonaws.com")
    event = view.lambda_event()
    assert event["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert list(event)[-2:] == ["userIdentity", "eventSourceARN"]


def test_an_attribute_named_user_identity_is_left_alone() -> None:
    image = {"userIdentity": {"S": "somebody"}}
    event = record(wire(NewImage=image)).lambda_event()
    assert event["dynamodb"]["NewImage"] == image
    assert "userIdentity" not in event


def test_a_null_user_identity_is_no_member_of_the_event() -> None:
    assert "userIdentity" not in record({**wire(), "userIdentity": None}).lambda_event()


def test_images_pass_through_the_event_byte_for_byte() -> None:
    image = b'{"n":{"N":"1.500"},"u":{"S":"\\u00e9"}}'
    json = orjson.dumps(wire()).replace(b'{"id":{"S":"1"}}', image)
    assert image in record(json).lambda_event_json()


def test_a_batch_is_the_event_of_its_records() -> None:
    records = [record(wire(SequenceNumber=str(10**21 + number))) for number in range(3)]
    batch = Batch(pipeline="p", shard=SHARD, records=records)
    event = orjson.loads(batch.lambda_event_json())
    assert event == batch.lambda_event()
    assert [r["dynamodb"]["SequenceNumber"] for r in event["Records"]] == [r.sequence_number for r in batch]
    assert batch.first == records[0].position
    assert batch.last == records[-1].position
    assert len(batch.again()) == 3
    assert batch.again().attempt == 2
    assert batch.again().request_id == batch.request_id


def test_the_newest_readable_record_gives_the_outline() -> None:
    good, bad = record(wire()), record(b"{}")
    assert newest_outline([good, bad]) == (good.position, 1764085200.0)
    assert newest_outline([bad]) is None
    assert newest_outline([]) is None
