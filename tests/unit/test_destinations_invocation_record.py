"""The record of a batch that was given up, to the letter; and that nothing in a batch keeps it from being told."""

from __future__ import annotations

import dataclasses
import json
import re

import orjson
import pytest

from discards import DISCARDED_AT_S, IDENTITY, SHARD, STREAM_ARN, discarded, raw_record, record
from streamflow.batches import Window
from streamflow.destinations.invocation_record import MappingIdentity, invocation_record, s3_key, s3_record

HEAD = (
    '{"requestContext":{"requestId":"c9b8fa9f-0d0e-4a3b-9f54-6f4b8e6f5a01",'
    '"functionArn":"arn:aws:lambda:us-east-1:123456789012:function:f:live",'
    '"condition":"RetryAttemptsExhausted","approximateInvokeCount":2},'
)
RESPONSE = (
    '"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"version":"1.0",'
)
TIME = '"timestamp":"2025-11-25T16:08:24.123Z",'
BATCH_INFO = (
    '"DDBStreamBatchInfo":{"shardId":"shardId-00000001732000000000-a1b2c3d4",'
    '"startSequenceNumber":"800000000003126276362","endSequenceNumber":"800000000003126276362",'
    '"approximateArrivalOfFirstRecord":"2025-11-25T16:08:20Z","approximateArrivalOfLastRecord":"2025-11-25T16:08:20Z",'
    '"batchSize":1,"streamArn":"arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2025-11-25T15:00:00.000"}'
)
WINDOW_INFO = (
    ',"timeWindowInfo":{"window":{"start":"2025-11-25T16:08:20Z","end":"2025-11-25T16:08:30Z"},'
    '"isFinalInvokeForWindow":%s,"isWindowTerminatedEarly":%s}'
)
PAYLOAD_RECORD = (
    '{"eventID":"7de3041dd709b024","eventName":"INSERT","dynamodb":{"ApproximateCreationDateTime":1764086900,'
    '"Keys":{"id":{"S":"1"}},"NewImage":{"id":{"S":"1"},"note":{"S":""}},"SequenceNumber":"800000000003126276362"},'
    '"eventSourceARN":"arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2025-11-25T15:00:00.000"}'
)
EMPTY_INFO = {"shardId": SHARD.shard_id, "streamArn": STREAM_ARN}

UNREADABLE = [
    b"",
    b"{}",
    b"[1]",
    b"null",
    b'"text"',
    b'{"eventName":"INSERT"}',
    b'{"dynamodb":{"SequenceNumber":17}}',
    b'{"dynamodb":{"SequenceNumber":"seventeen"}}',
    b'{"dynamodb":{"SequenceNumber":"17","ApproximateCreationDateTime":"noon"}}',
    b'{"dynamodb":{"SequenceNumber":"17","ApproximateCreationDateTime":1e300}}',
    b'{"dynamodb":{"SequenceNumber":"17","ApproximateCreationDateTime":-1e18}}',
    b'{"dynamodb":{"SequenceNumber":"17"},"userIdentity":[]}',
    b'{"dynamodb":{"SequenceNumber":"17","NewImage":{"id":{"S":"\xff\xfe"}}}}',
    b'{"userIdentity":"\xff","dynamodb":{"SequenceNumber":"17"}}',
    b"[" * 5_000,
]


def text(value: object) -> str:
    return orjson.dumps(value).decode()


def window(*, is_final: bool = False, is_terminated_early: bool = False) -> Window:
    return Window(
        start_s=1764086900,
        end_s=1764086910,
        state={"sum": 3},
        is_final=is_final,
        is_terminated_early=is_terminated_early,
    )


# --- SQS and SNS -----------------------------------------------------------------------------------------------------


def test_the_record_is_that_of_lambda_to_the_letter() -> None:
    assert text(invocation_record(discarded(), IDENTITY)) == HEAD + RESPONSE + TIME + BATCH_INFO + "}"


def test_a_response_that_reported_failures_is_no_function_error() -> None:
    found = invocation_record(discarded(function_error=None), IDENTITY)
    assert text(found["responseContext"]) == '{"statusCode":200,"executedVersion":"$LATEST","functionError":null}'


