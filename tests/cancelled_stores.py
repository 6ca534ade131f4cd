"""What every store must stand: each of its calls is cancelled wherever it waits, and then done again.

Whoever was cancelled does not know what became of the call; what is stored is as before it or as after it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio.lowlevel

from cancelling import everywhere
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, ids_of, key_of, letter

if TYPE_CHECKING:
    from streamflow.leases import Lease
    from streamflow.protocols import StateStore


async def check_leases(store: StateStore) -> None:
    """Of a store that has none."""
    assert await everywhere(lambda: store.create(LEASE), anyio.lowlevel.checkpoint)
    await store.create(LEASE)
    before = await _found(store)

    async def look() -> None:
        nonlocal before
        found = await _found(store)
        assert found in (before, replace(before, owner="w2", version=before.version + 1))
        before = found

    async def move() -> Lease | None:
        return await store.update(replace(before, owner="w2"), expected_version=before.version)

    assert await everywhere(move, look)
    assert await everywhere(partial(store.get, LEASE.key), anyio.lowlevel.checkpoint)
    assert await everywhere(partial(store.list, LEASE.pipeline, STREAM_ARN), anyio.lowlevel.checkpoint)
    assert [each.key for each in await store.list(LEASE.pipeline, STREAM_ARN)] == [LEASE.key]
    before = await _found(store)
    delete = partial(store.delete, LEASE.key, expected_version=before.version)
    assert await everywhere(delete, anyio.lowlevel.checkpoint)
    await delete()
    assert await store.get(LEASE.key) is None
    assert await store.create(LEASE) is not None


async def _found(store: StateStore) -> Lease:
    found = await store.get(LEASE.key)
    assert found is not None
    return found


async def check_letters(store: StateStore) -> None:
    """Of a store that has none."""
    kept, parked = [letter(1), letter(2)], [letter(3, "c")]
    stream = parked[0].pipeline, parked[0].stream_arn
    for call in (
        partial(store.keep, kept),
        partial(store.park, parked, opening=True),
        partial(store.park, parked),
        partial(store.parked_keys, *stream),
        partial(store.letters, DEAD),
        partial(store.count, DEAD),
    ):
        assert await everywhere(call, anyio.lowlevel.checkpoint)
        await call()
    found = await store.letters(DEAD)
    assert [each.sequence_number for each in found] == [each.sequence_number for each in kept]
    assert await store.parked_keys(*stream) == {key_of("c")}
    remove = partial(store.remove, "dead", ids_of(found))
    assert await everywhere(remove, anyio.lowlevel.checkpoint)
    await remove()
    assert (await store.count(DEAD), await store.count(PARKED)) == (0, 1)
