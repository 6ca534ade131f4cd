"""The SQLite store at its edges: killed processes, damaged files, full disks, callers that went away."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import Lease
from streamflow.positions import Position
from streamflow.stores.sqlite import SqliteStore, open_sqlite_store
from streamflow.stores.sqlite_file import open_file
from streamflow.stores.sqlite_writer import Request, perform

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l"
LEASE = Lease(pipeline="orders", stream_arn=STREAM_ARN, shard_id="shardId-1")

WRITER = """
import sys
from dataclasses import replace
from pathlib import Path

import anyio

from streamflow.leases import Lease
from streamflow.positions import Position
from streamflow.stores.sqlite import open_sqlite_store

async def main():
    async with open_sqlite_store(Path(sys.argv[1])) as store:
        row = await store.create(Lease(pipeline="orders", stream_arn=sys.argv[2], shard_id="shardId-1"))
        while True:
            changed = replace(row, checkpoint=Position.after(str(row.version + 1)))
            row = await store.update(changed, expected_version=row.version)
            print(row.version, flush=True)

anyio.run(main)
"""

OPENER = """
import os
import sys
from pathlib import Path

from streamflow.errors import StoreError
from streamflow.stores.sqlite_file import open_file

if os.geteuid() == 0:
    os.setuid(65534)  # nobody: root may write everywhere
try:
    open_file(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "leases.db"


# --- durability ------------------------------------------------------------------------------------------------------


async def read(file: Path) -> Lease | None:
    async with open_sqlite_store(file) as store:
        return await store.get(LEASE.key)


def test_kill_9_loses_no_acknowledged_write(file: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(file), STREAM_ARN], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(25)]
    finally:
        process.kill()
    rest, _ = process.communicate()
    acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    row = anyio.run(read, file)
    assert row is not None
    # One write may have been stored whose acknowledgement died with the process.
    assert acknowledged[-1] <= row.version <= acknowledged[-1] + 1
    assert row.checkpoint == Position.after(str(row.version))