def test_a_handler_that_was_never_reached_did_not_respond() -> None:
    found = invocation_record(discarded(responded=False), IDENTITY)
    assert text(found) == HEAD + '"version":"1.0",' + TIME + BATCH_INFO + "}"


def test_age_has_no_response_even_after_invocations() -> None:
    found = invocation_record(discarded(condition="RecordAgeExceeded", invoke_count=8, responded=True), IDENTITY)
    assert list(found) == ["requestContext", "version", "timestamp", "DDBStreamBatchInfo"]
    assert found["requestContext"]["condition"] == "RecordAgeExceeded"
    assert found["requestContext"]["approximateInvokeCount"] == 8


def test_numbers_and_times_are_those_of_the_first_and_the_last_record() -> None:
    records = [record(0, created_at_s=1764086400), record(1), record(2, created_at_s=1764086461.9)]
    info = invocation_record(discarded(records), IDENTITY)["DDBStreamBatchInfo"]
    assert info["startSequenceNumber"] == "800000000003126276362"
    assert info["endSequenceNumber"] == "800000000003126276364"
    assert info["approximateArrivalOfFirstRecord"] == "2025-11-25T16:00:00Z"
    assert info["approximateArrivalOfLastRecord"] == "2025-11-25T16:01:01Z"
    assert info["batchSize"] == 3


def test_the_time_of_failure_keeps_its_three_digits_when_they_are_zero() -> None:
    at_noon = dataclasses.replace(discarded(), discarded_at_s=1764072000.0)
    assert invocation_record(at_noon, IDENTITY)["timestamp"] == "2025-11-25T12:00:00.000Z"


def test_no_data_of_a_record_is_in_it() -> None:
    found = text(invocation_record(discarded([record(note="the secret")], error=ValueError("the secret")), IDENTITY))
    assert "the secret" not in found


# --- tumbling windows ------------------------------------------------------------------------------------------------


def test_a_batch_of_a_window_tells_which() -> None:
    found = text(invocation_record(discarded(window=window()), IDENTITY))
    assert found == HEAD + RESPONSE + TIME + BATCH_INFO + WINDOW_INFO % ("false", "false") + "}"


@pytest.mark.parametrize("early", [False, True])
def test_a_final_invocation_has_only_shard_and_stream(early: bool) -> None:
    final = discarded([], window=window(is_final=True, is_terminated_early=early))
    found = invocation_record(final, IDENTITY)
    assert text(found["DDBStreamBatchInfo"]) == text(EMPTY_INFO)
    assert text(found).endswith(WINDOW_INFO % ("true", str(early).lower()) + "}")


# --- S3 --------------------------------------------------------------------------------------------------------------


def test_the_object_carries_the_event_as_text_behind_the_version() -> None:
    payload = json.dumps('{"Records":[' + PAYLOAD_RECORD + "]}")
    expected = HEAD + RESPONSE + f'"payload":{payload},' + TIME + BATCH_INFO + "}"
    assert text(s3_record(discarded(), IDENTITY)) == expected


def test_the_payload_is_the_event_that_the_handler_had() -> None:
    lost = discarded([record(number, note='ü"\\\n🗝') for number in range(3)], window=window())
    found = s3_record(lost, IDENTITY)
    assert json.loads(found["payload"]) == json.loads(lost.batch.lambda_event_json())
    assert json.loads(found["payload"])["state"] == {"sum": 3}
    assert list(found)[-2:] == ["DDBStreamBatchInfo", "timeWindowInfo"]


def test_a_final_invocation_has_an_event_without_records() -> None:
    found = s3_record(discarded([], window=window(is_final=True)), IDENTITY)
    assert json.loads(found["payload"])["Records"] == []
    assert found["DDBStreamBatchInfo"] == EMPTY_INFO


