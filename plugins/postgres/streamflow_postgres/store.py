"""Everything durable of a worker in three tables of PostgreSQL, for any number of workers on any number of hosts.

What was acknowledged survives a crash of the server. Whether it survives the loss of the server is up to its replication.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from streamflow.errors import StoreError
from streamflow.sdk import ConfigError, StorePlugin
from streamflow_postgres.connecting import is_unreadable, obstacle, open_pool
from streamflow_postgres.store_calls import Calls
from streamflow_postgres.store_errors import next_step
from streamflow_postgres.store_leases import PostgresLeases
from streamflow_postgres.store_letters import PostgresLetters
from streamflow_postgres.store_schema import prepare
from streamflow_postgres.store_url import EXAMPLE, StoreUrl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LEASE_TIMEOUT_S = 4.0
"""How long a connection and a statement may take together: well below any lease's duration."""
LETTER_TIMEOUT_S = 30.0
"""The same for letters, which may be many and large."""


class PostgresStore(PostgresLeases, PostgresLetters):
    """Use `open_postgres_store`. What a caller asked for who is cancelled while it waits may have been done all the same."""

    def __init__(self, leases: Calls, letters: Calls, schema: str) -> None:
        PostgresLeases.__init__(self, leases, schema)
        PostgresLetters.__init__(self, letters, schema)


@asynccontextmanager
async def open_postgres_store(url: str) -> AsyncIterator[PostgresStore]:
    """Connect, make the tables or bring them up to ours, and look at our permissions.

    Half of the connections are for leases, so that letters, however many, keep no lease waiting.

    Raises:
        ConfigError: the URL cannot be read.
        StoreError: the database cannot be used, with the reason and the next step; nothing in it was changed.
    """
    place = StoreUrl.parse(url)
    async with open_pool(
        place.dsn,
        told=partial(_explained, place=place),
        max_size=place.pool_size,
        timeout=LEASE_TIMEOUT_S / place.hosts,  # each of several hosts has its turn
        statement_cache_size=0,  # a PgBouncer may give each transaction another connection of the server's
        server_settings={"application_name": "streamflow"},
        target_session_attrs="read-write",  # what a standby shows is old
    ) as pool:
        leases = Calls(pool, place.shown, connections=place.pool_size - place.pool_size // 2, timeout_s=LEASE_TIMEOUT_S)
        letters = Calls(pool, place.shown, connections=place.pool_size // 2, timeout_s=LETTER_TIMEOUT_S)
        schema = await prepare(letters, place.schema)
        yield PostgresStore(leases, letters, schema)


def _explained(error: BaseException, place: StoreUrl) -> Exception:
    if is_unreadable(error):
        return ConfigError(f"store: the URL cannot be read: write {EXAMPLE}")
    step = next_step(error)
    why = obstacle(error, setting="the URL of the store")
    return StoreError(f"lease store {place.shown} {why}{f' ({step})' if step else ''}")


postgresql = StorePlugin(
    name="postgresql",
    api_version="1.0",
    summary="Three tables of PostgreSQL, for any number of workers on any number of hosts.",
    url_example="postgresql://streamflow@db.example.com/shop?schema=streamflow",
    open=open_postgres_store,
)
