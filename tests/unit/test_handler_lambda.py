"""A Lambda function gets the event and the context that AWS documents, and its results mean what they mean there."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from msgspec.structs import replace

from streamflow.batches import Batch, Window
from streamflow.errors import ConfigError, HandlerTimeoutError, LambdaFunctionError, PartialFailure
from streamflow.handlers.adapt import open_handler
from streamflow.handlers.lambda_function import Environment
from streamflow.handlers.responses import RESPONSE_BYTES_MAX
from streamflow.pipeline import LambdaFunction
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamflow.handlers.lambda_function import LambdaContext

pytestmark = pytest.mark.anyio

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l", shard_id="shardId-1")


def a_batch(records: int = 3) -> Batch:
    texts = [
        f'{{"eventID":"{number}","eventName":"INSERT","dynamodb":{{"SequenceNumber":"{number:021d}",'
        f'"ApproximateCreationDateTime":1764000000,"Keys":{{"id":{{"S":"order-{number}"}}}}}}}}'
        for number in range(1, records + 1)
    ]
    return Batch(pipeline="orders", shard=SHARD, records=[Record(msgspec.Raw(text.encode()), SHARD) for text in texts])


class Function:
    """A module `functions.py` in the working directory; what its function is called with, and does, is set here."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, Any], LambdaContext]] = []
        self.does: Callable[[dict[str, Any], LambdaContext], Any] = lambda event, context: None
        self.batches_of: list[str] = []

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> Any:
        self.calls.append((event, context))
        return self.does(event, context)

    async def invoke(
        self, batch: Batch | None = None, *, environment: Environment | None = None, **options: Any
    ) -> None:
        declared = LambdaFunction(target="functions.py:handler", **options)
        async with open_handler(declared, pipeline="orders", environment=environment) as opened:
            await opened(a_batch() if batch is None else batch)


@pytest.fixture
def function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    state = Function()
    monkeypatch.setattr("builtins.state_of_the_function", state, raising=False)
    source = "def handler(event, context):\n    return state_of_the_function(event, context)\n"
    (tmp_path / "functions.py").write_text(source)
    yield state
    # A function's module is imported once for the whole process, and here each test has files of its own.
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


# --- what it is called with ------------------------------------------------------------------------------------------


async def test_the_event_is_exactly_that_of_the_batch(function: Function) -> None:
    batch = a_batch()
    await function.invoke(batch)
    [(event, _)] = function.calls
    assert event == batch.lambda_event() == json.loads(batch.lambda_event_json())
    assert [record["eventSourceARN"] for record in event["Records"]] == [SHARD.stream_arn] * 3


async def test_the_function_runs_off_the_loops_thread(function: Function) -> None:
    threads: list[int] = []
    function.does = lambda event, context: threads.append(threading.get_ident())
    await function.invoke()
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_while_a_batch_waits_for_its_turn_it_has_no_event(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Batch] = []
    made_at_first: list[Batch] = []
    began, goes_on = threading.Event(), threading.Event()

    def event_of(batch: Batch) -> dict[str, object]:
        made.append(batch)
        return {"Records": []}

    def wait(event: object, context: object) -> None:
        began.set()
        assert goes_on.wait(10)

    monkeypatch.setattr("streamflow.handlers.lambda_function._event", event_of)
    function.does = wait
    batches = [a_batch(), a_batch()]
    declared = LambdaFunction(target="functions.py:handler")
    async with open_handler(declared, pipeline="orders") as opened, anyio.create_task_group() as tasks:
        for batch in batches:
            tasks.start_soon(opened.write, batch)
        assert await anyio.to_thread.run_sync(began.wait, 10)
        await anyio.wait_all_tasks_blocked()
        made_at_first += made
        goes_on.set()
    assert made_at_first == batches[:1]
    assert made == batches


async def test_the_context_has_the_members_that_aws_documents(function: Function) -> None:
    batch = a_batch()
    await function.invoke(batch, memory_size_mb=512)
    [(_, context)] = function.calls
    assert context.function_name == "handler"
    assert context.function_version == "$LATEST"
    assert context.invoked_function_arn == "arn:aws:lambda:eu-west-1:123456789012:function:handler"
    assert context.memory_limit_in_mb == "512"  # a string on AWS too
    assert context.aws_request_id == batch.request_id
    assert context.log_group_name == "/aws/lambda/handler"
    assert "[$LATEST]" in context.log_stream_name
    assert context.identity.cognito_identity_id is None
    assert context.identity.cognito_identity_pool_id is None
    assert context.client_context is None
    assert context.tenant_id is None


