"""What the tests of the PostgreSQL sink and store use."""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from servers.postgres import postgres_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from servers.postgres import PostgresServer

__all__ = ["postgres_server"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def table() -> str:
    """A name that no other test uses."""
    return f"orders_{secrets.token_hex(4)}"


@pytest.fixture
async def connection(postgres_server: PostgresServer) -> AsyncIterator[Any]:
    """A connection past the sink."""
    opened = await asyncpg.connect(postgres_server.dsn())
    yield opened
    await opened.close()


@pytest.fixture
def schema() -> str:
    """Where no other test keeps anything."""
    return f"store_{secrets.token_hex(4)}"


@pytest.fixture
def store_url(postgres_server: PostgresServer, schema: str) -> str:
    return f"{postgres_server.dsn()}&schema={schema}"
