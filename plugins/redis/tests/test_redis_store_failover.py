"""What a failover that loses acknowledged writes does to a store: shown, because no client can prevent it.

Replication hands on the writes in their order, so what is there afterwards is what was there at one moment before.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import redis as redis_library

from servers.valkey import running_valkey
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.plugins import open_store
from streamflow.positions import Position
from streamflow.testing.store_contract.leases import LEASE
from streamflow.testing.store_contract.letters import DEAD, ids_of, letter, without_ids
from streamflow_redis import store_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.valkey import ValkeyServer

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = (Position.after(str(10**20 + number)) for number in range(3))
OLD = replace(LEASE, owner="old", epoch=1, checkpoint=FIRST)


@contextmanager
def _forgetful() -> Iterator[tuple[ValkeyServer, redis_library.Redis]]:
    """A server whose restart goes back to its last SAVE, as a failover goes back to what the replica had."""
    with running_valkey({"appendonly": "no"}) as server, redis_library.Redis.from_url(server.url()) as client:
        yield server, client


def _fail_over(server: ValkeyServer) -> None:
    server.kill()
    server.start()


@pytest.mark.fault("F51")
async def test_an_epoch_comes_back_and_the_new_owner_meets_a_conflict() -> None:
    with _forgetful() as (server, client):
        async with open_store(server.url()) as store:
            held = await store.create(OLD)
            assert held is not None
            client.save()
            taken = await store.update(replace(held, owner="new", epoch=2), expected_version=held.version)
            assert taken is not None
            stored = await store.update(replace(taken, checkpoint=THIRD), expected_version=taken.version)
            assert stored is not None
            _fail_over(server)
            # The old owner, which was only paused, does not learn that it had lost the lease: both are at work now.
            again = await store.update(replace(held, checkpoint=SECOND), expected_version=held.version)
            assert again == replace(OLD, version=held.version + 1, checkpoint=SECOND)
            # The new one learns it with its next write. Records behind the checkpoint that was lost come again.
            assert await store.update(replace(stored, checkpoint=THIRD), expected_version=stored.version) is None
            assert await store.get(LEASE.key) == again


@pytest.mark.fault("F51")
async def test_a_version_comes_back_and_whoever_writes_last_ends_the_time_of_two_owners() -> None:
    with _forgetful() as (server, client):
        async with open_store(server.url()) as store:
            held = await store.create(OLD)
            assert held is not None
            client.save()
            taken = await store.update(replace(held, owner="new", epoch=2), expected_version=held.version)
            assert taken is not None
            _fail_over(server)
            again = await store.update(replace(held, checkpoint=THIRD), expected_version=held.version)
            assert again is not None
            assert again.version == taken.version  # and the row is another
            # The new owner's checkpoint is behind that of the old one: what lies between comes again, and nothing is passed.
            stored = await store.update(replace(taken, checkpoint=SECOND), expected_version=taken.version)
            assert stored == replace(OLD, owner="new", epoch=2, checkpoint=SECOND, version=taken.version + 1)
            assert await store.update(replace(again, checkpoint=THIRD), expected_version=again.version) is None
            assert await store.get(LEASE.key) == stored


async def test_a_letter_that_is_lost_takes_the_checkpoint_behind_it_along() -> None:
    with _forgetful() as (server, client):
        async with open_store(server.url()) as store:
            held = await store.create(OLD)
            assert held is not None
            await store.keep([letter(1)])
            client.save()
            await store.keep([letter(2)])
            await store.update(replace(held, checkpoint=SECOND), expected_version=held.version)
            (_, lost) = ids_of(await store.letters(DEAD))
            _fail_over(server)
            assert without_ids(await store.letters(DEAD)) == [letter(1)]
            assert await store.get(LEASE.key) == held  # so the record comes again, and is kept again
            await store.keep([letter(2)])
            assert ids_of(await store.letters(DEAD))[1] == lost


@pytest.mark.fault("F51")
async def test_a_replica_that_is_promoted_without_the_last_write_does_not_know_the_new_owner() -> None:
    with _replicated() as (primary, replica, promoted):
        async with open_store(primary.url()) as store:
            held = await store.create(OLD)
            assert held is not None
            _synced(primary)
            promoted.replicaof("NO", "ONE")
            taken = await store.update(replace(held, owner="new", epoch=2), expected_version=held.version)
            assert taken is not None
            primary.kill()
        async with open_store(replica.url()) as store:
            assert await store.get(LEASE.key) == held


# --- wait_replicas ---------------------------------------------------------------------------------------------------


@contextmanager
def _replicated() -> Iterator[tuple[ValkeyServer, ValkeyServer, redis_library.Redis]]:
    """A primary, its replica, and a client of the replica."""
    settings = {"repl-diskless-sync-delay": "0"}
    with (
        running_valkey(settings) as primary,
        running_valkey(settings) as replica,
        redis_library.Redis.from_url(replica.url()) as client,
    ):
        client.config_set("masterauth", primary.password)
        client.replicaof("127.0.0.1", primary.port)
        _synced(primary)
        yield primary, replica, client


def _synced(primary: ValkeyServer) -> None:
    """Wait until the replica has acknowledged everything."""
    with redis_library.Redis.from_url(primary.url()) as client:
        client.set("last", "write")
        for _ in range(40):
            if client.wait(1, 500):
                return
    raise AssertionError("the replica does not follow")


async def test_with_wait_replicas_what_is_acknowledged_is_at_the_replica() -> None:
    with _replicated() as (primary, replica, promoted):
        async with open_store(f"{primary.url()}?wait_replicas=1") as store:
            row = await store.create(OLD)
            await store.keep([letter(1)])
            primary.kill()
        promoted.replicaof("NO", "ONE")
        async with open_store(replica.url()) as store:
            assert await store.get(LEASE.key) == row
            assert without_ids(await store.letters(DEAD)) == [letter(1)]


async def test_with_wait_replicas_a_write_that_no_replica_acknowledges_has_an_unknown_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_connections, "REPLICAS_TIMEOUT_S", 0.2)
    with _replicated() as (primary, replica, _):
        async with open_store(f"{primary.url()}?wait_replicas=1") as store:
            row = await store.create(OLD)
            assert row is not None
            replica.kill()
            wanted = replace(row, checkpoint=SECOND)
            for call in (
                store.update(wanted, expected_version=row.version),
                store.keep([letter(1)]),
                store.park([letter(2)], opening=True),
            ):
                with pytest.raises(UnknownOutcomeError, match="0 of 1 replicas acknowledged"):
                    await call
            # The primary has it all, and nothing that changes nothing waits for replicas.
            assert await store.get(LEASE.key) == replace(wanted, version=row.version + 1)
            assert without_ids(await store.letters(DEAD)) == [letter(1)]
            assert await store.update(wanted, expected_version=row.version) is None
            assert await store.remove("dead", [77]) == 0
        with pytest.raises(StoreError, match="0 of 1 replicas acknowledged"):
            async with open_store(f"{primary.url()}?wait_replicas=1"):
                pass
