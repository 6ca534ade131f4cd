"""What the tests of the Redis sink and store use."""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from typing import TYPE_CHECKING

import pytest
import redis

from servers.valkey import valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.valkey import ValkeyServer

__all__ = ["valkey_server"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def name() -> str:
    """A name that no other test uses, for prefixes and keys."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def client(valkey_server: ValkeyServer) -> Iterator[redis.Redis]:
    """A client past sink and store."""
    with redis.Redis.from_url(valkey_server.url()) as opened:
        yield opened
