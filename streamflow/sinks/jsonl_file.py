"""A file of JSON lines that several writers append to, in this process and in others, without mixing their lines.

- Whoever writes holds the file's lock (`flock`), which the system takes from a process that dies.
- What is acknowledged ends in a line feed. A tail without one was never acknowledged: a writer died in the middle of it,
  and the next one cuts it off.
- A full file is renamed, never overwritten: to a name that nobody else has, by a rename onto an empty file of ours.
- Whoever finds that the path is another file by now, because somebody renamed it, goes on with that.

For one thread; it blocks.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import orjson

from streamflow.errors import StreamflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Fsync: TypeAlias = Literal["batch", "rotation", "never"]

_CHUNK_BYTES = 65_536


@dataclass(slots=True, kw_only=True, eq=False)
class LinesFile:
    """`now` is the wall clock. Open it first, close it last."""

    path: Path
    rotate_bytes: int | None
    rotate_interval_s: float | None
    fsync: Fsync
    now: Callable[[], float]
    _descriptor: int = -1
    _size: int = field(default=-1)
    """How long the file was when we last wrote; another size means that somebody else did."""

    def open(self) -> None:
        """Open the file, or make it; a torn tail is cut off.

        Raises:
            OSError: it cannot be opened.
            StreamflowError: it is something else than a file of JSON lines.
        """
        self._open_what_is_there()
        try:
            with self._locked():
                pass
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        if self.fsync == "rotation":
            os.fsync(self._descriptor)
        self._let_go()

    def _open_what_is_there(self) -> None:
        self._let_go()
        made = not self.path.exists()
        self._descriptor = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666
        )
        self._size = -1
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self._let_go()
            raise StreamflowError(f"{self.path} is no regular file: name another path, or use the sink console")
        if made and self.fsync != "never":
            _sync_directory(self.path.parent)

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def append(self, lines: bytes) -> None:
        """Write whole lines, durably as `fsync` says; where that fails, none of them stays.

        Raises:
            OSError: they were not written.
            StreamflowError: what is in the file are no JSON lines.
        """
        with self._locked():
            if self._is_full(len(lines)):
                self._rotate()
        with self._locked():
            before = self._size
            try:
                _write_all(self._descriptor, lines)
                if self.fsync == "batch":
                    os.fsync(self._descriptor)
            except BaseException:
                self._size = -1
                with suppress(OSError):  # a tail that stays is cut by the next writer, or whole lines repeat
                    os.ftruncate(self._descriptor, before)
                raise
            self._size = before + len(lines)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the file that is at the path, with its tail in order and its size known."""
        while True:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if self._is_at_path():
                break
            self._open_what_is_there()
        try:
            size = os.fstat(self._descriptor).st_size
            if size != self._size:
                self._size = _mended(self._descriptor, size, self.path)
            yield
        finally:
            if self._descriptor >= 0:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _is_at_path(self) -> bool:
        ours = os.fstat(self._descriptor)
        try:
            there = os.stat(self.path)  # noqa: PTH116 - beside fstat
        except FileNotFoundError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    # -- rotation -----------------------------------------------------------------------------------------------------

    def _is_full(self, more: int) -> bool:
        if not self._size:
            return False
        if self.rotate_bytes is not None and self._size + more > self.rotate_bytes:
            return True
        written_at_s = os.fstat(self._descriptor).st_mtime
        return self.rotate_interval_s is not None and (
            written_at_s // self.rotate_interval_s < self.now() // self.rotate_interval_s
        )

    def _rotate(self) -> None:
        """Under the lock. A crash on the way leaves an empty file of the new name at most."""
        if self.fsync != "never":
            os.fsync(self._descriptor)
        os.replace(self.path, self._free_name())  # noqa: PTH105 - beside os.open
        if self.fsync != "never":
            _sync_directory(self.path.parent)
        self._open_what_is_there()

    def _free_name(self) -> Path:
        at_us = int(self.now() * 1_000_000)
        while True:
            name = self.path.with_name(rotated_name(self.path, at_us))
            try:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            except FileExistsError:
                at_us += 1
            else:
                return name


def rotated_name(path: Path, at_us: int) -> str:
    """`orders.20261123T101500.000001Z.jsonl`: sorts by time, to the microsecond."""
    at = dt.datetime.fromtimestamp(at_us // 1_000_000, dt.UTC).replace(microsecond=at_us % 1_000_000)
    return f"{path.stem}.{at:%Y%m%dT%H%M%S.%f}Z{path.suffix}"


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _mended(descriptor: int, size: int, path: Path) -> int:
    """The size of the file once it ends in a line feed, or is empty.

    A last line that lacks nothing but its line feed gets it: an editor leaves such files.
    """
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    start = _start_of_last_line(descriptor, size)
    if os.pread(descriptor, 1, start) != b"{":
        raise StreamflowError(
            f"{path} does not end in a JSON line and was not touched: name another path, or move it away"
        )
    if _is_json(os.pread(descriptor, size - start, start)):
        _write_all(descriptor, b"\n")
        return size + 1
    os.ftruncate(descriptor, start)
    return start


def _start_of_last_line(descriptor: int, size: int) -> int:
    end = size
    while end:
        begin = max(0, end - _CHUNK_BYTES)
        found = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _sync_directory(directory: Path) -> None:
    """A new name is durable when its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