async def test_libraries_may_set_attributes_on_the_context(function: Function) -> None:
    def trace(event: object, context: Any) -> None:
        context.trace_id = "1-5759e988"
        context.function_name = "renamed"
        assert vars(context)["trace_id"] == "1-5759e988"

    function.does = trace
    await function.invoke()
    await function.invoke()
    assert [context.function_name for _, context in function.calls] == ["renamed", "renamed"]
    assert function.calls[0][1] is not function.calls[1][1]


async def test_the_context_writes_to_the_standard_output(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    def log(event: object, context: Any) -> None:
        context.log("one")
        context.log(2)

    function.does = log
    await function.invoke()
    assert capsys.readouterr().out == "one2"


async def test_the_declared_name_is_the_functions(function: Function) -> None:
    await function.invoke(function_name="orders")
    [(_, context)] = function.calls
    assert context.function_name == "orders"
    assert context.invoked_function_arn.endswith(":function:orders")
    assert context.log_group_name == "/aws/lambda/orders"


async def test_a_retry_has_the_same_request_id(function: Function) -> None:
    batch = a_batch()
    await function.invoke(batch)
    await function.invoke(batch.again())
    assert function.calls[0][1].aws_request_id == function.calls[1][1].aws_request_id


async def test_the_remaining_time_runs_from_the_timeout_down_to_0(function: Function) -> None:
    now = 50.0
    environment = Environment(log_stream_name="1", now=lambda: now)
    await function.invoke(timeout_s=2.5, environment=environment)
    [(_, context)] = function.calls
    assert context.get_remaining_time_in_millis() == 2_500
    now += 1.0
    assert context.get_remaining_time_in_millis() == 1_500
    now += 60.0
    assert context.get_remaining_time_in_millis() == 0


# --- what its results mean -------------------------------------------------------------------------------------------


async def test_running_out_of_time_is_a_function_error(function: Function) -> None:
    released = threading.Event()
    function.does = lambda event, context: released.wait(10)
    try:
        with pytest.raises(LambdaFunctionError, match=r"did not return within 0\.05 s") as caught:
            await function.invoke(timeout_s=0.05)
    finally:
        released.set()
    assert caught.value.function_error == "Unhandled"


def raise_error(event: object, context: object) -> None:
    raise KeyError("customer-4711")


def leave(event: object, context: object) -> None:
    raise SystemExit(1)


def interrupt(event: object, context: object) -> None:
    raise KeyboardInterrupt


def cancel(event: object, context: object) -> None:
    raise asyncio.CancelledError


def time_out(event: object, context: object) -> None:
    raise HandlerTimeoutError(3.0)


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        (raise_error, KeyError),
        (leave, SystemExit),
        (interrupt, KeyboardInterrupt),
        (cancel, asyncio.CancelledError),
        (time_out, HandlerTimeoutError),
    ],
)
async def test_raising_is_a_function_error_with_its_cause(
    function: Function, does: Callable[..., None], cause: type[BaseException]
) -> None:
    function.does = does
    line = does.__code__.co_firstlineno + 1
    with pytest.raises(
        LambdaFunctionError, match=rf"raised {cause.__name__} at .*test_handler_lambda\.py:{line}$"
    ) as caught:
        await function.invoke(report_batch_item_failures=True)
    assert isinstance(caught.value.__cause__, cause)
    assert caught.value.function_error == "Unhandled"
    assert "customer-4711" not in str(caught.value)


SECOND = {"itemIdentifier": "000000000000000000002"}

