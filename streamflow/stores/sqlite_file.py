"""The SQLite file of a store: opened, checked, explained. A file that is damaged is never changed or made anew.

A file of an older version is brought up to ours in one transaction when it is opened, its rows as they were.

WAL with `synchronous=FULL`. NORMAL would survive `kill -9` too, but a power cut could take back acknowledged commits: not
only checkpoints, whose records would repeat, but also the pinned start of a LATEST pipeline, whose records would be lost.
FULL costs one sync per transaction, which group commit shares out.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from typing import TYPE_CHECKING

from streamflow.clock import thread_monotonic
from streamflow.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

BUSY_TIMEOUT_S = 5.0
_LOCK_RETRY_S = 0.02

# What leads from each version of the schema to the next, from an empty file on: released steps are never edited.
# Named after us: the version table also tells our file from another program's.
_STEPS = (
    (
        """
        CREATE TABLE streamflow_leases (
            pipeline TEXT NOT NULL, stream_arn TEXT NOT NULL, shard_id TEXT NOT NULL,
            owner TEXT, epoch INTEGER NOT NULL, version INTEGER NOT NULL,
            checkpoint TEXT NOT NULL, state TEXT NOT NULL,
            parents TEXT NOT NULL, children TEXT NOT NULL, gaps TEXT NOT NULL,
            PRIMARY KEY (pipeline, stream_arn, shard_id)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE TABLE streamflow_schema (version INTEGER NOT NULL) STRICT",
        "INSERT INTO streamflow_schema VALUES (1)",
    ),
    (
        # START:JSON, empty for none. The default lets a worker of version 1 that has the file open go on.
        "ALTER TABLE streamflow_leases ADD COLUMN window TEXT NOT NULL DEFAULT ''",
        """
        CREATE TABLE streamflow_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            drawer TEXT NOT NULL, pipeline TEXT NOT NULL, stream_arn TEXT NOT NULL, shard_id TEXT NOT NULL,
            sequence_number TEXT NOT NULL, item_key TEXT NOT NULL, record BLOB NOT NULL,
            reason TEXT NOT NULL, error_type TEXT NOT NULL, error_text TEXT NOT NULL,
            invoke_count INTEGER NOT NULL, kept_at_s REAL NOT NULL,
            UNIQUE (drawer, pipeline, stream_arn, shard_id, sequence_number)
        ) STRICT
        """,
        # Each ends in the id, as all indexes do: what they find is in order already.
        "CREATE INDEX streamflow_letters_by_item ON streamflow_letters (drawer, pipeline, stream_arn, item_key)",
        "CREATE INDEX streamflow_letters_by_pipeline ON streamflow_letters (drawer, pipeline)",
        "CREATE INDEX streamflow_letters_by_drawer ON streamflow_letters (drawer)",
        "UPDATE streamflow_schema SET version = 2",
    ),
    (
        # Whoever has version 2 open keeps renewing its leases, and loses them to workers of ours, which look for its row.
        "ALTER TABLE streamflow_leases ADD COLUMN claimant TEXT",
        "ALTER TABLE streamflow_leases ADD COLUMN duration_s REAL",
        "UPDATE streamflow_schema SET version = 3",
    ),
)
SCHEMA_VERSION = len(_STEPS)

_MOVE_AWAY = "move it away: a new store starts every pipeline at its starting position"
# What to do about an error, by its primary code.
_NEXT_STEP = {
    "SQLITE_BUSY": f"another program kept it locked for more than {BUSY_TIMEOUT_S:g} s: find it and end it",
    "SQLITE_CORRUPT": f"the file is damaged and was not touched: restore it from a copy, or {_MOVE_AWAY}",
    "SQLITE_FULL": "the disk is full: make room; until then no checkpoint is stored, and nothing is lost",
    "SQLITE_IOERR": "the disk failed: look into the system's log",
    "SQLITE_NOTADB": f"the file is something else, or encrypted, and was not touched: name another path, or {_MOVE_AWAY}",
    "SQLITE_READONLY": "the file and its directory must be writable for this user: SQLite keeps a log beside the file",
}


def open_file(path: Path) -> sqlite3.Connection:
    """Open the file, or make it, with our tables in it. For the calling thread only; transactions are the caller's.

    Raises:
        StoreError: the file cannot be used: what, where, why and the next step.
    """
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    except sqlite3.Error as error:
        raise explained(error, path) from error
    try:
        _check(connection, path)
        _use_write_ahead_log(connection, path)
        connection.execute("PRAGMA synchronous=FULL")
        _make_tables(connection, path)
    except sqlite3.Error as error:
        connection.close()
        raise explained(error, path) from error
    except StoreError:
        connection.close()
        raise
    return connection


def primary_code(error: sqlite3.Error) -> str:
    """`SQLITE_IOERR` for `SQLITE_IOERR_FSYNC`; empty for an error that is Python's and not SQLite's."""
    name: str = getattr(error, "sqlite_errorname", "")
    return "_".join(name.split("_")[:2])


def explained(error: sqlite3.Error, path: Path) -> StoreError:
    """What happened to which file, and what to do about it."""
    code = primary_code(error)
    next_step = _not_opened(path) if code == "SQLITE_CANTOPEN" else _NEXT_STEP.get(code)
    return StoreError(f"lease store {path}: {error}{f' ({next_step})' if next_step else ''}")


def _not_opened(path: Path) -> str:
    directory = path.absolute().parent
    if not directory.exists():
        return f"the directory {directory} does not exist: create it, or name another path"
    if not directory.is_dir():
        return f"{directory} is no directory: name another path"
    if path.is_dir():
        return "the path is a directory: name a file in it"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"the directory {directory} is not writable for this user: change its owner, or name another path"
    return "look at the permissions of the file and its directory"


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Only reads: a file that is not ours to use stays as it is."""
    _known_version(connection, path)
    # One look at all names: between two, another process may have made our tables.
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if names and "streamflow_schema" not in names:
        raise StoreError(f"lease store {path}: it is the database of another program (name another path)")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        found = " ".join(verdict.split())[:200]
        raise StoreError(f"lease store {path}: {found} ({_NEXT_STEP['SQLITE_CORRUPT']})")


def _known_version(connection: sqlite3.Connection, path: Path) -> int:
    """0 for a file without our tables, else up to `SCHEMA_VERSION`.

    Raises:
        StoreError: the file's version is beyond ours.
    """
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'streamflow_schema'").fetchone():
        return 0
    (version,) = connection.execute("SELECT coalesce(max(version), 0) FROM streamflow_schema").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"lease store {path}: it has schema {version}, written by a newer streamflow; this one knows schema "
            f"{SCHEMA_VERSION} (upgrade, or name another path)"
        )
    return int(version)


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
        raise StoreError(
            f"lease store {path}: SQLite keeps no write-ahead log there (name a file on a local disk; a store without "
            "a file is memory:)"
        )


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    if _known_version(connection, path) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Looked at again, under the lock: somebody may have been faster.
        for step in _STEPS[_known_version(connection, path) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute("COMMIT")
    except (sqlite3.Error, StoreError):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
