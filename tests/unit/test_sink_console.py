"""The console sink: lines on stdout or stderr, and what happens where nobody reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import orjson
import pytest

from opened_sinks import opened
from streamflow.errors import ConfigError, StreamflowError
from streamflow.failures import RecordsFailedError
from streamflow.records import Record
from streamflow.sdk import BEHIND
from streamflow.sinks.console import console, write_lines
from streamflow.sinks.writing_thread import open_writing_thread
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from streamflow.sinks.writing_thread import Perform, Request

pytestmark = pytest.mark.anyio


async def test_a_line_is_a_record_as_lambda_has_it(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    changes = Changes()
    records = changes.put_many(3)
    async with opened(console()) as sink:
        await sink.writer.write(changes.batch(*records))
        out, error = capfdbinary.readouterr()
    assert out == b"".join(record.lambda_event_json() + b"\n" for record in records)
    assert error == b""


async def test_stderr_and_other_forms_are_a_setting(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    changes = Changes()
    async with opened(console(stream="stderr", payload="image")) as sink:
        await sink.writer.write(changes.batch(changes.put("one", note={"S": "Grüße"}), changes.delete("one")))
        out, error = capfdbinary.readouterr()
    assert out == b""
    assert [orjson.loads(line) for line in error.splitlines()] == [
        {"id": changes.item("one"), "version": 1, "note": "Grüße"},
        {"id": changes.item("one"), "__deleted": True},
    ]


async def test_a_record_that_cannot_be_read_is_refused_and_its_item_waits(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    changes = Changes()
    good, torn, later, other = changes.put("a"), changes.put("b"), changes.put("b"), changes.put("c")
    torn = Record(msgspec.Raw(torn.raw.replace(b'"eventName":"INSERT"', b'"eventName":"ODD"')), torn.shard)
    async with opened(console(payload="change")) as sink:
        with pytest.raises(RecordsFailedError) as failed:
            await sink.writer.write(changes.batch(good, torn, later, other))
    assert [(each.record, each.kind) for each in failed.value.failures] == [(torn, "refused"), (later, "waiting")]
    assert failed.value.failures[1].reason == BEHIND
    shown = [orjson.loads(line)["key"]["id"] for line in capfdbinary.readouterr().out.splitlines()]
    assert shown == [changes.item("a"), changes.item("c")]


def test_a_reader_that_went_away_is_told() -> None:
    program = "from streamflow.sinks.console import write_lines\nwrite_lines('stdout', b'{}\\n')"
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(write)
    assert b"sink console: nothing can be written to stdout: Broken pipe" in ended.stderr


@pytest.mark.fault("F57")
def test_a_closed_stream_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with (tmp_path / "out").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(StreamflowError, match="nothing can be written to stdout: it is closed"):
        write_lines("stdout", b"{}\n")


def test_other_streams_are_refused() -> None:
    with pytest.raises(ConfigError, match="stream"):
        console(stream="stdin")


def test_images_are_asked_for_where_the_payload_is_one() -> None:
    assert console(payload="image").capabilities.needs_images
    assert not console().capabilities.needs_images


# --- the thread that it shares with other sinks ----------------------------------------------------------------------


class Gate:
    """A target that works when it is let, and says which groups it got."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.free = threading.Event()
        self.begun = threading.Event()

    def __call__(self) -> AbstractContextManager[Perform[str]]:
        @contextmanager
        def target() -> Iterator[Perform[str]]:
            yield self.perform

        return target()

    def perform(self, requests: Sequence[Request[str]]) -> None:
        self.begun.set()
        assert self.free.wait(10)
        self.groups.append([request.content for request in requests])


async def test_what_is_asked_meanwhile_is_one_group_without_what_was_withdrawn() -> None:
    gate = Gate()
    async with open_writing_thread(gate, "gate") as thread, anyio.create_task_group() as tasks:
        tasks.start_soon(thread.ask, "first")
        await anyio.to_thread.run_sync(gate.begun.wait, 10)
        tasks.start_soon(thread.ask, "second")
        with anyio.CancelScope() as gone:
            tasks.start_soon(thread.ask, "third")
            gone.cancel()
            await thread.ask("withdrawn")
        await anyio.wait_all_tasks_blocked()
        gate.free.set()
    assert gate.groups == [["first"], ["second", "third"]]


async def test_an_error_of_the_target_is_told_to_all_of_its_group() -> None:
    gate = Gate()
    gate.free.set()

    def broken(requests: Sequence[Request[str]]) -> None:
        raise ValueError("broken")

    gate.perform = broken  # type: ignore[method-assign]
    async with open_writing_thread(gate, "gate") as thread:
        with pytest.raises(StreamflowError, match="gate: ValueError: broken"):
            await thread.ask("anything")
    with pytest.raises(StreamflowError, match="gate is closed"):
        await thread.ask("late")