RESPONSES: list[tuple[object, str]] = [
    (None, "success"),
    ("", "success"),
    ({}, "success"),
    ([], "success"),
    ((), "success"),
    (b"", "success"),
    (b"null", "success"),
    ({"batchItemFailures": []}, "success"),
    ({"batchItemFailures": ()}, "success"),
    ({"batchItemFailures": None}, "success"),
    (b'{"batchItemFailures": []}', "success"),
    ({"statusCode": 200}, "success"),
    ({"total": Decimal("12.50")}, "success"),
    ({"batchItemFailures": [{"itemIdentifier": ""}]}, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": None}]}, "failure"),
    ({"batchItemFailures": [{"foo": 123}]}, "failure"),
    ({"batchItemFailures": [{"foo": None}]}, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": "123"}]}, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": 123}]}, "failure"),
    ({"batchItemFailures": [{}]}, "failure"),
    ({"batchItemFailures": ["000000000000000000002"]}, "failure"),
    ({"batchItemFailures": SECOND}, "failure"),
    ({"batchItemFailures": ""}, "failure"),
    ("done", "failure"),
    ([1], "failure"),
    (0, "failure"),
    (False, "failure"),
    (b"done", "failure"),
    ({"batchItemFailures": [SECOND, {}]}, "failure"),
    ({"batchItemFailures": [SECOND]}, "partial"),
    ({"batchItemFailures": (SECOND,)}, "partial"),
    ({"batchItemFailures": [{"itemIdentifier": b"000000000000000000002"}]}, "partial"),
    (json.dumps({"batchItemFailures": [SECOND]}).encode(), "partial"),
]


@pytest.mark.parametrize(("response", "meaning"), RESPONSES, ids=repr)
async def test_responses_mean_what_they_mean_in_lambda(function: Function, response: object, meaning: str) -> None:
    function.does = lambda event, context: response
    if meaning == "success":
        await function.invoke(report_batch_item_failures=True)
        return
    with pytest.raises(PartialFailure if meaning == "partial" else LambdaFunctionError) as caught:
        await function.invoke(report_batch_item_failures=True)
    if isinstance(caught.value, PartialFailure):
        assert caught.value.sequence_numbers == ("000000000000000000002",)
    else:
        assert isinstance(caught.value, LambdaFunctionError)
        assert caught.value.function_error is None


@pytest.mark.parametrize(("response", "meaning"), RESPONSES, ids=repr)
async def test_without_reporting_any_response_is_success(function: Function, response: object, meaning: str) -> None:
    function.does = lambda event, context: response
    await function.invoke()
    assert len(function.calls) == 1


def endless() -> object:
    response: list[object] = []
    response.append(response)
    return response


UNSENDABLE: list[tuple[object, str]] = [
    (1j, "no JSON for the complex"),
    ({1, 2}, "no JSON for the set"),
    (object(), "no JSON for the object"),
    ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "no JSON for the dict"),
    ({("a", "b"): 1}, "no JSON for the dict"),
    ({"share": float("nan")}, "no JSON for the dict"),
    ({"share": Decimal("NaN")}, "no JSON for the dict"),
    ({"raw": b"\xff"}, "no JSON for the dict"),
    ("\ud800", "no JSON for the str"),
    (endless(), "no JSON for the list"),
    ("x" * RESPONSE_BYTES_MAX, "has 6291558 bytes, Lambda takes 6291556"),
    (b"x" * (RESPONSE_BYTES_MAX + 1), "has 6291557 bytes, Lambda takes 6291556"),
]


@pytest.mark.parametrize("reporting", [False, True])
@pytest.mark.parametrize(
    ("response", "reason"), UNSENDABLE, ids=[f"{type(response).__name__}: {why}" for response, why in UNSENDABLE]
)
async def test_what_the_runtime_cannot_send_is_a_function_error(
    function: Function, response: object, reason: str, *, reporting: bool
) -> None:
    function.does = lambda event, context: response
    with pytest.raises(LambdaFunctionError, match=reason) as caught:
        await function.invoke(report_batch_item_failures=reporting)
    assert caught.value.function_error == "Unhandled"


@pytest.mark.parametrize("response", ["x" * (RESPONSE_BYTES_MAX - 2), b"x" * RESPONSE_BYTES_MAX], ids=["str", "bytes"])
async def test_the_longest_response_is_no_error(function: Function, response: object) -> None:
    function.does = lambda event, context: response
    await function.invoke()
    assert len(function.calls) == 1


@pytest.mark.fault("F21")
async def test_a_coroutine_in_place_of_a_response_is_a_function_error(function: Function) -> None:
    async def work() -> None: ...

    function.does = lambda event, context: work()
    with pytest.raises(LambdaFunctionError, match="coroutine that nobody runs") as caught:
        await function.invoke()
    assert caught.value.function_error == "Unhandled"


