"""The SQLite store at its edges: killed processes, old and damaged files, full disks, callers that went away."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow.dead_letters import DeadLetter, LetterQuery
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import Gap, Lease, LeaseState, WindowState
from streamflow.positions import Position
from streamflow.stores.sqlite import SqliteStore, open_sqlite_store
from streamflow.stores.sqlite_file import SCHEMA_VERSION, open_file
from streamflow.stores.sqlite_writer import Request, perform, undone_together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l"
LEASE = Lease(pipeline="orders", stream_arn=STREAM_ARN, shard_id="shardId-1")
LETTER = DeadLetter(
    pipeline="orders",
    stream_arn=STREAM_ARN,
    shard_id="shardId-1",
    sequence_number="1" * 21,
    item_key='{"id":{"S":"secret"}}',
    record=b"{}",
    reason="RetryAttemptsExhausted",
)
DEAD, PARKED = LetterQuery(drawer="dead"), LetterQuery(drawer="parked")
# What cannot be encoded for SQLite: its statement fails, after others of the same request.
UNWRITABLE = replace(LETTER, sequence_number="2" * 21, item_key="\ud800")

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


def open_at_once(file: Path) -> list[BaseException]:
    """What went wrong for those who opened the file together."""
    openers = 8
    together = threading.Barrier(openers)
    failures: list[BaseException] = []

    def open_together() -> None:
        together.wait()
        try:
            open_file(file).close()
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=open_together) for _ in range(openers)]  # noqa: TID251 - beside the test
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_many_processes_may_make_the_file_at_the_same_time(file: Path) -> None:
    assert open_at_once(file) == []


# --- files of an older version ---------------------------------------------------------------------------------------


VERSION_1 = """
CREATE TABLE streamflow_leases (
    pipeline TEXT NOT NULL, stream_arn TEXT NOT NULL, shard_id TEXT NOT NULL,
    owner TEXT, epoch INTEGER NOT NULL, version INTEGER NOT NULL,
    checkpoint TEXT NOT NULL, state TEXT NOT NULL,
    parents TEXT NOT NULL, children TEXT NOT NULL, gaps TEXT NOT NULL,
    PRIMARY KEY (pipeline, stream_arn, shard_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE streamflow_schema (version INTEGER NOT NULL) STRICT;
INSERT INTO streamflow_schema VALUES (1);
"""
INSERT_1 = """
INSERT INTO streamflow_leases (pipeline, stream_arn, shard_id, owner, epoch, version, checkpoint, state, parents,
children, gaps) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
UPDATE_1 = "UPDATE streamflow_leases SET owner = ?, version = ? WHERE shard_id = ? AND version = ?"
OLD_LEASES = [
    replace(LEASE, owner="w1", epoch=3, version=41, checkpoint=Position.after("9" * 40), children=("a", "b")),
    replace(
        LEASE,
        shard_id="shardId-2",
        version=7,
        state=LeaseState.ENDED,
        parents=("shardId-1",),
        gaps=(Gap(lost_from=Position.after("1" * 21), found_at_s=5.5, cause="trimmed"),),
    ),
]


def of_version_1(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_1)
        gap = f'[["{OLD_LEASES[1].gaps[0].lost_from}",5.5,"trimmed"]]'
        checkpoints = [str(lease.checkpoint) for lease in OLD_LEASES]
        rows = [
            ("orders", STREAM_ARN, "shardId-1", "w1", 3, 41, checkpoints[0], "active", "[]", '["a","b"]', "[]"),
            ("orders", STREAM_ARN, "shardId-2", None, 0, 7, checkpoints[1], "ended", '["shardId-1"]', "[]", gap),
        ]
        connection.executemany(INSERT_1, rows)
        connection.commit()


def content(file: Path) -> list[str]:
    """All that the file says, as SQL."""
    with closing(sqlite3.connect(file)) as connection:
        return list(connection.iterdump())


@pytest.mark.fault("F59")
async def test_a_file_of_version_1_keeps_its_rows_and_takes_what_is_new(file: Path) -> None:
    of_version_1(file)
    window = WindowState(60, 120, b'{"total":1}')
    async with open_sqlite_store(file) as store:
        assert list(await store.list("orders", STREAM_ARN)) == OLD_LEASES
        opened = await store.update(replace(OLD_LEASES[0], window=window), expected_version=41)
        await store.keep([LETTER])
        assert await store.park([LETTER], opening=True) == {LETTER.item_key}
    async with open_sqlite_store(file) as store:
        assert await store.get(OLD_LEASES[0].key) == opened
        assert list(await store.list("orders", STREAM_ARN))[1:] == OLD_LEASES[1:]
        assert opened == replace(OLD_LEASES[0], version=42, window=window)
        assert await store.count(DEAD) == await store.count(PARKED) == 1
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT version FROM streamflow_schema").fetchall() == [(SCHEMA_VERSION,)]


def test_a_file_brought_up_has_the_same_tables_as_a_new_one(file: Path, tmp_path: Path) -> None:
    of_version_1(file)
    open_file(file).close()
    open_file(tmp_path / "new.db").close()

    def tables(path: Path) -> list[tuple[str, str, str]]:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name")
            return [(kind, name, " ".join(sql.split())) for kind, name, sql in found]

    assert tables(file) == tables(tmp_path / "new.db")


def test_many_processes_may_bring_a_file_up_at_the_same_time(file: Path) -> None:
    of_version_1(file)
    assert open_at_once(file) == []
    assert anyio.run(read, file) == OLD_LEASES[0]


def test_a_step_that_fails_leaves_the_file_at_its_version(file: Path) -> None:
    of_version_1(file)
    with closing(sqlite3.connect(file)) as connection:  # in the way of the last statements of the step
        connection.execute("CREATE TABLE streamflow_letters_by_drawer (anything TEXT)")
    before = content(file)
    assert "streamflow_letters_by_drawer" in str(refusal(file))
    assert content(file) == before
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE streamflow_letters_by_drawer")
    assert anyio.run(read, file) == OLD_LEASES[0]


@pytest.mark.fault("F59")
async def test_a_worker_of_version_1_that_has_the_file_open_goes_on(file: Path) -> None:
    of_version_1(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as old:
        assert old.execute(UPDATE_1, ("old", 42, "shardId-1", 41)).rowcount == 1
        async with open_sqlite_store(file) as store:
            assert old.execute(UPDATE_1, ("old", 43, "shardId-1", 42)).rowcount == 1
            new_row = ("orders", STREAM_ARN, "shardId-3", None, 0, 1, "LATEST", "active", "[]", "[]", "[]")
            assert old.execute(INSERT_1, new_row).rowcount == 1
            rows = await store.list("orders", STREAM_ARN)
            assert [(row.version, row.window) for row in rows] == [(43, None), (7, None), (1, None)]


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


@pytest.mark.fault("F41")
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


@pytest.mark.fault("F42")
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


@pytest.mark.parametrize("window", ["{}", "60", ":{}", "noon:{}"])
async def test_a_window_that_cannot_be_read_names_its_row(window: str, file: Path) -> None:
    async with open_sqlite_store(file) as store:
        await store.create(LEASE)
        await ask(store, f"UPDATE streamflow_leases SET window = '{window}'")
        with pytest.raises(StoreError, match="row of shardId-1 in pipeline 'orders' is damaged"):
            await store.get(LEASE.key)


TEXTS = ["pipeline", "stream_arn", "shard_id", "sequence_number", "item_key", "reason", "error_type", "error_text"]


@pytest.mark.parametrize("column", TEXTS)
async def test_a_letter_that_cannot_be_read_is_named_without_its_content(column: str, file: Path) -> None:
    async with open_sqlite_store(file) as store:
        others = [replace(LETTER, sequence_number=str(number)) for number in (1, 3)]
        await store.keep([others[0], LETTER, others[1]])
        first, damaged, last = await store.letters(DEAD)
        await ask(
            store, f"UPDATE streamflow_letters SET {column} = CAST(x'736563726574ff' AS TEXT) WHERE id = {damaged.id}"
        )
        with pytest.raises(StoreError) as caught:
            await store.letters(DEAD)
        assert f"letter {damaged.id} is damaged: its {column} is no UTF-8 text" in str(caught.value)
        assert str(file) in str(caught.value)
        assert "secret" not in str(caught.value)
        assert list(await store.letters(replace(DEAD, limit=1))) == [first]
        assert list(await store.letters(replace(DEAD, after_id=damaged.id))) == [last]
        assert await store.remove("dead", [damaged.id]) == 1
        assert list(await store.letters(DEAD)) == [first, last]


async def test_a_parked_key_that_cannot_be_read_names_its_letter(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        await store.park([LETTER], opening=True)
        await ask(store, "UPDATE streamflow_letters SET item_key = CAST(x'736563726574ff' AS TEXT)")
        with pytest.raises(StoreError, match="letter 1 is damaged: its item_key") as caught:
            await store.parked_keys("orders", STREAM_ARN)
        assert "secret" not in str(caught.value)


async def test_an_error_text_that_is_no_unicode_stops_no_letter(file: Path) -> None:
    async with open_sqlite_store(file) as store:
        await store.keep([replace(LETTER, error_type="E\udcff", error_text="no such file: caf\udce9 “é”")])
        (kept,) = await store.letters(DEAD)
        assert (kept.error_type, kept.error_text) == ("E\\udcff", "no such file: caf\\udce9 “é”")


# --- a full disk -----------------------------------------------------------------------------------------------------


# Larger than a page, so that no room is left for it in those there are.
LARGE = replace(LEASE, children=tuple(f"shardId-{number:08d}" for number in range(1_000)))


async def ask(store: SqliteStore, statement: str) -> Any:
    """Run a statement on the store's own connection, behind the store's back; the answer is its first row."""
    return await store._writer.ask(lambda connection: connection.execute(statement).fetchone(), writes=False)


@pytest.mark.fault("F39")
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


@pytest.mark.fault("F39")
async def test_on_a_full_disk_letters_are_kept_all_or_none(file: Path) -> None:
    letters = [replace(LETTER, sequence_number=str(number), record=b"x" * 2_000) for number in range(100)]
    async with open_sqlite_store(file) as store:
        await store.keep(letters[:10])
        (pages,) = await ask(store, "PRAGMA page_count")
        await ask(store, f"PRAGMA max_page_count={pages + 20}")
        for write in (lambda: store.keep(letters), lambda: store.park(letters, opening=True)):
            with pytest.raises(StoreError, match="disk is full: make room") as caught:
                await write()
            assert not isinstance(caught.value, UnknownOutcomeError)
        assert await store.count(DEAD) == 10
        assert await store.count(PARKED) == 0
        assert await store.create(LEASE) is not None
        await ask(store, "PRAGMA max_page_count=1000000")
        await store.keep(letters)
        assert await store.count(DEAD) == 100


@pytest.mark.fault("F39")
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


@pytest.mark.fault("F40")
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


@pytest.mark.fault("F40")
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


async def test_letters_that_fail_are_undone_together_and_spoil_no_other_request(file: Path) -> None:
    commits: list[str] = []
    held_up, go_on = threading.Event(), threading.Event()

    def hold_up(connection: sqlite3.Connection) -> None:
        held_up.set()
        connection.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
        assert go_on.wait(30)

    async def fails(write: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(StoreError, match="surrogates not allowed") as caught:
            await write()
        assert not isinstance(caught.value, UnknownOutcomeError)

    other = replace(LETTER, sequence_number="3" * 21)
    async with open_sqlite_store(file) as store:
        await store.park([other], opening=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: store._writer.ask(hold_up, writes=False))
            assert await anyio.to_thread.run_sync(held_up.wait, 30)
            tasks.start_soon(store.create, LEASE)
            tasks.start_soon(fails, lambda: store.keep([LETTER, UNWRITABLE]))
            tasks.start_soon(store.keep, [other])
            tasks.start_soon(fails, lambda: store.park([LETTER, UNWRITABLE]))
            tasks.start_soon(fails, lambda: store.park([LETTER, UNWRITABLE], opening=True))
            tasks.start_soon(store.create, replace(LEASE, shard_id="shardId-2"))
            await anyio.wait_all_tasks_blocked()
            go_on.set()
        assert len(commits) == 2  # of what held them up, and of all the others together
        for query in (DEAD, PARKED):
            assert [letter.sequence_number for letter in await store.letters(query)] == [other.sequence_number]
        assert len(await store.list("orders", STREAM_ARN)) == 2


@pytest.mark.parametrize("at", ["ROLLBACK TO", "RELEASE"])
def test_a_request_whose_undoing_fails_is_undone_with_its_transaction(at: str, file: Path) -> None:
    def work(connection: sqlite3.Connection) -> None:
        with undone_together(connection):
            connection.execute("INSERT INTO numbers VALUES ('1')")
            connection.execute("INSERT INTO numbers VALUES ('1')")

    connection = open_file(file)
    connection.execute("CREATE TABLE numbers (value TEXT UNIQUE)")
    failing = FailingConnection(connection, at, disk_error("SQLITE_IOERR_READ"))
    before, twice, after = insert("2"), Request(work, True, anyio.Event()), insert("3")
    perform(failing, [before, twice, after], file)  # type: ignore[arg-type]  # what perform needs of a connection
    assert (before.error, after.error) == (None, None)
    assert isinstance(twice.error, StoreError)
    assert not isinstance(twice.error, UnknownOutcomeError)
    assert stored_values(file) == ["2", "3"]
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
