"""Leases in a SQLite file, for any number of processes on one host.

One thread owns the connection and commits in groups: whatever is asked while a transaction runs goes into the next one,
so a thousand shards cost a few commits. The file is in WAL mode with `synchronous=NORMAL`: what was acknowledged
survives the death of every process; after a power cut the newest checkpoints may be missing, whose records then repeat.
WAL needs shared memory: do not put the file on a network file system.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import Gap, Lease, LeaseKey, LeaseState
from streamflow.positions import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    pipeline TEXT NOT NULL, stream_arn TEXT NOT NULL, shard_id TEXT NOT NULL,
    owner TEXT, epoch INTEGER NOT NULL, version INTEGER NOT NULL,
    checkpoint TEXT NOT NULL, state TEXT NOT NULL,
    parents TEXT NOT NULL, children TEXT NOT NULL, gaps TEXT NOT NULL,
    PRIMARY KEY (pipeline, stream_arn, shard_id)
) WITHOUT ROWID
"""
_COLUMNS = "pipeline, stream_arn, shard_id, owner, epoch, version, checkpoint, state, parents, children, gaps"
_INSERT = f"INSERT OR IGNORE INTO leases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
_KEY = "pipeline = ? AND stream_arn = ? AND shard_id = ?"
_UPDATE = (
    "UPDATE leases SET owner = ?, epoch = ?, version = ?, checkpoint = ?, state = ?, parents = ?, children = ?, gaps = ? "  # noqa: S608
    f"WHERE {_KEY} AND version = ?"
)
_BUSY_TIMEOUT_S = 5.0
_GROUP_MAX = 1_000


@dataclass(slots=True, eq=False)
class _Request:
    """Work for the writer thread, and what came of it. `answer` is called on that thread when it is decided."""

    work: Callable[[sqlite3.Connection], Any]
    answer: Callable[[], None]
    result: Any = None
    error: StoreError | None = None


class SqliteStore:
    """Use `open_sqlite_store`. A caller that is cancelled while it waits does not undo what it asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._stopped = False

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        def work(connection: sqlite3.Connection) -> Sequence[Lease]:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM leases WHERE pipeline = ? AND stream_arn = ?",  # noqa: S608 - constants
                (pipeline, stream_arn),
            )
            return [_lease(row) for row in rows]

        rows: Sequence[Lease] = await self._ask(work)
        return rows

    async def get(self, key: LeaseKey) -> Lease | None:
        found: Lease | None = await self._ask(lambda connection: _get(connection, key))
        return found

    async def create(self, lease: Lease) -> Lease | None:
        stored = replace(lease, version=1)
        created = await self._ask(lambda connection: connection.execute(_INSERT, _row(stored)).rowcount)
        return stored if created else None

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        stored = replace(lease, version=expected_version + 1)
        row = _row(stored)
        values = (*row[3:], *row[:3], expected_version)
        return stored if await self._ask(lambda connection: connection.execute(_UPDATE, values).rowcount) else None

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        values = (key.pipeline, key.stream_arn, key.shard_id, expected_version)
        statement = f"DELETE FROM leases WHERE {_KEY} AND version = ?"  # noqa: S608 - constants
        return bool(await self._ask(lambda connection: connection.execute(statement, values).rowcount))

    async def _ask(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        if self._stopped:
            raise StoreError(f"the lease store {self._path} is closed: it serves only within its async with block")
        loop, done = asyncio.get_running_loop(), anyio.Event()
        request = _Request(work, lambda: _tell(loop, done))
        self._requests.put(request)
        await done.wait()
        if request.error is not None:
            raise request.error
        return request.result

    # -- the writer thread ----------------------------------------------------------------------------------------------

    def open(self) -> sqlite3.Connection:
        """Connect and check the file.

        Raises:
            StoreError: it cannot be used, with the reason; nothing in it was changed.
        """
        try:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        try:
            version = self._check(connection)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            if version < _SCHEMA_VERSION:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")
        except sqlite3.Error as error:
            connection.close()
            raise self._unusable(error) from None
        except StoreError:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> int:
        """The schema version of a file that can be used; only reads, so that a refused file stays as it was."""
        version: int
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise StoreError(
                f"{self._path} has schema {version}, written by a newer streamflow; this one reads schema "
                f"{_SCHEMA_VERSION}: upgrade, or use another file"
            )
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._unusable(sqlite3.DatabaseError("its pages contradict each other"))
        return version

    def _unusable(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_CANTOPEN"):
            advice = "Its directory must exist and let this user write"
        elif name.startswith("SQLITE_BUSY"):
            advice = "Another program holds it: try again, or end that program"
        else:
            advice = (
                "If the file is damaged, restore it from a copy, or move it away: then the pipeline starts at its "
                "starting position again"
            )
        return StoreError(f"the lease store {self._path} cannot be used: {error}. Nothing in it was changed. {advice}")

    def work(self, connection: sqlite3.Connection) -> None:
        """Serve requests in groups until told to stop; runs on a thread of its own."""
        running = True
        while running:
            group = [self._requests.get()]
            while len(group) < _GROUP_MAX:
                try:
                    group.append(self._requests.get_nowait())
                except Empty:
                    break
            requests = [request for request in group if request is not None]
            running = len(requests) == len(group)
            if requests:
                _perform(connection, requests, str(self._path))
        connection.close()

    def stop(self) -> None:
        """Let the thread finish what was asked before, and end."""
        self._stopped = True
        self._requests.put(None)


@asynccontextmanager
async def open_sqlite_store(path: Path) -> AsyncIterator[SqliteStore]:
    """Open the file, or make it, for the length of the block.

    Raises:
        StoreError: the file cannot be used, with the reason; nothing in it was changed.
    """
    store = SqliteStore(path)
    connection = await anyio.to_thread.run_sync(store.open)
    thread = threading.Thread(target=store.work, args=(connection,), name=f"streamflow/{path.name}", daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.stop()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(thread.join)


def _tell(loop: asyncio.AbstractEventLoop, done: anyio.Event) -> None:
    # A closed loop has nobody who waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(done.set)


def _perform(connection: sqlite3.Connection, requests: Sequence[_Request], path: str) -> None:
    """One transaction for all; a request that fails is rolled back alone, a failed commit fails them all."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        for request in requests:
            _perform_one(connection, request, path)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        failure = _failure(error, path)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        for request in requests:
            request.error = failure
    for request in requests:
        request.answer()


