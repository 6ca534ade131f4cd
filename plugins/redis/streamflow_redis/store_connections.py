"""The connections of a store: whatever is asked has an answer, or an error that says whether it may have happened.

Nothing that writes is sent twice. The client library repeats nothing; here a read is repeated once, where its connection
was lost. RESP 2, because with RESP 3 redis-py 8.1 does not notice that the server has closed a connection of the pool.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import redis.exceptions as redis_errors
from redis.asyncio import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamflow.errors import UnknownOutcomeError
from streamflow_redis.errors import Failure
from streamflow_redis.store_errors import explained, refusal_code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from streamflow_redis.store_scripts import Script
    from streamflow_redis.store_url import StoreUrl

CONNECTIONS_MAX = 16
"""Of a store. Calls at the same time share the syncs of an append-only file: 16 need half to two thirds of the time of 8."""
CALL_TIMEOUT_S = 5.0
BULKY_TIMEOUT_S = 30.0
"""For a call with letters, which may have megabytes."""
REPLICAS_TIMEOUT_S = 1.0
_CLOSE_TIMEOUT_S = 1.0
# In the first, the event loop reads what had arrived, such as the end of a connection; in the second we run after it.
_LOOPS_TO_READ = 2
_Lost = (redis_errors.ConnectionError, OSError)


@dataclass(slots=True, eq=False)
class _Line:
    """What a call does on its connection; `sent` tells whether it came so far."""

    connection: Any = None
    sent: bool = False

    async def ask(self, *command: Any) -> Any:
        self.sent = True
        await self.connection.send_command(*command)
        return await self.connection.read_response()

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """A server that does not know the script has done nothing, and is sent it."""
        try:
            return await self.ask("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except redis_errors.NoScriptError:
            return await self.ask("EVAL", script.text, len(keys), *keys, *arguments)


class Connections:
    """Use `open_connections`. Every call raises `StoreError`: it did not happen. A caller may be cancelled anywhere."""

    def __init__(self, url: StoreUrl, pool: Any) -> None:
        self.url = url
        self._pool = pool
        self._limiter = anyio.CapacityLimiter(CONNECTIONS_MAX)
        self._waiting: set[anyio.CancelScope] = set()

    async def ask(self, *command: Any) -> Any:
        """The answer to a command that changes nothing."""
        return await self._call(lambda line: line.ask(*command), repeatable=True)

    async def read(self, script: Script, keys: Sequence[str], *arguments: Any, bulky: bool = False) -> Any:
        """The answer of a script that changes nothing."""
        return await self._call(lambda line: line.run(script, keys, arguments), repeatable=True, bulky=bulky)

    async def write(
        self, script: Script, keys: Sequence[str], *arguments: Any, bulky: bool = False, repeatable: bool = False
    ) -> Any:
        """The answer of a script that is true where it changed something.

        Raises:
            UnknownOutcomeError: it may have run, unless it is `repeatable`; or it has, and fewer replicas than are wanted
                have its changes.
        """

        async def work(line: _Line) -> Any:
            answer = await line.run(script, keys, arguments)
            if answer and self.url.wait_replicas:
                await self._wait_for_replicas(line)
            return answer

        return await self._call(work, repeatable=repeatable, bulky=bulky)

    async def _wait_for_replicas(self, line: _Line) -> None:
        wanted = self.url.wait_replicas
        try:
            reached = await line.ask("WAIT", wanted, int(REPLICAS_TIMEOUT_S * 1_000))
        except Failure:
            reached = 0  # whatever this says, the script has run
        if reached < wanted:
            raise UnknownOutcomeError(
                f"lease store {self.url.address}: {reached} of {wanted} replicas acknowledged within "
                f"{REPLICAS_TIMEOUT_S:g} s; a failover may lose what was written (bring the replicas back, allow WAIT, or "
                "lower wait_replicas)"
            )

    async def _call(self, work: Callable[[_Line], Awaitable[Any]], *, repeatable: bool, bulky: bool = False) -> Any:
        line = _Line()
        async with self._turn():
            try:
                with anyio.fail_after(BULKY_TIMEOUT_S if bulky else CALL_TIMEOUT_S):
                    try:
                        return await self._once(work, line)
                    except _Lost as error:
                        if not (repeatable and line.sent) or refusal_code(error):
                            raise
                    return await self._once(work, line)
            except Failure as error:
                if isinstance(error, TimeoutError | redis_errors.TimeoutError):
                    self._end_waiting()
                unknown = line.sent and not repeatable
                raise explained(error, address=self.url.address, tls=self.url.tls, unknown=unknown) from None

    async def _once(self, work: Callable[[_Line], Awaitable[Any]], line: _Line) -> Any:
        """Work on a connection that is open as far as this process can know, or on a new one."""
        for _ in range(_LOOPS_TO_READ):
            await anyio.lowlevel.checkpoint()
        connection = line.connection = await self._pool.get_connection()
        try:
            return await work(line)
        except Failure as error:
            if refusal_code(error) == "READONLY":
                # After a failover the name of the primary leads elsewhere: look it up again.
                await connection.disconnect(nowait=True)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._pool.release(connection)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of `CONNECTIONS_MAX` calls at the same time; waits as long as those before it get answers."""
        with anyio.CancelScope() as patience:
            self._waiting.add(patience)
            try:
                await self._limiter.acquire()
            finally:
                self._waiting.discard(patience)
        if patience.cancelled_caught:
            raise explained(TimeoutError(), address=self.url.address, tls=self.url.tls, unknown=False)
        try:
            yield
        finally:
            self._limiter.release()

    def _end_waiting(self) -> None:
        """The server gives no answers: whoever waits for a turn would only wait as long again."""
        for patience in self._waiting:
            patience.cancel()


@asynccontextmanager
async def open_connections(url: StoreUrl) -> AsyncIterator[Connections]:
    """Connections for the length of the block, each made when it is needed: opening asks nobody."""
    pool = ConnectionPool(
        connection_class=SSLConnection if url.tls else Connection,
        host=url.host,
        port=url.port,
        db=url.database,
        username=url.username,
        password=url.password,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        # A call has one limit for all that it does.
        socket_timeout=None,
        socket_connect_timeout=CALL_TIMEOUT_S,
        # The calls are what is limited: the pool itself has no limit that a cancelled call could use up.
        max_connections=2**31,
        **_tls(url),
    )
    try:
        yield Connections(url, pool)
    finally:
        with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
            await pool.aclose()


def _tls(url: StoreUrl) -> dict[str, Any]:
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **url.files} if url.tls else {}
