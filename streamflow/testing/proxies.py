"""A TCP proxy that does what networks and servers do to connections: it knows bytes, and no protocol.

It stands between a sink and its server, in the event loop of the test.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from streamflow.errors import leading_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HOST = "127.0.0.1"
_CHUNK_BYTES = 65_536
# After an answer was taken away, the connection is cut when nothing has moved on it for so long: the server has the
# whole request then, and has acted.
_QUIET_S = 0.05

_Lost = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


@dataclass(slots=True, kw_only=True, eq=False)
class _Mode:
    """What is done to the connections; a new one replaces it."""

    refuses: bool = False
    answers_to_pass: int = 0
    answers_to_lose: int = 0
    delay_s: float = 0.0
    bytes_to_cut: int | None = None


class FaultProxy:
    """Open it with `open_fault_proxy`. Each control replaces the one before, and counts from its call.

    An answer is what the server sends between two things that the client sends.
    """

    def __init__(self, upstream_host: str, upstream_port: int, port: int) -> None:
        self.host = _HOST
        self.port = port
        self.connections = 0
        """Accepted so far, those that were refused included."""
        self.connections_refused = 0
        self.connections_cut = 0
        """Ended by a fault while they were open."""
        self.answers_lost = 0
        self.bytes_up = 0
        """Sent on to the server."""
        self.bytes_down = 0
        """Sent on to the client."""
        self._upstream = (upstream_host, upstream_port)
        self._mode = _Mode()
        self._changed = anyio.Event()
        self._open: set[_Connection] = set()

    @property
    def open_connections(self) -> int:
        return len(self._open)

    # -- controls -------------------------------------------------------------------------------------------------------

    def pass_through(self) -> None:
        """Be a good network again."""
        self._enter(_Mode())

    def refuse(self) -> None:
        """The server is gone: connections are closed, the new ones at once."""
        self._enter(_Mode(refuses=True))
        self.cut()

    def cut(self) -> None:
        """Close every connection there is; new ones are served as before."""
        for connection in list(self._open):
            connection.cut()

    def lose_answers(self, count: int = 1, *, after: int = 0) -> None:
        """Let `after` answers pass, then take `count` away: the server has acted, and the client sees its connection end."""
        self._enter(_Mode(answers_to_pass=after, answers_to_lose=count))

    def delay(self, seconds: float) -> None:
        """Hold every answer back for so long; `math.inf` holds it until another control is called."""
        self._enter(_Mode(delay_s=seconds))

    def cut_after(self, bytes_up: int) -> None:
        """Send so many bytes more to the server, then cut the connection that sent them, once: in mid-request."""
        self._enter(_Mode(bytes_to_cut=bytes_up))

    def _enter(self, mode: _Mode) -> None:
        self._mode = mode
        self._changed.set()
        self._changed = anyio.Event()

    # -- connections ----------------------------------------------------------------------------------------------------

    async def _serve(self, client: anyio.abc.SocketStream) -> None:
        self.connections += 1
        async with client:
            if self._mode.refuses:
                self.connections_refused += 1
                return
            try:
                server = await anyio.connect_tcp(*self._upstream)
            except OSError:
                self.connections_refused += 1
                return
            async with server:
                connection = _Connection(self, client, server)
                self._open.add(connection)
                try:
                    await connection.run()
                finally:
                    self._open.discard(connection)

    def _take_up(self, chunk: bytes) -> tuple[bytes, bool]:
        """What of a chunk goes to the server, and whether the connection is cut behind it."""
        budget = self._mode.bytes_to_cut
        if budget is None:
            return chunk, False
        if len(chunk) < budget:
            self._mode.bytes_to_cut = budget - len(chunk)
            return chunk, False
        self._mode.bytes_to_cut = None
        return chunk[:budget], True

    def _loses_answer(self) -> bool:
        """Asked once for each answer."""
        mode = self._mode
        if mode.answers_to_pass:
            mode.answers_to_pass -= 1
        elif mode.answers_to_lose:
            mode.answers_to_lose -= 1
            self.answers_lost += 1
            return True
        return False

    async def _hold(self) -> None:
        """Wait as long as an answer is held back."""
        delay_s = self._mode.delay_s
        if delay_s:
            with anyio.move_on_after(None if math.isinf(delay_s) else delay_s):
                await self._changed.wait()


class _Connection:
    """One client, and its connection to the server."""

    def __init__(self, proxy: FaultProxy, client: anyio.abc.SocketStream, server: anyio.abc.SocketStream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._scope = anyio.CancelScope()
        self._asked = True  # the next thing that comes down begins an answer
        self._moves = 0

    def cut(self) -> None:
        self._proxy.connections_cut += 1
        self._scope.cancel()

    async def run(self) -> None:
        with self._scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._up)
                await self._down()
                tasks.cancel_scope.cancel()

    async def _up(self) -> None:
        with suppress(*_Lost):
            while True:
                try:
                    chunk = await self._client.receive(_CHUNK_BYTES)
                except anyio.EndOfStream:
                    await self._server.send_eof()
                    return
                except _Lost:
                    # Who closes with something unread resets the connection: nobody is left to tell the server.
                    self._scope.cancel()
                    return
                self._asked, self._moves = True, self._moves + 1
                part, cuts = self._proxy._take_up(chunk)
                if part:
                    await self._server.send(part)
                    self._proxy.bytes_up += len(part)
                if cuts:
                    self.cut()

    async def _down(self) -> None:
        with suppress(*_Lost):
            while True:
                chunk = await self._server.receive(_CHUNK_BYTES)
                if self._asked:
                    self._asked = False
                    if self._proxy._loses_answer():
                        await self._swallow()
                        self.cut()
                await self._proxy._hold()
                await self._client.send(chunk)
                self._proxy.bytes_down += len(chunk)

    async def _swallow(self) -> None:
        """Take away whatever comes, until both sides are quiet."""
        quiet = False
        while not quiet:
            moves = self._moves
            with anyio.move_on_after(_QUIET_S) as patience:
                await self._server.receive(_CHUNK_BYTES)
            quiet = patience.cancelled_caught and moves == self._moves


@asynccontextmanager
async def open_fault_proxy(upstream_host: str, upstream_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy on a free port of 127.0.0.1 for as long as the block lasts; it begins as a good network.

    The server need not be there: a connection that cannot be made is one that is refused.
    """
    async with await anyio.create_tcp_listener(local_host=_HOST, local_port=0) as listener:
        port: int = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no query is made
        proxy = FaultProxy(upstream_host, upstream_port, port)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, proxy._serve, name="fault proxy")
                yield proxy
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise leading_error(group) from None
