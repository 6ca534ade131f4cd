"""An AWS Lambda function, unchanged, in this process: exact event, context, and results that mean what they mean there.

Two shards call the function in two threads at the same time, in one set of module globals; Lambda would use two
processes. A function that cannot bear that goes behind the layer `concurrency_limit(1)`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamflow.clock import SystemClock, thread_monotonic
from streamflow.errors import ConfigError, HandlerTimeoutError, LambdaFunctionError
from streamflow.handlers.responses import is_unrun, read_response
from streamflow.handlers.threads import Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import ModuleType

    from streamflow.batches import Batch
    from streamflow.pipeline import LambdaFunction
    from streamflow.protocols import Handler


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

    The handler raises `LambdaFunctionError` where Lambda would say that the function failed, and `PartialFailure`.

    Raises:
        ConfigError: it cannot be imported, or is no plain function of an event and a context.
    """
    function = load_function(declared.target)
    threads = Threads()
    today = datetime.fromtimestamp(SystemClock().wall(), UTC)
    log_stream_name = f"{today:%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}"

    async def invoke(batch: Batch) -> None:
        event = batch.lambda_event()

        def call() -> object:
            # The clock of the invocation starts with its thread, not while it waits for one.
            return function(event, _context(declared, batch, function, log_stream_name))

        try:
            response = await threads.run(call, timeout_s=declared.timeout_s)
        except HandlerTimeoutError:
            raise LambdaFunctionError(
                f"lambda function {declared.target!r} did not return within {declared.timeout_s:g} s; its thread cannot be "
                "stopped and goes on"
            ) from None
        except (Exception, SystemExit) as error:
            raise LambdaFunctionError(
                f"lambda function {declared.target!r} raised {type(error).__name__}{_at(error)}"
            ) from error
        if is_unrun(response):
            raise LambdaFunctionError(
                f"lambda function {declared.target!r} returned a {type(response).__name__} that nobody runs"
            )
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
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
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
        return _import_file(Path(place)) if place.endswith(".py") else _import(place)
    except (Exception, SystemExit) as error:
        text = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
        raise ConfigError(
            f"lambda function {target!r} cannot be imported: {type(error).__name__}: {text}{_at(error)}"
        ) from error


def _import(name: str) -> ModuleType:
    _search(Path.cwd())
    importlib.invalidate_caches()
    return importlib.import_module(name)


def _import_file(path: Path) -> ModuleType:
    """Once, under the file's own name; where another module has that, under its path: files of one name are common."""
    path = path.resolve(strict=True)
    _search(path.parent)
    name = path.stem if path.stem not in sys.modules or _is_from(sys.modules[path.stem], path) else str(path)
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_from(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _search(directory: Path) -> None:
    """Let the function import its neighbours."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _at(error: BaseException) -> str:
    """Where in the user's code it was raised, for the end of a sentence."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    ours = str(Path(__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen ")) and "importlib" not in frame.filename
    ]
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    return f" at {own[-1].filename}:{own[-1].lineno}" if own else ""


def _context(
    declared: LambdaFunction, batch: Batch, function: Callable[..., Any], log_stream_name: str
) -> LambdaContext:
    name = declared.function_name or str(getattr(function, "__name__", "function"))
    # arn:PARTITION:dynamodb:REGION:ACCOUNT:table/…
    parts = batch.shard.stream_arn.split(":")
    partition, region, account = (parts[1], *parts[3:5]) if len(parts) > 5 else ("aws", "us-east-1", "000000000000")
    return LambdaContext(
        aws_request_id=batch.request_id,
        function_name=name,
        memory_limit_in_mb=str(declared.memory_size_mb),
        invoked_function_arn=f"arn:{partition}:lambda:{region}:{account}:function:{name}",
        log_group_name=f"/aws/lambda/{name}",
        log_stream_name=log_stream_name,
        _deadline=thread_monotonic() + declared.timeout_s,
    )
