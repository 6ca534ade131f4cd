"""The PostgreSQL sink over a real server: types, refusals, and what opening says."""

from __future__ import annotations

import datetime as dt
import socket
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme

from streamflow.clock import SystemClock
from streamflow.handlers.context import Context
from streamflow.sdk import AwsSettings, ConfigError, RecordsFailedError, SinkBusyError, StreamflowError
from streamflow.testing.sink_contract import Changes
from streamflow_postgres import postgres
from streamflow_postgres.sink import ARRAYS_MAX
from tls_front import open_tls_front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from servers.postgres import PostgresServer
    from streamflow.protocols import AwsClients
    from streamflow.sdk import SinkDeclaration, Writer

pytestmark = pytest.mark.anyio

_TYPED = (
    'CREATE TABLE {table} (key jsonb PRIMARY KEY, image jsonb, "_sf_seq" numeric(130), "_sf_shard" text, "_sf_event_id" text, '
    '"_sf_deleted" boolean, total numeric, placed_at timestamptz, tags text[], picture bytea, lines jsonb, paid boolean, '
    "quantity integer CHECK (quantity < 1000))"
)
_COLUMNS = {
    "total": "total",
    "placedAt": "placed_at",
    "tags": "tags",
    "picture": "picture",
    "lines": "lines",
    "paid": "paid",
    "quantity": "quantity",
}


@asynccontextmanager
async def _open(declared: SinkDeclaration, suppressed: list[int] | None = None) -> AsyncIterator[Writer]:
    async def aws(_: AwsSettings | None) -> AwsClients:
        raise AssertionError("it needs no AWS")

    counts = suppressed if suppressed is not None else []
    async with declared.open(
        Context(pipeline="orders", clock=SystemClock(), aws=aws, suppressed=counts.append)
    ) as writer:
        yield writer


async def test_attributes_arrive_in_the_types_of_their_columns(
    postgres_server: PostgresServer, connection: Any, table: str
) -> None:
    await connection.execute(_TYPED.format(table=table))
    changes = Changes()
    changes.put(
        "one",
        total={"N": "12345678901234567890.123456789012345678"},
        placedAt={"S": "2026-11-25T12:00:00Z"},
        tags={"SS": ["a", "b,c"]},
        picture={"B": "AAEC"},
        lines={"L": [{"M": {"sku": {"S": "x"}}}]},
        paid={"BOOL": True},
        quantity={"N": "7"},
    )
    changes.put("bare")
    changes.put("gone", total={"N": "1"})
    changes.delete("gone")
    async with _open(postgres(dsn=postgres_server.dsn(), table=table, columns=_COLUMNS)) as writer:
        await writer.write(changes.batch(*changes.records))
    rows = {row["key"]: row for row in await connection.fetch(f"SELECT * FROM {table}")}
    one, bare, gone = (rows[f'{{"id": "{changes.item(name)}"}}'] for name in ("one", "bare", "gone"))
    assert one["total"] == Decimal("12345678901234567890.123456789012345678")
    assert one["placed_at"] == dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC)
    assert one["tags"] == ["a", "b,c"]
    assert one["picture"] == b"\x00\x01\x02"
    assert one["lines"] == '[{"sku": "x"}]'
    assert (one["paid"], one["quantity"]) == (True, 7)
    assert all(bare[column] is None for column in _COLUMNS.values())
    assert (gone["_sf_deleted"], gone["image"], gone["total"]) == (True, None, None)


@pytest.mark.parametrize("count", [20, ARRAYS_MAX + 10])
async def test_exactly_the_records_that_a_column_cannot_take_are_refused(
    postgres_server: PostgresServer, connection: Any, table: str, count: int
) -> None:
    await connection.execute(_TYPED.format(table=table))
    changes = Changes()
    good = changes.put_many(count)
    wrong_type = changes.put("wrong", quantity={"S": "the secret of the item"})
    constraint = changes.put("too-many", quantity={"N": "1000"})
    later = changes.put("wrong", quantity={"N": "1"})
    good += changes.put_many(5, name="last")
    async with _open(postgres(dsn=postgres_server.dsn(), table=table, columns=_COLUMNS)) as writer:
        with pytest.raises(RecordsFailedError) as caught:
            await writer.write(changes.batch(*good, wrong_type, constraint, later))
    told = {failure.record.event_id: (failure.kind, failure.reason) for failure in caught.value.failures}
    assert {event_id: kind for event_id, (kind, _) in told.items()} == {
        wrong_type.event_id: "refused",
        constraint.event_id: "refused",
        later.event_id: "waiting",
    }
    assert "SQLSTATE 23514" in told[constraint.event_id][1]
    assert "the secret" not in str(told)
    written = {row[0] for row in await connection.fetch(f"SELECT _sf_event_id FROM {table}")}
    assert {record.event_id for record in good} <= written
    assert constraint.event_id not in written
    assert wrong_type.event_id not in written


