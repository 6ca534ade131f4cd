"""What the Lambda sink sends, and what it makes of the answers of functions and of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest

from scripted_clients import ScriptedContext, refusal
from streamflow.batches import Window
from streamflow.sdk import (
    ConfigError,
    LambdaFunctionError,
    PartialFailure,
    Record,
    RecordsFailedError,
    SinkBusyError,
)
from streamflow.testing.sink_contract import Changes
from streamflow_aws.errors import AwsCallError
from streamflow_aws.lambda_invoke import EVENT_BYTES_MAX, invocations, lambda_invoke

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.sdk import Batch

pytestmark = pytest.mark.anyio


class Answer:
    """The body of an answer."""

    def __init__(self, body: bytes | Exception) -> None:
        self._body = body

    async def read(self) -> bytes:
        if isinstance(self._body, Exception):
            raise self._body
        return self._body


def answered(body: bytes | Exception = b"null", **members: str) -> dict[str, Any]:
    return {"StatusCode": 200, "Payload": Answer(body), **members}


async def written(batch: Batch, *answers: object, **settings: Any) -> ScriptedContext:
    """The context after the batch was written; the dry run of opening is not among `answers`."""
    rest = list(answers)
    context = ScriptedContext(
        lambda _, __, arguments: answered(b"") if arguments["InvocationType"] == "DryRun" else rest.pop(0)
    )
    async with lambda_invoke(function="orders", **settings).open(context) as writer:
        await writer.write(batch)
    return context


async def test_the_function_gets_the_event_of_a_mapping() -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    context = await written(batch, answered(), qualifier="live")
    assert [arguments["InvocationType"] for _, arguments in context.calls] == ["DryRun", "RequestResponse"]
    assert context.calls[1] == (
        "invoke",
        {
            "FunctionName": "orders",
            "Qualifier": "live",
            "InvocationType": "RequestResponse",
            "Payload": batch.lambda_event_json(),
        },
    )


async def test_the_answer_of_a_window_is_its_state() -> None:
    changes = Changes()
    window = Window(start_s=0, end_s=60, state={"sum": 1})
    batch = changes.batch(changes.put("a")).again(window=window)
    context = await written(batch, answered(b'{"state": {"sum": 2}}'))
    assert b'"state":{"sum":1}' in context.calls[1][1]["Payload"]
    assert window.state == {"sum": 2}


async def test_reported_failures_are_a_partial_failure_only_where_they_are_asked_for() -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    number = batch.records[1].sequence_number
    body = b'{"batchItemFailures": [{"itemIdentifier": "%s"}]}' % number.encode()
    await written(batch, answered(body))
    with pytest.raises(PartialFailure) as caught:
        await written(batch, answered(body), report_batch_item_failures=True)
    assert caught.value.sequence_numbers == (number,)
    with pytest.raises(LambdaFunctionError, match="lambda function orders: batchItemFailures"):
        await written(batch, answered(body.replace(b'"%s"' % number.encode(), b'""')), report_batch_item_failures=True)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"errorMessage": "customer 4711", "errorType": "ValueError"}', "failed: Unhandled ValueError"),
        (b'{"errorMessage": "customer 4711", "errorType": "customer 4711"}', "failed: Unhandled"),
        (b"customer 4711", "failed: Unhandled"),
    ],
)
async def test_a_function_error_is_told_by_its_class_and_never_by_its_message(body: bytes, shown: str) -> None:
    changes = Changes()
    with pytest.raises(LambdaFunctionError) as caught:
        await written(changes.batch(changes.put("a")), answered(body, FunctionError="Unhandled"))
    assert str(caught.value) == f"lambda function orders {shown}"
    assert caught.value.function_error == "Unhandled"


@pytest.mark.parametrize(
    "code",
    ["TooManyRequestsException", "EC2ThrottledException", "ResourceConflictException", "SnapStartNotReadyException"],
)
async def test_a_function_that_cannot_be_started_now_costs_no_attempt(code: str) -> None:
    changes = Changes()
    with pytest.raises(SinkBusyError):
        await written(changes.batch(changes.put("a")), refusal(code, status=429 if "TooMany" in code else 502))


async def test_an_answer_that_breaks_off_is_a_failure() -> None:
    changes = Changes()
    with pytest.raises(AwsCallError, match="the answer broke off"):
        await written(changes.batch(changes.put("a")), answered(OSError("reset")))


async def test_a_record_that_is_larger_than_an_invocation_is_refused_and_not_sent() -> None:
    changes = Changes()
    batch = changes.batch(large(changes.put("a")))
    with pytest.raises(RecordsFailedError, match=f"an invocation takes {EVENT_BYTES_MAX}") as caught:
        await written(batch)  # no answer is at hand
    assert [failure.kind for failure in caught.value.failures] == ["refused"]


async def test_what_is_before_a_record_that_is_too_large_is_sent_and_what_is_behind_it_waits() -> None:
    changes = Changes()
    batch = changes.batch(changes.put("a"), large(changes.put("b")), changes.put("c"))
    with pytest.raises(RecordsFailedError) as caught:
        await written(batch, answered())
    assert [(failure.record, failure.kind) for failure in caught.value.failures] == [
        (batch.records[1], "refused"),
        (batch.records[2], "waiting"),
    ]


def large(record: Record) -> Record:
    body = orjson.loads(record.raw)
    body["dynamodb"]["NewImage"]["blob"] = {"S": "x" * EVENT_BYTES_MAX}
    return Record(msgspec.Raw(orjson.dumps(body)), record.shard)


def each_alone(batch: Batch, *, bytes_max: int = 10) -> Iterator[Batch]:
    return invocations(batch, bytes_max=bytes_max)


def test_a_batch_is_halved_until_each_part_is_an_event() -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(8))
    limit = batch.select(batch.records[:2]).lambda_event_bytes
    parts = list(invocations(batch, bytes_max=limit + 10))
    assert [list(part) for part in parts] == [list(batch.records[place : place + 2]) for place in (0, 2, 4, 6)]
    assert [len(part) for part in invocations(batch, bytes_max=10)] == [1] * 8
    assert list(invocations(batch)) == [batch]


async def test_a_later_part_that_fails_does_not_bring_the_earlier_ones_again(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(2))
    monkeypatch.setattr("streamflow_aws.lambda_invoke.invocations", each_alone)
    with pytest.raises(PartialFailure) as caught:
        await written(batch, answered(), refusal("TooManyRequestsException", status=429))
    assert caught.value.sequence_numbers == (batch.records[1].sequence_number,)
    assert isinstance(caught.value.__cause__, SinkBusyError)


async def test_what_the_service_finds_too_large_is_refused_and_what_is_behind_it_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    monkeypatch.setattr("streamflow_aws.lambda_invoke.invocations", each_alone)
    with pytest.raises(RecordsFailedError) as caught:
        await written(batch, answered(), refusal("RequestTooLargeException", status=413))
    assert [(failure.record, failure.kind) for failure in caught.value.failures] == [
        (batch.records[1], "refused"),
        (batch.records[2], "waiting"),
    ]


async def test_a_function_that_is_not_there_is_an_error_of_the_configuration() -> None:
    context = ScriptedContext(lambda *_: refusal("ResourceNotFoundException", status=404))
    with pytest.raises(
        ConfigError, match=r"the function orders with the qualifier live cannot be used: .*make it: aws"
    ):
        async with lambda_invoke(function="orders", qualifier="live").open(context):
            pass


@pytest.mark.parametrize(
    "settings",
    [{"function": "a b"}, {"function": "orders", "invocation_type": "Event"}, {"function": "f", "timeout_s": 0}],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        lambda_invoke(**settings)
