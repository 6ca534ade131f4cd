"""The connections, and what is looked at when they are opened."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import redis.exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamflow.sdk import ConfigError, SinkBusyError, StreamflowError
from streamflow_redis.errors import Failure, code_of, hint, told
from streamflow_redis.keys import hash_tag

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow_redis.settings import RedisSettings

_CLOSE_TIMEOUT_S = 5.0


class Server:
    """Calls scripts. Use `open_server`."""

    def __init__(self, client: Any, *, pool_size: int) -> None:
        self.client = client
        self._limiter = anyio.CapacityLimiter(pool_size)

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        """The answer of the script. It is sent once to a server that does not know it.

        Raises:
            RedisWriteError, SinkBusyError: it did not run, or nobody knows.
        """
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        async with self._limiter:
            try:
                try:
                    answer = await self.client.execute_command("EVALSHA", digest, len(keys), *keys, *arguments)
                except redis_errors.NoScriptError:
                    answer = await self.client.execute_command("EVAL", script, len(keys), *keys, *arguments)
            except Failure as error:
                raise await self._told(error) from None
        return list(answer)

    async def unlink(self, keys: Sequence[str]) -> None:
        """Raises as `run`."""
        async with self._limiter:
            try:
                await self.client.execute_command("UNLINK", *keys)
            except Failure as error:
                raise await self._told(error) from None

    async def _told(self, error: BaseException) -> StreamflowError:
        if code_of(error) == "READONLY":
            # After a failover the name of the primary leads elsewhere: look it up again.
            await self.client.connection_pool.disconnect(inuse_connections=False)
        return told(error)


@asynccontextmanager
async def open_server(settings: RedisSettings) -> AsyncIterator[Server]:
    """Connect, to find out now whether that can be done.

    Raises:
        ConfigError: it cannot, or the server cannot be used as the settings say.
        SinkBusyError: the server reads its data.
    """
    client = Redis.from_pool(_pool(settings))
    try:
        try:
            await client.ping()
            await _check_cluster(client, settings)
            await _check_stream(client, settings)
        except Failure as error:
            raise _explained(error, settings) from None
        yield Server(client, pool_size=settings.pool_size)
    finally:
        with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await client.aclose()


def _pool(settings: RedisSettings) -> ConnectionPool:
    """The calls are what is limited: the pool itself has no limit that a cancelled call could use up."""
    try:
        return ConnectionPool.from_url(
            settings.url.get_secret_value(),
            socket_connect_timeout=settings.connect_timeout_s,
            socket_timeout=settings.command_timeout_s,
            retry=Retry(NoBackoff(), 0),  # what is tried again is the engine's to say
            max_connections=2**31,
            protocol=2,  # with 3 the client does not see that the server has closed an idle connection
        )
    except ValueError:
        raise ConfigError("redis: url cannot be read: rediss://user:password@host:6379/0") from None


async def _check_cluster(client: Redis, settings: RedisSettings) -> None:
    """One call has the keys of many items, and a cluster takes it only if all are in one slot."""
    try:
        facts = await client.info("cluster")
    except redis_errors.ResponseError:
        return  # a user that may not ask
    if (
        facts.get("cluster_enabled")
        and settings.mode in {"json", "hash", "invalidate"}
        and not hash_tag(settings.key_prefix)
    ):
        raise ConfigError(
            f"redis: {_address(settings)} is a node of a cluster, where the keys of a batch must be in one slot: give "
            'key_prefix a hash tag, as in "{orders}:", or use a server that is none'
        )


async def _check_stream(client: Redis, settings: RedisSettings) -> None:
    if settings.mode != "stream":
        return
    found = await client.type(settings.stream)
    if found not in {b"none", b"stream"}:
        raise ConfigError(f"redis: the key {settings.stream} at {_address(settings)} holds no stream: choose another")


def _explained(error: BaseException, settings: RedisSettings) -> Exception:
    where = f"redis: {_address(settings)}"
    code = code_of(error)
    if isinstance(error, redis_errors.AuthenticationError | redis_errors.NoPermissionError) or code == "NOPERM":
        reason = hint(code) if code else "authentication failed"
        return ConfigError(f"{where} does not let us in: {reason}; mend user and password in url")
    found = told(error)
    if isinstance(found, SinkBusyError):
        return found
    if isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError | OSError):
        tls = (
            "; its certificate is verified: name the authority's with ssl_ca_certs=… in url"
            if _is_tls(settings)
            else ""
        )
        return ConfigError(
            f"{where} cannot be reached ({type(error).__name__}); start it, or mend host and port in url{tls}"
        )
    return ConfigError(f"{where} cannot be used: {found}")


def _is_tls(settings: RedisSettings) -> bool:
    return settings.url.get_secret_value().startswith("rediss://")


def _address(settings: RedisSettings) -> str:
    """Host and port, or the path of a socket."""
    parts = urlsplit(settings.url.get_secret_value())
    return parts.netloc.rpartition("@")[2] or parts.path
