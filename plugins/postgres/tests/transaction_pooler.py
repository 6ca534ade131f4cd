"""A pooler as PgBouncer is in its mode `transaction`, at its worst: what one client begins and ends, the next begins on
another connection of the server's.

It knows where messages begin and end, and no more. Each client logs in over a connection of its own to the server; from
then on all of these belong to whoever has a transaction to run, the one that was idle longest first.
"""

from __future__ import annotations

import struct
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_LOST = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError)
_TERMINATE, _READY, _IDLE = b"X", b"Z", b"I"


class _Server:
    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self.stream = stream
        self.received = BufferedByteReceiveStream(stream)


class TransactionPooler:
    def __init__(self, upstream: int) -> None:
        self.transactions = 0
        self.moves = 0
        """Transactions that began on another connection than the client's last one."""
        self._upstream = upstream
        self._idle: deque[_Server] = deque()

    async def serve(self, client: anyio.abc.SocketStream) -> None:
        async with client:
            with suppress(*_LOST):
                received = BufferedByteReceiveStream(client)
                (size,) = struct.unpack(">i", head := await received.receive_exactly(4))
                first = head + await received.receive_exactly(size - 4)
                last = _Server(await anyio.connect_tcp("127.0.0.1", self._upstream))
                await self._run(client, received, last, first)  # it logs in, up to where it may begin a transaction
                while (first := await _message(received))[:1] != _TERMINATE:
                    server = self._idle.popleft()
                    self.transactions += 1
                    self.moves += server is not last
                    await self._run(client, received, server, first)
                    last = server

    async def _run(
        self, client: anyio.abc.SocketStream, received: BufferedByteReceiveStream, server: _Server, first: bytes
    ) -> None:
        """From the message that begins a transaction until the server says that none is open."""
        await server.stream.send(first)
        end = b""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_pass, received, server.stream)
            end = await _answer(server, client)
            tasks.cancel_scope.cancel()
        # Whatever the client says when it knows, it says to another one.
        self._idle.append(server)
        await client.send(end)

    async def aclose(self) -> None:
        for server in self._idle:
            await server.stream.aclose()


async def _message(received: BufferedByteReceiveStream) -> bytes:
    head = await received.receive_exactly(5)
    (size,) = struct.unpack(">i", head[1:])
    return head + await received.receive_exactly(size - 4)


async def _pass(received: BufferedByteReceiveStream, target: anyio.abc.SocketStream) -> None:
    with suppress(*_LOST):
        while True:
            await target.send(await _message(received))


async def _answer(server: _Server, client: anyio.abc.SocketStream) -> bytes:
    """Pass on what the server says, but for the word that it is ready and no transaction is open."""
    while True:
        message = await _message(server.received)
        if message[:1] == _READY and message[5:] == _IDLE:
            return message
        await client.send(message)


@asynccontextmanager
async def open_transaction_pooler(upstream: int) -> AsyncIterator[tuple[int, TransactionPooler]]:
    """A port of loopback, and what stands there for the server at the port `upstream`."""
    pooler = TransactionPooler(upstream)
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, pooler.serve)
        yield int(listener.extra(anyio.abc.SocketAttribute.local_port)), pooler
        tasks.cancel_scope.cancel()
    await pooler.aclose()