# --- tumbling windows ------------------------------------------------------------------------------------------------


def a_windowed_batch(records: int = 3, **options: Any) -> Batch:
    window = Window(start_s=1_789_654_270, end_s=1_789_654_280, state={"orders": 3}, **options)
    return replace(a_batch(records), window=window)


def state_of(batch: Batch) -> dict[str, Any]:
    assert batch.window is not None
    return batch.window.state


@pytest.mark.parametrize("reporting", [False, True])
async def test_the_state_that_it_returns_is_the_windows(function: Function, *, reporting: bool) -> None:
    function.does = lambda event, context: {"state": {"orders": event["state"]["orders"] + len(event["Records"])}}
    batch = a_windowed_batch()
    await function.invoke(batch, report_batch_item_failures=reporting)
    assert state_of(batch) == {"orders": 6}
    [(event, _)] = function.calls
    assert event["window"] == {"start": "2026-09-17T14:11:10Z", "end": "2026-09-17T14:11:20Z"}
    assert event == json.loads(a_windowed_batch().lambda_event_json())


async def test_a_state_is_kept_as_the_next_event_will_have_it(function: Function) -> None:
    function.does = lambda event, context: {
        "state": {"total": Decimal("12.5"), "orders": Decimal(3), "ids": ("a", "b")}
    }
    batch = a_windowed_batch()
    await function.invoke(batch)
    assert state_of(batch) == {"total": 12.5, "orders": 3, "ids": ["a", "b"]}
    assert [type(value) for value in state_of(batch).values()] == [float, int, list]


@pytest.mark.parametrize("reporting", [False, True])
@pytest.mark.parametrize(
    "response",
    [None, "", {}, [], {"batchItemFailures": []}, {"state": None}, {"state": 3}, {"state": [{}]}, "done", b"{"],
    ids=repr,
)
async def test_a_response_without_a_state_fails_the_batch(
    function: Function, response: object, *, reporting: bool
) -> None:
    def answer(event: dict[str, Any], context: object) -> object:
        event["state"]["orders"] = 99
        return response

    function.does = answer
    batch = a_windowed_batch()
    with pytest.raises(LambdaFunctionError) as caught:
        await function.invoke(batch, report_batch_item_failures=reporting)
    assert caught.value.function_error is None
    assert state_of(batch) == {"orders": 3}  # the retry begins with the same


async def test_a_failed_batch_keeps_the_state_before(function: Function) -> None:
    def fail(event: dict[str, Any], context: object) -> object:
        event["state"]["orders"] = 99
        raise ValueError

    batch = a_windowed_batch()
    function.does = fail
    with pytest.raises(LambdaFunctionError):
        await function.invoke(batch)
    function.does = lambda event, context: {"state": {"orders": 99}, "batchItemFailures": [{}]}
    with pytest.raises(LambdaFunctionError):
        await function.invoke(batch, report_batch_item_failures=True)
    assert state_of(batch) == {"orders": 3}


async def test_a_partial_failure_keeps_the_state_that_came_with_it(function: Function) -> None:
    function.does = lambda event, context: {"state": {"orders": 4}, "batchItemFailures": [SECOND]}
    batch = a_windowed_batch()
    with pytest.raises(PartialFailure):
        await function.invoke(batch, report_batch_item_failures=True)
    assert state_of(batch) == {"orders": 4}


async def test_a_partial_failure_without_a_state_fails_the_batch(function: Function) -> None:
    function.does = lambda event, context: {"batchItemFailures": [SECOND]}
    with pytest.raises(LambdaFunctionError, match="no object `state`"):
        await function.invoke(a_windowed_batch(), report_batch_item_failures=True)


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("response", [None, {"state": {"orders": 0}}, {"batchItemFailures": []}], ids=repr)
async def test_the_final_invocation_needs_no_state_and_keeps_none(
    function: Function, response: object, *, early: bool
) -> None:
    function.does = lambda event, context: response
    batch = a_windowed_batch(0, is_final=True, is_terminated_early=early)
    await function.invoke(batch, report_batch_item_failures=True)
    [(event, _)] = function.calls
    assert event["Records"] == []
    assert event["state"] == {"orders": 3}
    assert (event["isFinalInvokeForWindow"], event["isWindowTerminatedEarly"]) == (True, early)
    assert state_of(batch) == {"orders": 3}


