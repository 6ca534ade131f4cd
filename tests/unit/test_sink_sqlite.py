"""The sqlite sink: rows, columns, files that cannot be used, and rows that a table refuses."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import orjson
import pytest

from opened_sinks import opened
from streamflow.errors import ConfigError, SinkBusyError, StreamflowError
from streamflow.failures import RecordsFailedError
from streamflow.positions import sortable
from streamflow.records import Record
from streamflow.sinks import sqlite_file
from streamflow.sinks.sqlite import sqlite
from streamflow.sinks.sqlite_rows import column_value
from streamflow.stores.sqlite import open_sqlite_store
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def rows(path: Path, table: str = "orders") -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY rowid")]


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


# --- rows ------------------------------------------------------------------------------------------------------------


async def test_an_item_is_a_row_and_a_delete_leaves_a_tombstone(tmp_path: Path) -> None:
    changes, path = Changes(), tmp_path / "orders.db"
    kept, gone = changes.put("kept", total={"N": "12.50"}), changes.put("gone", total={"N": "1"})
    deleted = changes.delete("gone")
    async with opened(sqlite(path=path, table="orders", columns={"id": "id", "total": "total"})) as sink:
        await sink.writer.write(changes.batch(kept, gone, deleted))
    first, second = rows(path)
    assert first == {
        "item_key": kept.item_key,
        "image": f'{{"id":"{changes.item("kept")}","version":1,"total":12.5}}',
        "_sf_seq": sortable(kept.sequence_number),
        "_sf_shard": kept.shard.shard_id,
        "_sf_event_id": kept.event_id,
        "_sf_deleted": 0,
        "id": changes.item("kept"),
        "total": 12.5,
    }
    assert (second["image"], second["_sf_deleted"], second["id"], second["total"]) == (
        None, 1, changes.item("gone"), None,
    )  # fmt: skip


async def test_a_change_is_a_row_under_its_event_id(tmp_path: Path) -> None:
    changes, path = Changes(), tmp_path / "orders.db"
    records = [changes.put("one"), changes.put("one"), changes.delete("one")]
    async with opened(sqlite(path=path, table="orders", mode="append")) as sink:
        await sink.writer.write(changes.batch(*records))
        await sink.writer.write(changes.batch(*records[1:], changes.put("two")))
        assert sink.suppressed == [2]
    found = rows(path)
    assert [row["_sf_event_id"] for row in found] == [record.event_id for record in changes.records]
    assert [row["event_name"] for row in found] == ["INSERT", "MODIFY", "REMOVE", "INSERT"]
    assert [row["old_image"] is None for row in found] == [True, False, False, True]
    assert [row["new_image"] is None for row in found] == [False, False, True, False]
    assert found[0]["created_at_s"] == records[0].created_at_s


async def test_what_is_older_than_the_row_is_suppressed(tmp_path: Path) -> None:
    changes = Changes()
    records = [changes.put("one"), changes.put("one"), changes.delete("one")]
    async with opened(sqlite(path=tmp_path / "orders.db", table="orders")) as sink:
        await sink.writer.write(changes.batch(*records))
        await sink.writer.write(changes.batch(*records[:2]))
        await sink.writer.write(changes.batch(*records))
        assert sink.suppressed == [2, 3]
    assert rows(tmp_path / "orders.db")[0]["_sf_deleted"] == 1


@pytest.mark.parametrize(
    ("native", "stored"),
    [
        (None, None),
        (True, 1),
        ("text\x00with zero", "text\x00with zero"),
        (b"\x00\xff", b"\x00\xff"),
        (Decimal(7), 7),
        (Decimal(-9223372036854775808), -(2**63)),
        (Decimal(2**63), "9223372036854775808"),
        (Decimal("12.50"), 12.5),
        (Decimal("1E+3"), 1000),
        (Decimal("1E+125"), 1e125),
        (Decimal("0.1234567890123456"), "0.1234567890123456"),
        (Decimal("1E-130"), 1e-130),
        (2**70, str(2**70)),
        (-5, -5),
        (1.5, 1.5),
    ],
)
def test_numbers_are_those_that_sqlite_computes_with_where_that_loses_nothing(native: object, stored: object) -> None:
    value = column_value(native, None)
    assert value == stored
    assert type(value) is type(stored)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE one (value)")
        connection.execute("INSERT INTO one VALUES (?)", (value,))
        assert connection.execute("SELECT value FROM one").fetchone() == (stored,)


async def test_sets_lists_and_maps_are_json_in_their_columns(tmp_path: Path) -> None:
    changes, path = Changes(), tmp_path / "orders.db"
    record = changes.put("one", tags={"SS": ["a", "b"]}, lines={"L": [{"M": {"price": {"N": "1.5"}}}]})
    columns = {"tags": "tags", "order_lines": "lines", "missing": "nothing"}
    async with opened(sqlite(path=path, table="orders", columns=columns)) as sink:
        await sink.writer.write(changes.batch(record))
    (row,) = rows(path)
    assert (sorted(orjson.loads(row["tags"])), row["order_lines"], row["missing"]) == (
        ["a", "b"], '[{"price":1.5}]', None,
    )  # fmt: skip


# --- what a table refuses --------------------------------------------------------------------------------------------


async def test_a_row_that_a_constraint_refuses_is_refused_alone(tmp_path: Path) -> None:
    changes, path = Changes(), tmp_path / "orders.db"
    declared = sqlite(path=path, table="orders", columns={"total": "total"})
    async with opened(declared):
        pass
    execute(
        path, "CREATE TRIGGER positive BEFORE INSERT ON orders WHEN NEW.total < 0 BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    good, bad = changes.put("good", total={"N": "1"}), changes.put("bad", total={"N": "-77"})
    later, other = changes.put("bad", total={"N": "2"}), changes.put("other", total={"N": "3"})
    async with opened(declared) as sink:
        with pytest.raises(RecordsFailedError) as failed:
            await sink.writer.write(changes.batch(good, bad, later, other))
        assert [(each.record, each.kind) for each in failed.value.failures] == [(bad, "refused"), (later, "waiting")]
        assert failed.value.failures[0].reason == "table orders does not take it: no"
        await sink.writer.write(changes.batch(later))
    assert {row["total"] for row in rows(path)} == {1, 2, 3}


async def test_a_record_without_an_event_id_is_refused(tmp_path: Path) -> None:
    changes = Changes()
    record = changes.put("one")
    nameless = Record(msgspec.Raw(record.raw.replace(record.event_id.encode(), b"")), record.shard)
    async with opened(sqlite(path=tmp_path / "orders.db", table="orders", mode="append")) as sink:
        with pytest.raises(RecordsFailedError, match="it has no event id"):
            await sink.writer.write(changes.batch(nameless))


async def test_a_batch_that_fails_does_not_fail_those_of_other_shards(tmp_path: Path) -> None:
    """They share a transaction."""
    changes, path = Changes(shards=4), tmp_path / "orders.db"
    changes.put_many(200)
    batches = changes.batches(changes.records)
    torn = Record(msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"1"}}'), batches[0].shard)
    outcomes: list[bool] = []
    async with opened(sqlite(path=path, table="orders")) as sink, anyio.create_task_group() as tasks:

        async def write(number: int) -> None:
            batch = batches[number] if number else changes.batch(torn, *batches[0])
            try:
                await sink.writer.write(batch)
            except RecordsFailedError as error:
                outcomes.append([each.record for each in error.failures] == [torn])

        for number in range(len(batches)):
            tasks.start_soon(write, number)
    assert outcomes == [True]
    assert len(rows(path)) == 200


# --- files that cannot be used ---------------------------------------------------------------------------------------


async def test_files_that_cannot_be_used_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"dear diary, this is no database" * 100)
    execute(tmp_path / "other.db", "CREATE TABLE orders (id TEXT PRIMARY KEY)")
    execute(tmp_path / "narrow.db", "CREATE TABLE orders (item_key TEXT PRIMARY KEY, image TEXT)")
    async with open_sqlite_store(tmp_path / "leases.db"):
        pass
    for path, says in (
        (tmp_path / "missing" / "orders.db", r"missing does not exist: create it"),
        (tmp_path, r"the path is a directory"),
        (
            tmp_path / "notes.txt",
            r"file is not a database \(the file is something else, or encrypted, and was not touched",
        ),
        (tmp_path / "other.db", r"has the primary key \(id\), and mode upsert goes by item_key"),
        (tmp_path / "narrow.db", r"ALTER TABLE orders ADD COLUMN _sf_seq TEXT; "),
        (tmp_path / "leases.db", r"is a store of leases: name a file of the sink's own"),
    ):
        with pytest.raises(ConfigError, match=says):
            async with opened(sqlite(path=path, table="orders")):
                pass
    assert (tmp_path / "notes.txt").read_bytes().startswith(b"dear diary")


async def test_the_statement_that_a_narrow_table_asks_for_helps(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    async with opened(sqlite(path=path, table="orders")):
        pass
    with pytest.raises(ConfigError) as wrong:
        async with opened(sqlite(path=path, table="orders", columns={"total": "total"})):
            pass
    execute(path, str(wrong.value).partition("name another table, or ")[2])
    changes = Changes()
    async with opened(sqlite(path=path, table="orders", columns={"total": "total"})) as sink:
        await sink.writer.write(changes.batch(changes.put("one", total={"N": "3"})))
    assert [row["total"] for row in rows(path)] == [3]


async def test_a_file_that_is_locked_for_long_is_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.05)
    changes, path = Changes(), tmp_path / "orders.db"
    batch = changes.batch(changes.put("one"))
    async with opened(sqlite(path=path, table="orders")) as sink:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SinkBusyError, match=r"database is locked \(another program kept it locked"):
                await sink.writer.write(batch)
        await sink.writer.write(batch)
    assert len(rows(path)) == 1


@pytest.mark.fault("F39")
async def test_a_full_disk_is_a_pause_and_leaves_nothing_half(tmp_path: Path) -> None:
    changes, path = Changes(), tmp_path / "orders.db"
    changes.put_many(50)
    async with opened(sqlite(path=path, table="orders")) as sink:
        await sink.writer.write(changes.batch(changes.records[0]))
        await sink.writer._thread.ask(lambda: lambda at: at.execute("PRAGMA max_page_count = 5").fetchone())
        large = changes.put("large", blob={"S": "x" * 300_000})
        with pytest.raises(SinkBusyError, match=r"the disk is full: make room"):
            await sink.writer.write(changes.batch(*changes.records[1:50], large))
        assert len(rows(path)) == 1
        await sink.writer._thread.ask(lambda: lambda at: at.execute("PRAGMA max_page_count = 1000000").fetchone())
        await sink.writer.write(changes.batch(*changes.records[1:50], large))
    assert len(rows(path)) == 51


async def test_a_table_that_somebody_dropped_fails_the_batch(tmp_path: Path) -> None:
    changes, path = Changes(), tmp_path / "orders.db"
    async with opened(sqlite(path=path, table="orders")) as sink:
        execute(path, "DROP TABLE orders")
        with pytest.raises(StreamflowError, match="no such table: orders") as failed:
            await sink.writer.write(changes.batch(changes.put("one")))
        assert not isinstance(failed.value, RecordsFailedError)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"table": "sqlite_orders"},
        {"table": "streamflow_checkpoint"},
        {"table": 'orders"; DROP TABLE x'},
        {"columns": {"image": "image"}},
        {"columns": {"a b": "a"}},
        {"columns": {"total": "total", "TOTAL": "other"}},
        {"mode": "replace"},
    ],
    ids=str,
)
def test_names_that_are_taken_or_no_names_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        sqlite(**({"path": "orders.db", "table": "orders"} | wrong))


def test_what_it_can_do_depends_on_the_mode() -> None:
    plain = sqlite(path="orders.db", table="orders").capabilities
    assert (plain.idempotence, plain.idempotence_key) == ("versioned", "item key and sequence number")
    assert plain.needs_images
    log = sqlite(path="orders.db", table="orders", mode="append").capabilities
    assert (log.idempotence, log.idempotence_key, log.needs_images) == ("versioned", "event id", False)
    assert sqlite(path="orders.db", table="orders", transactional=True).capabilities.idempotence == "transactional"