@pytest.mark.parametrize("mode", ["upsert", "append"])
@pytest.mark.parametrize("count", [50, ARRAYS_MAX + 50])
async def test_what_the_table_has_already_is_told_as_suppressed(
    postgres_server: PostgresServer, table: str, mode: str, count: int
) -> None:
    changes = Changes()
    changes.put_many(count)
    suppressed: list[int] = []
    declared = postgres(dsn=postgres_server.dsn(), table=table, mode=mode, create_table=True)
    async with _open(declared, suppressed) as writer:
        await writer.write(changes.batch(*changes.records))
        assert sum(suppressed) == 0
        await writer.write(changes.batch(*changes.records))
        assert sum(suppressed) == count


async def test_a_row_that_was_there_before_the_sink_is_taken_over(
    postgres_server: PostgresServer, connection: Any, table: str
) -> None:
    await connection.execute(_TYPED.format(table=table))
    changes = Changes()
    record = changes.put("one")
    await connection.execute(f"INSERT INTO {table} (key) VALUES ($1)", f'{{"id": "{changes.item("one")}"}}')
    async with _open(postgres(dsn=postgres_server.dsn(), table=table)) as writer:
        await writer.write(changes.batch(record))
    assert await connection.fetchval(f"SELECT _sf_event_id FROM {table}") == record.event_id


async def test_it_works_without_prepared_statements(
    postgres_server: PostgresServer, table: str, connection: Any
) -> None:
    changes = Changes()
    changes.put_many(ARRAYS_MAX + 1)
    declared = postgres(dsn=postgres_server.dsn(), table=table, create_table=True, statement_cache_size=0)
    async with _open(declared) as writer:
        await writer.write(changes.batch(*changes.records))
        await writer.write(changes.batch(*changes.records[:10]))
    assert await connection.fetchval(f"SELECT count(*) FROM {table}") == ARRAYS_MAX + 1


async def test_workers_that_create_the_same_table_do_not_disturb_each_other(
    postgres_server: PostgresServer, table: str
) -> None:
    declared = postgres(dsn=postgres_server.dsn(), table=table, transactional=True, create_table=True)

    async def start() -> None:
        async with _open(declared):
            pass

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(start)


async def test_writers_of_the_same_items_do_not_deadlock(postgres_server: PostgresServer, table: str) -> None:
    changes = Changes()
    changes.put_many(600, items=60)
    declared = postgres(dsn=postgres_server.dsn(), table=table, create_table=True, pool_size=8)
    async with _open(declared) as writer, anyio.create_task_group() as tasks:
        for start in range(8):
            tasks.start_soon(writer.write, changes.batch(*changes.records[start::8], *changes.records[:start]))


# --- opening ---------------------------------------------------------------------------------------------------------


async def _mistake(declared: SinkDeclaration) -> str:
    with pytest.raises(ConfigError) as caught:
        async with _open(declared):
            pass
    return str(caught.value)


async def test_a_missing_table_is_told_with_its_definition(postgres_server: PostgresServer, connection: Any) -> None:
    message = await _mistake(postgres(dsn=postgres_server.dsn(), table="nowhere", columns={"total": "total"}))
    assert "there is no table nowhere; set create_table = true" in message
    await connection.execute(message[message.index("CREATE TABLE") :].replace("nowhere", "somewhere_else"))
    await connection.execute("DROP TABLE somewhere_else")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP COLUMN image", "has no column image"),
        ("DROP COLUMN total", "has no column total"),
        ("ALTER COLUMN total SET NOT NULL", "column total of {table} is NOT NULL, and an item may lack"),
        ("ADD COLUMN other text NOT NULL", "column other of {table} is NOT NULL, and nothing fills it"),
        ("DROP CONSTRAINT {table}_pkey", "lacks the primary key"),
        ("ALTER COLUMN _sf_seq TYPE boolean USING NULL", "does not fit its definition"),
        ("ALTER COLUMN picture TYPE bytea[] USING NULL", "column picture of {table} is bytea[]"),
    ],
)
async def test_a_table_that_does_not_fit_is_told(
    postgres_server: PostgresServer, connection: Any, table: str, change: str, message: str
) -> None:
    await connection.execute(_TYPED.format(table=table))
    await connection.execute(f"ALTER TABLE {table} {change.format(table=table)}")
    found = await _mistake(postgres(dsn=postgres_server.dsn(), table=table, columns=_COLUMNS))
    assert message.format(table=table) in found


