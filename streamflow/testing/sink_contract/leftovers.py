"""Tasks, threads and sockets that exist now: what a sink leaves behind is the difference of two looks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

# Pools of the event loop's and anyio's own: they end with the loop, not with a sink.
_POOLS = ("AnyIO worker thread", "asyncio_")
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """How many there are of each kind; sockets only where the system tells."""

    counts: Counter[str]

    @classmethod
    def now(cls) -> Leftovers:
        counts: Counter[str] = Counter()
        counts["tasks"] = len(asyncio.all_tasks())
        for thread in threading.enumerate():
            if not thread.name.startswith(_POOLS):
                counts["threads"] += 1
        counts["sockets"] = _sockets()
        return cls(counts)

    def __sub__(self, before: Leftovers) -> list[str]:
        """What is there more than before, in words."""
        return [
            f"{count - before.counts[kind]} {kind}"
            for kind, count in sorted(self.counts.items())
            if count > before.counts[kind]
        ]


def _sockets() -> int:
    count = 0
    if _DESCRIPTORS.is_dir():
        for descriptor in os.listdir(_DESCRIPTORS):  # noqa: PTH208 - names are all that is needed
            try:
                count += str(Path(_DESCRIPTORS, descriptor).readlink()).startswith("socket:")
            except OSError:
                continue  # the one that the listing itself needed
    return count
