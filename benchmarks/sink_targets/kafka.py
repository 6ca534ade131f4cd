"""Kafka's protocol, spoken by the stand-in of the tests, which keeps what it is given."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.sink_targets.target import Pages, Place, Target, item_key, lambda_record, on_core, own_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from benchmarks.sink_targets.target import Record, WritePage


@contextmanager
def _serve(core: int) -> Iterator[str]:
    with on_core(core), TemporaryDirectory() as folder:
        from servers.kafka import fake_broker

        with fake_broker(Path(folder)) as broker:
            yield broker.bootstrap_servers


@asynccontextmanager
async def _open_topic(servers: str) -> AsyncIterator[Place]:
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    from streamflow_kafka import kafka

    topic = own_name()
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 4, 1)])[topic].result(10)

    async def count() -> int:
        consumer = Consumer({"bootstrap.servers": servers, "group.id": topic})
        offsets = [consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10) for number in range(4)]
        consumer.close()
        return sum(end - start for start, end in offsets)

    yield Place(
        sink=kafka(bootstrap_servers=servers, topic=topic),
        open_loop=partial(_produce_loop, servers, topic),
        count=count,
    )


@asynccontextmanager
async def _produce_loop(servers: str, topic: str) -> AsyncIterator[WritePage]:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": servers, "acks": "all", "enable.idempotence": True})
    failures: list[Any] = []

    def reported(error: Any, _: Any) -> None:
        if error is not None:
            failures.append(error)

    async def write(records: Sequence[Record]) -> None:
        for record in records:
            producer.produce(topic, orjson.dumps(lambda_record(record)), item_key(record), on_delivery=reported)
            producer.poll(0)
        if producer.flush(30) or failures:
            raise RuntimeError("a message was not delivered")

    yield write


TARGETS = (
    Target(
        name="kafka",
        server="the repository's stand-in for a Kafka broker, which is no product",
        loop="confluent_kafka produce and flush",
        holds="changes",
        pages=Pages(ours=40, peer=5, floor=30),
        serve=_serve,
        open_place=_open_topic,
    ),
)
