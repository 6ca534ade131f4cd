"""A user's handler, whatever its form, as the one async callable that the engine calls."""

from __future__ import annotations

import inspect
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from streamflow.errors import ConfigError, PluginError
from streamflow.handlers.lambda_function import open_lambda_function
from streamflow.handlers.responses import is_unrun
from streamflow.pipeline import LambdaFunction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streamflow.batches import Batch
    from streamflow.pipeline import HandlerLike
    from streamflow.protocols import Handler

# Plain functions of one pipeline that run at the same time: one per shard is the rule, this is its bound.
_THREADS_MAX = 40


@asynccontextmanager
async def open_handler(handler: HandlerLike, *, pipeline: str) -> AsyncIterator[Handler]:
    """Open the handler for the length of the block.

    A plain function runs in a thread. A thread cannot be stopped: where a timeout or a shutdown gives up on it, the call
    goes on in the background and its effects may still land, beside those of the retry.

    Raises:
        ConfigError: it cannot be called with one batch, or its Lambda function cannot be loaded.
        PluginError: a sink yields something that cannot write.
    """
    if inspect.isclass(handler):
        raise ConfigError(f"handler {_name(handler)} of pipeline {pipeline!r} is a class: give an object of it")
    if isinstance(handler, LambdaFunction):
        async with open_lambda_function(handler) as opened:
            yield opened
    elif hasattr(handler, "__aenter__"):
        async with handler as writer:
            write = getattr(writer, "write", None)
            if not callable(write):
                raise PluginError(
                    f"sink {_name(handler)} of pipeline {pipeline!r} yields {type(writer).__name__}, which has no "
                    "write(batch): yield an object with one",
                    plugin=_name(handler),
                )
            yield _adapt(write, pipeline)
    else:
        yield _adapt(handler, pipeline)


def _adapt(function: Callable[[Batch], Any], pipeline: str) -> Handler:
    _check_signature(function, pipeline)
    if _is_async(function):
        return partial(_call_async, function)
    return partial(_call_in_thread, function, anyio.CapacityLimiter(_THREADS_MAX))


async def _call_async(function: Callable[[Batch], Any], batch: Batch) -> None:
    await function(batch)


async def _call_in_thread(function: Callable[[Batch], Any], limiter: anyio.CapacityLimiter, batch: Batch) -> None:
    result = await anyio.to_thread.run_sync(function, batch, abandon_on_cancel=True, limiter=limiter)
    if is_unrun(result):
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


def _check_signature(function: Callable[..., Any], pipeline: str) -> None:
    try:
        inspect.signature(function).bind(None)
    except ValueError:
        return  # a builtin without a signature: the first call will tell
    except TypeError:
        raise ConfigError(
            f"handler {_name(function)} of pipeline {pipeline!r} must take one argument, the batch; it takes "
            f"{inspect.signature(function)}"
        ) from None


def _name(function: object) -> str:
    """Name, file and line, as far as Python knows them."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__call__", None), "__code__", None)  # noqa: B004
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name
