"""A reader that stands still, or is gone, holds up nobody who logs, and hears how much it has missed."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from streamflow.observe.logs import LossyStream

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading_end, writing_end = os.pipe()
    yield reading_end, writing_end
    os.close(reading_end)


def test_lines_that_nobody_takes_are_left_out_and_counted(pipe: tuple[int, int]) -> None:
    reading_end, writing_end = pipe
    with os.fdopen(writing_end, "w") as inner:
        stream = LossyStream(inner)
        for _ in range(10_000):
            stream.write(LINE)
        taken = os.read(reading_end, 1 << 20).decode().splitlines()
        assert set(taken) == {LINE.strip()}
        stream.write("again\n")
        left_out, again = os.read(reading_end, 1 << 20).decode().splitlines()
    assert left_out == f"{10_000 - len(taken)} lines left out: standard error was not read"
    assert again == "again"


def test_a_long_text_is_cut_where_the_reader_stops(pipe: tuple[int, int]) -> None:
    _, writing_end = pipe
    with os.fdopen(writing_end, "w") as inner:
        stream = LossyStream(inner)
        assert stream.write("y" * 1_000_000) == 1_000_000


def test_a_reader_that_is_gone_is_no_error() -> None:
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    # What it could not write it holds on to, and tries again when it is closed.
    with suppress(BrokenPipeError), os.fdopen(writing_end, "w") as inner:
        stream = LossyStream(inner)
        assert stream.write("a line\n") == 7
        stream.flush()


def test_what_is_no_file_takes_everything_and_what_is_closed_nothing() -> None:
    inner = io.StringIO()
    stream = LossyStream(inner)
    stream.write("a line\n")
    assert inner.getvalue() == "a line\n"
    inner.close()
    stream.write("another\n")