async def test_a_closed_store_is_read_again(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        stored = await store.create(LEASE)
    async with open_sqlite_store(file) as store:
        assert await store.get(LEASE.key) == stored


def test_many_processes_may_make_the_file_at_the_same_time(file: Path) -> None:
    openers = 8
    together = threading.Barrier(openers)
    failures: list[BaseException] = []

    def open_together() -> None:
        together.wait()
        try:
            open_file(file).close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_together) for _ in range(openers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# --- files that cannot be used ---------------------------------------------------------------------------------------


def refusal(file: Path) -> StoreError:
    """The error of an attempt to open the store."""

    async def attempt() -> None:
        async with open_sqlite_store(file):
            pass

    with pytest.raises(StoreError) as caught:
        anyio.run(attempt)
    return caught.value


def no_database(file: Path) -> None:
    file.write_bytes(b"name,total\norder-1,12.50\n" * 100)


def truncated(file: Path) -> None:
    connection = open_file(file)
    rows = [("orders", STREAM_ARN, f"shardId-{n}", 0, 1, "LATEST", "active", "[]", "[]", "[]") for n in range(500)]
    columns = "pipeline, stream_arn, shard_id, epoch, version, checkpoint, state, parents, children, gaps"
    connection.execute("BEGIN")
    connection.executemany(f"INSERT INTO streamflow_leases ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
    connection.execute("COMMIT")
    connection.close()
    file.write_bytes(file.read_bytes()[:9_000])


def newer_schema(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE streamflow_schema (version INTEGER, everything_is_new TEXT)")
        connection.execute("INSERT INTO streamflow_schema VALUES (99, 'yes')")
    connection.close()


def of_another_program(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE invoices (total TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "reason", "advice"),
    [
        (no_database, "file is not a database", "name another path, or move it away"),
        (truncated, "malformed|database main", "restore it from a copy, or move it away"),
        (newer_schema, "schema 99, written by a newer streamflow", "upgrade, or name another path"),
        (of_another_program, "database of another program", "name another path"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained_and_left_as_it_was(
    spoil: Callable[[Path], None], reason: str, advice: str, file: Path
) -> None:
    spoil(file)
    before = file.read_bytes()
    error = refusal(file)
    assert re.search(reason, str(error))
    assert str(file) in str(error)
    assert advice in str(error)
    assert not isinstance(error, UnknownOutcomeError)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/leases.db", "file is no directory: name another path"),
        ("absent/leases.db", "absent does not exist: create it, or name another path"),
        (".", "the path is a directory: name a file in it"),
    ],
)
def test_a_directory_that_cannot_hold_the_file_is_named(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    error = refusal(tmp_path / name)
    assert reason in str(error)
    assert str(tmp_path / name) in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_directory_without_write_permission_is_named() -> None:
    with tempfile.TemporaryDirectory() as directory:  # tmp_path is below directories that only its owner may enter
        Path(directory).chmod(0o555)
        command = [sys.executable, "-c", OPENER, f"{directory}/leases.db"]
        opened = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"the directory {directory} is not writable for this user" in opened.stdout


def test_a_path_that_is_none_is_an_error_and_not_a_hang() -> None:
    assert "null" in str(refusal(Path("a\0b")))


async def test_a_row_that_cannot_be_read_fails_its_reader_and_nobody_else(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        await store.create(LEASE)
        other = await store.create(replace(LEASE, pipeline="other"))
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE streamflow_leases SET checkpoint = 'NOWHERE' WHERE pipeline = 'orders'")
        connection.close()
        with pytest.raises(StoreError, match="NOWHERE"):
            await store.get(LEASE.key)
        assert other is not None
        assert await store.get(other.key) == other
        assert await store.update(other, expected_version=1) is not None


# --- a full disk -----------------------------------------------------------------------------------------------------


# Larger than a page, so that no room is left for it in those there are.
LARGE = replace(LEASE, children=tuple(f"shardId-{number:08d}" for number in range(1_000)))


async def ask(store: SqliteStore, statement: str) -> None:
    """Run a statement on the store's own connection, behind the store's back."""
    await store._writer.ask(lambda connection: connection.execute(statement).fetchone(), writes=False)


async def test_a_full_disk_stops_writes_loudly_and_reads_go_on(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        stored = await store.create(LEASE)
        await ask(store, "PRAGMA max_page_count=1")  # SQLite takes the pages that there are
        with pytest.raises(StoreError, match=r"disk is full: make room.*nothing is lost") as caught:
            await store.update(LARGE, expected_version=1)
        assert not isinstance(caught.value, UnknownOutcomeError)
        assert str(file) in str(caught.value)
        assert await store.get(LEASE.key) == stored
        await ask(store, "PRAGMA max_page_count=1000000")
        assert await store.update(LARGE, expected_version=1) == replace(LARGE, version=2)


def test_on_a_full_disk_each_request_of_a_group_has_its_own_outcome(file: Path) -> None:
    connection = open_file(file)
    connection.execute("CREATE TABLE numbers (value TEXT UNIQUE)")
    connection.execute("PRAGMA max_page_count=1")
    small, large, other = insert("1"), insert("2" * 100_000), insert("3")
    perform(connection, [small, large, other], file)
    assert (small.error, other.error) == (None, None)
    assert isinstance(large.error, StoreError)
    assert not isinstance(large.error, UnknownOutcomeError)
    assert stored_values(file) == ["1", "3"]
    connection.close()


async def test_a_file_locked_for_too_long_fails_the_write_and_heals(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        stored = await store.create(LEASE)
        await ask(store, "PRAGMA busy_timeout=1")
        stranger = sqlite3.connect(file, isolation_level=None)
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked.*find it and end it"):
            await store.update(LEASE, expected_version=1)
        assert await store.get(LEASE.key) == stored  # reading needs no lock
        stranger.execute("ROLLBACK")
        stranger.close()
        assert await store.update(LEASE, expected_version=1) is not None


# --- groups ----------------------------------------------------------------------------------------------------------


def insert(value: str) -> Request:
    def work(connection: sqlite3.Connection) -> int:
        return connection.execute("INSERT INTO numbers VALUES (?)", (value,)).rowcount

    return Request(work, writes=True, done=anyio.Event())


def stored_values(file: Path) -> list[str]:
    connection = sqlite3.connect(file)
    rows = connection.execute("SELECT value FROM numbers ORDER BY value").fetchall()
    connection.close()
    return [row[0] for row in rows]


class FailingConnection:
    """A connection whose statement `at` raises an error, like a disk that fails in just that moment."""

    def __init__(self, connection: sqlite3.Connection, at: str, error: sqlite3.Error) -> None:
        self._connection, self._at, self._error = connection, at, error

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, statement: str, values: tuple[str, ...] = ()) -> sqlite3.Cursor:
        if statement.startswith(self._at):
            raise self._error
        return self._connection.execute(statement, values)


def disk_error(name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = name
    return error


def test_a_request_that_fails_spoils_no_other(file: Path) -> None:
    connection = open_file(file)
    connection.execute("CREATE TABLE numbers (value TEXT UNIQUE)")
    first, twice, broken, last = insert("1"), insert("1"), Request(lambda _: int("x"), True, anyio.Event()), insert("2")
    perform(connection, [first, twice, broken, last], file)
    assert (first.error, first.result, last.error, last.result) == (None, 1, None, 1)
    assert isinstance(twice.error, StoreError)
    assert isinstance(broken.error, StoreError)
    assert stored_values(file) == ["1", "2"]
    connection.close()


def test_a_commit_that_fails_half_way_is_an_unknown_outcome_for_writes_only(file: Path) -> None:
    connection = open_file(file)
    connection.execute("CREATE TABLE numbers (value TEXT UNIQUE)")
    failing = FailingConnection(connection, "COMMIT", disk_error("SQLITE_IOERR_FSYNC"))
    write, read = insert("1"), Request(lambda _: "uncommitted", False, anyio.Event())
    perform(failing, [write, read], file)  # type: ignore[arg-type]  # what perform needs of a connection
    assert isinstance(write.error, UnknownOutcomeError)
    assert isinstance(read.error, StoreError)
    assert not isinstance(read.error, UnknownOutcomeError)
    assert not connection.in_transaction
    connection.close()


@pytest.mark.parametrize(("at", "name"), [("COMMIT", "SQLITE_FULL"), ("INSERT", "SQLITE_IOERR_WRITE")])
def test_a_write_that_was_rolled_back_did_not_happen(at: str, name: str, file: Path) -> None:
    connection = open_file(file)
    connection.execute("CREATE TABLE numbers (value TEXT UNIQUE)")
    failing = FailingConnection(connection, at, disk_error(name))
    writes = [insert("1"), insert("2")]
    perform(failing, writes, file)  # type: ignore[arg-type]  # what perform needs of a connection
    assert [type(write.error) for write in writes] == [StoreError, StoreError]
    assert stored_values(file) == []
    connection.close()


async def test_what_is_asked_at_once_shares_a_commit(file: Path) -> None:
    commits: list[str] = []
    async with open_sqlite_store(file) as store:
        await store._writer.ask(
            lambda connection: connection.set_trace_callback(
                lambda statement: commits.append(statement) if statement == "COMMIT" else None
            ),
            writes=False,
        )
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(store.create, replace(LEASE, shard_id=f"shardId-{number}"))
        assert len(await store.list("orders", STREAM_ARN)) == 500
    assert len(commits) < 100


# --- callers and threads ---------------------------------------------------------------------------------------------


async def test_a_cancelled_caller_does_not_break_the_thread(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.create(LEASE)
        assert scope.cancelled_caught
        # Requests are served in order: what the cancelled caller asked for has happened.
        assert await store.get(LEASE.key) == replace(LEASE, version=1)
        assert await store.update(LEASE, expected_version=1) is not None


async def test_closing_joins_the_thread_after_it_did_what_was_asked(file: Path) -> None:
    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    async with open_sqlite_store(file) as store:
        assert "streamflow/leases.db" in names()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.create(LEASE)
    assert "streamflow/leases.db" not in names()
    assert [path.name for path in file.parent.iterdir()] == ["leases.db"]  # neither -wal nor -shm: cleanly closed
    async with open_sqlite_store(file) as store:
        assert await store.get(LEASE.key) is not None


async def test_a_closed_store_refuses_instead_of_waiting_for_ever(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        pass
    with pytest.raises(StoreError, match="is closed"):
        await store.get(LEASE.key)
