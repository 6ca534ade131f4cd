"""A user's handler, whatever its form, as the one async callable that the engine calls."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio

from streamflow.errors import ConfigError, PluginError, StreamflowError
from streamflow.handlers.lambda_function import open_lambda_function
from streamflow.handlers.responses import is_unrun
from streamflow.handlers.threads import Threads
from streamflow.pipeline import LambdaFunction
from streamflow.sdk.declarations import SinkDeclaration
from streamflow.targets import shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from streamflow.batches import Batch
    from streamflow.handlers.lambda_function import Environment
    from streamflow.pipeline import HandlerLike
    from streamflow.protocols import Handler, Sink, TransactionalWriter, Writer
    from streamflow.sdk.context import SinkContext


CLOSING_S = 5.0
"""Time for a sink to close. All that it was handed is settled by then, or comes again."""


@dataclass(frozen=True, slots=True)
class OpenHandler:
    """`fence` is set where the handler is a sink that keeps the checkpoint itself."""

    call: Handler
    fence: TransactionalWriter | None = None

    def __call__(self, batch: Batch, /) -> Awaitable[None]:
        return self.call(batch)

    async def write(self, batch: Batch, /) -> None:
        """The same under the name that a `Writer` has for it."""
        await self.call(batch)


@asynccontextmanager
async def open_handler(
    handler: HandlerLike, *, pipeline: str, context: SinkContext | None = None, environment: Environment | None = None
) -> AsyncIterator[OpenHandler]:
    """Open the handler for the length of the block. `context` is for sinks of plugins, `environment` for Lambda functions.

    A plain function runs in a thread. A thread cannot be stopped: where a timeout or a shutdown gives up on it, the call
    goes on in the background and its effects may still land, beside those of the retry.

    What a handler returns is ignored, because many functions return something that nobody asked for. A coroutine or a
    generator is the exception: it means that the handler's body has not run, and the batch fails with a `PluginError`.

    Raises:
        ConfigError: it cannot be called with one batch, or its Lambda function cannot be loaded.
        PluginError: a sink cannot be opened or closed, or yields something that cannot write.
    """
    if inspect.isclass(handler):
        raise ConfigError(f"handler {_name(handler)} of pipeline {pipeline!r} is a class: give an object of it")
    if isinstance(handler, LambdaFunction):
        async with open_lambda_function(handler, environment) as opened:
            yield OpenHandler(opened)
    elif isinstance(handler, SinkDeclaration):
        if context is None:
            raise ConfigError(
                f"sink {handler.name} of pipeline {pipeline!r} is declared, and needs a pipeline to be opened"
            )
        transactional = handler.capabilities.idempotence == "transactional"
        async with _open_sink(handler.open(context), handler.name, pipeline, transactional=transactional) as opened:
            yield opened
    elif hasattr(handler, "__aenter__"):
        async with _open_sink(handler, _name(handler), pipeline) as opened:
            yield opened
    else:
        yield OpenHandler(_adapt(handler, pipeline))


@asynccontextmanager
async def _open_sink(
    sink: Sink | AbstractAsyncContextManager[Writer], name: str, pipeline: str, *, transactional: bool = False
) -> AsyncIterator[OpenHandler]:
    """The sink's writer while the sink is open. A sink cannot hide the error that ends the run."""
    with _blamed_on(name, "cannot be opened"):
        writer = await sink.__aenter__()
    ended_by: BaseException | None = None
    try:
        write = _adapt(_write(writer, name, pipeline), pipeline)
        yield OpenHandler(write, _fence(writer, name) if transactional else None)
    except BaseException as error:
        ended_by = error
        raise
    finally:
        with _blamed_on(name, "failed to close"):
            with anyio.move_on_after(CLOSING_S) as patience:
                # As `async with` would: what it shields, and for how long, is the sink's own affair.
                await sink.__aexit__(type(ended_by) if ended_by else None, ended_by, None)  # noqa: ASYNC102
            if patience.cancelled_caught:
                raise PluginError(f"sink {name} did not close within {CLOSING_S:g} s, and was left", plugin=name)


def _write(writer: object, sink: str, pipeline: str) -> Callable[[Batch], Any]:
    write: Callable[[Batch], Any] | None = getattr(writer, "write", None)
    if write is None or not callable(write):
        raise PluginError(
            f"sink {sink} of pipeline {pipeline!r} yields {type(writer).__name__}, which has no write(batch): yield an "
            "object with one",
            plugin=sink,
        )
    return write


def _fence(writer: object, sink: str) -> TransactionalWriter:
    if not (hasattr(writer, "fence") and hasattr(writer, "advance")):
        raise PluginError(f"sink {sink} says that it is transactional, and has no fence and advance", plugin=sink)
    return cast("TransactionalWriter", writer)


@contextmanager
def _blamed_on(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except StreamflowError:
        raise
    except Exception as error:
        raise PluginError(f"sink {name} {what}: {type(error).__name__}: {error}", plugin=name) from error


def _adapt(function: Callable[[Batch], Any], pipeline: str) -> Handler:
    _check(function, pipeline)
    if _is_async(function):
        return partial(_call_async, function)
    return partial(_call_in_thread, function, Threads())


async def _call_async(function: Callable[[Batch], Any], batch: Batch) -> None:
    _check_result(function, await function(batch))


async def _call_in_thread(function: Callable[[Batch], Any], threads: Threads, batch: Batch) -> None:
    _check_result(function, await threads.run(_call_contained, function, batch))


def _call_contained(function: Callable[[Batch], Any], batch: Batch) -> object:
    try:
        return function(batch)
    except Exception:
        raise
    except BaseException as error:
        # `sys.exit` in a thread ends no process. Out of the thread it would end, or seem to cancel, the task that waits.
        raise PluginError(f"handler {_name(function)} raised {type(error).__name__}", plugin=_name(function)) from error


def _check_result(function: Callable[[Batch], Any], result: object) -> None:
    if result is not None and is_unrun(result):
        # Counting this batch as delivered would lose it.
        raise PluginError(
            f"handler {_name(function)} returned a {type(result).__name__} that nobody runs: make it an async function, "
            "or do the work before returning",
            plugin=_name(function),
        )


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _check(function: Callable[..., Any], pipeline: str) -> None:
    who = f"handler {_name(function)} of pipeline {pipeline!r}"
    if not callable(function):
        raise ConfigError(f"{who} cannot be called: give an async function, a function, a Sink or a LambdaFunction")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{who} has a yield in it: its body would never run")
    try:
        inspect.signature(function).bind(None)
    except ValueError:
        return  # a builtin without a signature: the first call will tell
    except TypeError:
        signature = inspect.signature(function)
        lambda_like = list(signature.parameters)[:2] == ["event", "context"]
        hint = "; a Lambda function is declared as LambdaFunction(target=…)" if lambda_like else ""
        raise ConfigError(f"{who} must take one argument, the batch; it takes {signature}{hint}") from None


def _name(function: object) -> str:
    """Name, file and line, as far as Python knows them."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__call__", None), "__code__", None)  # noqa: B004
    return f"{name} ({shown(Path(code.co_filename))}:{code.co_firstlineno})" if code is not None else name
