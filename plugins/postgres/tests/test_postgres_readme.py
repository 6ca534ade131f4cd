"""The README tells the truth: its pipeline file is loaded, and its program runs as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import asyncpg

from streamflow.config.load import load_file
from streamflow.sdk import SinkDeclaration

if TYPE_CHECKING:
    import pytest

    from servers.postgres import PostgresServer
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

README = Path(__file__).resolve().parents[1] / "README.md"


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_pipeline_file_declares_the_sink(tmp_path: Path) -> None:
    file = tmp_path / "orders.toml"
    file.write_text(block("toml"), encoding="utf-8")
    (pipeline,) = load_file(file, {}).pipelines
    assert isinstance(pipeline.handler, SinkDeclaration)
    assert pipeline.handler.name == "postgres"


def test_the_program_writes_the_stream_to_the_table(
    postgres_server: PostgresServer,
    local_streams_factory: LocalStreamsFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = local_streams_factory()
    streams.create_table("orders")
    for number in range(3):
        streams.put("orders", {"id": {"S": f"o-{number}"}, "total": {"N": "12.50"}})
    streams.delete("orders", {"id": {"S": "o-1"}})
    streams.disable_stream("orders")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", streams.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("ORDERS_DSN", postgres_server.dsn())
    program = tmp_path / "program.py"
    program.write_text(block("python"), encoding="utf-8")
    anyio.run(_execute, postgres_server.dsn(), "DROP TABLE IF EXISTS orders")
    runpy.run_path(str(program))
    found = anyio.run(_execute, postgres_server.dsn(), "SELECT key->>'id', _sf_deleted FROM orders ORDER BY key")
    assert [tuple(row) for row in found] == [("o-0", False), ("o-1", True), ("o-2", False)]


async def _execute(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()