async def test_a_final_invocation_that_reports_failures_has_failed(function: Function) -> None:
    function.does = lambda event, context: {"batchItemFailures": [SECOND]}
    batch = a_windowed_batch(0, is_final=True)
    await function.invoke(batch)
    with pytest.raises(LambdaFunctionError, match="names no sequence number of the batch"):
        await function.invoke(batch, report_batch_item_failures=True)


# --- what cannot be loaded -------------------------------------------------------------------------------------------

BROKEN = {
    "absent.py:handler": "there is no file absent.py",
    "absent_module:handler": "no module named 'absent_module': looked in",
    "raising.py:handler": "raising.py:1: RuntimeError: at import",
    "leaving.py:handler": "leaving.py:1: SystemExit: 3",
    "spelling.py:handler": "spelling.py:1: SyntaxError: invalid syntax",
    "functions.py:handle": "functions.py has no 'handle', did you mean handler?",
    "functions.py:handler.absent.deep": "functions.py has no 'handler.absent.deep'",
    "members.py:number": "is a value of type int, not a function",
    "members.py:Api": "is the class Api, not a function",
    "members.py:asynchronous": "is async: AWS Lambda calls plain functions; use it as a handler",
    "members.py:asynchronous_api": "is async: AWS Lambda calls plain functions; use it as a handler",
    "members.py:narrow": "must take two arguments, event and context",
}


@pytest.mark.parametrize(("target", "reason"), BROKEN.items())
async def test_what_cannot_be_loaded_is_refused_before_anything_runs(
    function: Function, tmp_path: Path, target: str, reason: str
) -> None:
    (tmp_path / "raising.py").write_text("raise RuntimeError('at import')")
    (tmp_path / "leaving.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "spelling.py").write_text("def handler(:")
    (tmp_path / "members.py").write_text(
        "number = 1\nasync def asynchronous(event, context): ...\ndef narrow(event): ...\n"
        "class Api:\n    async def __call__(self, event, context): ...\nasynchronous_api = Api()\n"
    )
    with pytest.raises(ConfigError) as caught:
        async with open_handler(LambdaFunction(target=target), pipeline="orders"):
            pass
    assert reason in str(caught.value)
    assert target in str(caught.value)


async def test_a_module_of_the_working_directory_and_a_nested_name_are_found(
    function: Function, tmp_path: Path
) -> None:
    (tmp_path / "nested_functions.py").write_text(
        "class Api:\n    @staticmethod\n    def handle(event, context):\n"
        "        return state_of_the_function(event, context)\n"
    )
    async with open_handler(LambdaFunction(target="nested_functions:Api.handle"), pipeline="orders") as opened:
        await opened(a_batch())
    assert len(function.calls) == 1


async def test_files_of_one_name_are_two_functions(function: Function, tmp_path: Path) -> None:
    for folder in ("orders", "invoices"):
        (tmp_path / folder).mkdir()
        source = f"def handler(event, context):\n    state_of_the_function.batches_of.append({folder!r})\n"
        (tmp_path / folder / "lambda_function.py").write_text(source)
    called: list[str] = []
    function.batches_of = called
    for folder in ("orders", "invoices", "orders"):
        declared = LambdaFunction(target=f"{folder}/lambda_function.py:handler")
        async with open_handler(declared, pipeline=folder) as opened:
            await opened(a_batch())
    assert called == ["orders", "invoices", "orders"]


async def test_a_file_is_imported_once(function: Function, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text("calls = []\ndef handler(event, context): calls.append(1)\n")
    for target in ("counted.py:handler", "counted:handler", f"{tmp_path}/counted.py:handler"):
        async with open_handler(LambdaFunction(target=target), pipeline="orders") as opened:
            await opened(a_batch())
    assert sys.modules["counted"].calls == [1, 1, 1]


async def test_a_file_inside_a_package_keeps_its_relative_imports(function: Function, tmp_path: Path) -> None:
    package = tmp_path / "package_of_functions"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text("def handler(event, context): return state_of_the_function(event, context)\n")
    (package / "outer.py").write_text("from .inner import handler\n")
    async with open_handler(
        LambdaFunction(target="package_of_functions/outer.py:handler"), pipeline="orders"
    ) as opened:
        await opened(a_batch())
    assert len(function.calls) == 1
