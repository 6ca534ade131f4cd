"""What becomes of records when a service takes some of a request: answers as the services give them, told by a script."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from scripted_clients import ScriptedContext, refusal
from streamflow.sdk import ConfigError, RecordsFailedError, SinkBusyError
from streamflow.testing.sink_contract.changes import Changes
from streamflow_aws.errors import AwsCallError
from streamflow_aws.eventbridge import eventbridge
from streamflow_aws.firehose import firehose
from streamflow_aws.kinesis import kinesis
from streamflow_aws.sns import sns
from streamflow_aws.sqs import encode, sqs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from streamflow.sdk import Record, SinkDeclaration, Writer

pytestmark = pytest.mark.anyio

STANDARD = sqs(queue_url="https://sqs.eu-west-1.amazonaws.com/123456789012/orders")
FIFO = sqs(queue_url="https://sqs.eu-west-1.amazonaws.com/123456789012/orders.fifo")
TOPIC = sns(topic_arn="arn:aws:sns:eu-west-1:123456789012:orders")
BUS, STREAM, DELIVERY = eventbridge(), kinesis(stream="orders"), firehose(stream="orders")

WRITES = {
    "send_message_batch": "Entries",
    "publish_batch": "PublishBatchRequestEntries",
    "put_events": "Entries",
    "put_records": "Records",
    "put_record_batch": "Records",
}
LOOKS: dict[str, dict[str, Any]] = {
    "get_queue_attributes": {"Attributes": {"MaximumMessageSize": "1048576"}},
    "get_topic_attributes": {"Attributes": {}},
    "describe_event_bus": {"Name": "default"},
    "describe_stream_summary": {"StreamDescriptionSummary": {"StreamStatus": "ACTIVE", "MaxRecordSizeInKiB": 1024}},
    "describe_delivery_stream": {
        "DeliveryStreamDescription": {"DeliveryStreamStatus": "ACTIVE", "DeliveryStreamType": "DirectPut"}
    },
}


def by_id(code: str | None, entry: dict[str, Any], *, sender_fault: bool = False) -> dict[str, Any]:
    """One entry of an answer of SQS or SNS."""
    if code is None:
        return {"Id": entry["Id"], "MessageId": "5fea7756"}
    return {"Id": entry["Id"], "Code": code, "Message": "quoted: customer 4711", "SenderFault": sender_fault}


def messages(entries: Sequence[dict[str, Any]], codes: dict[int, tuple[str, bool]]) -> dict[str, Any]:
    """An answer of SQS or SNS: `codes` by place, each with the sender's fault; the services give them in any order."""
    told = {place: codes.get(place) for place in reversed(range(len(entries)))}
    return {
        "Successful": [by_id(None, entries[place]) for place, code in told.items() if code is None],
        "Failed": [by_id(code[0], entries[place], sender_fault=code[1]) for place, code in told.items() if code],
    }


def positions(member: str, proof: str, entries: Sequence[dict[str, Any]], codes: dict[int, str]) -> dict[str, Any]:
    """An answer of EventBridge, Kinesis or Firehose."""
    return {
        "FailedCount": len(codes),
        member: [
            {"ErrorCode": codes[place], "ErrorMessage": "quoted: customer 4711"}
            if place in codes
            else {proof: f"49590338{place}"}
            for place in range(len(entries))
        ],
    }


@asynccontextmanager
async def opened(
    sink: SinkDeclaration, answer: Callable[[list[dict[str, Any]]], Any], **looks: Any
) -> AsyncIterator[tuple[Writer, ScriptedContext]]:
    def answered(_: int, operation: str, arguments: dict[str, Any]) -> Any:
        if operation in WRITES:
            return answer(arguments[WRITES[operation]])
        return looks.get(operation, LOOKS[operation])

    context = ScriptedContext(answered)
    async with sink.open(context) as writer:
        context.calls.clear()
        yield writer, context


async def failures(writer: Writer, changes: Changes, *records: Record) -> list[tuple[int, str, str]]:
    """Place, kind and reason of each record that was not written."""
    written = records or tuple(changes.records)
    with pytest.raises(RecordsFailedError) as failed:
        await writer.write(changes.batch(*written))
    return [(written.index(each.record), each.kind, each.reason) for each in failed.value.failures]


