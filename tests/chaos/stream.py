"""The other end of `feeding`: the stream's process as the harness sees it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import msgspec
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.plan import Plan

T = TypeVar("T")


class Opened(msgspec.Struct, frozen=True):
    """The backlog is written."""

    endpoint_url: str
    stream_arn: str


class Written(msgspec.Struct, frozen=True):
    """All is written: `versions` is how many each item has, `shards` how many there were over the whole run."""

    versions: list[int]
    shards: int


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    opened: Opened
    _input: IO[bytes]
    _output: IO[bytes]

    def go_on(self) -> None:
        """Begin to write what is not in the backlog."""
        self._input.write(b"\n")
        self._input.flush()

    async def wait_written(self) -> Written:
        line = await to_thread.run_sync(self._output.readline, abandon_on_cancel=True)
        return _read(line, Written)


@contextmanager
def open_stream(plan: Plan) -> Iterator[Stream]:
    """A stream with a backlog, for the length of the block."""
    command = [sys.executable, "-m", "chaos.feeding", msgspec.json.encode(plan).decode()]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Stream(_read(process.stdout.readline(), Opened), process.stdin, process.stdout)
    finally:
        process.kill()
        process.communicate()


def _read(line: bytes, kind: type[T]) -> T:
    if not line:
        raise RuntimeError("the process of the stream ended")
    return msgspec.json.decode(line, type=kind)
