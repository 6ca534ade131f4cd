"""PostgreSQL from the emulators' wheel."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import orjson

from benchmarks.sink_targets.target import Pages, Place, Target, on_core, own_name, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from benchmarks.sink_targets.target import Record, WritePage


@contextmanager
def _serve(core: int) -> Iterator[str]:
    with on_core(core):
        from servers.postgres import running_postgres

        with running_postgres() as server:
            yield server.dsn()


@asynccontextmanager
async def _open_table(dsn: str) -> AsyncIterator[Place]:
    import asyncpg

    from streamflow_postgres import postgres

    table = own_name()
    connection = await asyncpg.connect(dsn)
    try:

        async def count() -> int:
            return int(await connection.fetchval(f"SELECT count(image) FROM {table}"))

        yield Place(
            sink=postgres(dsn=dsn, table=table, create_table=True),
            open_loop=partial(_upsert_loop, dsn, table),
            count=count,
        )
        await connection.execute(f"DROP TABLE {table}")
    finally:
        await connection.close()


@asynccontextmanager
async def _upsert_loop(dsn: str, table: str) -> AsyncIterator[WritePage]:
    import asyncpg

    upsert = f"INSERT INTO {table} VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET image = excluded.image"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE TABLE {table} (key text PRIMARY KEY, image jsonb)")

        async def write(records: Sequence[Record]) -> None:
            living, gone = split(records)
            async with connection.transaction():
                await connection.executemany(upsert, [(key, orjson.dumps(item).decode()) for key, item in living])
                await connection.execute(f"DELETE FROM {table} WHERE key = ANY($1)", gone)

        yield write
    finally:
        await connection.close()


TARGETS = (
    Target(
        name="postgres",
        server="PostgreSQL from a wheel, default durability",
        loop="asyncpg executemany of upserts",
        holds="items",
        pages=Pages(ours=20, peer=5, floor=15),
        serve=_serve,
        open_place=_open_table,
    ),
)
