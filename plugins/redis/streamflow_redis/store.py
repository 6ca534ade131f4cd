"""Everything durable of a worker in Redis or Valkey, for any number of workers on any number of hosts.

What was acknowledged is as durable as the server: see "As a store" in this distribution's README.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamflow_redis.store_checks import check_server
from streamflow_redis.store_connections import open_connections
from streamflow_redis.store_keys import StoreKeys
from streamflow_redis.store_leases import RedisLeases
from streamflow_redis.store_letters import RedisLetters
from streamflow_redis.store_url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class RedisStore(RedisLeases, RedisLetters):
    """Use `open_redis_store`. It lives in the event loop that opened it."""


@asynccontextmanager
async def open_redis_store(url: str) -> AsyncIterator[RedisStore]:
    """Connect for the length of the block. Connections that are lost are made again by whatever call needs them.

    Raises:
        ConfigError: the URL is none of a store.
        StoreError: the server cannot be reached, or cannot be used.
    """
    target = parse_url(url)
    keys = StoreKeys(target.prefix)
    async with open_connections(target) as connections:
        await check_server(connections, keys)
        yield RedisStore(connections, keys)
