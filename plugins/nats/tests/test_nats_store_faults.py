"""The NATS store on networks and servers that fail: what happened for certain, what is unknown, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

import streamflow_nats.store
from nats_stores import keys_of, new_bucket, stored, until_it_works
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import WindowState
from streamflow.positions import Position
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, ids_of, key_of, letter, without_ids
from streamflow_nats.store import open_nats_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Any

    from servers.nats import NatsServer
    from streamflow.testing.proxies import FaultProxy
    from streamflow_nats.store import NatsStore

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

LARGE = WindowState(60, 120, b"x" * 300_000)


@pytest.fixture
def bucket() -> str:
    return new_bucket()


@pytest.fixture
async def proxy(running_server: NatsServer) -> AsyncIterator[FaultProxy]:
    async with open_fault_proxy("127.0.0.1", running_server.port) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: FaultProxy, bucket: str) -> AsyncIterator[NatsStore]:
    """Through the proxy."""
    async with open_nats_store(f"nats://127.0.0.1:{proxy.port}?bucket={bucket}") as store:
        yield store


@pytest.fixture
async def witness(running_server: NatsServer, bucket: str) -> AsyncIterator[NatsStore]:
    """Past the proxy."""
    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as store:
        yield store


async def is_unknown(ask: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(UnknownOutcomeError, match="it may have happened: read it back"):
        await ask()


# -- lost answers -------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F30")
@pytest.mark.parametrize("window", [None, LARGE], ids=["small", "large"])
async def test_a_write_whose_answer_is_lost_has_happened_and_is_unknown(
    proxy: FaultProxy, store: NatsStore, witness: NatsStore, window: WindowState | None
) -> None:
    wanted = replace(LEASE, window=window)
    proxy.lose_answers()
    await is_unknown(lambda: store.create(wanted))
    assert await store.get(LEASE.key) == await witness.get(LEASE.key) == replace(wanted, version=1)
    moved = replace(wanted, checkpoint=Position.after("1" * 21))
    proxy.lose_answers()
    await is_unknown(lambda: store.update(moved, expected_version=1))
    assert await witness.get(LEASE.key) == replace(moved, version=2)
    assert await store.update(moved, expected_version=1) is None
    assert await store.update(moved, expected_version=2) == replace(moved, version=3)
    proxy.lose_answers()
    await is_unknown(lambda: store.delete(LEASE.key, expected_version=3))
    assert await witness.get(LEASE.key) is None
    assert not await store.delete(LEASE.key, expected_version=3)


@pytest.mark.parametrize("bytes_up", [1, 100, 400])
async def test_a_write_that_never_arrived_is_unknown_and_has_not_happened(
    proxy: FaultProxy, store: NatsStore, witness: NatsStore, bytes_up: int
) -> None:
    lease = await stored(store)
    proxy.cut_after(bytes_up)
    await is_unknown(lambda: store.update(replace(lease, owner="me"), expected_version=1))
    assert await witness.get(LEASE.key) == lease
    assert await store.update(replace(lease, owner="me"), expected_version=1) == replace(lease, owner="me", version=2)


async def test_a_window_that_arrived_in_part_is_not_there_and_the_row_is_as_it_was(
    running_server: NatsServer, bucket: str, proxy: FaultProxy, store: NatsStore, witness: NatsStore
) -> None:
    lease = await stored(store)
    proxy.cut_after(200_000)
    with pytest.raises(StoreError):
        await store.update(replace(lease, window=LARGE), expected_version=1)
    assert await witness.get(LEASE.key) == lease
    assert len(await keys_of(running_server.url, bucket)) == 1
    assert await store.update(replace(lease, window=LARGE), expected_version=1) is not None


async def test_a_look_whose_answer_is_lost_is_no_write_that_may_have_happened(
    proxy: FaultProxy, store: NatsStore
) -> None:
    await stored(store)
    for look in (lambda: store.get(LEASE.key), lambda: store.list("orders", STREAM_ARN), lambda: store.count(DEAD)):
        await look()  # with a connection
        proxy.lose_answers()
        with pytest.raises(StoreError, match="nothing happened") as lost:
            await look()
        assert not isinstance(lost.value, UnknownOutcomeError)
    assert len(await store.list("orders", STREAM_ARN)) == 1


async def test_letters_whose_answer_is_lost_are_kept_once(proxy: FaultProxy, store: NatsStore) -> None:
    letters = [letter(number, record=b"r" * 10_000) for number in range(300)]
    proxy.lose_answers()
    await is_unknown(lambda: store.keep(letters))
    await store.keep(letters)
    assert without_ids(await store.letters(DEAD)) == letters
    await store.park(letters[:1], opening=True)
    proxy.lose_answers(after=1)  # that of the look at the item
    await is_unknown(lambda: store.park(letters))
    assert await store.park(letters) == {key_of("a")}
    found = await store.letters(PARKED)
    assert without_ids(found) == letters
    proxy.lose_answers(after=3)  # those of the looks at the letters and at their facts
    await is_unknown(lambda: store.remove("parked", ids_of(found)[:10]))
    assert await store.remove("parked", ids_of(found)) in range(290, 301)
    assert await store.count(PARKED) == 0


async def test_what_a_crash_left_of_a_window_is_removed_by_the_next_who_writes(
    running_server: NatsServer, bucket: str, proxy: FaultProxy, store: NatsStore, witness: NatsStore
) -> None:
    lease = await stored(store, window=LARGE)
    proxy.lose_answers()  # who hears nothing of its row does not go on to remove the old window
    await is_unknown(lambda: store.update(replace(lease, window=None), expected_version=1))
    assert len(await keys_of(running_server.url, bucket)) == 4
    assert await witness.update(lease, expected_version=2) == replace(lease, version=3)
    assert len(await keys_of(running_server.url, bucket)) == 4
    assert await store.get(LEASE.key) == replace(lease, version=3)
    proxy.lose_answers()
    await is_unknown(lambda: store.update(replace(lease, window=None), expected_version=3))
    assert len(await keys_of(running_server.url, bucket)) == 4
    assert await witness.update(replace(lease, window=None), expected_version=4) is not None
    assert len(await keys_of(running_server.url, bucket)) == 1


async def test_what_a_crash_left_of_a_deleted_row_is_removed_by_who_lists(
    running_server: NatsServer, bucket: str, proxy: FaultProxy, store: NatsStore, witness: NatsStore
) -> None:
    await stored(store, window=LARGE)
    proxy.lose_answers()
    await is_unknown(lambda: store.delete(LEASE.key, expected_version=1))
    assert len(await keys_of(running_server.url, bucket)) == 4
    assert list(await witness.list("orders", STREAM_ARN)) == []
    assert await keys_of(running_server.url, bucket) == set()


# -- outages ------------------------------------------------------------------------------------------------------------


async def test_an_outage_is_told_by_every_call_and_over_when_the_server_is_back(
    running_server: NatsServer, store: NatsStore
) -> None:
    lease = await stored(store, window=LARGE)
    await store.park([letter(1)], opening=True)
    running_server.kill()
    for ask in (
        lambda: store.list("orders", STREAM_ARN),
        lambda: store.get(LEASE.key),
        lambda: store.create(LEASE),
        lambda: store.update(lease, expected_version=1),
        lambda: store.delete(LEASE.key, expected_version=1),
        lambda: store.keep([letter(2)]),
        lambda: store.park([letter(2)]),
        lambda: store.parked_keys("orders", STREAM_ARN),
        lambda: store.letters(DEAD),
        lambda: store.count(DEAD),
        lambda: store.remove("parked", [1]),
    ):
        with anyio.fail_after(20):
            with pytest.raises(StoreError):
                await ask()
    await to_thread.run_sync(running_server.start)
    assert await until_it_works(lambda: store.get(LEASE.key)) == lease
    assert await until_it_works(lambda: store.parked_keys("orders", STREAM_ARN)) == {key_of("a")}
    assert await store.update(replace(lease, owner="me"), expected_version=1) is not None


async def test_what_is_asked_for_during_an_outage_certainly_does_not_happen(
    proxy: FaultProxy, store: NatsStore, witness: NatsStore
) -> None:
    lease = await stored(store)
    proxy.refuse()
    with pytest.raises(StoreError):
        await store.get(LEASE.key)  # the connection is known to be lost from here on
    with pytest.raises(StoreError) as failed:
        await store.update(replace(lease, owner="me"), expected_version=1)
    assert not isinstance(failed.value, UnknownOutcomeError)
    assert "127.0.0.1" in str(failed.value)
    proxy.pass_through()
    assert await witness.get(LEASE.key) == lease
    assert await store.update(replace(lease, owner="me"), expected_version=1) is not None


async def test_a_server_that_does_not_answer_keeps_nobody_waiting_for_long(
    running_server: NatsServer, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamflow_nats.store, "LEASE_TIMEOUT_S", 0.5)
    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as store:
        lease = await stored(store)
        told: list[StoreError] = []

        async def update(number: int) -> None:
            with pytest.raises(StoreError) as failed:
                await store.update(replace(LEASE, shard_id=str(number)), expected_version=1)
            told.append(failed.value)

        running_server.freeze()
        try:
            with anyio.fail_after(20):
                await is_unknown(lambda: store.update(replace(lease, owner="me"), expected_version=1))
                # Many more than may be on their way: 2,000 turns of half a second would be a quarter of an hour.
                async with anyio.create_task_group() as tasks:
                    for number in range(2_000):
                        tasks.start_soon(update, number)
        finally:
            running_server.thaw()
        assert len(told) == 2_000
        found = await until_it_works(lambda: store.get(LEASE.key))
        assert found in (lease, replace(lease, owner="me", version=2))  # what was on its way may arrive yet


async def test_who_is_cancelled_disturbs_nobody(
    running_server: NatsServer, proxy: FaultProxy, store: NatsStore
) -> None:
    lease = await stored(store)
    connections = proxy.connections
    proxy.delay(0.3)
    with anyio.move_on_after(0.05):
        await store.update(replace(lease, owner="cancelled"), expected_version=1)
    found = await store.get(LEASE.key)
    assert found == replace(lease, owner="cancelled", version=2)
    assert proxy.connections == connections


async def test_an_open_store_closes_while_its_server_is_gone(running_server: NatsServer, bucket: str) -> None:
    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as store:
        await stored(store)
        running_server.kill()


async def test_one_of_several_servers_is_enough(running_server: NatsServer, bucket: str) -> None:
    url = f"nats://127.0.0.1:1,127.0.0.1:{running_server.port}?bucket={bucket}"
    async with open_nats_store(url) as store:
        await stored(store)
