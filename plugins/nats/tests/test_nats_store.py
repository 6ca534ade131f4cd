"""The NATS store beyond the contract: what its buckets hold, and what servers and users do to them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from nats_stores import keys_of, make_stream, new_bucket, stored
from nats_streams import jetstream
from servers.nats import nats_server
from streamflow import plugins
from streamflow.dead_letters import LetterQuery
from streamflow.errors import ConfigError, StoreError, UnknownOutcomeError
from streamflow.leases import WindowState
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, ids_of, key_of, letter, without_ids
from streamflow_nats.store import open_nats_store
from streamflow_nats.store_configuration import configuration
from streamflow_nats.store_keys import lease_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from servers.nats import NatsServer
    from streamflow_nats.store import NatsStore

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

LARGE, LARGER = (WindowState(60, 120, b"x" * size) for size in (300_000, 900_000))
PLACE = lease_place(LEASE.key)


@pytest.fixture
def bucket() -> str:
    return new_bucket()


@pytest.fixture
async def store(running_server: NatsServer, bucket: str) -> AsyncIterator[NatsStore]:
    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as store:
        yield store


# -- windows ------------------------------------------------------------------------------------------------------------


async def test_a_large_window_leaves_nothing_behind_when_it_is_replaced_or_closed(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    lease = await stored(store, window=LARGER)
    for window in (LARGE, LARGER, LARGER):
        updated = await store.update(replace(lease, window=window), expected_version=lease.version)
        assert updated is not None
        lease = updated
        assert await store.get(LEASE.key) == lease
    pieces = {key for key in await keys_of(running_server.url, bucket) if ".window." in key}
    assert len(pieces) == 7
    assert all(key.startswith(f"{PLACE}.window.{lease.version}.") for key in pieces)
    await store.update(replace(lease, window=None), expected_version=lease.version)
    assert await keys_of(running_server.url, bucket) == {f"{PLACE}.row"}


async def test_a_deleted_row_leaves_nothing_behind(running_server: NatsServer, bucket: str, store: NatsStore) -> None:
    lease = await stored(store, window=LARGE)
    assert await store.delete(LEASE.key, expected_version=lease.version)
    assert await keys_of(running_server.url, bucket) == set()


async def test_a_reader_of_a_large_window_never_sees_half_of_it(store: NatsStore) -> None:
    windows = [WindowState(number, 120, bytes([number]) * 200_000) for number in range(20)]
    lease = await stored(store, window=windows[0])

    async def write(lease: Any) -> None:
        for window in windows[1:]:
            lease = await store.update(replace(lease, window=window), expected_version=lease.version)
            assert lease is not None

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, lease)
        seen: set[int] = set()
        while len(windows) - 1 not in seen:
            found = await store.get(LEASE.key)
            assert found is not None
            assert found.window is not None
            assert found.window == windows[found.window.start_s]
            seen.add(found.window.start_s)


async def test_a_window_that_somebody_removed_is_told(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    await stored(store, window=LARGE)
    async with jetstream(running_server) as stream:
        await stream.purge_stream(f"KV_{bucket}", subject=f"$KV.{bucket}.{PLACE}.window.1.0")
    with pytest.raises(StoreError, match="damaged: the state of its window is not there"):
        await store.get(LEASE.key)


# -- rows ---------------------------------------------------------------------------------------------------------------


async def test_who_has_seen_a_row_writes_without_a_look_and_who_has_not_looks_first(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    lease = await stored(store, version=41)
    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as stranger:
        taken = await stranger.update(replace(lease, owner="stranger"), expected_version=42)
        assert taken == replace(lease, owner="stranger", version=43)
        assert await store.update(lease, expected_version=42) is None
        assert await store.update(lease, expected_version=43) == replace(lease, version=44)
        assert not await stranger.delete(LEASE.key, expected_version=43)
        assert await stranger.delete(LEASE.key, expected_version=44)
        assert await store.update(lease, expected_version=44) is None


async def test_a_row_deleted_by_hand_is_gone_and_can_be_made_again(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    lease = await stored(store)
    async with jetstream(running_server) as stream:
        rows = await stream.key_value(bucket)
        assert await rows.delete(f"{PLACE}.row")
    assert await store.update(lease, expected_version=lease.version) is None
    assert await store.get(LEASE.key) is None
    assert await store.create(LEASE) is not None
    assert len(await store.list("orders", STREAM_ARN)) == 1


async def test_a_row_deleted_by_hand_is_cleared_away_by_who_lists(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    await stored(store, window=LARGE)
    async with jetstream(running_server) as stream:
        await (await stream.key_value(bucket)).delete(f"{PLACE}.row")
    assert len(await keys_of(running_server.url, bucket)) == 4
    assert list(await store.list("orders", STREAM_ARN)) == []
    assert await keys_of(running_server.url, bucket) == set()


async def test_a_damaged_row_is_named(running_server: NatsServer, bucket: str, store: NatsStore) -> None:
    await stored(store)
    async with jetstream(running_server) as stream:
        await (await stream.key_value(bucket)).put(f"{PLACE}.row", b"nonsense")
    with pytest.raises(StoreError, match="damaged"):
        await store.get(LEASE.key)
    with pytest.raises(StoreError, match="damaged"):
        await store.list("orders", STREAM_ARN)


# -- letters ------------------------------------------------------------------------------------------------------------


async def test_large_records_are_kept_whole_and_leave_nothing_behind(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    large = [letter(number, record=bytes([number]) * 1_500_000) for number in range(3)]
    await store.keep([*large, large[0]])
    assert await store.park(large[:1], opening=True) == await store.park(large) == {key_of("a")}
    for query in (DEAD, PARKED):
        found = await store.letters(query)
        assert without_ids(found) == large
        assert await store.remove(query.drawer, ids_of(found)) == 3
    assert await keys_of(running_server.url, f"{bucket}_letters") == {"touched"}


async def test_facts_that_came_later_go_with_their_letter(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    await store.keep([letter(1), letter(2)])
    await store.keep([letter(1, invoke_count=1), letter(2, invoke_count=2)])
    first, second = await store.letters(DEAD)
    assert (first.invoke_count, second.invoke_count) == (1, 2)
    assert await store.remove("dead", [first.id]) == 1
    await store.keep([letter(1)])
    assert without_ids(await store.letters(DEAD)) == [letter(2, invoke_count=2), letter(1)]
    await store.remove("dead", ids_of(await store.letters(DEAD)))
    assert await keys_of(running_server.url, f"{bucket}_letters") == set()


async def test_long_item_keys_are_parked_and_told(store: NatsStore) -> None:
    keys = {key_of("k" * 2_048), key_of("鍵" * 600), key_of("short")}
    await store.park([letter(number, item_key=key) for number, key in enumerate(keys)], opening=True)
    assert await store.parked_keys("orders", STREAM_ARN) == keys
    for key in keys:
        assert await store.count(replace(PARKED, item_key=key)) == 1


async def test_more_letters_than_go_together_follow_their_item_in_order(store: NatsStore) -> None:
    letters = [letter(number, "ab"[number % 2]) for number in range(2_400)]
    await store.park(letters[:1], opening=True)
    assert await store.park(letters) == {key_of("a")}
    found = await store.letters(replace(PARKED, limit=2_400))
    assert without_ids(found) == letters[::2]


async def test_ids_far_apart_are_found(store: NatsStore) -> None:
    await store.keep([letter(number) for number in range(4_000)])
    ids = ids_of(await store.letters(replace(DEAD, limit=4_000)))
    chosen = tuple(ids[::100])
    assert ids_of(await store.letters(replace(DEAD, ids=chosen))) == list(chosen)
    assert await store.count(replace(DEAD, ids=chosen, pipeline="another")) == 0
    assert await store.remove("dead", chosen) == len(chosen)
    assert ids_of(await store.letters(replace(DEAD, limit=4_000))) == sorted({*ids} - {*chosen})


async def test_two_who_remove_a_letter_count_it_once(running_server: NatsServer, bucket: str, store: NatsStore) -> None:
    await store.park([letter(number) for number in range(50)], opening=True)
    ids = ids_of(await store.letters(PARKED))
    counts: list[int] = []

    async def remove(through: NatsStore) -> None:
        counts.append(await through.remove("parked", ids))

    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as rival, anyio.create_task_group() as tasks:
        tasks.start_soon(remove, store)
        tasks.start_soon(remove, rival)
    assert sum(counts) == 50


async def test_a_letter_is_put_again_while_it_is_removed_and_is_never_half_there(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    large = letter(1, record=b"r" * 200_000)
    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as rival:
        for _ in range(20):
            await store.keep([large])
            (kept,) = ids_of(await store.letters(DEAD))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.remove, "dead", [kept])
                tasks.start_soon(rival.keep, [large])
            assert without_ids(await store.letters(DEAD)) in ([], [large])


# -- opening ------------------------------------------------------------------------------------------------------------


async def test_the_store_is_found_by_its_url(running_server: NatsServer, bucket: str) -> None:
    async with plugins.open_store(f"{running_server.url}?bucket={bucket}") as opened:
        assert await opened.create(LEASE) is not None


async def test_many_may_open_a_new_bucket_at_the_same_time(running_server: NatsServer, bucket: str) -> None:
    async def open_one() -> None:
        async with open_nats_store(f"{running_server.url}?bucket={bucket}") as store:
            await store.create(LEASE)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(open_one)
    assert await keys_of(running_server.url, bucket) == {f"{PLACE}.row"}


async def test_two_buckets_do_not_see_each_other(running_server: NatsServer, store: NatsStore) -> None:
    await stored(store)
    await store.keep([letter(1)])
    async with open_nats_store(f"{running_server.url}?bucket={new_bucket()}") as other:
        assert await other.get(LEASE.key) is None
        assert await other.count(LetterQuery(drawer="dead")) == 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"storage": "memory"}, "storage"),
        ({"max_msgs_per_subject": 2}, "max_msgs_per_subject"),
        ({"max_age": 10**12}, "max_age"),
        ({"allow_direct": False}, "allow_direct"),
        ({"allow_atomic": False}, "allow_atomic"),
        ({"discard_new_per_subject": True}, "discard_new_per_subject"),
        ({"retention": "interest"}, "retention"),
        ({"discard": "old", "max_bytes": 10_000_000}, "discard"),
    ],
)
async def test_a_bucket_that_would_lose_something_is_refused(
    running_server: NatsServer, bucket: str, wrong: dict[str, Any], told: str
) -> None:
    await make_stream(running_server.url, {**configuration(bucket, 1), **wrong})
    with pytest.raises(ConfigError, match=told):
        async with open_nats_store(f"{running_server.url}?bucket={bucket}"):
            pass


async def test_replicas_that_are_not_there_are_told(running_server: NatsServer, bucket: str, store: NatsStore) -> None:
    with pytest.raises(ConfigError, match="has 1 replicas and the URL asks for 3"):
        async with open_nats_store(f"{running_server.url}?bucket={bucket}&replicas=3"):
            pass
    with pytest.raises(StoreError, match="a single server holds one replica"):
        async with open_nats_store(f"{running_server.url}?bucket={new_bucket()}&replicas=3"):
            pass


async def test_a_full_bucket_is_told_and_keeps_what_it_has(running_server: NatsServer, bucket: str) -> None:
    await make_stream(running_server.url, {**configuration(bucket, 1), "max_bytes": 100_000})
    async with open_nats_store(f"{running_server.url}?bucket={bucket}") as store:
        lease = await stored(store)
        with pytest.raises(StoreError, match="the bucket is full") as full:
            await store.update(replace(lease, window=LARGE), expected_version=1)
        assert not isinstance(full.value, UnknownOutcomeError)
        assert await store.get(LEASE.key) == lease


@pytest.mark.fault("F49")
async def test_a_bucket_that_was_deleted_is_told_by_every_call(
    running_server: NatsServer, bucket: str, store: NatsStore
) -> None:
    lease = await stored(store)
    async with jetstream(running_server) as stream:
        await stream.delete_stream(f"KV_{bucket}")
        await stream.delete_stream(f"KV_{bucket}_letters")
    with pytest.raises(StoreError, match="restored from a backup"):
        await store.update(lease, expected_version=1)
    with pytest.raises(StoreError, match="restored from a backup"):
        await store.get(LEASE.key)
    with pytest.raises(StoreError, match="restored from a backup"):
        await store.list("orders", STREAM_ARN)
    with pytest.raises(StoreError, match="restored from a backup"):
        await store.keep([letter(1)])
    with pytest.raises(StoreError, match="restored from a backup"):
        await store.parked_keys("orders", STREAM_ARN)


async def test_a_server_without_jetstream_is_told(tmp_path: Path) -> None:
    with nats_server(tmp_path, jetstream=False) as server, pytest.raises(StoreError, match="JetStream is off"):
        async with open_nats_store(server.url):
            pass


async def test_a_server_that_takes_small_messages_only_is_told(tmp_path: Path) -> None:
    with nats_server(tmp_path, payload_max=100_000) as server, pytest.raises(StoreError, match="max_payload"):
        async with open_nats_store(server.url):
            pass


async def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        url = server.url
    with pytest.raises(StoreError, match="look at the host and port"):
        async with open_nats_store(url):
            pass
