"""Everything durable of a worker in one SQLite file, for any number of processes on one host.

What was acknowledged survives the death of every process, and a power cut. WAL needs shared memory: do not put the file
on a network file system.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streamflow.errors import ConfigError
from streamflow.sdk.declarations import StorePlugin
from streamflow.stores.sqlite_leases import SqliteLeases
from streamflow.stores.sqlite_letters import SqliteLetters
from streamflow.stores.sqlite_writer import open_writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_URL = "sqlite:///"


class SqliteStore(SqliteLeases, SqliteLetters):
    """Use `open_sqlite_store`. A caller that is cancelled while it waits does not undo what it asked for."""


@asynccontextmanager
async def open_sqlite_store(path: Path) -> AsyncIterator[SqliteStore]:
    """Open the file, or make it, for the length of the block. A file of an older version is brought up to ours.

    Raises:
        StoreError: the file cannot be used, with the reason and the next step; nothing in it was changed.
    """
    async with open_writer(path) as writer:
        yield SqliteStore(writer)


@asynccontextmanager
async def _open_url(url: str) -> AsyncIterator[SqliteStore]:
    path = url.removeprefix(_URL)
    if path in {url, ""}:
        raise ConfigError(f"store: {url!r} names no file: write {_URL}PATH, with four slashes before an absolute path")
    async with open_sqlite_store(Path(path)) as store:
        yield store


sqlite = StorePlugin(
    name="sqlite",
    api_version="1.0",
    summary="A SQLite file, for any number of processes on one host.",
    url_example="sqlite:///orders.db",
    open=_open_url,
)
