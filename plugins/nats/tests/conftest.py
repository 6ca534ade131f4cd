"""What the tests of the NATS sink use: a server, and streams of their own."""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from typing import TYPE_CHECKING

import pytest

from nats_streams import create_stream
from servers.nats import nats_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.nats import NatsServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def running_server(one_server: NatsServer) -> NatsServer:
    """Up, whatever the test before did to it."""
    if not one_server.is_running:
        one_server.start()
    one_server.thaw()
    return one_server


@pytest.fixture
async def stream(running_server: NatsServer) -> str:
    """A stream that no other test uses: it stores the subjects below its own name."""
    name = f"cdc{secrets.token_hex(4)}"
    await create_stream(running_server, name, subjects=[f"{name}.>"])
    return name