def test_the_key_is_that_of_lambda() -> None:
    key = s3_key(discarded(), IDENTITY)
    folder, _, name = key.rpartition("/")
    assert folder == (
        "aws/lambda/14e0db71-5d35-4eb5-b481-8945cf9d10c2/shardId-00000001732000000000-a1b2c3d4/2025/11/25"
    )
    assert re.fullmatch(r"2025-11-25T16\.08\.24-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name)


def test_the_key_of_a_repeated_send_is_the_same() -> None:
    assert s3_key(discarded(), IDENTITY) == s3_key(discarded(), IDENTITY)
    assert s3_key(discarded([raw_record(b"?")]), IDENTITY) == s3_key(discarded([raw_record(b"?")]), IDENTITY)


def test_different_batches_of_the_same_second_have_different_keys() -> None:
    first, second = record(0), record(1)
    lost = [
        discarded([first]),
        discarded([second]),
        discarded([first, second]),
        discarded([first], condition="RecordAgeExceeded"),
        discarded([first], request_id="another"),
        discarded([raw_record(b"{")]),
        discarded([raw_record(b"[")]),
        discarded([]),
        discarded([], request_id="another"),
    ]
    keys = {s3_key(batch, IDENTITY) for batch in lost}
    keys.add(s3_key(discarded([first]), MappingIdentity("another", "arn")))
    assert len(keys) == len(lost) + 1


def test_day_and_second_of_the_key_are_those_of_utc() -> None:
    late = dataclasses.replace(discarded(), discarded_at_s=DISCARDED_AT_S + 8 * 3600 - 900)
    assert "/2025/11/25/2025-11-25T23.53.24-" in s3_key(late, IDENTITY)


# --- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", UNREADABLE, ids=lambda raw: repr(raw[:60]))
def test_no_record_keeps_its_batch_from_being_told(raw: bytes) -> None:
    lost = discarded([raw_record(raw), record(1), raw_record(raw)], window=window())
    told, stored = invocation_record(lost, IDENTITY), s3_record(lost, IDENTITY)
    assert told["DDBStreamBatchInfo"]["batchSize"] == 3
    assert told["DDBStreamBatchInfo"]["streamArn"] == STREAM_ARN
    assert None not in told["DDBStreamBatchInfo"].values()
    assert json.loads(text(stored)) == stored
    assert raw[1:-1].decode(errors="backslashreplace") in stored["payload"]
    assert '"SequenceNumber":"800000000003126276363"' in stored["payload"]
    assert stored["payload"].endswith('"isWindowTerminatedEarly":false}')
    assert s3_key(lost, IDENTITY).startswith("aws/lambda/")


def test_what_is_not_known_is_left_out() -> None:
    info = invocation_record(discarded([raw_record(b"[]"), record(1)]), IDENTITY)["DDBStreamBatchInfo"]
    assert list(info) == ["shardId", "endSequenceNumber", "approximateArrivalOfLastRecord", "batchSize", "streamArn"]
    info = invocation_record(discarded([record(0, created_at_s=None)]), IDENTITY)["DDBStreamBatchInfo"]
    assert list(info) == ["shardId", "startSequenceNumber", "endSequenceNumber", "batchSize", "streamArn"]


def test_a_number_that_can_be_made_out_in_a_broken_record_is_told() -> None:
    broken = raw_record(b'{"dynamodb":{"SequenceNumber":"17",,}}')
    info = invocation_record(discarded([broken]), IDENTITY)["DDBStreamBatchInfo"]
    assert info["startSequenceNumber"] == info["endSequenceNumber"] == "17"


def test_a_record_of_another_shape_leaves_the_payload_valid_json() -> None:
    lost = discarded([raw_record(b"[1]"), record()], window=window())
    payload = json.loads(s3_record(lost, IDENTITY)["payload"])
    assert payload["Records"] == [[1], json.loads(PAYLOAD_RECORD)]
    assert payload["isFinalInvokeForWindow"] is False


def test_bytes_that_are_no_text_stay_visible() -> None:
    lost = discarded([raw_record(b'{"dynamodb":{"SequenceNumber":"17","Keys":{"id":{"S":"\xff"}}}}')])
    assert '"S":"\\xff"' in s3_record(lost, IDENTITY)["payload"]
