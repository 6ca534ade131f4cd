"""What is looked at when a store is opened, and what a user is told."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import redis as redis_library
import trustme

from redis_tls_front import open_redis_tls_front
from servers.valkey import running_valkey
from streamflow.errors import ConfigError, StoreError, UnknownOutcomeError
from streamflow.plugins import open_store, store_plugin
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, ids_of, key_of, letter
from streamflow_redis.store_checks import FORMAT
from streamflow_redis.store_scripts import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

    from servers.valkey import ValkeyServer
    from streamflow.protocols import StateStore

pytestmark = pytest.mark.anyio


async def _mistake(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        async with open_store(url):
            pass
    assert not isinstance(caught.value, UnknownOutcomeError)
    return str(caught.value)


async def _use(store: StateStore) -> None:
    """Every operation, once."""
    row = await store.create(LEASE)
    assert row is not None
    assert await store.get(LEASE.key) == row
    assert list(await store.list("orders", STREAM_ARN)) == [row]
    assert await store.update(row, expected_version=1) is not None
    assert await store.delete(LEASE.key, expected_version=2)
    await store.keep([letter(1)])
    assert await store.park([letter(2)], opening=True) == await store.park([letter(2)])
    assert await store.parked_keys("orders", STREAM_ARN) == {key_of("a")}
    for query in (DEAD, PARKED):
        assert await store.count(query) == 1
        assert await store.remove(query.drawer, ids_of(await store.letters(query))) == 1


def _user_url(server: ValkeyServer, user: str) -> str:
    return server.url().replace(f":{server.password}", f"{user}:pass")


# --- the way there ---------------------------------------------------------------------------------------------------


async def test_the_schemes_are_installed() -> None:
    assert store_plugin("redis").name == "redis"
    assert store_plugin("rediss").name == "rediss"
    with pytest.raises(ConfigError, match="the number of a database"):
        async with open_store("redis://cache.example.com/orders"):
            pass


async def test_a_server_that_cannot_be_used_is_told_without_the_password(valkey_server: ValkeyServer) -> None:
    url = valkey_server.url()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        cases = {
            url.replace(
                valkey_server.password, "wrong-password"
            ): "(WRONGPASS): it does not know this user and password",
            f"redis://127.0.0.1:{valkey_server.port}/0": "(NOAUTH): it asks for a password: put it into the URL",
            valkey_server.url(port=nobody.getsockname()[1]): "the connection failed (ConnectionError: start the server",
            valkey_server.url(database=99): "an answer that is not expected",
        }
        for each, expected in cases.items():
            message = await _mistake(each)
            assert expected in message, each
            assert message.startswith("lease store redis://127.0.0.1:"), message
            assert valkey_server.password not in message
            assert "wrong-password" not in message


@pytest.mark.fault("F36")
async def test_the_certificate_of_the_server_is_verified(
    valkey_server: ValkeyServer, name: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    async with open_redis_tls_front(valkey_server.port, authority.issue_cert("localhost")) as port:
        url = valkey_server.url(host="localhost", port=port).replace("redis://", "rediss://") + f"?prefix={name}"
        assert "ssl_ca_certs=FILE" in await _mistake(url)
        trusting = f"{url}&ssl_ca_certs={tmp_path / 'authority.pem'}"
        assert "ssl_ca_certs=FILE" in await _mistake(trusting.replace("localhost", "127.0.0.1"))
        assert "ssl_ca_certs=FILE" in await _mistake(trusting.replace("authority", "nothing"))
        async with open_store(trusting) as store:
            await _use(store)


async def test_a_node_of_a_cluster_is_used_while_it_has_the_slot() -> None:
    with running_valkey({"cluster-enabled": "yes"}) as server, redis_library.Redis.from_url(server.url()) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        with anyio.fail_after(20):
            while (client.execute_command("CLUSTER INFO") or {})["cluster_state"] != "ok":
                await anyio.lowlevel.checkpoint()
        async with open_store(server.url()) as store:
            await _use(store)
            client.execute_command("CLUSTER", "DELSLOTSRANGE", 0, 16_383)
            with pytest.raises(StoreError, match=r"CLUSTERDOWN.*look at CLUSTER INFO"):
                await store.create(LEASE)


# --- what the user may -----------------------------------------------------------------------------------------------


async def test_a_user_with_exactly_the_commands_and_keys_that_are_documented_can_use_it(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    allowed = [f"+{command.lower()}" for command in COMMANDS]
    client.acl_setuser(name, enabled=True, passwords=["+pass"], keys=[f"{{{name}}}:*"], commands=allowed)
    async with open_store(f"{_user_url(valkey_server, name)}?prefix={name}") as store:
        await _use(store)
    client.acl_deluser(name)


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_user_that_may_not_use_a_command_is_told_at_once_which_it_needs(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str, command: str
) -> None:
    client.script_flush()  # EVAL is only needed for a script that the server does not know
    allowed = ["+@all", f"-{command.lower()}"]
    client.acl_setuser(name, enabled=True, passwords=["+pass"], keys=["*"], commands=allowed)
    if command == "HGETALL":
        async with open_store(f"{_user_url(valkey_server, name)}?prefix={name}") as store:
            with pytest.raises(StoreError, match="allow it EVAL EVALSHA"):
                await store.list("orders", STREAM_ARN)
    else:
        assert "allow it EVAL EVALSHA HDEL" in await _mistake(f"{_user_url(valkey_server, name)}?prefix={name}")
    client.acl_deluser(name)


async def test_a_user_that_may_not_touch_the_keys_is_told(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    client.acl_setuser(name, enabled=True, passwords=["+pass"], keys=["another:*"], commands=["+@all"])
    assert "and the keys of the store" in await _mistake(f"{_user_url(valkey_server, name)}?prefix={name}")
    assert not client.exists(f"{{{name}}}:store")
    client.acl_deluser(name)


# --- what the server does with what it is given ----------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
async def test_a_server_that_may_evict_any_key_is_refused(policy: str) -> None:
    with running_valkey({"maxmemory": "100mb", "maxmemory-policy": policy}) as server:
        message = await _mistake(server.url())
        assert f"evicts any key ({policy})" in message
        assert "set maxmemory-policy to noeviction" in message
        with redis_library.Redis.from_url(server.url()) as client:
            assert client.dbsize() == 0
            client.config_set("maxmemory", 0)  # nothing is evicted without a limit
            async with open_store(server.url()) as store:
                await _use(store)


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru", "volatile-ttl"])
async def test_a_server_that_evicts_only_what_may_expire_is_used_because_nothing_of_ours_does(policy: str) -> None:
    with (
        running_valkey({"maxmemory": "100mb", "maxmemory-policy": policy}) as server,
        redis_library.Redis.from_url(server.url()) as client,
    ):
        async with open_store(server.url()) as store:
            await store.create(LEASE)
            await store.keep([letter(1)])
            await store.park([letter(1)], opening=True)
        assert {client.ttl(key) for key in client.scan_iter()} == {-1}


@pytest.mark.parametrize(
    ("settings", "commands", "expected"),
    [
        ({"appendonly": "no"}, "+@all", "appendonly=no snapshots=off"),
        ({"appendonly": "no"}, "-config", "appendonly=no snapshots=unknown"),
        ({"appendonly": "no", "save": "3600 1"}, "+@all", ""),
        ({"appendonly": "no"}, "-info", ""),  # nothing is known, so nothing is said
        ({}, "+@all", ""),
    ],
)
async def test_a_server_that_forgets_everything_with_a_restart_is_warned_of_once(
    settings: dict[str, str], commands: str, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running_valkey(settings) as server, redis_library.Redis.from_url(server.url()) as client:
        client.acl_setuser("u", enabled=True, passwords=["+pass"], keys=["*"], commands=["+@all", commands])
        with caplog.at_level(logging.INFO, logger="streamflow"):
            async with open_store(_user_url(server, "u")) as store:
                await _use(store)
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == bool(expected)
        for message in messages:
            assert expected in message
            assert "set appendonly yes" in message
            assert "pass" not in message


# --- what is there already -------------------------------------------------------------------------------------------


async def test_a_store_of_a_newer_version_is_refused_and_not_touched(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    url = f"{valkey_server.url()}?prefix={name}"
    for held in (str(FORMAT + 1), "other"):
        client.hset(f"{{{name}}}:store", "format", held)
        before: Any = client.dump(f"{{{name}}}:store")
        message = await _mistake(url)
        assert f"has format '{held}', written by a newer streamflow" in message
        assert client.dump(f"{{{name}}}:store") == before
    client.hset(f"{{{name}}}:store", "format", str(FORMAT))
    async with open_store(url) as store:
        await _use(store)


async def test_two_prefixes_and_two_databases_are_stores_of_their_own(valkey_server: ValkeyServer, name: str) -> None:
    async with (
        open_store(f"{valkey_server.url()}?prefix={name}") as one,
        open_store(f"{valkey_server.url()}?prefix={name}:") as another,
        open_store(f"{valkey_server.url(database=1)}?prefix={name}") as third,
    ):
        await one.create(LEASE)
        await one.keep([letter(1)])
        for other in (another, third):
            assert await other.get(LEASE.key) is None
            assert await other.count(DEAD) == 0
            await _use(other)
        assert await one.count(DEAD) == 1
