"""Parameters of any call: compared with the model of the service, filled from records; and what answers mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from scripted_clients import ScriptedContext, refusal
from streamflow.sdk import ConfigError, RecordRefusedError, RecordsFailedError, SinkBusyError, payload
from streamflow.testing.sink_contract import Changes
from streamflow_aws.aws_call import aws_call
from streamflow_aws.record_values import text, value

if TYPE_CHECKING:
    from streamflow.sdk import Record, SinkDeclaration

pytestmark = pytest.mark.anyio

STATE_MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:orders"
EXECUTION = {"stateMachineArn": STATE_MACHINE, "name": "${event_id}", "input": "${payload}"}


def execution(**settings: Any) -> SinkDeclaration:
    return aws_call(**({"service": "stepfunctions", "operation": "StartExecution", "parameters": EXECUTION} | settings))


async def sent(record: Record, sink: SinkDeclaration, *answers: object) -> tuple[str, dict[str, Any]]:
    """The one call that the record makes; None of `answers` is an empty success."""
    rest = list(answers)
    context = ScriptedContext(lambda *_: rest.pop(0) if rest else {})
    changes = Changes()
    async with sink.open(context) as writer:
        await writer.write(changes.batch(record))
    (call,) = context.calls
    return call


# --- what a template can name ----------------------------------------------------------------------------------------


def test_values_keep_their_digits_as_text_and_their_type_as_values() -> None:
    changes = Changes()
    digits = "12345678901234567890123456789012345678"
    record = changes.put(
        "a", n={"N": digits}, f={"N": "2.5"}, yes={"BOOL": True}, none={"NULL": True}, m={"M": {"l": {"L": [{"N": "1"}]}}},
        **{"a.b": {"S": "dotted"}},
    )  # fmt: skip

    def both(name: str) -> tuple[str, Any]:
        told = {"pipeline": "orders", "form": "image"}
        return text(record, name, **told), value(record, name, **told)  # type: ignore[arg-type]

    assert both("new_image.n") == (digits, int(digits))
    assert both("new_image.f") == ("2.5", 2.5)
    assert both("new_image.yes") == ("true", True)
    assert both("new_image.none") == ("null", None)
    assert both("new_image.m.l") == ("[1]", [1])
    assert both("new_image.a.b") == ("dotted", "dotted")
    assert both("keys.id") == (changes.item("a"), changes.item("a"))
    assert both("pipeline") == ("orders", "orders")
    assert both("created_at_ms") == (str(int(record.created_at_s * 1000)), int(record.created_at_s * 1000))
    assert both("shard_id") == (record.shard.shard_id, record.shard.shard_id)
    assert both("payload") == 2 * (payload(record, "image").decode(),)
    assert orjson.loads(both("keys")[0]) == {"id": changes.item("a")}


@pytest.mark.parametrize("name", ["new_image.missing", "new_image.id.more", "old_image", "old_image.id"])
def test_what_a_record_does_not_have_refuses_it(name: str) -> None:
    record = Changes().put("a")
    with pytest.raises(RecordRefusedError, match=f"the record has no {name}"):
        text(record, name, pipeline="orders", form="lambda")


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_a_call_has_the_parameters_filled_with_values() -> None:
    record = Changes().put("a", note={"S": "${event_id}"})
    operation, arguments = await sent(record, execution())
    assert operation == "start_execution"
    assert arguments == {
        "stateMachineArn": STATE_MACHINE,
        "name": record.event_id,
        "input": payload(record, "lambda").decode(),
    }


async def test_a_value_is_a_number_where_the_operation_takes_one() -> None:
    record = Changes().put("a")
    sink = aws_call(
        service="logs",
        operation="PutLogEvents",
        parameters={
            "logGroupName": "orders",
            "logStreamName": "changes of ${keys.id}",
            "logEvents": [{"timestamp": "${created_at_ms}", "message": "${created_at_ms}"}],
        },
    )
    _, arguments = await sent(record, sink)
    at_ms = int(record.created_at_s * 1000)
    assert arguments["logEvents"] == [{"timestamp": at_ms, "message": str(at_ms)}]
    assert arguments["logStreamName"] == "changes of " + str(record.keys["id"])


@pytest.mark.parametrize(
    ("code", "settings", "kind"),
    [
        ("ValidationException", {}, "refused"),
        ("InvalidExecutionInput", {"refused_codes": ["InvalidExecutionInput"]}, "refused"),
    ],
)
async def test_a_code_may_say_that_no_repetition_helps(code: str, settings: dict[str, Any], kind: str) -> None:
    with pytest.raises(RecordsFailedError) as caught:
        await sent(Changes().put("a"), execution(**settings), refusal(code))
    assert [failure.kind for failure in caught.value.failures] == [kind]


async def test_a_code_may_ask_for_a_pause_or_say_that_it_was_done_before() -> None:
    with pytest.raises(SinkBusyError):
        await sent(
            Changes().put("a"),
            execution(throttled_codes=["ExecutionLimitExceeded"]),
            refusal("ExecutionLimitExceeded"),
        )
    await sent(Changes().put("a"), execution(done_codes=["ExecutionAlreadyExists"]), refusal("ExecutionAlreadyExists"))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"rejectedLogEventsInfo": {"expiredLogEventEndIndex": 1}}, "refused"),
        ({"FailedEntryCount": 1}, "failed"),
        ({"FailedEntryCount": 0, "Failed": []}, None),
    ],
)
async def test_an_answer_may_say_that_it_was_not_done(answer: dict[str, Any], kind: str | None) -> None:
    if kind is None:
        await sent(Changes().put("a"), execution(), answer)
        return
    with pytest.raises(RecordsFailedError) as caught:
        await sent(Changes().put("a"), execution(), answer)
    assert [failure.kind for failure in caught.value.failures] == [kind]


# --- the model of the service ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"service": "stepfunction"}, "there is no service 'stepfunction': did you mean 'stepfunctions'?"),
        ({"operation": "StartExecutions"}, "did you mean 'StartExecution'?"),
        ({"parameters": {"stateMachineARN": STATE_MACHINE}}, "'stateMachineARN': did you mean 'stateMachineArn'?"),
        ({"parameters": {"name": "${event_id}"}}, 'Missing required parameter in input: "stateMachineArn"'),
        ({"parameters": {**EXECUTION, "name": 5}}, "Invalid type for parameter name"),
        ({"parameters": {**EXECUTION, "name": ["x"]}}, "name takes a string, not list"),
    ],
)
async def test_what_the_operation_does_not_take_is_an_error_of_the_configuration(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        async with execution(**settings).open(ScriptedContext(lambda *_: {})):
            pass
    assert problem in str(caught.value)


async def test_every_mistake_in_nested_parameters_is_told() -> None:
    sink = aws_call(
        service="logs",
        operation="PutLogEvents",
        parameters={"logGroupNam": "x", "logStreamName": "y", "logEvents": [{"timestamps": "${created_at_ms}"}]},
    )
    with pytest.raises(ConfigError) as caught:
        async with sink.open(ScriptedContext(lambda *_: {})):
            pass
    assert len(caught.value.problems) == 2
    assert "did you mean 'logEvents[0].timestamp'?" in str(caught.value)


@pytest.mark.parametrize("template", ["${event}", "${new_image.}", "${", "${keys.}"])
def test_a_template_that_names_nothing_of_a_record_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="parameters"):
        execution(parameters={"input": [{"x": template}]})