def _perform_one(connection: sqlite3.Connection, request: _Request, path: str) -> None:
    connection.execute("SAVEPOINT request")
    try:
        request.result = request.work(connection)
    except Exception as error:
        # The thread serves everybody and must outlive one bad row.
        request.error = _failure(error, path)
        # A full disk may have rolled the whole transaction back already.
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO request")
    connection.execute("RELEASE request")


def _failure(error: Exception, path: str) -> StoreError:
    """A failed read or write of the disk leaves open what it did; everything else was rolled back."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    text = f"the lease store {path} failed: {error} ({name})"
    if name.startswith("SQLITE_IOERR"):
        return UnknownOutcomeError(text)
    if name.startswith("SQLITE_FULL"):
        return StoreError(f"{text}: make room on the disk; until then no checkpoint is stored, and nothing is lost")
    return StoreError(text)


def _get(connection: sqlite3.Connection, key: LeaseKey) -> Lease | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM leases WHERE {_KEY}",  # noqa: S608 - constants
        (key.pipeline, key.stream_arn, key.shard_id),
    ).fetchone()
    return None if row is None else _lease(row)


def _row(lease: Lease) -> tuple[Any, ...]:
    gaps = [[str(gap.lost_from), gap.found_at_s, gap.cause] for gap in lease.gaps]
    return (
        lease.pipeline,
        lease.stream_arn,
        lease.shard_id,
        lease.owner,
        lease.epoch,
        lease.version,
        str(lease.checkpoint),
        lease.state.value,
        json.dumps(lease.parents),
        json.dumps(lease.children),
        json.dumps(gaps),
    )


def _lease(row: Sequence[Any]) -> Lease:
    pipeline, stream_arn, shard_id, owner, epoch, version, checkpoint, state, parents, children, gaps = row
    return Lease(
        pipeline=pipeline,
        stream_arn=stream_arn,
        shard_id=shard_id,
        owner=owner,
        epoch=epoch,
        version=version,
        checkpoint=Position.parse(checkpoint),
        state=LeaseState(state),
        parents=tuple(json.loads(parents)),
        children=tuple(json.loads(children)),
        gaps=tuple(
            Gap(lost_from=Position.parse(lost_from), found_at_s=found_at_s, cause=cause)
            for lost_from, found_at_s, cause in json.loads(gaps)
        ),
    )
