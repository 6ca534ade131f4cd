"""TLS in front of a server that speaks none."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.abc
from anyio.streams.tls import TLSStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trustme import LeafCert


@asynccontextmanager
async def open_redis_tls_front(port: int, certificate: LeafCert) -> AsyncIterator[int]:
    """A port of loopback that speaks TLS with this certificate, for the server at `port`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    lost = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, ssl.SSLError)

    async def forward(source: anyio.abc.ByteStream, target: anyio.abc.ByteStream) -> None:
        with suppress(*lost):
            async for chunk in source:
                await target.send(chunk)

    async def serve(client: anyio.abc.SocketStream) -> None:
        async with client:
            with suppress(*lost):
                secured = await TLSStream.wrap(client, server_side=True, ssl_context=context, standard_compatible=False)
                async with await anyio.connect_tcp("127.0.0.1", port) as server, anyio.create_task_group() as tasks:
                    tasks.start_soon(forward, secured, server)
                    await forward(server, secured)
                    tasks.cancel_scope.cancel()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        yield int(listener.extra(anyio.abc.SocketAttribute.local_port))
        tasks.cancel_scope.cancel()
