"""A sink that breaks while it opens or closes is named; nothing it does hides the error that ended the run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.errors import ConfigError, PluginError, SinkBusyError
from streamflow.handlers.adapt import open_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from streamflow.batches import Batch

pytestmark = pytest.mark.anyio


class BrokenSink:
    """Raises what it is given when it is opened or closed; `ended_by` is what its end was told."""

    def __init__(self, *, opening: Exception | None = None, closing: Exception | None = None) -> None:
        self._opening, self._closing = opening, closing
        self.ended_by: list[object] = []

    async def __aenter__(self) -> Self:
        if self._opening is not None:
            raise self._opening
        return self

    async def __aexit__(self, *exception: object) -> bool:
        self.ended_by.append(exception[1])
        if self._closing is not None:
            raise self._closing
        return True

    async def write(self, batch: Batch) -> None: ...


async def test_a_sink_that_cannot_be_opened_is_named_with_the_cause() -> None:
    sink = BrokenSink(opening=ConnectionError("refused"))
    with pytest.raises(PluginError, match=r"BrokenSink cannot be opened: ConnectionError: refused") as caught:
        async with open_handler(sink, pipeline="orders"):
            raise AssertionError("nobody may get here")
    assert caught.value.plugin == "BrokenSink"
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert sink.ended_by == []


async def test_a_sink_that_fails_to_close_is_named_with_the_cause() -> None:
    sink = BrokenSink(closing=OSError("disk full"))
    with pytest.raises(PluginError, match=r"BrokenSink failed to close: OSError: disk full") as caught:
        async with open_handler(sink, pipeline="orders"):
            pass
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("error", [ConfigError("no such topic"), SinkBusyError("later", retry_after_s=1.0)])
async def test_an_error_that_speaks_for_itself_is_not_wrapped(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        async with open_handler(BrokenSink(opening=error), pipeline="orders"):
            pass
    assert caught.value is error


async def test_a_sink_is_told_what_ended_the_run_and_cannot_hide_it() -> None:
    sink, error = BrokenSink(), ValueError("of the run")
    with pytest.raises(ValueError, match="of the run"):
        async with open_handler(sink, pipeline="orders"):
            raise error
    assert sink.ended_by == [error]


async def test_a_sink_made_by_a_generator_sees_the_error_and_cleans_up() -> None:
    journal: list[str] = []

    @asynccontextmanager
    async def open_sink() -> AsyncIterator[BrokenSink]:
        try:
            yield BrokenSink()
        except ValueError:
            journal.append("saw it")
            raise
        finally:
            journal.append("cleaned up")

    with pytest.raises(ValueError, match="of the run"):
        async with open_handler(open_sink(), pipeline="orders"):
            raise ValueError("of the run")
    assert journal == ["saw it", "cleaned up"]


async def test_a_cancelled_run_closes_its_sink() -> None:
    sink = BrokenSink()
    with anyio.CancelScope() as scope:
        async with open_handler(sink, pipeline="orders"):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert len(sink.ended_by) == 1


@pytest.mark.parametrize("handler", [None, "module:handler", 7])
async def test_what_cannot_be_called_is_refused_with_the_four_forms(handler: object) -> None:
    with pytest.raises(ConfigError, match=r"an async function, a function, a Sink or a LambdaFunction"):
        async with open_handler(handler, pipeline="orders"):
            pass


async def test_a_lambda_function_in_place_of_a_handler_gets_a_hint() -> None:
    def handler(event: object, context: object) -> None: ...

    with pytest.raises(ConfigError, match=r"declared as LambdaFunction\(target=…\)"):
        async with open_handler(handler, pipeline="orders"):
            pass
