"""What is looked at when a store is opened: whether the server lets us in, and whether it keeps what it is given."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from streamflow.errors import StoreError
from streamflow_redis.store_errors import StoreRefusedError
from streamflow_redis.store_scripts import PREPARE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow_redis.store_connections import Connections
    from streamflow_redis.store_keys import StoreKeys

FORMAT = 1
"""Of keys and values. What another version of this module cannot read has a higher one."""

_logger = logging.getLogger("streamflow")


async def check_server(connections: Connections, keys: StoreKeys) -> None:
    """Raises `StoreError`: the server cannot be used, with the reason and the next step; nothing of ours was changed."""
    await connections.ask("PING")
    await _check_eviction(connections)
    await _check_format(connections, keys)
    try:
        await connections.write(PREPARE, [keys.about, keys.probe], FORMAT, repeatable=True)
    except StoreRefusedError as error:
        # Letters can be looked at and removed all the same, which makes room.
        if error.code != "OOM":
            raise
    await _warn_of_forgetting(connections)


async def _check_eviction(connections: Connections) -> None:
    facts = await _facts(connections, "memory")
    policy = facts.get("maxmemory_policy", "")
    if policy.startswith("allkeys") and facts.get("maxmemory", "0") != "0":
        raise StoreError(
            f"lease store {connections.url.address}: at its maxmemory the server evicts any key ({policy}), so checkpoints "
            "and letters too (set maxmemory-policy to noeviction, or to a volatile one, or use another server: a database "
            "number does not help)"
        )


async def _check_format(connections: Connections, keys: StoreKeys) -> None:
    held = await connections.ask("HGET", keys.about, "format")
    if held is not None and not (held.isdigit() and int(held) <= FORMAT):
        raise StoreError(
            f"lease store {connections.url.address}: prefix {keys.prefix!r} has format {held.decode(errors='replace')[:20]!r}, "
            f"written by a newer streamflow; this one knows format {FORMAT} (upgrade, or choose another prefix)"
        )


async def _warn_of_forgetting(connections: Connections) -> None:
    facts = await _facts(connections, "persistence")
    if facts.get("aof_enabled") != "0" or facts.get("rdb_saves", "0") != "0":
        return
    try:
        snapshots = (await connections.ask("CONFIG", "GET", "save"))[1:] != [b""]
        seen = "snapshots=off"
    except StoreRefusedError:
        snapshots, seen = False, "snapshots=unknown"
    if not snapshots:
        _logger.warning(
            "the store may forget everything when its server restarts store=%s appendonly=no %s (set appendonly yes)",
            connections.url.address,
            seen,
        )


async def _facts(connections: Connections, section: str) -> Mapping[str, str]:
    """What INFO says; nothing where the user may not ask."""
    try:
        answer = await connections.ask("INFO", section)
    except StoreRefusedError as error:
        if error.code != "NOPERM":
            raise
        return {}
    lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
    return {name: value for name, _, value in lines}
