"""The README tells the truth: its pipeline file is loaded, and its program runs as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import asyncpg

from pages import check_pipeline_files, run_program

if TYPE_CHECKING:
    import pytest

    from servers.postgres import PostgresServer
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

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
    anyio.run(_execute, postgres_server.dsn(), "DROP TABLE IF EXISTS orders")
    run_program(README, local_streams_factory, tmp_path, monkeypatch, instead={})
    found = anyio.run(_execute, postgres_server.dsn(), "SELECT key->>'id', _sf_deleted FROM orders ORDER BY key")
    assert [tuple(row) for row in found] == [("o-0", False), ("o-1", True), ("o-2", False)]


async def _execute(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()
