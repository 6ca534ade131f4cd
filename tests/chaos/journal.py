"""What the sink of all workers accepted, in the order in which it did: one file that every worker appends to.

A line is one batch, written with one call: the kernel puts the appends of all processes into one order, and what a
killed worker wrote stays. A line that a kill tore is none: its batch was not accepted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Environment variables of a worker: the path of the file, and its own number.
JOURNAL, LIFE = "STREAMFLOW_CHAOS_JOURNAL", "STREAMFLOW_CHAOS_LIFE"

_READ_BYTES = 1 << 18


class Acceptance(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One batch. `at_s` is monotonic time just before it was written; `life` numbers the worker process.

    `changes` is (item, version, sequence number) of each record.
    """

    at_s: float
    life: int
    shard_id: str
    epoch: int
    changes: tuple[tuple[int, int, str], ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Acceptance).decode


class Journal:
    """The writing end, for one process."""

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, acceptance: Acceptance) -> None:
        """Durable against a kill of the process when it returns."""
        # The newline before it ends what somebody who was killed left unfinished.
        line = b"\n" + _encode(acceptance) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("the disk is full")

    def close(self) -> None:
        os.close(self._file)


class Tail:
    """The reading end: what was appended since the last look."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""
        self.torn = 0
        """Lines that a kill tore."""

    def read(self) -> Iterator[Acceptance]:
        """The next lines, a bounded part of what there is."""
        *lines, self._rest = (self._rest + self._file.read(_READ_BYTES)).split(b"\n")
        for line in lines:
            if not line:
                continue
            try:
                yield _decode(line)
            except msgspec.DecodeError:
                self.torn += 1
