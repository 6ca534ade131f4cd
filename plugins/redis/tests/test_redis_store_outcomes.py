"""What a caller of the store hears when network or server fail, and what is true then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import redis as redis_library

from servers.valkey import running_valkey
from streamflow.dead_letters import LetterQuery
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import WindowState
from streamflow.plugins import open_store
from streamflow.positions import Position
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, ids_of, key_of, letter, without_ids
from streamflow_redis import store_connections
from streamflow_redis.store_errors import StoreRefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from servers.valkey import ValkeyServer
    from streamflow.protocols import StateStore
    from streamflow.testing.proxies import FaultProxy

pytestmark = pytest.mark.anyio

Call: TypeAlias = "Callable[[StateStore], Coroutine[Any, Any, Any]]"
WINDOW = WindowState(0, 60, b"{}")
HELD = replace(LEASE, owner="w", epoch=1)


@pytest.fixture
async def proxy(valkey_server: ValkeyServer) -> AsyncIterator[FaultProxy]:
    async with open_fault_proxy("127.0.0.1", valkey_server.port) as proxy:
        yield proxy


@pytest.fixture
async def store(valkey_server: ValkeyServer, proxy: FaultProxy, name: str) -> AsyncIterator[StateStore]:
    """Through the proxy, with a row at version 1 that has a window, and two letters in each drawer: 1 and 2 are dead.

    The server knows all scripts: the first answer to a call is that to its script.
    """
    async with open_store(f"{valkey_server.url(port=proxy.port)}?prefix={name}") as store:
        await store.create(replace(LEASE, window=WINDOW))
        await store.keep([letter(1), letter(2)])
        await store.park([letter(3), letter(4, "b")], opening=True)
        await store.remove("dead", [99])
        for read in READS.values():
            await read(store)
        yield store


def _contents(client: redis_library.Redis, name: str) -> dict[bytes, Any]:
    """Everything below the prefix."""
    return {key: client.dump(key) for key in client.scan_iter(match=f"{{{name}}}:*", count=10_000)}


WRITES: dict[str, Call] = {
    "create": lambda store: store.create(replace(LEASE, shard_id="another")),
    "update": lambda store: store.update(HELD, expected_version=1),
    "delete": lambda store: store.delete(LEASE.key, expected_version=1),
    "keep": lambda store: store.keep([letter(5), letter(1, invoke_count=9)]),
    "park": lambda store: store.park([letter(6), letter(7, "not parked")]),
    "remove": lambda store: store.remove("dead", [1, 2]),
}
READS: dict[str, Call] = {
    "get": lambda store: store.get(LEASE.key),
    "list": lambda store: store.list("orders", STREAM_ARN),
    "letters": lambda store: store.letters(DEAD),
    "count": lambda store: store.count(DEAD),
    "count of a shard": lambda store: store.count(LetterQuery(drawer="dead", shard_id="shardId-1")),
    "parked_keys": lambda store: store.parked_keys("orders", STREAM_ARN),
}


async def _closed(proxy: FaultProxy) -> None:
    """Wait until all connections of the proxy are closed."""
    with anyio.fail_after(20):
        while proxy.open_connections:
            await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


def _scripts_run(client: redis_library.Redis) -> int:
    found: dict[str, Any] = client.info("commandstats")
    return sum(found.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in ("eval", "evalsha"))


# --- a lost answer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES.keys())
async def test_a_write_whose_answer_is_lost_has_an_unknown_outcome_and_is_sent_once(
    store: StateStore, proxy: FaultProxy, client: redis_library.Redis, name: str, call: Call
) -> None:
    before, ran = _contents(client, name), _scripts_run(client)
    proxy.lose_answers(1)
    with pytest.raises(UnknownOutcomeError, match="may have been done") as caught:
        await call(store)
    assert "@" not in str(caught.value)
    assert proxy.answers_lost == 1
    assert _scripts_run(client) == ran + 1
    assert _contents(client, name) != before


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES.keys())
async def test_a_write_that_is_cut_on_its_way_has_an_unknown_outcome_and_did_not_happen(
    store: StateStore, proxy: FaultProxy, client: redis_library.Redis, name: str, call: Call
) -> None:
    before, ran = _contents(client, name), _scripts_run(client)
    proxy.cut_after(50)
    with pytest.raises(UnknownOutcomeError):
        await call(store)
    assert _scripts_run(client) == ran
    assert _contents(client, name) == before
    proxy.pass_through()
    await call(store)
    assert _contents(client, name) != before


@pytest.mark.fault("F30")
async def test_after_a_lost_answer_the_row_tells_what_happened(store: StateStore, proxy: FaultProxy) -> None:
    wanted = replace(HELD, checkpoint=Position.after("1" * 21))
    proxy.cut_after(50)
    with pytest.raises(UnknownOutcomeError):
        await store.update(wanted, expected_version=1)
    assert await store.get(LEASE.key) == replace(LEASE, version=1, window=WINDOW)
    proxy.lose_answers(1)
    with pytest.raises(UnknownOutcomeError):
        await store.update(wanted, expected_version=1)
    assert await store.get(LEASE.key) == replace(wanted, version=2)
    assert await store.update(wanted, expected_version=1) is None  # why no store may repeat a write


@pytest.mark.parametrize("call", READS.values(), ids=READS.keys())
async def test_a_read_whose_answer_is_lost_is_asked_again_once(
    store: StateStore, proxy: FaultProxy, call: Call
) -> None:
    expected = await call(store)
    proxy.lose_answers(1)
    assert await call(store) == expected
    assert proxy.answers_lost == 1
    proxy.lose_answers(9)
    with pytest.raises(StoreError, match="start the server") as caught:
        await call(store)
    assert not isinstance(caught.value, UnknownOutcomeError)
    assert proxy.answers_lost == 1 + 2  # of the second, the answer to its password


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*WRITES.values(), *READS.values()], ids=[*WRITES, *READS])
async def test_a_connection_that_was_closed_while_it_was_idle_is_replaced_before_anything_is_sent(
    store: StateStore, proxy: FaultProxy, call: Call
) -> None:
    made = proxy.connections
    proxy.cut()
    await _closed(proxy)
    await call(store)
    assert proxy.connections == made + 1


@pytest.mark.parametrize("call", [*WRITES.values(), *READS.values()], ids=[*WRITES, *READS])
async def test_without_a_connection_a_call_certainly_did_not_happen(
    store: StateStore, proxy: FaultProxy, client: redis_library.Redis, name: str, call: Call
) -> None:
    before = _contents(client, name)
    proxy.refuse()
    await _closed(proxy)
    with pytest.raises(StoreError, match="start the server") as caught:
        await call(store)
    assert not isinstance(caught.value, UnknownOutcomeError)
    assert _contents(client, name) == before
    proxy.pass_through()
    await call(store)


async def test_a_server_that_was_killed_and_started_again_is_used_without_opening_the_store_again() -> None:
    with running_valkey() as server:
        async with open_store(server.url()) as store:
            row = await store.create(replace(LEASE, window=WINDOW))
            await store.park([letter(1)], opening=True)
            server.kill()
            for call in (*WRITES.values(), *READS.values()):
                with pytest.raises(StoreError) as caught:
                    await call(store)
                assert not isinstance(caught.value, UnknownOutcomeError)
                assert server.password not in str(caught.value)
            server.start()
            assert await store.get(LEASE.key) == row
            assert await store.update(HELD, expected_version=1) == replace(HELD, version=2)
            assert without_ids(await store.letters(PARKED)) == [letter(1)]
            server.kill()
            server.start()  # while the event loop stood still: it has not read that its connections are closed
            assert await store.update(HELD, expected_version=2) == replace(HELD, version=3)


@pytest.mark.fault("F38")
async def test_a_server_that_does_not_answer_holds_nobody_up_and_whoever_was_not_sent_knows_it(
    store: StateStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(store.create, replace(LEASE, shard_id=str(number)))
    monkeypatch.setattr(store_connections, "CALL_TIMEOUT_S", 0.5)
    proxy.delay(float("inf"))
    outcomes: dict[int, StoreError] = {}

    async def update(number: int) -> None:
        try:
            await store.update(replace(HELD, shard_id=str(number)), expected_version=1)
        except StoreError as error:
            outcomes[number] = error

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(update, number)
    assert proxy.connections <= store_connections.CONNECTIONS_MAX  # nobody got a turn after those without an answer
    proxy.pass_through()
    monkeypatch.undo()
    assert len(outcomes) == 100
    for number, outcome in outcomes.items():
        row = await store.get(replace(LEASE, shard_id=str(number)).key)
        assert row is not None
        assert "does not answer in time" in str(outcome)
        assert isinstance(outcome, UnknownOutcomeError) or row.version == 1
    assert sum(type(outcome) is StoreError for outcome in outcomes.values()) > 50


async def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody(store: StateStore, proxy: FaultProxy) -> None:
    async with anyio.create_task_group() as tasks:  # every connection has done something
        for call in (*READS.values(), *READS.values()):
            tasks.start_soon(call, store)
    proxy.delay(float("inf"))
    async with anyio.create_task_group() as tasks:
        for call in (*WRITES.values(), *READS.values()):
            tasks.start_soon(call, store)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    proxy.pass_through()
    assert await store.count(DEAD) in range(4)
    assert await store.parked_keys("orders", STREAM_ARN) == {key_of("a"), key_of("b")}
    assert len(await store.list("orders", STREAM_ARN)) in range(3)


async def test_a_server_that_forgot_the_scripts_is_sent_them_again(
    store: StateStore, client: redis_library.Redis
) -> None:
    for call in (*READS.values(), *WRITES.values()):
        client.script_flush()
        await call(store)
    assert await store.get(LEASE.key) == replace(HELD, version=2)
    assert without_ids(await store.letters(DEAD)) == [letter(5)]


# --- what the server says --------------------------------------------------------------------------------------------


async def _refused(store: StateStore, code: str, next_step: str, calls: dict[str, Call] = WRITES) -> None:
    for call in calls.values():
        with pytest.raises(StoreRefusedError, match=next_step) as caught:
            await call(store)
        assert caught.value.code == code


async def test_what_the_server_refuses_did_not_happen() -> None:
    with running_valkey() as server, redis_library.Redis.from_url(server.url()) as client:
        async with open_store(server.url()) as store:
            await store.create(replace(LEASE, window=WINDOW))
            await store.keep([letter(1), letter(2)])
            await store.park([letter(3)], opening=True)
            before = _contents(client, "streamflow")
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            await _refused(store, "READONLY", "name the primary")
            client.config_set("replica-serve-stale-data", "no")
            await _refused(store, "MASTERDOWN", "name the primary", WRITES | READS)
            client.config_set("replica-serve-stale-data", "yes")
            client.execute_command("REPLICAOF", "NO", "ONE")
            client.config_set("min-replicas-to-write", 1)
            await _refused(store, "NOREPLICAS", "bring them back")
            client.config_set("min-replicas-to-write", 0)
            client.config_set("requirepass", "another")
            client.client_kill_filter(_type="normal", skipme=True)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(StoreRefusedError, match="mend them in the URL") as caught:
                await store.list("orders", STREAM_ARN)
            assert caught.value.code == "WRONGPASS"
            await _refused(store, "WRONGPASS", "mend them in the URL")
            client.config_set("requirepass", server.password)
            assert _contents(client, "streamflow") == before
            for call in WRITES.values():
                await call(store)


async def test_after_a_failover_the_name_of_the_primary_is_looked_up_again() -> None:
    with running_valkey() as server, redis_library.Redis.from_url(server.url()) as client:
        async with (
            open_fault_proxy("127.0.0.1", server.port) as proxy,
            open_store(server.url(port=proxy.port)) as store,
        ):
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            made = proxy.connections
            with pytest.raises(StoreRefusedError, match="READONLY"):
                await store.create(LEASE)
            client.execute_command("REPLICAOF", "NO", "ONE")
            assert await store.create(LEASE) is not None
            assert proxy.connections == made + 1


async def test_a_server_out_of_memory_takes_nothing_and_gives_everything_back() -> None:
    with (
        running_valkey({"maxmemory-policy": "volatile-lru"}) as server,
        redis_library.Redis.from_url(server.url()) as client,
    ):
        async with open_store(server.url()) as store:
            await store.create(replace(LEASE, window=WINDOW))
            await store.create(replace(LEASE, shard_id="another"))
            await store.keep([letter(1), letter(2)])
            await store.park([letter(3), letter(4)], opening=True)
            before = _contents(client, "streamflow")
            client.config_set("maxmemory", 1)
            takes_memory = {
                **{name: WRITES[name] for name in ("update", "keep", "park")},
                "create": lambda store: store.create(replace(LEASE, shard_id="third")),
                "keep again": lambda store: store.keep([letter(1, invoke_count=9)]),
            }
            await _refused(store, "OOM", "give it more", takes_memory)
            assert _contents(client, "streamflow") == before
            async with open_store(server.url()) as late:
                assert await late.remove("dead", ids_of(await late.letters(DEAD))) == 2
                assert await late.delete(LEASE.key, expected_version=1)
            assert await store.get(LEASE.key) is None
            client.config_set("maxmemory", 0)
            await store.keep([letter(5)])
            assert await store.count(DEAD) == 1


async def test_a_script_that_runs_for_too_long_is_waited_for_in_vain() -> None:
    with running_valkey({"busy-reply-threshold": "1"}) as server, redis_library.Redis.from_url(server.url()) as client:
        async with open_store(server.url()) as store:
            await store.create(LEASE)

            def block() -> None:
                with (
                    redis_library.Redis.from_url(server.url()) as other,
                    pytest.raises(redis_library.ResponseError, match="killed"),
                ):
                    other.eval("while true do end", 0)

            def is_busy() -> bool:
                try:
                    client.ping()
                except redis_library.ResponseError as error:
                    return str(error).startswith("BUSY")
                return False

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, block)
                with anyio.fail_after(20):
                    while not is_busy():
                        await anyio.lowlevel.checkpoint()
                await _refused(store, "BUSY", "SCRIPT KILL", WRITES | READS)
                client.script_kill()
            assert await store.get(LEASE.key) == replace(LEASE, version=1)


@pytest.mark.parametrize("kind", ["leases", "windows", "about", "facts", "names", "places", "index"])
async def test_a_key_of_another_type_is_told_before_anything_is_written(
    store: StateStore, client: redis_library.Redis, name: str, kind: str
) -> None:
    about = f"{{{name}}}:store"
    dead = [f"{{{name}}}:dead:{each}" for each in ("facts", "names", "places", "index")]
    of_leases = {each: f"{{{name}}}:{each}:orders:{STREAM_ARN}" for each in ("leases", "windows")}
    of_letters = dict(zip(("about", "facts", "names", "places", "index"), (about, *dead), strict=True))
    client.delete((of_leases | of_letters)[kind])
    client.set((of_leases | of_letters)[kind], "in the way")
    before = _contents(client, name)
    calls = {"leases": ["create", "update", "delete"], "windows": ["create", "update", "delete"], "about": ["keep"]}
    for each in calls.get(kind, ["keep", "remove"]):
        with pytest.raises(StoreRefusedError, match="choose another prefix") as caught:
            await WRITES[each](store)
        assert caught.value.code == "WRONGTYPE"
    assert _contents(client, name) == before


async def test_a_permission_that_is_lost_while_the_store_is_open_leaves_the_outcome_unknown(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    client.acl_setuser(name, enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all"])
    url = valkey_server.url().replace(f":{valkey_server.password}", f"{name}:pass")
    async with open_store(f"{url}?prefix={name}") as store:
        await store.create(replace(LEASE, window=WINDOW))
        client.acl_setuser(name, enabled=True, commands=["-hdel"])
        with pytest.raises(UnknownOutcomeError, match="allow it EVAL EVALSHA HDEL"):
            await store.update(HELD, expected_version=1)
        row = await store.get(LEASE.key)
        assert row is not None
        assert row.version == 2  # the first half of the script
        client.acl_setuser(name, enabled=True, commands=["-evalsha"])
        with pytest.raises(StoreRefusedError) as caught:
            await store.update(HELD, expected_version=2)
        assert caught.value.code == "NOPERM"
    client.acl_deluser(name)


async def test_a_row_that_is_damaged_is_told_and_never_overwritten(
    store: StateStore, client: redis_library.Redis, name: str
) -> None:
    rows = f"{{{name}}}:leases:orders:{STREAM_ARN}"
    for damaged in (b"", b" {}", b"{}", b"1", b"1 {", b'1 {"epoch":1,"checkpoint":"NOWHERE"}', b"x {}", b"\xff"):
        client.hset(rows, LEASE.shard_id, damaged)
        for call in (READS["get"], READS["list"]):
            with pytest.raises(StoreError, match=r"is damaged.*correct it, or delete it"):
                await call(store)
        assert await store.create(LEASE) is None
        assert client.hget(rows, LEASE.shard_id) == damaged


async def test_a_letter_that_is_damaged_is_told_by_its_id_and_can_be_removed(
    store: StateStore, client: redis_library.Redis, name: str
) -> None:
    client.hset(f"{{{name}}}:dead:facts", f"{1:016d}", "secret")
    with pytest.raises(StoreError, match=r"letter 1 is damaged.*remove the letter") as caught:
        await store.letters(DEAD)
    assert "secret" not in str(caught.value)
    assert await store.remove("dead", [1]) == 1
    assert without_ids(await store.letters(DEAD)) == [letter(2)]


# --- letters ---------------------------------------------------------------------------------------------------------


async def test_a_letter_whose_error_has_no_utf_8_is_kept_and_one_whose_key_has_none_is_refused(
    store: StateStore,
) -> None:
    await store.keep([letter(5, error_text="file \udcff")])
    assert (await store.letters(DEAD))[-1].error_text == "file \\udcff"
    with pytest.raises(StoreError, match="cannot be kept"):
        await store.keep([letter(6, item_key="\udcff")])
    assert await store.count(DEAD) == 3


async def test_large_letters_come_in_several_answers(store: StateStore, client: redis_library.Redis) -> None:
    large = [letter(number, record=bytes(600_000)) for number in range(10, 50)]
    for start in range(0, len(large), 10):
        await store.keep(large[start : start + 10])
    ran = _scripts_run(client)
    found = await store.letters(DEAD)
    assert _scripts_run(client) == ran + 3  # 24 MB, by 8 MiB
    assert without_ids(found) == [letter(1), letter(2), *large]
    assert await store.count(replace(DEAD, ids=tuple(ids_of(found)))) == 42
    assert without_ids(await store.letters(replace(DEAD, ids=tuple(ids_of(found)[1:])))) == [letter(2), *large]


async def test_a_record_that_comes_back_under_another_key_is_found_under_that_alone(store: StateStore) -> None:
    await store.park([letter(3, "moved")], opening=True)
    assert await store.parked_keys("orders", STREAM_ARN) == {key_of("moved"), key_of("b")}
    query = replace(PARKED, pipeline="orders", stream_arn=STREAM_ARN)
    assert await store.count(replace(query, item_key=key_of("a"))) == 0
    assert without_ids(await store.letters(replace(query, item_key=key_of("moved")))) == [letter(3, "moved")]
    assert await store.remove("parked", ids_of(await store.letters(PARKED))) == 2
    assert await store.parked_keys("orders", STREAM_ARN) == frozenset()


async def test_removing_everything_leaves_nothing_behind(
    store: StateStore, client: redis_library.Redis, name: str
) -> None:
    for query in (DEAD, PARKED):
        await store.remove(query.drawer, ids_of(await store.letters(query)))
    await store.delete(LEASE.key, expected_version=1)
    assert list(_contents(client, name)) == [f"{{{name}}}:store".encode()]


async def test_more_parked_keys_than_one_look_finds_are_found(store: StateStore) -> None:
    await store.park([letter(number, str(number % 2_500)) for number in range(10, 5_010)], opening=True)
    keys = await store.parked_keys("orders", STREAM_ARN)
    assert keys == {key_of(str(number)) for number in range(2_500)} | {key_of("a"), key_of("b")}
