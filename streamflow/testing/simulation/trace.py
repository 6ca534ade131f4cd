"""What happened, as one hash: the proof that a seed repeats a run. Addresses in memory and running numbers are kept out."""

from __future__ import annotations

import asyncio
import sysconfig
from hashlib import blake2b
from pathlib import Path
from typing import Any

_BATCH = 4096
_PLACES = 3
LIBRARIES = tuple(sorted({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}))
"""Where the code of others lies."""


class Trace:
    """Everything in order. Hashed in batches: it is asked for once, and added to at every turn."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=16)
        self._waiting: list[tuple[object, ...]] = []

    def add(self, *what: str | float | None) -> None:
        """Something happened. The parts must look the same in every process: no default `repr` of an object."""
        self._waiting.append(what)
        if len(self._waiting) >= _BATCH:
            self._flush()

    def digest(self) -> str:
        """Of all so far, as hexadecimal digits."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        self._hash.update(repr(self._waiting).encode())
        self._waiting.clear()


def told(handle: Any) -> str:
    """What a ready call is: the name of its task, or that of the function."""
    callback = handle._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner.get_name()
    return getattr(callback, "__qualname__", None) or type(callback).__name__


def place_of(task: asyncio.Task[Any]) -> str:
    """Where a task waits: its innermost lines that are no library's, the innermost last."""
    lines: list[tuple[str, str]] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            path = Path(frame.f_code.co_filename)
            lines.append((str(path), f"{path.name}:{frame.f_lineno} {frame.f_code.co_name}"))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    own = [line for path, line in lines if not path.startswith(LIBRARIES)] or [line for _, line in lines]
    return " > ".join(own[-_PLACES:]) or "not started"
