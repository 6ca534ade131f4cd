"""Changes of items into Redis or Valkey; leases and letters of workers there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamflow.sdk import SinkPlugin, StorePlugin, nothing_at_aws
from streamflow_redis.settings import RedisSettings, capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.protocols import StateStore
    from streamflow.sdk import SinkContext, Writer

__all__ = ["RedisSettings", "redis", "redis_store", "rediss_store"]


@asynccontextmanager
async def _open(settings: RedisSettings, context: SinkContext) -> AsyncIterator[Writer]:
    """See `streamflow_redis.sink.open_redis`: the client library takes half a second to import."""
    from streamflow_redis.sink import open_redis

    async with open_redis(settings, context) as writer:
        yield writer


redis = SinkPlugin(
    name="redis",
    api_version="1.0",
    summary="Keep items in Redis or Valkey, add their changes to a stream, publish them, or drop cached keys.",
    settings=RedisSettings,
    examples={
        "latest state as JSON": {"url": "rediss://streamflow@cache.example.com:6379/0", "key_prefix": "order:"},
        "latest state as hashes": {
            "url": "rediss://streamflow@cache.example.com:6379/0",
            "mode": "hash",
            "key_prefix": "order:",
            "tombstone_ttl_s": 604_800,
        },
        "stream": {
            "url": "rediss://streamflow@cache.example.com:6379/0",
            "mode": "stream",
            "stream": "order-changes",
            "maxlen": 1_000_000,
        },
        "cache invalidation": {
            "url": "rediss://streamflow@cache.example.com:6379/0",
            "mode": "invalidate",
            "key_prefix": "cache:order:",
        },
    },
    open=_open,
    capabilities=capabilities,
    permissions=nothing_at_aws,
)


@asynccontextmanager
async def _open_store(url: str) -> AsyncIterator[StateStore]:
    """See `streamflow_redis.store.open_redis_store`."""
    from streamflow_redis.store import open_redis_store

    async with open_redis_store(url) as store:
        yield store


redis_store = StorePlugin(
    name="redis",
    api_version="1.0",
    summary="Redis or Valkey, for workers on any number of hosts; without TLS.",
    url_example="redis://127.0.0.1:6379/0?prefix=streamflow",
    open=_open_store,
)
rediss_store = StorePlugin(
    name="rediss",
    api_version="1.0",
    summary="Redis or Valkey, for workers on any number of hosts; over TLS, with the certificate verified.",
    url_example="rediss://streamflow:${REDIS_PASSWORD}@cache.example.com:6379/0?prefix=streamflow",
    open=_open_store,
)
