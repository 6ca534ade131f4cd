"""An AWS Lambda function, unchanged, in this process: exact event, context, and results that mean what they mean there."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from streamflow.clock import thread_monotonic
from streamflow.errors import ConfigError, LambdaFunctionError
from streamflow.handlers.responses import is_unrun, read_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from streamflow.batches import Batch
    from streamflow.pipeline import LambdaFunction
    from streamflow.protocols import Handler

_THREADS_MAX = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaContext:
    """The context object of the Python runtime, member for member."""

    aws_request_id: str
    function_name: str
    memory_limit_in_mb: str
    invoked_function_arn: str
    log_group_name: str
    log_stream_name: str
    function_version: str = "$LATEST"
    identity: None = None
    client_context: None = None
    _deadline: float = 0.0

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation times out; 0 when it has."""
        return max(0, int((self._deadline - thread_monotonic()) * 1000))


@asynccontextmanager
async def open_lambda_function(declared: LambdaFunction) -> AsyncIterator[Handler]:
    """Load the function; it is called in a thread, because Lambda functions are plain functions.

    Raises:
        ConfigError: it cannot be imported, or is no plain function of an event and a context.
    """
    function = load_function(declared.target)
    limiter = anyio.CapacityLimiter(_THREADS_MAX)

    async def invoke(batch: Batch) -> None:
        event = batch.lambda_event()
        context = _context(declared, batch, function)
        response: object = None
        with anyio.move_on_after(declared.timeout_s) as scope:
            try:
                response = await anyio.to_thread.run_sync(
                    function, event, context, abandon_on_cancel=True, limiter=limiter
                )
            except (Exception, SystemExit) as error:
                raise LambdaFunctionError(f"the function raised {type(error).__name__}") from error
        if scope.cancelled_caught:
            raise LambdaFunctionError(f"the function did not return within {declared.timeout_s:g} s")
        if is_unrun(response):
            raise LambdaFunctionError(f"the function returned a {type(response).__name__} that nobody runs")
        if declared.report_batch_item_failures:
            numbers = {record.sequence_number for record in batch}
            if (failure := read_response(response, sequence_numbers=numbers)) is not None:
                raise failure

    yield invoke


def load_function(target: str) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Import `module:function` or `path.py:function`; the working directory is searched as in Lambda.

    Raises:
        ConfigError: it is not there, its module cannot be imported, or it is no plain function of two arguments.
    """
    place, _, name = target.partition(":")
    module = _load_module(place, target)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise ConfigError(f"lambda function {target!r}: {place} has no function {name}")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"lambda function {target!r} is async: AWS Lambda calls plain functions; use it as a handler")
    try:
        inspect.signature(function).bind(None, None)
    except ValueError:
        pass  # a builtin without a signature: the first call will tell
    except TypeError:
        raise ConfigError(f"lambda function {target!r} must take two arguments, event and context") from None
    return function  # type: ignore[no-any-return]


def _load_module(place: str, target: str) -> ModuleType:
    try:
        return _load_file(Path(place)) if place.endswith(".py") else _import(place)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"lambda function {target!r} cannot be imported: {type(error).__name__}: {error}") from error


def _import(name: str) -> ModuleType:
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(path.stem, path.resolve(strict=True))
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def _context(declared: LambdaFunction, batch: Batch, function: Callable[..., Any]) -> LambdaContext:
    name = declared.function_name or str(getattr(function, "__name__", "function"))
    # arn:aws:dynamodb:REGION:ACCOUNT:table/…
    parts = batch.shard.stream_arn.split(":")
    region, account = (parts[3], parts[4]) if len(parts) > 5 else ("us-east-1", "000000000000")
    return LambdaContext(
        aws_request_id=batch.request_id,
        function_name=name,
        memory_limit_in_mb=str(declared.memory_size_mb),
        invoked_function_arn=f"arn:aws:lambda:{region}:{account}:function:{name}",
        log_group_name=f"/aws/lambda/{name}",
        log_stream_name=f"streamflow/[$LATEST]{batch.shard.shard_id}",
        _deadline=thread_monotonic() + declared.timeout_s,
    )
