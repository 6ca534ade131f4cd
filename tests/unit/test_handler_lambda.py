"""A Lambda function gets the event and the context that AWS documents, and its results mean what they mean there."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from streamflow.batches import Batch
from streamflow.errors import ConfigError, LambdaFunctionError, PartialFailure
from streamflow.handlers.adapt import open_handler
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

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> Any:
        self.calls.append((event, context))
        return self.does(event, context)

    async def invoke(self, batch: Batch | None = None, **options: Any) -> None:
        declared = LambdaFunction(target="functions.py:handler", **options)
        async with open_handler(declared, pipeline="orders") as opened:
            await opened(batch or a_batch())


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
    assert context.identity is None
    assert context.client_context is None


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


async def test_the_remaining_time_runs_from_the_timeout_down_to_0(
    function: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 50.0
    monkeypatch.setattr("streamflow.handlers.lambda_function.thread_monotonic", lambda: now)
    await function.invoke(timeout_s=2.5)
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
        with pytest.raises(LambdaFunctionError, match=r"did not return within 0\.05 s"):
            await function.invoke(timeout_s=0.05)
    finally:
        released.set()


def raise_error(event: object, context: object) -> None:
    raise KeyError("customer-4711")


def leave(event: object, context: object) -> None:
    raise SystemExit(1)


@pytest.mark.parametrize(("does", "cause"), [(raise_error, KeyError), (leave, SystemExit)])
async def test_raising_is_a_function_error_with_its_cause(
    function: Function, does: Callable[..., None], cause: type[BaseException]
) -> None:
    function.does = does
    with pytest.raises(LambdaFunctionError, match=f"raised {cause.__name__}") as caught:
        await function.invoke(report_batch_item_failures=True)
    assert isinstance(caught.value.__cause__, cause)
    assert "customer-4711" not in str(caught.value)


RESPONSES: list[tuple[object, str]] = [
    (None, "success"),
    ("", "success"),
    ({}, "success"),
    ([], "success"),
    ({"batchItemFailures": []}, "success"),
    ({"batchItemFailures": None}, "success"),
    ({"statusCode": 200}, "success"),
    ({"batchItemFailures": [{"itemIdentifier": ""}]}, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": None}]}, "failure"),
    ({"batchItemFailures": [{"foo": 123}]}, "failure"),
    ({"batchItemFailures": [{"foo": None}]}, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": "123"}]}, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": 123}]}, "failure"),
    ({"batchItemFailures": [{}]}, "failure"),
    ({"batchItemFailures": ["000000000000000000002"]}, "failure"),
    ({"batchItemFailures": {"itemIdentifier": "000000000000000000002"}}, "failure"),
    ("done", "failure"),
    ([1], "failure"),
    (0, "failure"),
    (False, "failure"),
    (1j, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": "000000000000000000002"}, {}]}, "failure"),
    ({"batchItemFailures": [{"itemIdentifier": "000000000000000000002"}]}, "partial"),
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


@pytest.mark.parametrize(("response", "meaning"), RESPONSES, ids=repr)
async def test_without_reporting_any_response_is_success(function: Function, response: object, meaning: str) -> None:
    function.does = lambda event, context: response
    await function.invoke()
    assert len(function.calls) == 1


async def test_a_coroutine_in_place_of_a_response_is_a_function_error(function: Function) -> None:
    async def work() -> None: ...

    function.does = lambda event, context: work()
    with pytest.raises(LambdaFunctionError, match="coroutine that nobody runs"):
        await function.invoke()


# --- what cannot be loaded -------------------------------------------------------------------------------------------

BROKEN = {
    "absent.py:handler": "absent.py:handler' cannot be imported: FileNotFoundError",
    "absent_module:handler": "absent_module:handler' cannot be imported: ModuleNotFoundError",
    "raising.py:handler": "cannot be imported: RuntimeError: at import",
    "leaving.py:handler": "cannot be imported: SystemExit",
    "spelling.py:handler": "cannot be imported: SyntaxError",
    "functions.py:absent": "functions.py has no function absent",
    "functions.py:handler.absent.deep": "has no function handler.absent.deep",
    "members.py:number": "members.py has no function number",
    "members.py:asynchronous": "is async: AWS Lambda calls plain functions; use it as a handler",
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
