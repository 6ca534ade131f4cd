"""The channel between a supervisor and one worker: a pair of sockets that nobody else can reach.

It carries messages both ways, and each side learns from its end that the other is gone, however that came about: the
operating system closes what a process held.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from streamflow.cli.supervision.messages import decoded, encoded

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from streamflow.cli.supervision.messages import Message

LINE_BYTES_MAX = 16 * 1024 * 1024
"""The largest message is a page of metrics: with its 200 shards about 300 KB for each pipeline."""
UNREAD_BYTES_MAX = 1024 * 1024
"""With more than this waiting to be read, the other side is stuck, and gets no more until it reads."""
_FLUSH_S = 2.0


class Channel:
    """One end. Sending never waits, so that whoever sends is not held up by a reader that is stuck."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, message: Message) -> bool:
        """Send, whole or not at all; False where the other side is gone, or has not read for long."""
        if self._writer.is_closing() or self._writer.transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            return False
        self._writer.write(encoded(message))
        return True

    async def messages(self) -> AsyncIterator[Message]:
        """What the other side sends, until it is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except (OSError, ValueError):  # reset; or no line end within the limit, after which nothing can be read
                return
            if not line.endswith(b"\n"):
                return
            if (message := decoded(line)) is not None:
                yield message

    async def aclose(self) -> None:
        """Close after what was sent is on its way; an end that is not read is not waited for longer than 2 s."""
        self._writer.close()
        with anyio.move_on_after(_FLUSH_S, shield=True) as scope:
            try:
                await self._writer.wait_closed()
            except OSError:
                return
        if scope.cancelled_caught:
            self._writer.transport.abort()


async def open_channel(end: socket.socket) -> Channel:
    """Take over one end of a socket pair."""
    return Channel(*await asyncio.open_unix_connection(sock=end, limit=LINE_BYTES_MAX))
