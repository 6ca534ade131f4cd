"""The sink `kafka`. The client library is imported when a sink is opened, not before."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamflow.sdk import Capabilities, SinkPlugin, nothing_at_aws
from streamflow_kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from streamflow.sdk import SinkContext, Writer

__all__ = ["KafkaSettings", "kafka"]


@asynccontextmanager
async def _open(settings: KafkaSettings, context: SinkContext) -> AsyncIterator[Writer]:
    from streamflow_kafka.sink import open_idempotent
    from streamflow_kafka.transactions import open_transactional

    opened: AbstractAsyncContextManager[Writer] = (
        open_transactional(settings, context) if settings.transactional else open_idempotent(settings)
    )
    async with opened as writer:
        yield writer


def _capabilities(settings: KafkaSettings) -> Capabilities:
    return Capabilities(
        order="key",
        idempotence="transactional" if settings.transactional else "none",
        idempotence_key="shard and sequence number" if settings.transactional else None,
        partial_failures=True,
        needs_images=settings.payload == "image",
        batch_size=1000,
        bytes_max=8 << 20,
        record_bytes_max=settings.record_bytes_max,
    )


kafka = SinkPlugin(
    name="kafka",
    api_version="1.0",
    summary="Messages in a Kafka topic, in order for each item; at least once, or in transactions with the checkpoint.",
    settings=KafkaSettings,
    examples={
        "a topic": {"bootstrap_servers": "localhost:9092", "topic": "orders"},
        "a compacted topic of items": {
            "bootstrap_servers": "localhost:9092",
            "topic": "cdc.{table}",
            "payload": "image",
            "tombstones": True,
        },
        "transactions, over TLS with a password": {
            "bootstrap_servers": "broker-1:9093,broker-2:9093",
            "topic": "orders",
            "transactional": True,
            "security_protocol": "sasl_ssl",
            "sasl_mechanism": "SCRAM-SHA-512",
            "username": "streamflow",
            "password": "${KAFKA_PASSWORD}",
        },
    },
    open=_open,
    capabilities=_capabilities,
    permissions=nothing_at_aws,
)