# --- sqs, sns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sink", [STANDARD, TOPIC], ids=["sqs", "sns"])
async def test_messages_that_failed_are_told_apart(sink: SinkDeclaration) -> None:
    codes = {
        1: ("InternalError", False),
        3: ("InvalidMessageContents", True),
        4: ("RequestThrottled", True),
        5: ("KMS.AccessDeniedException", True),
        6: ("AccessDenied", True),
        7: ("BatchRequestTooLong", True),
    }
    changes = Changes()
    changes.put_many(9)
    async with opened(sink, lambda entries: messages(entries, codes)) as (writer, _):
        found = await failures(writer, changes)
    assert found == [
        (1, "failed", "the service answered InternalError"),
        (3, "refused", "the service answered InvalidMessageContents"),
        (4, "waiting", "the service answered RequestThrottled"),
        (5, "failed", "the service answered KMS.AccessDeniedException"),
        (6, "failed", "the service answered AccessDenied"),
        (7, "refused", "the service answered BatchRequestTooLong"),
    ]


@pytest.mark.parametrize("sink", [STANDARD, TOPIC], ids=["sqs", "sns"])
async def test_a_message_that_the_answer_does_not_mention_has_failed(sink: SinkDeclaration) -> None:
    # A body that is cut off parses to an answer with nothing in it.
    changes = Changes()
    changes.put_many(2)
    async with opened(sink, lambda _: {"ResponseMetadata": {"HTTPStatusCode": 200}}) as (writer, _):
        found = await failures(writer, changes)
    assert found == [(place, "failed", "the answer does not mention it") for place in (0, 1)]


async def test_a_failed_message_stops_its_group_and_no_other() -> None:
    changes = Changes()
    for name in ("a", "b", "a", "b", "a"):
        changes.put(name)
    settings = sqs.configured(FIFO.settings.model_dump())
    group = encode(changes.records[0], settings)[0]

    def answer(entries: list[dict[str, Any]]) -> dict[str, Any]:
        ours = [place for place, entry in enumerate(entries) if entry["MessageGroupId"] == group["MessageGroupId"]]
        return messages(entries, dict.fromkeys(ours, ("InternalError", False)))

    async with opened(FIFO, answer) as (writer, context):
        found = await failures(writer, changes)
    assert [(place, kind) for place, kind, _ in found] == [(0, "failed"), (2, "waiting"), (4, "waiting")]
    sent = [entry["MessageDeduplicationId"] for _, call in context.calls for entry in call["Entries"]]
    assert sent == [changes.records[place].event_id for place in (0, 1, 3)]


async def test_no_request_has_more_than_ten_messages_or_holds_the_loop_up() -> None:
    changes = Changes()
    changes.put_many(25)
    large = [changes.put(f"large{number}", blob={"S": "x" * 300_000}) for number in range(4)]
    async with opened(STANDARD, lambda entries: messages(entries, {})) as (writer, context):
        await writer.write(changes.batch(*changes.records[:25]))
        assert sorted(len(call["Entries"]) for _, call in context.calls) == [5, 10, 10]
        context.calls.clear()
        await writer.write(changes.batch(*large))
    assert sorted(len(call["Entries"]) for _, call in context.calls) == [2, 2]


async def test_a_record_beyond_the_queues_own_limit_is_refused_and_not_sent() -> None:
    changes = Changes()
    changes.put("small")
    changes.put("large", blob={"S": "x" * 2000})
    lower = {"Attributes": {"MaximumMessageSize": "1024"}}
    async with opened(STANDARD, lambda entries: messages(entries, {}), get_queue_attributes=lower) as (writer, context):
        ((place, kind, reason),) = await failures(writer, changes)
    assert (place, kind) == (1, "refused")
    assert reason.endswith("the target takes 1024")
    assert [len(call["Entries"]) for _, call in context.calls] == [1]


