"""Who may use a NATS store: users, permissions and TLS; nobody's password is shown, or said in the clear."""

from __future__ import annotations

import json
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import nats.errors
import pytest
import trustme

from nats_stores import keys_of, make_stream, stored
from servers.nats import nats_server
from streamflow.errors import StoreError
from streamflow.leases import WindowState
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, ids_of, letter
from streamflow_nats.connecting import open_client
from streamflow_nats.store import open_nats_store
from streamflow_nats.store_configuration import configuration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from servers.nats import NatsServer

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
LARGE = WindowState(60, 120, b"x" * 10_000)
BUCKETS = ("streamflow", "streamflow_letters")


def block(language: str) -> str:
    """The one block of the README in that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return str(found)


def users(*permissions: str) -> str:
    """Configuration with `admin:admin`, and `worker-0:hunter2` and so on, who have these permissions only."""
    others = "".join(
        f'{{ user: "worker-{number}", password: "hunter2", permissions {{ {each} }} }}\n'
        for number, each in enumerate(permissions)
    )
    return f'authorization {{ users: [{{ user: "admin", password: "admin" }}\n{others}] }}'


def url_of(server: NatsServer, login: str, query: str = "") -> str:
    return f"nats://{login}@127.0.0.1:{server.port}{query}"


async def refused(url: str) -> str:
    """Why the store cannot be opened."""
    with pytest.raises(StoreError) as told, anyio.fail_after(20):
        async with open_nats_store(url):
            pass
    assert "hunter2" not in str(told.value)
    return str(told.value)


# -- logging in ---------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_told_and_not_shown(tmp_path: Path) -> None:
    with nats_server(tmp_path, login="somebody:another") as server:
        told = await refused(url_of(server, "somebody:hunter2"))
        assert "look at user and password, token" in told
        assert "uthorization" in told
        async with open_nats_store(url_of(server, "somebody:another")) as store:
            await stored(store)


async def test_a_token_logs_in(tmp_path: Path) -> None:
    with nats_server(tmp_path, token="a@token") as server:
        assert "look at user and password, token" in await refused(url_of(server, "hunter2"))
        async with open_nats_store(url_of(server, "a%40token")) as store:
            await stored(store)


async def test_a_file_that_is_not_there_is_told(running_server: NatsServer, tmp_path: Path) -> None:
    told = await refused(f"{running_server.url}?ca={tmp_path}/none.pem")
    assert "a file that the URL names is not there (look at creds, ca, cert and key in it)" in told


async def test_credentials_take_a_package_that_may_be_missing(
    running_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    told = await refused(f"{running_server.url}?creds={tmp_path}/some.creds")
    assert "pip install 'nats-py[nkeys]'" in told


# -- permissions --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ruled_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    inbox = 'subscribe: "_INBOX.>"'
    api = '"$JS.API.STREAM.INFO.>", "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>"'
    rules = (
        f'publish: ["$KV.>", "$JS.API.STREAM.INFO.>"], {inbox}',
        f'publish: ["$KV.>", {api}], {inbox}',
        f'publish: [{api}, "$JS.API.STREAM.CREATE.>"], {inbox}',
        'publish: ">", subscribe: "elsewhere.>"',
        f'publish: "elsewhere.>", {inbox}',
    )
    with nats_server(tmp_path_factory.mktemp("nats"), more=users(*rules)) as server:
        yield server


async def test_a_worker_needs_no_more_than_the_readme_says(tmp_path: Path) -> None:
    worker = block("conf").replace("$STREAMFLOW_PASSWORD", '"hunter2"')
    admin = worker.replace("users: [{", 'users: [{ user: "admin", password: "admin" }, {')
    with nats_server(tmp_path, more=admin) as server:
        url = url_of(server, "streamflow:hunter2")
        assert "no permission for publishing to $js.api.stream.create.kv_streamflow" in await refused(url)
        server_for_admin = url_of(server, "admin:admin")
        config = json.loads(block("json"))
        assert config == configuration("streamflow", 3)
        for name in BUCKETS:
            await make_stream(server_for_admin, configuration(name, 1))
        async with open_nats_store(url) as store:
            lease = await stored(store, window=LARGE)
            assert await store.update(LEASE, expected_version=lease.version) is not None
            assert len(await store.list("orders", STREAM_ARN)) == 1
            assert await store.get(LEASE.key) is not None
            assert await store.delete(LEASE.key, expected_version=2)
            await store.park([letter(1, record=b"r" * 100_000)], opening=True)
            assert await store.park([letter(1)])
            assert await store.parked_keys("orders", STREAM_ARN)
            await store.keep([letter(1)])
            assert await store.count(DEAD) == 1
            for query in (DEAD, PARKED):
                assert await store.remove(query.drawer, ids_of(await store.letters(query))) == 1
        assert await keys_of(server_for_admin, "streamflow") == set()


async def test_a_bucket_that_may_not_be_made_is_told(ruled_server: NatsServer) -> None:
    told = await refused(url_of(ruled_server, "worker-0:hunter2", "?bucket=b0"))
    assert "no permission for publishing to $js.api.stream.create.kv_b0" in told
    assert "README" in told


async def test_a_missing_permission_to_write_is_told_and_certain(ruled_server: NatsServer) -> None:
    async with open_nats_store(url_of(ruled_server, "worker-2:hunter2", "?bucket=b1")) as store:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"no permission for publishing to \$kv\.b1\.>") as told:
                await store.create(LEASE)
            assert type(told.value) is StoreError
        assert await store.get(LEASE.key) is None
        with pytest.raises(StoreError, match=r"no permission for publishing to \$kv\.b1_letters\.>"):
            await store.park([letter(1)], opening=True)


async def test_who_may_not_purge_leaves_old_windows_to_others(ruled_server: NatsServer) -> None:
    admin = url_of(ruled_server, "admin:admin", "?bucket=b2")
    async with (
        open_nats_store(admin) as store,
        open_nats_store(url_of(ruled_server, "worker-1:hunter2", "?bucket=b2")) as barred,
    ):
        await stored(barred, window=LARGE)
        assert await barred.update(LEASE, expected_version=1) is not None
        server = url_of(ruled_server, "admin:admin")
        assert len(await keys_of(server, "b2")) == 2
        assert await store.update(LEASE, expected_version=2) is not None
        assert len(await keys_of(server, "b2")) == 1
        assert await barred.delete(LEASE.key, expected_version=3)
        assert await barred.create(LEASE) is not None
        await barred.keep([letter(1)])
        kept = ids_of(await barred.letters(DEAD))
        with pytest.raises(StoreError, match=r"publishing to \$js\.api\.stream\.purge\.kv_b2_letters"):
            await barred.remove("dead", kept)


async def test_a_missing_permission_to_hear_answers_is_told(ruled_server: NatsServer) -> None:
    told = await refused(url_of(ruled_server, "worker-3:hunter2"))
    assert "no permission for subscribing to _INBOX.>" in told


async def test_a_missing_permission_to_look_is_told(ruled_server: NatsServer) -> None:
    told = await refused(url_of(ruled_server, "worker-4:hunter2"))
    assert "no permission for publishing to $js.api.stream.info.kv_streamflow" in told


# -- TLS ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secured_server(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    folder = tmp_path_factory.mktemp("secured")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    tls = f'tls {{ cert_file: "{folder}/certificate.pem", key_file: "{folder}/key.pem" }}'
    with nats_server(folder, login="somebody:hunter2", more=tls) as server:
        yield server


async def test_a_certificate_is_verified(secured_server: NatsServer) -> None:
    authority = f"ca={secured_server.folder}/authority.pem"
    async with open_nats_store(url_of(secured_server, "somebody:hunter2", f"?{authority}")) as store:
        await stored(store)
    told = await refused(url_of(secured_server, "somebody:hunter2", "?tls=true"))
    assert "TLS failed" in told
    assert "ca=FILE" in told
    other_host = url_of(secured_server, "somebody:hunter2", f"?{authority}").replace("127.0.0.1", "localhost")
    assert "TLS failed" in await refused(other_host)


@asynccontextmanager
async def pretended_server(**info: Any) -> AsyncIterator[tuple[int, list[bytes]]]:
    """What says INFO as a server does, and PONG to a PING; its port, and all that was said to it."""
    heard: list[bytes] = []
    said = {"server_id": "x", "version": "2.15.1", "headers": True, "max_payload": 1 << 20, "jetstream": True, **info}

    async def serve(client: anyio.abc.SocketStream) -> None:
        async with client:
            await client.send(b"INFO " + json.dumps(said).encode() + b"\r\n")
            async for chunk in client:
                heard.append(chunk)
                if b"PING" in chunk:
                    await client.send(b"PONG\r\n")

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        yield int(listener.extra(anyio.abc.SocketAttribute.local_port)), heard
        tasks.cancel_scope.cancel()


@pytest.mark.fault("F36")
async def test_nothing_is_said_in_the_clear_to_who_offers_no_tls() -> None:
    async with pretended_server() as (port, heard):
        told = await refused(f"nats://somebody:hunter2@127.0.0.1:{port}?tls=true")
        assert "does not ask for TLS" in told
        assert heard == []


async def test_a_tls_address_is_one_that_takes_tls() -> None:
    async def told(_: Exception) -> None:
        pass

    async with pretended_server() as (port, heard):
        with pytest.raises(nats.errors.Error, match="does not ask for TLS"):
            await open_client([f"tls://127.0.0.1:{port}"], timeout_s=5, told=told, user="somebody", password="hunter2")
        assert heard == []


async def test_an_old_server_is_told() -> None:
    async with pretended_server(version="2.11.9") as (port, _):
        told = await refused(f"nats://127.0.0.1:{port}")
        assert "the server is NATS 2.11, without atomic batches (take 2.12 or newer)" in told
