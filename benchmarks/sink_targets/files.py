"""Targets on the contender's own disk: lines of JSON in a file or on its output, and a SQLite file."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import asynccontextmanager, closing, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.sink_targets.target import Pages, Place, Target, lambda_record, no_server, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from benchmarks.sink_targets.target import Record, WritePage

# --- jsonl -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_lines(_: str) -> AsyncIterator[Place]:
    from streamflow.sinks.jsonl import jsonl

    with TemporaryDirectory() as folder:
        path = Path(folder) / "changes.jsonl"

        async def count() -> int:
            with path.open("rb") as file:
                return sum(1 for _ in file)

        yield Place(sink=jsonl(path=path), open_loop=partial(_lines_loop, path), count=count)


@asynccontextmanager
async def _lines_loop(path: Path) -> AsyncIterator[WritePage]:
    with path.open("ab") as file:

        async def write(records: Sequence[Record]) -> None:
            file.write(b"".join([orjson.dumps(lambda_record(record)) + b"\n" for record in records]))
            file.flush()
            os.fsync(file.fileno())

        yield write


# --- console ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_console(_: str) -> AsyncIterator[Place]:
    from streamflow.sinks.console import console

    with TemporaryDirectory() as folder:
        path = Path(folder) / "output"

        async def count() -> int:
            with path.open("rb") as file:
                return sum(1 for _ in file)

        with _output_to(path):
            yield Place(sink=console(), open_loop=_console_loop, count=count)


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """The standard output is a file meanwhile, as where a supervisor keeps it."""
    with path.open("w") as output, redirect_stdout(output):
        yield


@asynccontextmanager
async def _console_loop() -> AsyncIterator[WritePage]:
    async def write(records: Sequence[Record]) -> None:
        sys.stdout.buffer.write(b"".join([orjson.dumps(lambda_record(record)) + b"\n" for record in records]))
        sys.stdout.buffer.flush()

    yield write


# --- sqlite ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_database(_: str) -> AsyncIterator[Place]:
    from streamflow.sinks.sqlite import sqlite

    with TemporaryDirectory() as folder:
        path = Path(folder) / "items.db"

        async def count() -> int:
            with closing(sqlite3.connect(path)) as connection:
                found: tuple[int] = connection.execute("SELECT count(image) FROM items").fetchone()
                return found[0]

        yield Place(sink=sqlite(path=path, table="items"), open_loop=partial(_rows_loop, path), count=count)


@asynccontextmanager
async def _rows_loop(path: Path) -> AsyncIterator[WritePage]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE items (item_key TEXT PRIMARY KEY, image TEXT)")

        async def write(records: Sequence[Record]) -> None:
            living, gone = split(records)
            with connection:
                connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?)", map(_row, living))
                connection.executemany("DELETE FROM items WHERE item_key = ?", [(key,) for key in gone])

        yield write


def _row(entry: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    return entry[0], orjson.dumps(entry[1]).decode()


TARGETS = (
    Target(
        name="console",
        server="the standard output, which is a file",
        loop="write, flush",
        holds="changes",
        pages=Pages(ours=80, peer=5, floor=40),
        serve=no_server,
        open_place=_open_console,
    ),
    Target(
        name="jsonl",
        server="a file, forced to the disk for each batch",
        loop="write, flush, fsync",
        holds="changes",
        pages=Pages(ours=80, peer=5, floor=40),
        serve=no_server,
        open_place=_open_lines,
    ),
    Target(
        name="sqlite",
        server="a SQLite file in WAL mode, synchronous=FULL",
        loop="sqlite3 executemany",
        holds="items",
        pages=Pages(ours=40, peer=5, floor=30),
        serve=no_server,
        open_place=_open_database,
    ),
)
