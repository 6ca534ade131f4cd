"""Stores for tests, and a look at their buckets as somebody else would have it."""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import nats
import orjson

from streamflow.errors import StoreError
from streamflow.testing.store_contract.leases import LEASE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamflow.leases import Lease
    from streamflow_nats.store import NatsStore


def new_bucket() -> str:
    return f"t{secrets.token_hex(4)}"


async def keys_of(url: str, bucket: str) -> set[str]:
    """Every key that has an entry, markers included, without the prefix of the bucket."""
    info = await _asked(url, f"STREAM.INFO.KV_{bucket}", {"subjects_filter": ">"})
    return {subject.removeprefix(f"$KV.{bucket}.") for subject in info["state"].get("subjects") or {}}


async def make_stream(url: str, config: dict[str, Any]) -> None:
    """With any field of JetStream's configuration, those that the client library does not know included."""
    await _asked(url, f"STREAM.CREATE.{config['name']}", config)


async def _asked(url: str, name: str, asked: dict[str, Any]) -> Any:
    client = await nats.connect(url)
    try:
        answer = orjson.loads((await client.request(f"$JS.API.{name}", orjson.dumps(asked), timeout=10)).data)
    finally:
        await client.close()
    assert "error" not in answer, answer
    return answer


async def stored(store: NatsStore, **changes: Any) -> Lease:
    made = await store.create(replace(LEASE, **changes))
    assert made is not None
    return made


async def until_it_works(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again and again, as the engine does; the answer."""
    with anyio.fail_after(30):
        while True:
            try:
                return await ask()
            except StoreError:
                await anyio.sleep(0.02)
