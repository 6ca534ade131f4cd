"""One client of NATS for one connection: opened, and closed for good when it is lost.

The client's own way of going on is switched off. It would keep what was not sent yet, and send it when the server is
back, whether or not somebody still waits for it.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import nats.aio.client
import nats.errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

_CLOSE_S = 1.0
Unreachable = (OSError, nats.errors.Error)
"""What `open_client` raises when no server lets us in; `TimeoutError` and `ssl.SSLError` are among it."""


class _SecuredClient(nats.aio.client.Client):
    """The client itself would go on in the clear, and log in, where a server, or somebody before it, offers no TLS."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not info.get("tls_required"):
            raise nats.errors.Error("the server does not ask for TLS, and nothing is said to it without")
        await super()._process_info(info, initial_connection)


async def open_client(
    servers: Sequence[str],
    *,
    timeout_s: float,
    told: Callable[[Exception], Awaitable[None]],
    lost: Callable[[], Awaitable[None]] | None = None,
    tls: ssl.SSLContext | None = None,
    **login: Any,
) -> nats.aio.client.Client:
    """Connect to one of the servers within `timeout_s`; with TLS where `tls` is given, or one of them begins with tls://.

    `told` hears of what goes wrong later, `lost` of the connection's end. `login` is what the client calls user, password,
    token and user_credentials.

    Raises:
        Unreachable: none is there, or none lets us in.
        ImportError: `user_credentials` takes a package that is not installed.
    """
    if "user_credentials" in login:
        import_module("nkeys")  # the client would ask for it half-way, and could not be closed then
    secured = tls is not None or any(server.startswith("tls://") for server in servers)
    client = _SecuredClient() if secured else nats.aio.client.Client()
    try:
        with anyio.fail_after(timeout_s):
            await client.connect(
                list(servers),
                name="streamflow",
                error_cb=told,
                closed_cb=lost,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=max(1, int(timeout_s / len(servers))),
                tls=tls,
                **login,
            )
    except BaseException:
        await close_client(client)  # noqa: ASYNC102 - shields itself, for a limited time
        raise
    return client


def trusting(ca_file: str | None, certificate_file: str | None = None, key_file: str | None = None) -> ssl.SSLContext:
    """TLS that looks at the certificate of the server: by those of the system, or by `ca_file` instead.

    Raises:
        OSError: a file cannot be read; `ssl.SSLError`, which is one: it holds something else.
    """
    tls = ssl.create_default_context(cafile=ca_file)
    if certificate_file is not None:
        tls.load_cert_chain(certificate_file, key_file)
    return tls


async def close_client(client: nats.aio.client.Client) -> None:
    """Close it, whatever is still to be sent. The server may have, or get, what is on the network."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(_CLOSE_S), suppress(*Unreachable):
        await client.close()
