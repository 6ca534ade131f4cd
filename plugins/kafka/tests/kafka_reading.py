"""What is in a topic, as a consumer of somebody else's would see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from confluent_kafka import Consumer, TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import Message


class Read(NamedTuple):
    key: str
    value: bytes | None
    headers: dict[str, str]


def read_topic(bootstrap_servers: str, topic: str, *, committed: bool = True) -> list[Read]:
    """Every message up to the end, one partition after the other; past it, whatever is told with `isolation.level`."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "log_level": 0,
        }
    )
    try:
        partitions = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: dict[int | None, list[Read]] = {number: [] for number in partitions}
        pending: set[int | None] = set(partitions)
        while pending:
            message = consumer.poll(10)
            assert message is not None, "the end of a partition is not told"
            number = message.partition()
            error = message.error()
            if error is None:
                found[number].append(_read(message))
            elif error.name() == "_PARTITION_EOF":
                pending.remove(number)
        return [each for number in partitions for each in found[number]]
    finally:
        consumer.close()


def _read(message: Message) -> Read:
    key, value = message.key(), message.value()
    assert isinstance(key, bytes)
    assert value is None or isinstance(value, bytes)
    headers = cast("list[tuple[str, bytes]]", message.headers() or [])
    return Read(key=key.decode(), value=value, headers={name: text.decode() for name, text in headers})
