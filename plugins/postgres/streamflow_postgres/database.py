"""Connections and transactions: what is cancelled in the middle of one takes its connection along."""

from __future__ import annotations

import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg

from streamflow.sdk import ConfigError, SinkBusyError
from streamflow_postgres.errors import Failure, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow_postgres.settings import PostgresSettings

_CLOSE_TIMEOUT_S = 5.0


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
            connection.terminate()
            raise
        finally:
            await self._pool.release(connection)

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
                    connection.terminate()
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
    pool = asyncpg.create_pool(
        dsn,
        min_size=0,  # a floor would be kept in the background, with a traceback in the log for each failure
        max_size=settings.pool_size,
        timeout=settings.connect_timeout_s,
        command_timeout=settings.command_timeout_s,
        statement_cache_size=settings.statement_cache_size,
        server_settings={"application_name": f"streamflow/{pipeline}"},
        reset=_nothing,
        **_verified(dsn),
    )
    try:
        await pool
        async with pool.acquire():
            pass
    except Failure as error:
        raise _explained(error, dsn) from None
    except ValueError:
        raise _unreadable() from None
    try:
        yield Database(pool, command_timeout_s=settings.command_timeout_s)
    finally:
        with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await pool.close()
        pool.terminate()


async def _nothing(_: Any) -> None:
    """No session state is left behind that a round trip would have to reset."""


def _verified(dsn: str) -> dict[str, Any]:
    """TLS with a verified certificate, unless the DSN or the environment says how."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    sockets = not parts.netloc.rpartition("@")[2] or any(host.startswith("/") for host in query.get("host", []))
    if "sslmode" in query or "service" in query or sockets or os.environ.get("PGSSLMODE"):
        return {}
    return {"ssl": ssl.create_default_context(cafile=query.get("sslrootcert", [None])[0])}


def _unreadable() -> ConfigError:
    """The library's own text may quote the DSN."""
    return ConfigError(
        "postgres: dsn cannot be read: postgresql://user:password@host:5432/database?sslmode=verify-full"
    )


def _explained(error: BaseException, dsn: str) -> Exception:
    """What to mend. The texts of the server about authentication name the user and the database, and no password."""
    where = f"postgres: {_address(dsn)}"
    if isinstance(error, asyncpg.exceptions.ClientConfigurationError):
        return _unreadable()
    if isinstance(error, asyncpg.InvalidPasswordError | asyncpg.InvalidAuthorizationSpecificationError):
        return ConfigError(f"{where} does not let us in: {_first_line(error)}; mend user and password in dsn")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return ConfigError(f"{where} has no such database: {_first_line(error)}; mend dsn, or create it")
    if isinstance(error, ssl.SSLError):
        return ConfigError(
            f"{where}: its certificate cannot be verified ({error.reason or type(error).__name__}); name the "
            "authority's with sslmode=verify-full&sslrootcert=… in dsn"
        )
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return ConfigError(f"{where} speaks no TLS; where the network can be trusted, add sslmode=disable to dsn")
    if isinstance(error, asyncpg.PostgresError):
        found = told(error)
        return found if isinstance(found, SinkBusyError) else ConfigError(f"{where} cannot be used: {found}")
    reason = "no answer within connect_timeout_s" if isinstance(error, TimeoutError) else type(error).__name__
    return ConfigError(f"{where} cannot be reached ({reason}); start it, or mend host and port in dsn")


def _address(dsn: str) -> str:
    """Host and port, as far as the DSN tells."""
    return urlsplit(dsn).netloc.rpartition("@")[2] or "the database of dsn"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
