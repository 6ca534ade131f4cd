"""Connections and transactions: what is cancelled in the middle of one takes its connection along."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from streamflow.sdk import ConfigError, SinkBusyError
from streamflow_postgres.connecting import address, drop, is_unreadable, obstacle, open_pool
from streamflow_postgres.errors import Failure, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow_postgres.settings import PostgresSettings


class Database:
    """A pool. Use `open_database`."""

    def __init__(self, pool: Any, *, command_timeout_s: float) -> None:
        self._pool = pool
        # A client that vanished in mid-transaction holds its locks no longer than that.
        self._begin = f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {int(command_timeout_s * 1_000)}"

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection to itself; each statement is a transaction. Where the block is cancelled, it is closed.

        Raises:
            PostgresWriteError, SinkBusyError: none can be had.
        """
        try:
            connection = await self._pool.acquire()
        except Failure as error:
            raise told(error) from None
        try:
            yield connection
        except Exception:
            raise
        except BaseException:
            # The server rolls back, or has committed: both are told apart when the batch comes again.
            drop(connection)
            raise
        finally:
            await self._pool.release(connection)  # noqa: ASYNC102 - asyncpg shields it

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection in a transaction, committed at the end of the block unless that raises.

        Where the commit raises or is cancelled, it may have happened all the same.
        """
        async with self.connection() as connection:
            await connection.execute(self._begin)
            try:
                yield connection
            except Exception:
                try:
                    await connection.execute("ROLLBACK")
                except Failure:
                    drop(connection)
                raise
            await connection.execute("COMMIT")


@asynccontextmanager
async def open_database(settings: PostgresSettings, pipeline: str) -> AsyncIterator[Database]:
    """Connect, to find out now whether that can be done.

    Raises:
        ConfigError: it cannot.
        SinkBusyError: the server has no connection to spare.
    """
    dsn = settings.dsn.get_secret_value()
    async with open_pool(
        dsn,
        told=lambda error: _explained(error, dsn),
        max_size=settings.pool_size,
        timeout=settings.connect_timeout_s,
        command_timeout=settings.command_timeout_s,
        statement_cache_size=settings.statement_cache_size,
        server_settings={"application_name": f"streamflow/{pipeline}"},
    ) as pool:
        yield Database(pool, command_timeout_s=settings.command_timeout_s)


def _explained(error: BaseException, dsn: str) -> Exception:
    """What to mend."""
    if is_unreadable(error):
        return ConfigError(
            "postgres: dsn cannot be read: postgresql://user:password@host:5432/database?sslmode=verify-full"
        )
    if isinstance(error, asyncpg.PostgresError) and isinstance(busy := told(error), SinkBusyError):
        return busy
    return ConfigError(f"postgres: {address(dsn) or 'the database of dsn'} {obstacle(error, setting='dsn')}")
