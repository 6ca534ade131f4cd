"""The README tells the truth: its pipeline file is loaded, and its program runs as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import asyncpg

from pages import blocks, check_pipeline_files, run_program
from streamflow.testing.store_contract.leases import LEASE
from streamflow.testing.store_contract.letters import PARKED, letter
from streamflow_postgres.store import open_postgres_store
from streamflow_postgres.store_schema import STEPS

if TYPE_CHECKING:
    import pytest

    from servers.postgres import PostgresServer
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

_CLEAN = "DROP TABLE IF EXISTS orders, streamflow_leases, streamflow_letters, streamflow_schema, streamflow_checkpoint"
README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_pipeline_file_declares_the_sink(tmp_path: Path) -> None:
    check_pipeline_files(README, tmp_path)


def test_the_program_writes_the_stream_to_the_table(
    postgres_server: PostgresServer,
    local_streams_factory: LocalStreamsFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORDERS_DSN", postgres_server.dsn())
    anyio.run(_execute, postgres_server.dsn(), _CLEAN)
    run_program(README, local_streams_factory, tmp_path, monkeypatch, instead={})
    found = anyio.run(_execute, postgres_server.dsn(), "SELECT key->>'id', _sf_deleted FROM orders ORDER BY key")
    assert [tuple(row) for row in found] == [("o-0", False), ("o-1", True), ("o-2", False)]
    leases = anyio.run(
        _execute, postgres_server.dsn(), "SELECT state FROM streamflow_leases WHERE shard_id LIKE 'shardId-%'"
    )
    assert {row["state"] for row in leases} == {"ended"}
    anyio.run(_execute, postgres_server.dsn(), _CLEAN)


def test_the_tables_of_the_store_are_those_that_it_makes() -> None:
    made = [statement.format(schema="streamflow") for step in STEPS for statement in step]
    shown = blocks(README, "sql")
    assert ";\n".join(made) + ";\n" in shown


def test_the_grants_for_the_store_are_enough(postgres_server: PostgresServer) -> None:
    (grants,) = [block for block in blocks(README, "sql") if block.startswith("GRANT")]
    names = {"SCHEMA streamflow ": "SCHEMA readme ", "streamflow.": "readme.", "worker": "readme_worker"}
    for name, other in names.items():
        grants = grants.replace(name, other)
    dsn = postgres_server.dsn()

    async def use() -> None:
        async with open_postgres_store(f"{dsn}&schema=readme"):
            pass
        await _execute(dsn, f"CREATE ROLE readme_worker LOGIN PASSWORD 'pass'; {grants}")
        limited = dsn.replace(f"streamflow:{postgres_server.password}", "readme_worker:pass")
        async with open_postgres_store(f"{limited}&schema=readme") as store:
            assert await store.create(LEASE) is not None
            await store.park([letter(1)], opening=True)
            (parked,) = await store.letters(PARKED)
            assert await store.remove("parked", [parked.id]) == 1

    anyio.run(use)


async def _execute(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        if statement.startswith("SELECT"):
            return list(await connection.fetch(statement))
        await connection.execute(statement)
        return []
    finally:
        await connection.close()
