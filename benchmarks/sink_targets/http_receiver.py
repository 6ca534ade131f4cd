"""A receiver of webhooks in a process of its own: it counts the records in what it gets, and says so to a GET.

Like the replay server it is an `asyncio.Protocol` of a few lines, so as not to be the bottleneck.

Run it with `python -m benchmarks.sink_targets.http_receiver [CORE]`: its first line is its address. It ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import os
import sys

_END_OF_HEAD = b"\r\n\r\n"
_MARK = b'"eventID"'


class Receiver(asyncio.Protocol):
    """One keep-alive connection; `counts` is by path and shared by all."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts
        self._received = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END_OF_HEAD)) >= 0:
            head = self._received[:end].decode("latin-1")
            after = end + len(_END_OF_HEAD) + _length(head)
            if len(self._received) < after:
                return
            method, path, _ = head.split(" ", 2)
            body = self._received[end + len(_END_OF_HEAD) : after]
            self._received = self._received[after:]
            self._transport.write(self._answer(method, path, bytes(body)))

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        if method != "GET":
            self._counts[path] = self._counts.get(path, 0) + body.count(_MARK)
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        content = b"%d" % self._counts.get(path, 0)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


def _length(head: str) -> int:
    for line in head.split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    return 0


async def serve() -> None:
    """Serve on a free port of loopback until standard input ends."""
    loop = asyncio.get_running_loop()
    counts: dict[str, int] = {}
    server = await loop.create_server(lambda: Receiver(counts), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    async with server:
        await ended.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(serve())
