"""What no DynamoDB sends, and what becomes of it: malformed with its place, at once, and never taken for something else."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest

from streamflow.errors import MalformedRecordError
from streamflow.payloads import payload
from streamflow.records import Record, Shard
from streamflow.rules.filters import compile_filters

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.attributes import Numbers

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
SHARD = Shard(stream_arn=ARN, shard_id="shardId-00000001764085200000-0a1b2c3d")
NUMBER = "1100000000017450224518"

READERS: dict[str, Callable[[Record], object]] = {
    "image": lambda record: record.new_image,
    "plain JSON": lambda record: record.json_image("new"),
    "payload": lambda record: payload(record, "image"),
    "change": lambda record: payload(record, "change"),
}


def record(image: bytes, *, numbers: Numbers = "decimal") -> Record:
    json = (
        b'{"eventID":"e","eventName":"INSERT","dynamodb":{"SequenceNumber":"%b","Keys":{"id":{"S":"1"}},"NewImage":%b}}'
    )
    return Record(msgspec.Raw(json % (NUMBER.encode(), image)), SHARD, numbers)


def refused(read: Callable[[Record], object], view: Record) -> str:
    with pytest.raises(MalformedRecordError, match=NUMBER) as caught:
        read(view)
    return caught.value.reason


reading = pytest.mark.parametrize("read", READERS.values(), ids=READERS)

# --- text and bytes --------------------------------------------------------------------------------------------------


@pytest.mark.fault("F7")
@reading
@pytest.mark.parametrize(
    "text", [b"ab!!cd==", b"YQ", b"YQ=", b"YQ==\\n", b" YQ==", b"YQ==YQ==", b"\xc3\xa4", b"YQ=\\u003d="]
)
def test_base64_that_is_only_nearly_right_is_malformed(read: Callable[[Record], object], text: bytes) -> None:
    assert "base64" in refused(read, record(b'{"b":{"B":"%b"}}' % text))


@pytest.mark.fault("F7")
@reading
@pytest.mark.parametrize("text", [b"\xff\xfe", b"\xc3", b"\\ud800", b"\\udc00x"])
def test_text_that_is_no_unicode_is_malformed(read: Callable[[Record], object], text: bytes) -> None:
    assert refused(read, record(b'{"s":{"S":"%b"}}' % text)) == "its JSON is broken"


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F9")
@pytest.mark.parametrize(
    "text", ["9" * 38, "-" + "9" * 38, "9.9999999999999999999999999999999999999E+125", "1E-130", "1E+400"]
)
def test_a_number_keeps_every_digit_and_can_be_made_a_whole_one(text: str) -> None:
    view = record(orjson.dumps({"n": {"N": text}}))
    found: Any = (view.new_image or {})["n"]
    assert found == Decimal(text)
    assert int(found) == int(Decimal(text))
    assert payload(view, "image") == b'{"n":%b}' % text.encode()


@pytest.mark.fault("F9")
@reading
@pytest.mark.parametrize(
    "text", ["1E+1000000", "-1E+1000000", "1E-1000000", "0E+1000000", "1E+401", "1" * 401, "1E+999999999999"]
)
def test_a_number_beyond_all_reason_is_malformed_before_anybody_computes_with_it(
    read: Callable[[Record], object], text: str
) -> None:
    reason = refused(read, record(orjson.dumps({"n": {"N": text}})))
    assert "exponent" in reason or "characters" in reason or reason == "not a number in N"


@pytest.mark.fault("F9", "F10")
@pytest.mark.parametrize("text", ["1E+1000000", "Infinity", "NaN"])
def test_a_number_without_a_double_is_malformed_where_numbers_are_doubles(text: str) -> None:
    assert (
        refused(READERS["image"], record(orjson.dumps({"n": {"N": text}}), numbers="int_float")) == "not a number in N"
    )


@pytest.mark.fault("F10")
@reading
@pytest.mark.parametrize("text", ["NaN", "sNaN", "Infinity", "-Infinity", "inf", ""])
def test_what_is_no_number_is_malformed(read: Callable[[Record], object], text: str) -> None:
    assert refused(read, record(orjson.dumps({"n": {"N": text}}))) == "not a number in N"


@pytest.mark.fault("F10")
@reading
@pytest.mark.parametrize("image", [b'{"n":{"N":NaN}}', b'{"n":{"N":Infinity}}', b'{"n":NaN}'])
def test_what_json_has_no_number_for_is_malformed(read: Callable[[Record], object], image: bytes) -> None:
    assert refused(read, record(image)) == "its JSON is broken"


@pytest.mark.fault("F10")
@reading
@pytest.mark.parametrize("number", [b"1", b"18446744073709551617", b"1.5"])
def test_a_number_where_a_text_belongs_is_malformed(read: Callable[[Record], object], number: bytes) -> None:
    assert "Expected `str`" in refused(read, record(b'{"n":{"N":%b}}' % number))


@pytest.mark.fault("F10")
@pytest.mark.parametrize("text", ["9007199254740993", "18446744073709551617", "-9223372036854775809"])
def test_whole_numbers_beyond_53_and_64_bits_keep_their_digits_in_every_form(text: str) -> None:
    view = record(orjson.dumps({"n": {"N": text}}))
    assert view.new_image == {"n": Decimal(text)}
    assert payload(view, "image") == b'{"n":%b}' % text.encode()
    assert b'{"n":{"N":"%b"}}' % text.encode() in payload(view, "lambda")


@pytest.mark.fault("F10")
def test_of_a_name_that_is_there_twice_every_form_has_the_last() -> None:
    view = record(b'{"a":{"S":"first"},"a":{"S":"last"}}')
    assert view.new_image == {"a": "last"}
    assert payload(view, "image") == b'{"a":"last"}'
    assert view.lambda_event()["dynamodb"]["NewImage"] == {"a": {"S": "last"}}
    accepts = compile_filters(('{"dynamodb":{"NewImage":{"a":{"S":["first"]}}}}',))
    assert accepts is not None
    assert not accepts(view)


# --- depth -----------------------------------------------------------------------------------------------------------


def nested(levels: int, *, kind: str = "L") -> bytes:
    begin, end = (b'{"L":[', b"]}") if kind == "L" else (b'{"M":{"m":', b"}}")
    return b'{"a":%b{"S":"deep"}%b}' % (begin * levels, end * levels)


@pytest.mark.fault("F11")
@pytest.mark.parametrize("kind", ["L", "M"])
def test_what_is_read_however_deep_can_be_written_too(kind: str) -> None:
    for levels in (32, 199, 200, 201, 254, 255, 300, 400):
        view = record(nested(levels, kind=kind))
        if levels <= 200:
            assert view.new_image is not None
            assert b"deep" in payload(view, "image")
            assert b"deep" in payload(view, "change")
        else:
            for read in READERS.values():
                assert refused(read, view) == "nested more than 200 levels deep"


@pytest.mark.fault("F11")
@reading
@pytest.mark.parametrize("levels", [1_000, 1_025, 5_000, 100_000])
def test_nesting_beyond_all_reason_is_malformed_and_no_crash(read: Callable[[Record], object], levels: int) -> None:
    assert levels >= sys.getrecursionlimit()
    assert refused(read, record(nested(levels))) == "its JSON is broken"


@pytest.mark.fault("F11")
def test_a_record_of_any_depth_goes_as_it_came_to_who_takes_it_as_it_came() -> None:
    deep = nested(5_000)
    assert deep in payload(record(deep), "lambda")
