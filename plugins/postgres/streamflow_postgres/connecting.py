"""Pools of connections: how they are made, and why one cannot be."""

from __future__ import annotations

import os
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg

from streamflow_postgres.errors import Failure, condition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_CLOSE_TIMEOUT_S = 5.0


@asynccontextmanager
async def open_pool(dsn: str, *, told: Callable[[BaseException], Exception], **options: Any) -> AsyncIterator[Any]:
    """A pool of asyncpg, with a connection tried out; `options` are those of `asyncpg.create_pool`.

    Raises what `told` makes of that which stands in the way; its text should come from `obstacle`.
    """
    try:
        pool = asyncpg.create_pool(
            dsn,
            min_size=0,  # a floor would be kept in the background, with a traceback in the log for each failure
            reset=_nothing,
            **verified(dsn),
            **options,
        )
        await pool
        async with pool.acquire():
            pass
    except (*Failure, asyncpg.InternalClientError, ValueError) as error:
        raise told(error) from None
    try:
        yield pool
    finally:
        with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await pool.close()
        pool.terminate()


def drop(connection: Any) -> None:
    """Close a connection of the pool at once. One that was lost has left the pool by itself."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


def is_unreadable(error: BaseException) -> bool:
    """Whether the DSN is at fault. The library's own text may quote it."""
    return isinstance(error, ValueError) and not isinstance(error, asyncpg.PostgresError | ssl.SSLError)


def obstacle(error: BaseException, *, setting: str) -> str:
    """What stands in the way of a connection, and what to mend, to be put behind the address of the server.

    `setting` is where the DSN stands, for people. The texts of the server about authentication name the user and the
    database, and no password.
    """
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return f"does not let us in: {_first_line(error)}; mend user and password in {setting}"
        case asyncpg.InvalidCatalogNameError():
            return f"has no such database: {_first_line(error)}; mend {setting}, or create it"
        case asyncpg.UndefinedObjectError():
            return f"does not know a parameter of {setting}: {_first_line(error)}"
        case ssl.SSLError():
            return (
                f"cannot be trusted: its certificate cannot be verified ({error.reason or type(error).__name__}); name the "
                f"authority's with sslmode=verify-full&sslrootcert=… in {setting}"
            )
        case ConnectionError() if "SSL" in str(error):
            return f"speaks no TLS; where the network can be trusted, add sslmode=disable to {setting}"
        case asyncpg.PostgresError():
            return f"cannot be used: {condition(error)}"
    reason = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    return f"cannot be reached ({reason}); start it, or mend host and port in {setting}"


def address(dsn: str) -> str:
    """Host and port, as far as the DSN tells."""
    return urlsplit(dsn).netloc.rpartition("@")[2]


async def _nothing(_: Any) -> None:
    """No session state is left behind that a round trip would have to reset."""


def verified(dsn: str) -> dict[str, Any]:
    """TLS with a verified certificate, unless the DSN or the environment says how."""
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    sockets = not parts.netloc.rpartition("@")[2] or any(host.startswith("/") for host in query.get("host", []))
    if "sslmode" in query or "service" in query or sockets or os.environ.get("PGSSLMODE"):
        return {}
    return {"ssl": ssl.create_default_context(cafile=query.get("sslrootcert", [None])[0])}


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
