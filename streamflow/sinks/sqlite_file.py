"""The SQLite file of a sink: opened, checked, explained; and work on it, grouped into transactions.

WAL with `synchronous=FULL`: what is committed survives a power cut. One commit holds the work of all shards that waited.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow.clock import thread_monotonic
from streamflow.errors import ConfigError, SinkBusyError, StreamflowError
from streamflow.sinks.sqlite_rows import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from streamflow.sinks.sqlite_rows import Table
    from streamflow.sinks.writing_thread import Perform, Request

Work: TypeAlias = "Callable[[], Callable[[sqlite3.Connection], Any]]"
"""Called before the transaction, for what takes time; what it returns is called in it, and undone alone where it raises."""

BUSY_TIMEOUT_S = 5.0
_LOCK_RETRY_S = 0.02
_PAUSE_S = 5.0

_NEXT_STEP = {
    "SQLITE_BUSY": f"another program kept it locked for more than {BUSY_TIMEOUT_S:g} s: find it and end it",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a copy, or move it away",
    "SQLITE_FULL": "the disk is full: make room; until then the pipeline waits",
    "SQLITE_IOERR": "the disk failed: look into the system's log",
    "SQLITE_NOTADB": "the file is something else, or encrypted, and was not touched: name another path",
    "SQLITE_READONLY": "the file and its directory must be writable for this user: SQLite keeps a log beside the file",
}
# What passes, or is mended, without anything being wrong with the batch.
_WAITS = frozenset({"SQLITE_BUSY", "SQLITE_FULL", "SQLITE_READONLY"})
# Failures of a statement that leave the transaction around it sound; after all others SQLite asks for a rollback.
_LOCAL = frozenset({"", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG"})


@contextmanager
def open_file(path: Path, table: Table, creations: Sequence[str]) -> Iterator[Perform[Work]]:
    """Open the file for the length of the block, with `table` and what `creations` make in it; for the calling thread.

    Raises:
        ConfigError: it cannot be used as it is: what, where, why and the next step.
    """
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    except sqlite3.Error as error:
        raise ConfigError(_text(error, path)) from error
    with closing(connection):
        try:
            _use_write_ahead_log(connection, path)
            connection.execute("PRAGMA synchronous=FULL")
            _make_tables(connection, path, table, creations)
        except sqlite3.Error as error:
            raise ConfigError(_text(error, path)) from error
        yield lambda requests: perform(connection, requests, path)


def perform(connection: sqlite3.Connection, requests: Sequence[Request[Work]], path: Path) -> None:
    """Do the work of all requests in one transaction; in one for each where it fails as a whole."""
    prepared = [(request, request.content()) for request in requests]
    try:
        connection.execute("BEGIN IMMEDIATE")
        for request, work in prepared:
            _attempt(connection, request, work)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        _roll_back(connection)
        if len(requests) > 1 and primary_code(error) not in _WAITS:
            for request in requests:
                perform(connection, [request], path)
            return
        for request in requests:
            request.result, request.error = None, explained(error, path)
    except BaseException:
        _roll_back(connection)
        raise


def _attempt(connection: sqlite3.Connection, request: Request[Work], work: Callable[[sqlite3.Connection], Any]) -> None:
    request.result = request.error = None
    try:
        with undone_together(connection):
            request.result = work(connection)
    except StreamflowError as error:
        request.error = error


@contextmanager
def undone_together(connection: sqlite3.Connection) -> Iterator[None]:
    """Around statements that belong together: where one of them fails all are undone, and nothing before them."""
    connection.execute("SAVEPOINT together")
    try:
        yield
    except BaseException:
        # After some failures SQLite has undone the whole transaction already.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO together")
            connection.execute("RELEASE together")
        raise
    connection.execute("RELEASE together")


def refuses_row(error: sqlite3.Error, connection: sqlite3.Connection) -> bool:
    """Whether it is the row's fault, and the transaction goes on."""
    return primary_code(error) in _LOCAL and connection.in_transaction


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


# --- telling ---------------------------------------------------------------------------------------------------------


def primary_code(error: sqlite3.Error) -> str:
    """`SQLITE_IOERR` for `SQLITE_IOERR_FSYNC`; empty for an error that is Python's and not SQLite's."""
    name: str = getattr(error, "sqlite_errorname", "")
    return "_".join(name.split("_")[:2])


def explained(error: sqlite3.Error, path: Path) -> StreamflowError:
    """As the batch's failure, or as a pause where the file is out of reach for a while."""
    if primary_code(error) in _WAITS:
        return SinkBusyError(_text(error, path), retry_after_s=_PAUSE_S)
    return StreamflowError(_text(error, path))


def _text(error: sqlite3.Error, path: Path) -> str:
    code = primary_code(error)
    next_step = _not_opened(path) if code == "SQLITE_CANTOPEN" else _NEXT_STEP.get(code)
    return f"sink sqlite: {path}: {error}{f' ({next_step})' if next_step else ''}"


def _not_opened(path: Path) -> str:
    directory = path.absolute().parent
    if not directory.is_dir():
        return f"the directory {directory} does not exist: create it, or name another path"
    if path.is_dir():
        return "the path is a directory: name a file in it"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"the directory {directory} is not writable for this user: change its owner, or name another path"
    return "look at the permissions of the file and its directory"


# --- opening ---------------------------------------------------------------------------------------------------------


def _use_write_ahead_log(connection: sqlite3.Connection, path: Path) -> None:
    deadline = thread_monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Of two processes that change a new file's mode at once, SQLite turns one away without waiting.
            if primary_code(error) != "SQLITE_BUSY" or thread_monotonic() > deadline:
                raise
            threading.Event().wait(_LOCK_RETRY_S)
    if mode != "wal":
        raise ConfigError(f"sink sqlite: {path}: SQLite keeps no write-ahead log there: name a file on a local disk")


def _make_tables(connection: sqlite3.Connection, path: Path, table: Table, creations: Sequence[str]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_owner(connection, path)
        for creation in (table.creation, *creations):
            connection.execute(creation)
        _check_columns(connection, path, table)
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'streamflow_leases'").fetchone():
        raise ConfigError(f"sink sqlite: {path} is a store of leases: name a file of the sink's own")


def _check_columns(connection: sqlite3.Connection, path: Path, table: Table) -> None:
    rows = connection.execute(f"PRAGMA table_info({quoted(table.name)})").fetchall()
    key = [name for _, name, _, _, _, place in rows if place]
    if key != [table.key]:
        raise ConfigError(
            f"sink sqlite: table {table.name} in {path} has the primary key ({', '.join(key)}), and mode {table.mode} goes "
            f"by {table.key}: name another table"
        )
    present = {name for _, name, *_ in rows}
    missing = [
        f"ALTER TABLE {table.name} ADD COLUMN {name} {declared.removesuffix(' NOT NULL')}".rstrip()
        for name, declared in table.columns.items()
        if name not in present
    ]
    if missing:
        raise ConfigError(
            f"sink sqlite: table {table.name} in {path} lacks columns: name another table, or {'; '.join(missing)}"
        )
