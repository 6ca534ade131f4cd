"""Settings of the Kafka sink, and what librdkafka is told because of them."""

from __future__ import annotations

from typing import Any

import pytest

from streamflow.sdk import ConfigError
from streamflow_kafka import kafka
from streamflow_kafka.clients import make_producer
from streamflow_kafka.settings import KafkaSettings, producing, transacting

SERVERS = "localhost:9092"


def settings(**values: Any) -> KafkaSettings:
    return KafkaSettings(**{"bootstrap_servers": SERVERS, "topic": "orders", **values})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"topic": "no spaces"}, "a topic is made of"),
        ({"topic": "{tabel}"}, "a topic is made of"),
        ({"tombstones": True}, 'tombstones go with payload = "image"'),
        ({"username": "somebody"}, "username and password go together"),
        ({"security_protocol": "sasl_ssl"}, "sasl_mechanism goes with"),
        ({"sasl_mechanism": "PLAIN"}, "sasl_mechanism goes with"),
        ({"key_file": "a.key"}, "key_file goes with certificate_file"),
        ({"config": {"acks": "0", "linger.ms": 5}}, "acks, linger.ms: the sink sets this itself"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_the_reason(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        kafka(**{"bootstrap_servers": SERVERS, "topic": "orders", **values})
    assert told in str(refused.value)


def test_more_settings_of_librdkafka_are_passed_on_as_it_writes_them() -> None:
    told = producing(settings(config={"client.id": "me", "batch.num.messages": 500, "api.version.request": True}))
    assert told["client.id"] == "me"
    assert told["batch.num.messages"] == "500"
    assert told["api.version.request"] == "true"


def test_what_its_promises_rest_on_cannot_be_replaced() -> None:
    told = producing(settings())
    assert (told["acks"], told["enable.idempotence"], told["message.timeout.ms"]) == ("all", True, 0)
    told = transacting(settings(delivery_timeout_s=20), "orders.shard")
    assert told["transactional.id"] == "orders.shard"
    assert told["transaction.timeout.ms"] > 20_000


def test_nothing_secret_is_shown() -> None:
    declared = settings(
        security_protocol="sasl_ssl",
        sasl_mechanism="PLAIN",
        username="somebody",
        password="hunter2",
        config={"sasl.oauthbearer.client.secret": "hunter3"},
    )
    assert "hunter" not in f"{declared!r} {declared}"
    assert producing(declared)["sasl.password"] == "hunter2"


def test_a_key_that_librdkafka_does_not_know_is_told_without_its_value() -> None:
    declared = settings(config={"client.id": "me", "clinet.rack": "hunter2"})
    with pytest.raises(ConfigError) as refused:
        make_producer(declared, producing(declared))
    assert "config.clinet.rack" in str(refused.value)
    assert "client.id" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_value_that_librdkafka_does_not_take_is_told_by_its_key() -> None:
    declared = settings(config={"batch.num.messages": "many"})
    with pytest.raises(ConfigError, match=r"config\.batch\.num\.messages"):
        make_producer(declared, producing(declared))


@pytest.mark.parametrize("transactional", [False, True])
def test_every_example_is_taken_by_librdkafka(transactional: bool) -> None:
    for example in kafka.examples.values():
        declared = settings(**{**example, "transactional": transactional})
        config = transacting(declared, "id") if transactional else producing(declared)
        assert make_producer(declared, config) is not None
