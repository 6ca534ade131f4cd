"""A network of one service, in memory and in virtual time: real clients above, no socket, no server and no thread below.

Everything from the HTTP client upwards is the product's own. Chunks arrive one in each turn of the loop, so that how many
there are depends on nothing but their size.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from guard.stream import Answers

# What asyncio receives at once at most.
_CHUNK_BYTES = 256 * 1024


class OfflineLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, because its turns are part of the price, but time jumps to the next timer, and connections, to
    whatever address, lead to the service.
    """

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self._answers = answers
        self._now = 1_000.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Nothing is sent."""

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *_: Any, sock: socket.socket | None = None, **__: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        if sock is not None:
            sock.close()
        protocol = protocol_factory()
        transport = Connection(self, protocol, self._answers)
        protocol.connection_made(transport)
        return transport, protocol


class OfflineClock:
    """Wall time that follows the loop's. What it costs to read is not counted: a real clock is another function."""

    def __init__(self, epoch_s: float) -> None:
        self._epoch_s = epoch_s

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def lifetime(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self._epoch_s + asyncio.get_running_loop().time()


class Connection(asyncio.Transport):
    """One end of a connection, whose other end is the service. As small as can be: memory is measured with it."""

    __slots__ = ("_answers", "_chunks", "_closing", "_due", "_loop", "_paused", "_protocol", "_request")

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, answers: Answers) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._answers = answers
        self._request = b""
        self._chunks: list[bytes] = []
        self._due = self._paused = self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._request += bytes(data)
        head, found, body = self._request.partition(b"\r\n\r\n")
        if found and len(body) == int(_header(head, b"content-length")):
            self._request = b""
            answer = self._answers.to(_header(head, b"x-amz-target").rpartition(b".")[2], body)
            for start in range(0, len(answer), _CHUNK_BYTES):
                self._chunks.append(answer[start : start + _CHUNK_BYTES])
            self._expect()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._expect()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def _expect(self) -> None:
        if self._chunks and not (self._due or self._paused):
            self._due = True
            self._loop.call_soon(self._arrive)

    def _arrive(self) -> None:
        self._due = False
        if self._chunks and not (self._paused or self._closing):
            self._protocol.data_received(self._chunks.pop(0))
            self._expect()


def _header(head: bytes, name: bytes) -> bytes:
    """The value of a header; `ValueError` from `int` later where it is missing."""
    at = head.lower().find(b"\r\n" + name + b":")
    return head[at + len(name) + 3 :].partition(b"\r\n")[0].strip() if at >= 0 else b""
