"""Every form of handler becomes one async callable, or is refused by name before anything runs."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

from streamflow.batches import Batch
from streamflow.errors import ConfigError, PartialFailure, PluginError, SinkBusyError
from streamflow.handlers.adapt import open_handler
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Self

pytestmark = pytest.mark.anyio

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l", shard_id="shardId-1")


def a_batch(records: int = 3) -> Batch:
    texts = [f'{{"dynamodb":{{"SequenceNumber":"{number:021d}"}}}}' for number in range(1, records + 1)]
    return Batch(pipeline="orders", shard=SHARD, records=[Record(msgspec.Raw(text.encode()), SHARD) for text in texts])


async def call(handler: Any, batch: Batch) -> None:
    async with open_handler(handler, pipeline="orders") as opened:
        await opened(batch)


# --- what can be called ----------------------------------------------------------------------------------------------


class Recorder:
    """Notes batches and the threads they were handled on, in each form a handler may have."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.threads: list[int] = []

    def note(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.threads.append(threading.get_ident())

    async def note_async(self, batch: Batch) -> None:
        self.note(batch)

    async def note_with(self, prefix: str, batch: Batch, *, suffix: str) -> None:
        assert prefix + suffix == "ab"
        self.note(batch)

    async def __call__(self, batch: Batch) -> None:
        self.note(batch)


class PlainObject(Recorder):
    def __call__(self, batch: Batch) -> None:  # type: ignore[override]
        self.note(batch)


@pytest.mark.parametrize(
    "form",
    [
        lambda recorder: recorder,
        lambda recorder: recorder.note_async,
        lambda recorder: partial(recorder.note_with, "a", suffix="b"),
        lambda recorder: partial(partial(recorder.note_with, "a"), suffix="b"),
    ],
    ids=["object", "method", "partial", "partial of a partial"],
)
async def test_async_forms_run_on_the_loop(form: Callable[[Recorder], Any]) -> None:
    recorder, batch = Recorder(), a_batch()
    await call(form(recorder), batch)
    assert recorder.batches == [batch]
    assert recorder.threads == [threading.get_ident()]


@pytest.mark.parametrize(
    "form",
    [lambda recorder: recorder.note, lambda recorder: partial(recorder.note), lambda recorder: recorder],
    ids=["method", "partial", "object"],
)
async def test_plain_forms_run_off_the_loops_thread(form: Callable[[Recorder], Any]) -> None:
    recorder, batch = PlainObject(), a_batch()
    await call(form(recorder), batch)
    assert recorder.batches == [batch]
    assert threading.get_ident() not in recorder.threads


async def test_a_builtin_may_be_a_handler() -> None:
    batches: list[Batch] = []
    batch = a_batch()
    await call(batches.append, batch)
    assert batches == [batch]


async def test_the_loop_goes_on_while_a_plain_function_works() -> None:
    released = threading.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, lambda batch: released.wait(10), a_batch())
        await anyio.wait_all_tasks_blocked()
        released.set()


@pytest.mark.fault("F20")
async def test_a_plain_function_that_is_given_up_does_not_hold_its_caller() -> None:
    started, released = threading.Event(), threading.Event()

    def stuck(batch: Batch) -> None:
        started.set()
        released.wait(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, stuck, a_batch())
        await anyio.to_thread.run_sync(started.wait, 10)
        tasks.cancel_scope.cancel()
    assert not released.is_set()
    released.set()


@pytest.mark.parametrize(
    "error",
    [PartialFailure(["1"]), SinkBusyError("full", retry_after_s=2.5), ValueError("as it is")],
    ids=lambda error: type(error).__name__,
)
async def test_what_a_handler_raises_arrives_as_it_is(error: Exception) -> None:
    async def fail(batch: Batch) -> None:
        raise error

    def fail_plainly(batch: Batch) -> None:
        raise error

    for handler in (fail, fail_plainly):
        with pytest.raises(type(error)) as caught:
            await call(handler, a_batch())
        assert caught.value is error


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
async def test_leaving_a_plain_function_fails_its_batch_and_ends_nothing_else(error: BaseException) -> None:
    def leave(batch: Batch) -> None:
        raise error

    with pytest.raises(PluginError, match=rf"leave \(.*\) raised {type(error).__name__}") as caught:
        await call(leave, a_batch())
    assert caught.value.__cause__ is error


# --- what is refused -------------------------------------------------------------------------------------------------


async def work(batch: Batch) -> None:
    raise AssertionError("nobody may run this")


def returns_a_coroutine(batch: Batch) -> Any:
    return work(batch)


def generates(batch: Batch) -> Iterator[Record]:
    yield from batch


async def generates_async(batch: Batch) -> AsyncIterator[Record]:
    for record in batch:
        yield record


def returns_a_generator(batch: Batch) -> Any:
    return generates(batch)


async def awaits_to_nothing(batch: Batch) -> Any:
    return generates(batch)


