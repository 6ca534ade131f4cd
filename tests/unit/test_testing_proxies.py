"""The fault proxy does to connections what it is told, and nothing else."""

from __future__ import annotations

import math
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import pytest

from streamflow.testing.proxies import FaultProxy, open_fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

ENDS = (anyio.EndOfStream, anyio.BrokenResourceError)


class Server:
    """Answers each line with the same line in capitals; `lines` are those that it got whole."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.port = 0

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            text = b""
            while True:
                try:
                    text += await stream.receive()
                except ENDS:
                    return
                *lines, text = text.split(b"\n")
                for line in lines:
                    self.lines.append(line)
                    await stream.send(line.upper() + b"\n")


@asynccontextmanager
async def between() -> AsyncIterator[tuple[FaultProxy, Server]]:
    server = Server()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        server.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, server.serve)
            async with open_fault_proxy("127.0.0.1", server.port) as proxy:
                yield proxy, server
            tasks.cancel_scope.cancel()


async def asked(stream: anyio.abc.SocketStream, line: bytes) -> bytes:
    await stream.send(line + b"\n")
    return await stream.receive()


async def rest(stream: anyio.abc.SocketStream) -> bytes:
    """What comes until the connection ends."""
    received = b""
    with suppress(*ENDS):
        while True:
            received += await stream.receive()
    return received


async def test_a_good_network_changes_nothing() -> None:
    async with between() as (proxy, server):
        async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
            assert await asked(client, b"one") == b"ONE\n"
            large = b"x" * 3_000_000
            await client.send(large + b"\n")
            received = b""
            while not received.endswith(b"\n"):
                received += await client.receive()
            assert received == large.upper() + b"\n"
            assert proxy.open_connections == 1
        assert server.lines == [b"one", large]
        assert (proxy.bytes_up, proxy.bytes_down) == (4 + 3_000_001, 4 + 3_000_001)
        assert (proxy.connections, proxy.connections_refused, proxy.connections_cut) == (1, 0, 0)


async def test_both_ends_are_told_of_an_end() -> None:
    async with between() as (proxy, server):
        client = await anyio.connect_tcp(proxy.host, proxy.port)
        await client.send(b"last\n")
        await client.send_eof()
        assert await client.receive() == b"LAST\n"
        with pytest.raises(ENDS):
            await client.receive()
        await client.aclose()
        assert server.lines == [b"last"]


async def test_a_client_that_resets_its_connection_leaves_nothing_behind() -> None:
    async with between() as (proxy, _):
        client = await anyio.connect_tcp(proxy.host, proxy.port)
        await asked(client, b"one")
        connection = client.extra(anyio.abc.SocketAttribute.raw_socket)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.aclose()
        with anyio.fail_after(5):
            while proxy.open_connections:  # noqa: ASYNC110 - the proxy tells nobody
                await anyio.sleep(0.01)


async def test_refusing_ends_the_connections_there_are_and_those_to_come() -> None:
    async with between() as (proxy, server):
        client = await anyio.connect_tcp(proxy.host, proxy.port)
        await asked(client, b"one")
        proxy.refuse()
        with pytest.raises(ENDS):
            await client.receive()
        await client.aclose()
        other = await anyio.connect_tcp(proxy.host, proxy.port)
        with pytest.raises(ENDS):
            await other.receive()
        await other.aclose()
        proxy.pass_through()
        async with await anyio.connect_tcp(proxy.host, proxy.port) as third:
            assert await asked(third, b"two") == b"TWO\n"
        assert server.lines == [b"one", b"two"]
        assert (proxy.connections, proxy.connections_refused, proxy.connections_cut) == (3, 1, 1)


async def test_a_lost_answer_is_that_of_a_request_that_happened() -> None:
    async with between() as (proxy, server):
        proxy.lose_answers(1, after=1)
        async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
            assert await asked(client, b"one") == b"ONE\n"
            await client.send(b"two\n")
            with pytest.raises(ENDS):
                await client.receive()
        async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
            assert await asked(client, b"three") == b"THREE\n"
        assert server.lines == [b"one", b"two", b"three"]
        assert (proxy.answers_lost, proxy.connections_cut) == (1, 1)


async def test_a_request_reaches_the_server_whole_though_its_answer_is_lost() -> None:
    """The server begins to answer before it has everything."""
    async with between() as (proxy, server):
        proxy.lose_answers()
        async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
            for number in range(20):
                await client.send(f"line {number}\n".encode())
                await anyio.sleep(0.005)
            with pytest.raises(ENDS):
                await client.receive()
        assert len(server.lines) == 20
        assert proxy.bytes_down == 0


async def test_a_delayed_answer_comes_when_it_may() -> None:
    async with between() as (proxy, _), await anyio.connect_tcp(proxy.host, proxy.port) as client:
        proxy.delay(math.inf)
        await client.send(b"one\n")
        with anyio.move_on_after(0.1) as patience:
            await client.receive()
        assert patience.cancelled_caught
        proxy.pass_through()
        assert await client.receive() == b"ONE\n"
        proxy.delay(0.05)
        began = anyio.current_time()
        assert await asked(client, b"two") == b"TWO\n"
        assert anyio.current_time() - began >= 0.05


async def test_a_request_is_cut_behind_so_many_bytes_once() -> None:
    async with between() as (proxy, server):
        proxy.cut_after(6)
        async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
            await client.send(b"one\ntwo and more\n")
            assert await rest(client) in {b"", b"ONE\n"}
        async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
            assert await asked(client, b"three") == b"THREE\n"
        assert server.lines == [b"one", b"three"]
        assert (proxy.bytes_up, proxy.connections_cut) == (6 + 6, 1)


async def test_a_server_that_is_not_there_is_a_refusal() -> None:
    async with between() as (_, server):
        port = server.port
    async with open_fault_proxy("127.0.0.1", port) as proxy:
        async with await anyio.connect_tcp(proxy.host, proxy.port) as client:
            with pytest.raises(ENDS):
                await client.receive()
        assert proxy.connections_refused == 1


async def test_what_the_block_raises_comes_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_fault_proxy("127.0.0.1", 9):
            raise KeyError("mine")
