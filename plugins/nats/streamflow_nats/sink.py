"""The sink, opened."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats.errors
import nats.js.errors

from streamflow.sdk import ConfigError, write_in_requests
from streamflow_nats.connections import Connections, connect
from streamflow_nats.messages import Encoder, is_stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.sdk import Batch, Capabilities, Rejection, SinkContext
    from streamflow_nats.connections import Connection
    from streamflow_nats.messages import Message
    from streamflow_nats.settings import NatsSettings

_REQUESTS_MAX = 8


class NatsWriter:
    """Any number of shards may write at the same time, over one connection."""

    def __init__(
        self, context: SinkContext, connections: Connections, encoder: Encoder, capabilities: Capabilities
    ) -> None:
        self._context = context
        self._connections = connections
        self._encode = encoder
        self._capabilities = capabilities

    async def write(self, batch: Batch, /) -> None:
        await write_in_requests(
            batch, encode=self._encode, send=self._send, capabilities=self._capabilities, concurrency=_REQUESTS_MAX
        )

    async def _send(self, messages: Sequence[Message]) -> list[Rejection | None]:
        connection = await self._connections.current()
        answers, known = await connection.publish(messages)
        self._context.note_suppressed(known)
        return answers


@asynccontextmanager
async def open_nats(
    settings: NatsSettings, context: SinkContext, capabilities: Capabilities
) -> AsyncIterator[NatsWriter]:
    """Raises `ConfigError`: no server lets us in, or the stream is not there or not as the settings say."""
    connections = Connections(settings, await _connected(settings))
    try:
        encoder = Encoder(
            pipeline=context.pipeline,
            stream=settings.stream,
            subject=settings.subject,
            form=settings.payload,
            bytes_max=await _bytes_max(await connections.current(), settings),
        )
        yield NatsWriter(context, connections, encoder, capabilities)
    finally:
        await connections.aclose()


async def _connected(settings: NatsSettings) -> Connection:
    try:
        return await connect(settings)
    except ImportError:
        raise ConfigError("nats: credentials_file takes the package nkeys: pip install 'nats-py[nkeys]'") from None
    except ssl.SSLError as error:
        raise ConfigError(f"nats: TLS with {settings.servers} failed: {error.reason}") from error
    except (OSError, nats.errors.Error) as error:
        what = type(error).__name__ if not str(error) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"nats: {settings.servers} did not let us in within {settings.connect_timeout_s:g} s ({what}): look at "
            "servers, and at username and password, token or credentials_file"
        ) from error


async def _bytes_max(connection: Connection, settings: NatsSettings) -> int:
    """The bytes that a message may have; looks at the stream on the way.

    Raises:
        ConfigError: it is not there, or not as the settings say.
    """
    window = f"--dupe-window {settings.duplicate_window_s:g}s"
    command = f"nats stream add {settings.stream} --subjects '{_example_filter(settings)}' {window}"
    try:
        stream = (await connection.jetstream.stream_info(settings.stream)).config
    except nats.js.errors.NotFoundError:
        raise ConfigError(
            f"nats: there is no stream {settings.stream} at {settings.servers}; make it: {command}"
        ) from None
    except (nats.js.errors.Error, nats.errors.Error) as error:
        raise ConfigError(
            f"nats: {settings.servers} does not tell of the stream {settings.stream} ({type(error).__name__}): JetStream "
            "must be switched on, and the user allowed to publish to $JS.API.STREAM.INFO"
        ) from error
    if stream.duplicate_window < settings.duplicate_window_s:
        raise ConfigError(
            f"nats: stream {settings.stream} recognises what it has for {stream.duplicate_window:g} s, and "
            f"duplicate_window_s is {settings.duplicate_window_s:g}: set it lower, or nats stream edit {settings.stream} "
            f"{window}"
        )
    subject = settings.subject.replace("{key_hash}", "0" * 16)
    if "{table}" not in subject and not is_stored(subject, stream.subjects or []):
        raise ConfigError(
            f"nats: stream {settings.stream} does not store the subject {settings.subject}, but "
            f"{', '.join(stream.subjects or [])}: nats stream edit {settings.stream} --subjects …"
        )
    limits = (settings.record_bytes_max, connection.client.max_payload, stream.max_msg_size or -1)
    return min(limit for limit in limits if limit > 0)


def _example_filter(settings: NatsSettings) -> str:
    """What a stream should store so that all subjects are among it."""
    fixed = settings.subject.partition("{")[0]
    return f"{fixed.rpartition('.')[0]}.>" if "." in fixed and fixed != settings.subject else settings.subject
