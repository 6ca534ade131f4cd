"""The sink `nats`, and the store. The client library is imported when one of them is opened, not before."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamflow.sdk import Capabilities, SinkPlugin, StorePlugin, nothing_at_aws
from streamflow_nats.settings import NatsSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.protocols import StateStore
    from streamflow.sdk import SinkContext, Writer

__all__ = ["NatsSettings", "nats", "nats_store"]


@asynccontextmanager
async def _open(settings: NatsSettings, context: SinkContext) -> AsyncIterator[Writer]:
    from streamflow_nats.sink import open_nats

    async with open_nats(settings, context, _capabilities(settings)) as writer:
        yield writer


@asynccontextmanager
async def _open_store(url: str) -> AsyncIterator[StateStore]:
    from streamflow_nats.store import open_nats_store

    async with open_nats_store(url) as opened:
        yield opened


def _capabilities(settings: NatsSettings) -> Capabilities:
    return Capabilities(
        order="key",
        idempotence="window",
        idempotence_key="pipeline and event id",
        idempotence_window_s=settings.duplicate_window_s,
        partial_failures=True,
        needs_images=settings.payload == "image",
        batch_size=500,
        bytes_max=4 << 20,
        request_records_max=250,
        request_bytes_max=1 << 20,
        record_bytes_max=settings.record_bytes_max,
    )


nats = SinkPlugin(
    name="nats",
    api_version="1.0",
    summary="Messages in a stream of NATS JetStream, in order for each item; a repetition within its window is dropped.",
    settings=NatsSettings,
    examples={
        "a subject for each item": {"servers": "nats://localhost:4222", "stream": "CDC"},
        "one subject, with a token": {
            "servers": "nats://nats-1:4222,nats://nats-2:4222",
            "stream": "ORDERS",
            "subject": "orders",
            "payload": "change",
            "token": "${NATS_TOKEN}",
        },
    },
    open=_open,
    capabilities=_capabilities,
    permissions=nothing_at_aws,
)

nats_store = StorePlugin(
    name="nats",
    api_version="1.0",
    summary="Two buckets of NATS JetStream, for any number of workers on any number of hosts.",
    url_example="nats://user:password@nats-1:4222,nats-2:4222,nats-3:4222?bucket=streamflow&replicas=3",
    open=_open_store,
)