@pytest.mark.fault("F21")
@pytest.mark.parametrize("handler", [returns_a_coroutine, returns_a_generator, awaits_to_nothing])
async def test_a_function_whose_result_nobody_runs_fails_by_name(handler: Any) -> None:
    with pytest.raises(PluginError, match=rf"{handler.__name__}.*test_handler_forms\.py:\d+.*nobody runs") as caught:
        await call(handler, a_batch())
    assert handler.__name__ in caught.value.plugin


@pytest.mark.fault("F21")
@pytest.mark.parametrize(
    "result", [None, False, True, 0, "failed", (), [1], {"batchItemFailures": [{"itemIdentifier": "1"}]}]
)
@pytest.mark.parametrize("plain", [True, False])
async def test_any_other_result_of_a_handler_means_nothing(result: object, plain: bool) -> None:
    def answer(batch: Batch) -> Any:
        return result

    async def answer_async(batch: Batch) -> Any:
        return result

    await call(answer if plain else answer_async, a_batch())


@pytest.mark.fault("F21")
@pytest.mark.parametrize("handler", [generates, generates_async])
async def test_a_generator_function_is_refused_before_anything_runs(handler: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{handler.__name__} .*has a yield in it: its body would never run"):
        await call(handler, a_batch())


async def takes_nothing() -> None: ...


def takes_two(event: object, context: object) -> None: ...


class TakesNothing:
    async def __call__(self) -> None: ...


@pytest.mark.parametrize("handler", [takes_nothing, takes_two, partial(takes_two, 1, 2), TakesNothing()])
async def test_a_wrong_signature_is_refused_with_file_and_line(handler: Any) -> None:
    with pytest.raises(ConfigError, match=r"'orders' must take one argument, the batch; it takes \(") as caught:
        await call(handler, a_batch())
    assert "test_handler_forms.py:" in str(caught.value)


async def test_the_line_is_that_of_the_function() -> None:
    with pytest.raises(ConfigError, match=rf"test_handler_forms\.py:{takes_two.__code__.co_firstlineno}\)"):
        await call(takes_two, a_batch())


@pytest.mark.parametrize("handler", [Recorder, type("Sink", (), {"__aenter__": None, "__aexit__": None})])
async def test_a_class_in_place_of_its_object_is_refused(handler: type) -> None:
    with pytest.raises(ConfigError, match="is a class: give an object of it"):
        await call(handler, a_batch())


# --- sinks -----------------------------------------------------------------------------------------------------------


class JournalSink:
    """A sink that writes down its life."""

    def __init__(self, error: Exception | None = None) -> None:
        self.journal: list[str] = []
        self._error = error

    async def __aenter__(self) -> Self:
        self.journal.append("opened")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.journal.append("closed")

    async def write(self, batch: Batch) -> None:
        if self._error is not None:
            raise self._error
        self.journal.append(f"wrote {len(batch)}")


async def test_a_sink_is_opened_once_and_closed_at_exit() -> None:
    sink = JournalSink()
    async with open_handler(sink, pipeline="orders") as opened:
        assert sink.journal == ["opened"]
        await opened(a_batch(1))
        await opened(a_batch(2))
        assert sink.journal[-1] == "wrote 2"
    assert sink.journal == ["opened", "wrote 1", "wrote 2", "closed"]


async def test_a_sink_is_closed_after_a_failed_write() -> None:
    error = SinkBusyError("full", retry_after_s=1.0)
    sink = JournalSink(error)
    with pytest.raises(SinkBusyError) as caught:
        await call(sink, a_batch())
    assert caught.value is error
    assert sink.journal == ["opened", "closed"]


async def test_an_async_context_manager_function_is_a_sink_and_may_write_plainly() -> None:
    threads: list[int] = []

    class Writer:
        def write(self, batch: Batch) -> None:
            threads.append(threading.get_ident())

    @asynccontextmanager
    async def open_sink() -> AsyncIterator[Writer]:
        yield Writer()

    await call(open_sink(), a_batch())
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_a_sink_that_yields_nothing_to_write_with_is_refused_and_closed() -> None:
    class Forgetful(JournalSink):
        async def __aenter__(self) -> None:  # type: ignore[override]
            self.journal.append("opened")

    sink = Forgetful()
    with pytest.raises(PluginError, match=r"Forgetful of pipeline 'orders' yields NoneType.*write\(batch\)") as caught:
        await call(sink, a_batch())
    assert "Forgetful" in caught.value.plugin
    assert sink.journal == ["opened", "closed"]


async def test_a_write_with_a_wrong_signature_is_refused_and_the_sink_closed() -> None:
    class Narrow(JournalSink):
        async def write(self) -> None: ...  # type: ignore[override]

    sink = Narrow()
    with pytest.raises(ConfigError, match=r"write \(.*test_handler_forms\.py:\d+\)"):
        await call(sink, a_batch())
    assert sink.journal == ["opened", "closed"]