async def test_what_the_user_may_not_do_is_told(postgres_server: PostgresServer, connection: Any, table: str) -> None:
    await connection.execute(_TYPED.format(table=table))
    await connection.execute(f"CREATE ROLE {table} LOGIN PASSWORD 'pass'")
    dsn = postgres_server.dsn().replace(f"streamflow:{postgres_server.password}", f"{table}:pass")
    assert f'GRANT SELECT, INSERT, UPDATE ON "{table}"' in await _mistake(postgres(dsn=dsn, table=table))
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO {table}")
    async with _open(postgres(dsn=dsn, table=table)):
        pass
    await connection.execute(f"ALTER ROLE {table} SET synchronous_commit = off")
    assert "synchronous_commit is off" in await _mistake(postgres(dsn=dsn, table=table))
    async with _open(postgres(dsn=dsn + "&synchronous_commit=on", table=table)):
        pass
    await connection.execute(f"ALTER ROLE {table} CONNECTION LIMIT 0")
    with pytest.raises(SinkBusyError):
        async with _open(postgres(dsn=dsn, table=table)):
            pass


async def test_a_database_that_cannot_be_used_is_told_without_the_password(postgres_server: PostgresServer) -> None:
    dsn = postgres_server.dsn()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        cases = {
            dsn.replace(postgres_server.password, "wrong-password"): "mend user and password",
            postgres_server.dsn("no_such_database"): "no such database",
            dsn.partition("?")[0]: "speaks no TLS",
            postgres_server.dsn(port=nobody.getsockname()[1]): "cannot be reached (ConnectionRefusedError)",
            "postgresql://user@host/shop?sslmode=whatever": "dsn cannot be read",
        }
        for each, expected in cases.items():
            message = await _mistake(postgres(dsn=each, table="orders"))
            assert expected in message
            assert postgres_server.password not in message
            assert "wrong-password" not in message


async def test_the_certificate_of_the_server_is_verified(
    postgres_server: PostgresServer, table: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    async with open_tls_front(postgres_server.port, authority.issue_cert("localhost")) as port:
        dsn = postgres_server.dsn(host="localhost", port=port).partition("?")[0]
        assert "its certificate cannot be verified" in await _mistake(postgres(dsn=dsn, table=table))
        trusting = f"{dsn}?sslrootcert={tmp_path / 'authority.pem'}"
        async with _open(postgres(dsn=trusting, table=table, create_table=True)):
            pass
        wrong_name = trusting.replace("localhost", "127.0.0.1")
        assert "its certificate cannot be verified" in await _mistake(postgres(dsn=wrong_name, table=table))


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_statement_that_takes_too_long_fails_the_batch(
    postgres_server: PostgresServer, connection: Any, table: str
) -> None:
    changes = Changes()
    record = changes.put("one")
    declared = postgres(dsn=postgres_server.dsn(), table=table, create_table=True, command_timeout_s=0.3)
    async with _open(declared) as writer:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table}")
            with pytest.raises(StreamflowError, match="did not answer within command_timeout_s"):
                await writer.write(changes.batch(record))
        await writer.write(changes.batch(record))
    assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 1


async def test_a_table_that_is_dropped_while_it_is_written_refuses_no_record(
    postgres_server: PostgresServer, connection: Any, table: str
) -> None:
    changes = Changes()
    changes.put_many(3)
    async with _open(postgres(dsn=postgres_server.dsn(), table=table, create_table=True)) as writer:
        await writer.write(changes.batch(*changes.records))
        await connection.execute(f"DROP TABLE {table}")
        with pytest.raises(StreamflowError, match="SQLSTATE 42P01") as caught:
            await writer.write(changes.batch(*changes.records))
        assert not isinstance(caught.value, RecordsFailedError | ConfigError)


async def test_nothing_of_an_item_is_in_an_error(postgres_server: PostgresServer, connection: Any, table: str) -> None:
    """A unique constraint of the user's, which PostgreSQL tells with the value."""
    await connection.execute(_TYPED.format(table=table))
    await connection.execute(f"ALTER TABLE {table} ADD UNIQUE (total)")
    changes = Changes()
    changes.put("one", total={"N": "4711"})
    changes.put("two", total={"N": "4711"})
    async with _open(postgres(dsn=postgres_server.dsn(), table=table, columns=_COLUMNS)) as writer:
        with pytest.raises(RecordsFailedError) as caught:
            await writer.write(changes.batch(*changes.records))
    (failure,) = caught.value.failures
    assert failure.kind == "refused"
    assert f"constraint {table}_total_key" in failure.reason
    assert "4711" not in failure.reason
    assert caught.value.__cause__ is None