async def test_a_topic_may_take_larger_messages_than_most() -> None:
    changes = Changes()
    changes.put("large", blob={"S": "x" * 300_000})
    async with opened(TOPIC, lambda entries: messages(entries, {})) as (writer, _):
        assert [kind for _, kind, _ in await failures(writer, changes)] == ["refused"]
    larger = {"Attributes": {"MaximumMessageSize": "1048576"}}
    async with opened(TOPIC, lambda entries: messages(entries, {}), get_topic_attributes=larger) as (writer, context):
        await writer.write(changes.batch(*changes.records))
    assert len(context.calls) == 1


# --- eventbridge, kinesis, firehose ----------------------------------------------------------------------------------

POSITIONAL = [
    pytest.param(BUS, "Entries", "EventId", "ThrottlingException", id="eventbridge"),
    pytest.param(STREAM, "Records", "SequenceNumber", "ProvisionedThroughputExceededException", id="kinesis"),
    pytest.param(DELIVERY, "RequestResponses", "RecordId", "ServiceUnavailableException", id="firehose"),
]


@pytest.mark.parametrize(("sink", "member", "proof", "throttle"), POSITIONAL)
async def test_entries_that_failed_are_told_by_their_place(
    sink: SinkDeclaration, member: str, proof: str, throttle: str
) -> None:
    changes = Changes()
    changes.put_many(5)
    codes = {1: "InternalFailure", 4: throttle}
    async with opened(sink, lambda entries: positions(member, proof, entries, codes)) as (writer, _):
        found = await failures(writer, changes)
    assert found == [
        (1, "failed", "the service answered InternalFailure"),
        (4, "waiting", f"the service answered {throttle}"),
    ]


@pytest.mark.parametrize(("sink", "member", "proof", "throttle"), POSITIONAL)
async def test_an_entry_without_the_proof_that_it_was_taken_has_failed(
    sink: SinkDeclaration, member: str, proof: str, throttle: str
) -> None:
    changes = Changes()
    changes.put_many(2)
    async with opened(sink, lambda _: {member: [{proof: "1"}, {}]}) as (writer, _):
        assert await failures(writer, changes) == [(1, "failed", "the answer does not mention it")]


@pytest.mark.parametrize("answer", [{}, {"short": True}])
@pytest.mark.parametrize(("sink", "member", "proof", "throttle"), POSITIONAL)
async def test_an_answer_about_another_number_of_entries_is_a_failure_of_the_batch(
    sink: SinkDeclaration, member: str, proof: str, throttle: str, answer: dict[str, Any]
) -> None:
    changes = Changes()
    changes.put_many(2)
    given = {member: [{proof: "1"}]} if answer else {}
    async with opened(sink, lambda _: given) as (writer, _):
        with pytest.raises(AwsCallError, match=r"about [01] of 2 entries: it is truncated or corrupt"):
            await writer.write(changes.batch(*changes.records))


async def test_a_malformed_detail_is_refused() -> None:
    changes = Changes()
    changes.put_many(2)
    async with opened(BUS, lambda entries: positions("Entries", "EventId", entries, {0: "MalformedDetail"})) as (
        writer,
        _,
    ):
        assert await failures(writer, changes) == [(0, "refused", "the service answered MalformedDetail")]


async def test_a_record_that_a_shard_did_not_take_holds_back_the_later_ones_of_its_item() -> None:
    changes = Changes()
    for name in ("a", "b", "a"):
        changes.put(name)
    codes = {0: "ProvisionedThroughputExceededException"}
    async with opened(STREAM, lambda entries: positions("Records", "SequenceNumber", entries, codes)) as (
        writer,
        context,
    ):
        found = await failures(writer, changes)
    assert [(place, kind) for place, kind, _ in found] == [(0, "waiting"), (2, "waiting")]
    assert len(context.calls) == 1


async def test_a_stream_takes_no_record_beyond_its_own_limit() -> None:
    changes = Changes()
    changes.put("large", blob={"S": "\x01" * 200_000})  # six bytes of JSON each
    taken = {"StreamDescriptionSummary": {"StreamStatus": "ACTIVE", "MaxRecordSizeInKiB": 2048}}

    def answer(entries: list[dict[str, Any]]) -> Any:
        return positions("Records", "SequenceNumber", entries, {})

    async with opened(STREAM, answer) as (writer, _):
        assert [kind for _, kind, _ in await failures(writer, changes)] == ["refused"]
    async with opened(STREAM, answer, describe_stream_summary=taken) as (writer, context):
        await writer.write(changes.batch(*changes.records))
    assert len(context.calls) == 1


