"""The sink in its idempotent mode: at least once, in order for each item."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from confluent_kafka import KafkaException

from streamflow.sdk import RecordsFailedError, table_of
from streamflow_kafka.clients import make_producer, missing_topic, topics, unreachable
from streamflow_kafka.outcomes import failures
from streamflow_kafka.sender import open_sender
from streamflow_kafka.settings import producing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.sdk import Batch, Shard
    from streamflow_kafka.sender import Sender
    from streamflow_kafka.settings import KafkaSettings


class IdempotentWriter:
    """Any number of shards may write at the same time."""

    def __init__(self, settings: KafkaSettings, sender: Sender) -> None:
        self._settings = settings
        self._sender = sender
        self._partitions: dict[str, list[int]] = {}  # of the topics that were seen
        self._looking = anyio.Lock()

    async def write(self, batch: Batch, /) -> None:
        delivery = await self._sender.deliver(await self.topic_of(batch.shard), batch.records)
        if failed := failures(batch.records, delivery.keys, delivery.outcomes):
            raise RecordsFailedError(failed)

    async def topic_of(self, shard: Shard) -> str:
        """The topic for the records of a shard. Raises as `partitions`."""
        topic = self._settings.topic.replace("{table}", table_of(shard.stream_arn))
        await self.partitions(topic)
        return topic

    async def partitions(self, topic: str, *, compacted: bool = False) -> list[int]:
        """The topic's partitions, looked up once; `compacted` is what it should be, if the user has to make it.

        Raises:
            ConfigError: it is not there.
            KafkaException: no broker answers.
        """
        async with self._looking:
            if topic not in self._partitions:
                await self.look()
        if topic not in self._partitions:
            raise missing_topic(topic, self._settings, compacted=compacted)
        return self._partitions[topic]

    async def look(self) -> None:
        """Look all topics up. Raises `KafkaException`: no broker answers."""
        self._partitions = await to_thread.run_sync(topics, self._sender.producer, self._settings)


@asynccontextmanager
async def open_idempotent(settings: KafkaSettings) -> AsyncIterator[IdempotentWriter]:
    """Raises `ConfigError`: no broker answers, or the topic is not there; one of a `{table}` is looked for when written."""
    make = partial(make_producer, settings, producing(settings))
    async with open_sender(make, settings) as sender:
        writer = IdempotentWriter(settings, sender)
        try:
            await writer.look()
        except KafkaException as error:
            raise unreachable(error, settings) from error
        if "{table}" not in settings.topic:
            await writer.partitions(settings.topic)
        yield writer
