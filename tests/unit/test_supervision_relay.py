"""What workers write is passed on in whole lines."""

from __future__ import annotations

import io
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from streamflow.cli.supervision import relay
from streamflow.cli.supervision.relay import Output, Relay, open_relay

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


def captured(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What is written to stdout from now on; pytest puts its own back between a fixture and its test."""
    target = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(target, encoding="utf-8", write_through=True))
    return target


@asynccontextmanager
async def piped() -> AsyncGenerator[tuple[Relay, int]]:
    reading_end, writing_end = os.pipe()
    async with open_relay(reading_end) as opened:
        yield opened, writing_end


async def fill(writing_end: int, pieces: list[bytes]) -> None:
    """Write piece by piece, as slowly as the pipe is read, and close."""

    def write() -> None:
        with os.fdopen(writing_end, "wb", 0) as pipe:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[pipe.write(view) :]

    await anyio.to_thread.run_sync(write)


async def test_two_workers_never_write_into_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written = captured(monkeypatch)
    output = Output("stdout")
    lines = {letter: letter * 30_000 + b"\n" for letter in (b"a", b"b")}
    with anyio.fail_after(30):
        async with piped() as (first, first_end), piped() as (second, second_end), anyio.create_task_group() as tasks:
            for each, end, letter in ((first, first_end, b"a"), (second, second_end, b"b")):
                tasks.start_soon(each.run, output)
                tasks.start_soon(fill, end, [lines[letter]] * 40)
    passed_on = written.getvalue().splitlines(keepends=True)
    assert sorted(passed_on) == sorted([lines[b"a"], lines[b"b"]] * 40)


@pytest.mark.parametrize(
    ("pieces", "passed_on"),
    [
        ([b"one\ntwo\n"], b"one\ntwo\n"),
        ([b"on", b"e\ntw", b"o\n"], b"one\ntwo\n"),
        ([b"one\nunended"], b"one\nunended\n"),  # the next worker's line begins on a line of its own
        ([b"\n\n"], b"\n\n"),
        ([b"\xff\x00\n"], b"\xff\x00\n"),
        ([], b""),
    ],
)
async def test_lines_are_passed_on_as_they_are(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes], passed_on: bytes
) -> None:
    written = captured(monkeypatch)
    async with piped() as (opened, end), anyio.create_task_group() as tasks:
        tasks.start_soon(opened.run, Output("stdout"))
        await fill(end, pieces)
    assert written.getvalue() == passed_on


async def test_an_endless_line_is_passed_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    written = captured(monkeypatch)
    monkeypatch.setattr(relay, "LINE_BYTES_MAX", 100_000)
    async with piped() as (opened, end), anyio.create_task_group() as tasks:
        tasks.start_soon(opened.run, Output("stdout"))
        await fill(end, [b"x" * 1_000_000])
    assert written.getvalue() == b"x" * 1_000_000 + b"\n"


@pytest.mark.fault("F57")
async def test_where_nobody_reads_us_the_worker_learns_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with io.TextIOWrapper(os.fdopen(write, "wb", 0), write_through=True) as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        async with piped() as (opened, end):
            os.write(end, b"one\n")
            await opened.run(Output("stdout"))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BrokenPipeError):
            os.write(end, b"two\n")
        os.close(end)


async def test_on_a_terminal_a_live_display_may_stand_between(monkeypatch: pytest.MonkeyPatch) -> None:
    class Display(io.StringIO):
        def isatty(self) -> bool:
            return True

    display = Display()
    monkeypatch.setattr(sys, "stderr", display)
    await Output("stderr").write(b"caf\xc3\xa9 \xff\n")
    assert display.getvalue() == "café \N{REPLACEMENT CHARACTER}\n"
