"""The Redis sink over a real Valkey: what the contract of sinks does not ask for."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import redis as redis_library
import trustme

from redis_tls_front import open_redis_tls_front
from servers.valkey import running_valkey
from streamflow.clock import SystemClock
from streamflow.handlers.context import Context
from streamflow.sdk import AwsSettings, ConfigError, RecordsFailedError, SinkBusyError, StreamflowError
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Changes
from streamflow_redis import redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from servers.valkey import ValkeyServer
    from streamflow.protocols import AwsClients
    from streamflow.sdk import SinkDeclaration, Writer

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def _open(declared: SinkDeclaration, suppressed: list[int] | None = None) -> AsyncIterator[Writer]:
    async def aws(_: AwsSettings | None) -> AwsClients:
        raise AssertionError("it needs no AWS")

    counts = suppressed if suppressed is not None else []
    async with declared.open(
        Context(pipeline="orders", clock=SystemClock(), aws=aws, suppressed=counts.append)
    ) as writer:
        yield writer


# --- views -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["json", "hash"])
async def test_of_a_batch_exactly_the_items_with_a_key_of_another_type_are_refused(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str, mode: str
) -> None:
    changes = Changes()
    first, good, second = changes.put("bad"), changes.put("good"), changes.put("bad")
    key = f"{name}:{changes.item('bad')}"
    client.set(key if mode == "hash" else f"_sf:{{{key}}}", "in the way")
    async with _open(redis(url=valkey_server.url(), mode=mode, key_prefix=f"{name}:")) as writer:
        with pytest.raises(RecordsFailedError) as caught:
            await writer.write(changes.batch(first, good, second))
    told = [(failure.record, failure.kind) for failure in caught.value.failures]
    assert told == [(first, "refused"), (second, "waiting")]
    assert changes.item("bad") not in str(caught.value)
    assert client.exists(f"{name}:{changes.item('good')}")


@pytest.mark.parametrize("mode", ["json", "hash"])
async def test_what_the_server_has_already_is_told_as_suppressed(
    valkey_server: ValkeyServer, name: str, mode: str
) -> None:
    changes = Changes()
    changes.put_many(1_500)
    suppressed: list[int] = []
    async with _open(redis(url=valkey_server.url(), mode=mode, key_prefix=f"{name}:"), suppressed) as writer:
        await writer.write(changes.batch(*changes.records))
        assert sum(suppressed) == 0
        await writer.write(changes.batch(*changes.records))
        assert sum(suppressed) == 1_500


@pytest.mark.parametrize("mode", ["json", "hash"])
async def test_a_tombstone_ends_when_it_may_and_an_item_that_came_back_does_not(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str, mode: str
) -> None:
    changes = Changes()
    key = f"{name}:{changes.item('one')}"
    version = key if mode == "hash" else f"_sf:{{{key}}}"
    declared = redis(url=valkey_server.url(), mode=mode, key_prefix=f"{name}:", tombstone_ttl_s=600)
    async with _open(declared) as writer:
        await writer.write(changes.batch(changes.put("one")))
        assert client.ttl(version) == -1
        await writer.write(changes.batch(changes.delete("one")))
        assert 0 < client.ttl(version) <= 600
        await writer.write(changes.batch(changes.put("one")))
        assert client.ttl(version) == -1


async def test_an_attribute_that_an_item_lost_leaves_its_hash(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    changes = Changes()
    async with _open(redis(url=valkey_server.url(), mode="hash", key_prefix=f"{name}:")) as writer:
        await writer.write(changes.batch(changes.put("one", extra={"S": "x"})))
        await writer.write(changes.batch(changes.put("one")))
    assert not client.hexists(f"{name}:{changes.item('one')}", "extra")


async def test_a_hash_may_have_more_fields_than_a_script_may_unpack(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    changes = Changes()
    record = changes.put("one", **{f"attribute{number}": {"N": str(number)} for number in range(9_000)})
    async with _open(redis(url=valkey_server.url(), mode="hash", key_prefix=f"{name}:")) as writer:
        await writer.write(changes.batch(record))
    fields = client.hgetall(f"{name}:{changes.item('one')}")
    assert len(fields) == 9_000 + len(("id", "version")) + 4
    assert fields[b"attribute8999"] == b"8999"


# --- invalidate ------------------------------------------------------------------------------------------------------


async def test_the_keys_of_changed_items_are_dropped_and_no_others(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    changes = Changes()
    changes.put_many(1_200, items=1_100)
    changes.delete("item7")
    keys = [f"{name}:{changes.item(f'item{number}')}" for number in range(1_100)]
    client.mset(dict.fromkeys([*keys, f"{name}:another"], "cached"))
    async with _open(redis(url=valkey_server.url(), mode="invalidate", key_prefix=f"{name}:")) as writer:
        await writer.write(changes.batch(*changes.records))
        await writer.write(changes.batch(*changes.records))
    assert client.exists(*keys) == 0
    assert client.exists(f"{name}:another")


async def test_an_invalidation_whose_answer_is_lost_or_whose_server_dies_fails_and_can_be_repeated(
    client: redis_library.Redis,
) -> None:
    with running_valkey() as server:
        async with open_fault_proxy("127.0.0.1", server.port) as proxy:
            changes = Changes()
            batch = changes.batch(*changes.put_many(5))
            key = changes.item("item3")
            async with _open(redis(url=server.url(port=proxy.port), mode="invalidate")) as writer:
                with redis_library.Redis.from_url(server.url()) as other:
                    other.set(key, "cached")
                proxy.lose_answers(1)
                with pytest.raises(StreamflowError, match="the connection to the server failed"):
                    await writer.write(batch)
                proxy.pass_through()
                server.kill()
                with pytest.raises(StreamflowError):
                    await writer.write(batch)
                server.start()
                await writer.write(batch)
                with redis_library.Redis.from_url(server.url()) as other:
                    assert not other.exists(key)


# --- what the server says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"mode": "json"}, {"mode": "hash"}, {"mode": "stream", "stream": "changes"}],
    ids=lambda each: each["mode"],
)
async def test_a_server_out_of_memory_asks_for_a_pause_and_has_written_nothing(settings: dict[str, Any]) -> None:
    with (
        running_valkey({"maxmemory-policy": "noeviction"}) as server,
        redis_library.Redis.from_url(server.url()) as client,
    ):
        changes = Changes()
        batch = changes.batch(*changes.put_many(3))
        async with _open(redis(url=server.url(), **settings)) as writer:
            client.config_set("maxmemory", 1)
            with pytest.raises(SinkBusyError, match="OOM"):
                await writer.write(batch)
            assert client.dbsize() == 0
            client.config_set("maxmemory", 0)
            await writer.write(batch)
            client.config_set("maxmemory", 1)
            before = {key: client.dump(key) for key in client.scan_iter()}
            with pytest.raises(SinkBusyError, match="OOM"):
                await writer.write(changes.batch(changes.put("item0"), changes.put("item2")))
            assert {key: client.dump(key) for key in client.scan_iter()} == before
            if settings["mode"] != "stream":
                await writer.write(changes.batch(changes.delete("item1")))


async def test_a_server_that_forgot_its_scripts_is_told_them_again(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    changes = Changes()
    async with _open(redis(url=valkey_server.url(), key_prefix=f"{name}:")) as writer:
        await writer.write(changes.batch(changes.put("one")))
        client.script_flush()
        await writer.write(changes.batch(changes.put("two")))
    assert client.exists(f"{name}:{changes.item('two')}")


async def test_a_server_that_became_a_replica_fails_the_batch_and_is_looked_up_again() -> None:
    with running_valkey() as server, redis_library.Redis.from_url(server.url()) as client:
        changes = Changes()
        batch = changes.batch(changes.put("one"))
        async with _open(redis(url=server.url())) as writer:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(StreamflowError, match="READONLY") as caught:
                await writer.write(batch)
            assert not isinstance(caught.value, SinkBusyError | RecordsFailedError)
            client.execute_command("REPLICAOF", "NO", "ONE")
            await writer.write(batch)


async def test_a_cluster_is_used_where_all_keys_are_in_one_slot() -> None:
    with running_valkey({"cluster-enabled": "yes"}) as server, redis_library.Redis.from_url(server.url()) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        with anyio.fail_after(20):
            while (client.execute_command("CLUSTER INFO") or {})["cluster_state"] != "ok":
                await anyio.lowlevel.checkpoint()
        changes = Changes()
        batch = changes.batch(*changes.put_many(20))
        assert "hash tag" in await _mistake(redis(url=server.url(), key_prefix="order:"))
        for settings in (
            {"key_prefix": "{orders}:"},
            {"mode": "hash", "key_prefix": "{orders}:hash:"},
            {"mode": "stream", "stream": "changes"},
            {"mode": "publish", "channel": "changes"},
            {"mode": "invalidate", "key_prefix": "{orders}:cache:"},
        ):
            async with _open(redis(url=server.url(), **settings)) as writer:
                await writer.write(batch)
        assert client.xlen("changes") == 20
        assert client.exists("{orders}:" + changes.item("item3"))
        client.execute_command("CLUSTER", "DELSLOTSRANGE", 0, 16_383)
        async with _open(redis(url=server.url(), key_prefix="{orders}:")) as writer:
            with pytest.raises(SinkBusyError, match="CLUSTERDOWN"):
                await writer.write(batch)


# --- opening ---------------------------------------------------------------------------------------------------------


async def _mistake(declared: SinkDeclaration) -> str:
    with pytest.raises(ConfigError) as caught:
        async with _open(declared):
            pass
    return str(caught.value)


async def test_a_server_that_cannot_be_used_is_told_without_the_password(
    valkey_server: ValkeyServer, client: redis_library.Redis, name: str
) -> None:
    url = valkey_server.url()
    client.acl_setuser(name, enabled=True, passwords=["+pass"], keys=["*"], commands=["+ping", "+hello", "+client"])
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        cases = {
            url.replace(valkey_server.password, "wrong-password"): "mend user and password",
            f"redis://127.0.0.1:{valkey_server.port}/0": "mend user and password",
            url.replace(f":{valkey_server.password}", f"{name}:pass"): "the user may not do that",
            valkey_server.url(port=nobody.getsockname()[1]): "cannot be reached (ConnectionError)",
            valkey_server.url(database=99): "cannot be used",
        }
        for each, expected in cases.items():
            message = await _mistake(redis(url=each, mode="stream", stream=name))
            assert expected in message, each
            assert valkey_server.password not in message
            assert "wrong-password" not in message
    client.acl_deluser(name)


async def test_the_certificate_of_the_server_is_verified(valkey_server: ValkeyServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    async with open_redis_tls_front(valkey_server.port, authority.issue_cert("localhost")) as port:
        url = valkey_server.url(host="localhost", port=port).replace("redis://", "rediss://")
        assert "ssl_ca_certs" in await _mistake(redis(url=url))
        trusting = f"{url}?ssl_ca_certs={tmp_path / 'authority.pem'}"
        async with _open(redis(url=trusting)):
            pass
        assert "ssl_ca_certs" in await _mistake(redis(url=trusting.replace("localhost", "127.0.0.1")))
