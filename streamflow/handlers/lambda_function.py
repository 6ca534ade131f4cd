"""An AWS Lambda function, unchanged, in this process: exact event, context, and results that mean what they mean there.

Where Lambda has an environment for each invocation, here all share the module's globals: so one runs at a time, unless
`LambdaFunction.concurrency` says that the function bears more.
"""

from __future__ import annotations

import inspect
import sys
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from streamflow.clock import SystemClock, thread_monotonic
from streamflow.errors import ConfigError, HandlerTimeoutError, LambdaFunctionError
from streamflow.handlers.responses import encode_response
from streamflow.handlers.threads import Threads
from streamflow.rules.responses import accept_response
from streamflow.targets import code_line, load_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streamflow.batches import Batch
    from streamflow.pipeline import LambdaFunction
    from streamflow.protocols import Handler


@dataclass(kw_only=True, eq=False)
class CognitoIdentity:
    """Who called, where that was an app on a phone: never, for an event source mapping."""

    cognito_identity_id: str | None = None
    cognito_identity_pool_id: str | None = None


@dataclass(kw_only=True, eq=False)
class LambdaContext:
    """The context object of the Python runtime, member for member; as there, libraries may set more attributes on it."""

    aws_request_id: str
    function_name: str
    memory_limit_in_mb: str
    invoked_function_arn: str
    log_group_name: str
    log_stream_name: str
    function_version: str = "$LATEST"
    identity: CognitoIdentity = field(default_factory=CognitoIdentity)
    client_context: None = None
    tenant_id: None = None
    _deadline: float = field(default=0.0, repr=False)
    _now: Callable[[], float] = field(default=thread_monotonic, repr=False)

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation times out; 0 when it has."""
        return max(0, int((self._deadline - self._now()) * 1000))

    def log(self, message: object) -> None:
        """Write to the standard output, without a line's end."""
        sys.stdout.write(str(message))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a function learns from its context about the process that runs it. `now` is asked in its thread."""

    log_stream_name: str
    now: Callable[[], float] = thread_monotonic


def process_environment() -> Environment:
    """This process, with a new id each time, as Lambda's environments have one."""
    today = datetime.fromtimestamp(SystemClock().wall(), UTC)
    return Environment(log_stream_name=f"{today:%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}")  # noqa: TID251 - it is to be new


_Function: TypeAlias = "Callable[[dict[str, Any], LambdaContext], object]"


@asynccontextmanager
async def open_lambda_function(
    declared: LambdaFunction, environment: Environment | None = None
) -> AsyncIterator[Handler]:
    """Load the function; it is called in a thread, because Lambda functions are plain functions.

    The handler raises `LambdaFunctionError` where Lambda would say that the function failed, and `PartialFailure`. In a
    tumbling window it keeps the state that the function returns.

    Raises:
        ConfigError: it cannot be imported, or is no plain function of an event and a context.
    """
    function = load_function(declared.target)
    threads = Threads(declared.concurrency)
    around = environment or process_environment()

    async def invoke(batch: Batch) -> None:
        def call() -> bytes:
            # The event is made when its turn has come: of those that wait, none takes memory. So starts the clock.
            event = _event(batch)
            return _response_body(function, event, _context(declared, batch, function, around))

        try:
            body = await threads.run(call, timeout_s=declared.timeout_s)
            accept_response(body, batch, reporting=declared.report_batch_item_failures)
        except HandlerTimeoutError:
            raise LambdaFunctionError(
                f"lambda function {declared.target!r} did not return within {declared.timeout_s:g} s; its thread cannot be "
                "stopped and goes on"
            ) from None
        except LambdaFunctionError as error:
            raise LambdaFunctionError(
                f"lambda function {declared.target!r}: {error}", function_error=error.function_error
            ) from error.__cause__

    yield invoke


def load_function(target: str) -> _Function:
    """Import `module:function` or `path.py:function`; the working directory is searched as in Lambda.

    Raises:
        ConfigError: it is not there, its module cannot be imported, or it is no plain function of two arguments.
    """
    try:
        function = load_target(target, directory=Path.cwd())
    except ConfigError as error:
        raise ConfigError([f"lambda function {target!r}: {problem}" for problem in error.problems]) from error
    if not callable(function) or inspect.isclass(function):
        kind = (
            "the class " + function.__name__
            if inspect.isclass(function)
            else f"a value of type {type(function).__name__}"
        )
        raise ConfigError(f"lambda function {target!r} is {kind}, not a function")
    if _is_async(function):
        raise ConfigError(f"lambda function {target!r} is async: AWS Lambda calls plain functions; use it as a handler")
    try:
        inspect.signature(function).bind(None, None)
    except ValueError:
        pass  # a builtin without a signature: the first call will tell
    except TypeError:
        raise ConfigError(f"lambda function {target!r} must take two arguments, event and context") from None
    return function


def _is_async(function: Callable[..., object]) -> bool:
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (function, getattr(function, "__call__", None))  # noqa: B004
    )


def _event(batch: Batch) -> dict[str, Any]:
    """The batch's event, with a state of its own: what the function does to it counts only if it returns it."""
    event: dict[str, Any] = batch.lambda_event()
    if batch.window is not None:
        event["state"] = orjson.loads(orjson.dumps(batch.window.state))
    return event


def _response_body(function: _Function, event: dict[str, Any], context: LambdaContext) -> bytes:
    """Call the function, as the runtime does.

    Raises:
        LambdaFunctionError: it raised, left, or returned something that the runtime cannot send.
    """
    try:
        response = function(event, context)
    # Also what is no Exception: out of the thread it would end, or seem to cancel, the task that waits for it.
    except BaseException as error:
        raise LambdaFunctionError(f"it raised {type(error).__name__} at {code_line(error)}") from error
    return encode_response(response)


def _context(declared: LambdaFunction, batch: Batch, function: _Function, around: Environment) -> LambdaContext:
    name = declared.function_name or str(getattr(function, "__name__", "function"))
    return LambdaContext(
        aws_request_id=batch.request_id,
        function_name=name,
        memory_limit_in_mb=str(declared.memory_size_mb),
        invoked_function_arn=function_arn(batch.shard.stream_arn, name),
        log_group_name=f"/aws/lambda/{name}",
        log_stream_name=around.log_stream_name,
        _deadline=around.now() + declared.timeout_s,
        _now=around.now,
    )


def function_arn(stream_arn: str, name: str) -> str:
    """The ARN of a function of this name where the stream is."""
    # arn:PARTITION:dynamodb:REGION:ACCOUNT:table/…
    parts = stream_arn.split(":")
    partition, region, account = (parts[1], *parts[3:5]) if len(parts) > 5 else ("aws", "us-east-1", "000000000000")
    return f"arn:{partition}:lambda:{region}:{account}:function:{name}"
