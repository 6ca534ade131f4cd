"""What workers write on stdout and stderr, passed on in whole lines: two of them never write into one line."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LINE_BYTES_MAX = 1024 * 1024
"""A longer line is passed on in parts."""
_CHUNK_BYTES = 65_536


class Output:
    """One of our own streams, written by one worker at a time, in a thread: a reader that is slow holds up no signal."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name
        self._turn = anyio.Lock()
        self._thread = anyio.CapacityLimiter(1)

    async def write(self, lines: bytes) -> None:
        """Raises `OSError` where nobody reads it any more."""
        async with self._turn:
            await anyio.to_thread.run_sync(self._write, lines, limiter=self._thread, abandon_on_cancel=True)

    def _write(self, lines: bytes) -> None:
        # Looked up each time: a live display replaces the streams of a terminal by ones that write above it.
        stream = sys.stdout if self._name == "stdout" else sys.stderr
        if stream.isatty():
            stream.write(lines.decode(errors="replace"))
        else:
            stream.buffer.write(lines)
        stream.flush()


class Relay:
    """The reading end of a pipe that one worker writes to."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def run(self, output: Output) -> None:
        """Pass everything on until the worker has closed the pipe, or nobody reads `output`: it then learns of that."""
        begun = b""
        try:
            while chunk := await self._reader.read(_CHUNK_BYTES):
                lines, line_end, begun = (begun + chunk).rpartition(b"\n")
                if len(begun) > LINE_BYTES_MAX:
                    lines, line_end, begun = lines + line_end, begun, b""
                if lines or line_end:
                    await output.write(lines + line_end)
            if begun:
                await output.write(begun + b"\n")
        except OSError:
            return


@asynccontextmanager
async def open_relay(reading_end: int) -> AsyncIterator[Relay]:
    """Takes over the file descriptor. At the end of the block the pipe is closed, and its writer gets an error."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading_end, "rb", 0)
    )
    try:
        yield Relay(reader)
    finally:
        transport.close()
