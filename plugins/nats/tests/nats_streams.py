"""Streams, made and read as somebody else would."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy, StreamConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from nats.js import JetStreamContext

    from servers.nats import NatsServer


class Read(NamedTuple):
    subject: str
    payload: bytes
    headers: dict[str, str]


@asynccontextmanager
async def jetstream(server: NatsServer) -> AsyncIterator[JetStreamContext]:
    user, _, password = (server.login or ":").partition(":")
    client = await nats.connect(server.url, token=server.token, user=user or None, password=password or None)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def create_stream(server: NatsServer, name: str, *, subjects: Sequence[str], **config: Any) -> None:
    async with jetstream(server) as stream:
        await stream.add_stream(StreamConfig(name=name, subjects=list(subjects), **config))


async def read_stream(server: NatsServer, name: str) -> list[Read]:
    """Everything in the stream, in its order."""
    async with jetstream(server) as stream:
        left = (await stream.stream_info(name)).state.messages
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        reader = await stream.pull_subscribe("", stream=name, config=config)
        found: list[Read] = []
        while len(found) < left:
            for message in await reader.fetch(min(500, left - len(found)), timeout=10):
                found.append(Read(message.subject, message.data, dict(message.headers or {})))
                await message.ack()
        return found