@pytest.mark.parametrize(
    ("sink", "look", "said"),
    [
        (STREAM, {"StreamDescriptionSummary": {"StreamStatus": "CREATING"}}, "it is CREATING; wait"),
        (DELIVERY, {"DeliveryStreamDescription": {"DeliveryStreamStatus": "DELETING"}}, "it is DELETING"),
        (DELIVERY, {"DeliveryStreamDescription": {"DeliveryStreamType": "KinesisStreamAsSource"}}, "Direct PUT"),
    ],
)
async def test_a_target_that_cannot_be_written_now_is_told_at_opening(
    sink: SinkDeclaration, look: dict[str, Any], said: str
) -> None:
    context = ScriptedContext(lambda *_: look)
    with pytest.raises(ConfigError, match=said):
        async with sink.open(context):
            pass
    assert context.closed == [1]


# --- whole requests --------------------------------------------------------------------------------------------------

ALL = [STANDARD, FIFO, TOPIC, BUS, STREAM, DELIVERY]


@pytest.mark.parametrize("sink", ALL, ids=lambda sink: sink.name)
async def test_a_throttled_request_asks_for_a_pause(sink: SinkDeclaration) -> None:
    changes = Changes()
    changes.put_many(3)
    async with opened(sink, lambda _: refusal("ThrottlingException", retry_after="3")) as (writer, _):
        with pytest.raises(SinkBusyError) as busy:
            await writer.write(changes.batch(*changes.records))
    assert busy.value.retry_after_s == 3.0


@pytest.mark.parametrize("sink", ALL, ids=lambda sink: sink.name)
async def test_a_denied_request_is_a_failure_of_the_batch(sink: SinkDeclaration) -> None:
    changes = Changes()
    changes.put_many(3)
    async with opened(sink, lambda _: refusal("AccessDenied", "not authorized to perform")) as (writer, _):
        with pytest.raises(AwsCallError, match="AccessDenied: not authorized to perform"):
            await writer.write(changes.batch(*changes.records))


async def test_a_request_that_is_too_large_is_halved_until_it_is_known_which_entry_is_at_fault() -> None:
    changes = Changes()
    changes.put_many(10)
    culprit = changes.records[6].event_id

    def answer(entries: list[dict[str, Any]]) -> Any:
        if any(culprit in entry["Detail"] for entry in entries):
            return refusal("ValidationException", "Total size of the entries in the request is over the limit.")
        return positions("Entries", "EventId", entries, {})

    async with opened(BUS, answer) as (writer, context):
        assert await failures(writer, changes) == [(6, "refused", "put_events: ValidationException")]
    taken = [
        call["Entries"] for _, call in context.calls if not any(culprit in each["Detail"] for each in call["Entries"])
    ]
    assert sum(map(len, taken)) == 9


async def test_what_befalls_the_second_half_does_not_repeat_the_first() -> None:
    changes = Changes()
    changes.put_many(4)
    last = changes.records[3].event_id

    def answer(entries: list[dict[str, Any]]) -> Any:
        if len(entries) == 4:
            return refusal("RequestEntityTooLarge", status=413)
        if any(last in entry["Detail"] for entry in entries):
            return refusal("ThrottlingException")
        return positions("Entries", "EventId", entries, {})

    async with opened(BUS, answer) as (writer, _):
        found = await failures(writer, changes)
    assert [(place, kind) for place, kind, _ in found] == [(2, "waiting"), (3, "waiting")]


@pytest.mark.parametrize("sink", ALL, ids=lambda sink: sink.name)
async def test_no_message_quotes_what_the_service_quoted(sink: SinkDeclaration) -> None:
    quoted = "Value 'customer 4711' failed to satisfy constraint"
    changes = Changes()
    changes.put_many(2)
    async with opened(sink, lambda _: refusal("ValidationException", quoted)) as (writer, _):
        with pytest.raises(AwsCallError) as failed:
            await writer.write(changes.batch(*changes.records))
    assert "4711" not in str(failed.value)
