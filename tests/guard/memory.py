"""What is held in memory, as tracemalloc counts it: the same in every run, but for a few bytes.

The network's end of a connection is a small object here; a socket, its buffers in the kernel and TLS are not seen.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, TypeVar

from guard.counting import relative
from guard.network import OfflineLoop
from guard.scenes import Scene, play, without_collection
from guard.stream import Answers, Stream
from streamflow.events import PageRead, ShardOpened

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.batches import Batch
    from streamflow.events import Event
    from streamflow.protocols import Observer

IDLE_SHARD_BYTES_MAX = 40_000
"""The goal that `benchmarks/idle_shards.py` measures from outside, in the resident set."""

_FEW, _MANY = 20, 70
_POLLS = 3
Seen = TypeVar("Seen")


def idle_shard_bytes() -> float:
    """Of one more shard that has had a page, between two polls: engine, reader, metrics, pooled connection."""
    few, many = _idle(_held)
    return (many - few) / (_MANY - _FEW)


def idle_shard_by_line() -> list[tuple[str, float]]:
    """The same by the line that has allocated it, and bytes; most first."""
    few, many = _idle(tracemalloc.take_snapshot)
    grown = [
        (f"{relative(each.traceback[0].filename)}:{each.traceback[0].lineno}", each.size_diff / (_MANY - _FEW))
        for each in many.compare_to(few, "lineno")
    ]
    return sorted(grown, key=lambda entry: (-entry[1], entry[0]))


def _idle(look: Callable[[], Seen]) -> tuple[Seen, Seen]:
    """What is seen with few shards, and with many."""
    _look_when_idle(_FEW, look)  # what is imported and cached at first use is nobody's
    return _look_when_idle(_FEW, look), _look_when_idle(_MANY, look)


def _look_when_idle(shards: int, look: Callable[[], Seen]) -> Seen:
    """Look when each shard has had three answers or so, and all but the last one wait for their next."""
    polls = 0
    seen: list[Seen] = []

    def observe(event: Event) -> None:
        nonlocal polls
        polls += isinstance(event, PageRead)
        if polls == shards * _POLLS and not seen:
            gc.collect()
            seen.append(look())

    _trace(Scene(stream=Stream(shards=shards, pages=1, records=200, empty_pages=4 * _POLLS)), observe)
    return seen[0]


def record_bytes() -> tuple[float, float]:
    """Of one more record in a page, some 800 bytes of it its JSON: held while the handler has it, and the peak before."""
    few, many = 200, 1_000
    _held_by_page(few)
    (held_few, peak_few), (held_many, peak_many) = _held_by_page(few), _held_by_page(many)
    return (held_many - held_few) / (many - few), (peak_many - peak_few) / (many - few)


def _held_by_page(records: int) -> tuple[int, int]:
    found: list[tuple[int, int]] = []

    def look(batch: Batch) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        gc.collect()
        found.append((_held(), peak))

    def observe(event: Event) -> None:
        if isinstance(event, ShardOpened):
            tracemalloc.reset_peak()

    _trace(Scene(stream=Stream(pages=1, records=records), batch_size=records, look=look), observe)
    return found[0]


def _held() -> int:
    return tracemalloc.get_traced_memory()[0]


def _trace(scene: Scene, observe: Observer) -> None:
    """Play the scene under tracemalloc; what the service answers is made before."""
    loop = OfflineLoop(Answers(scene.stream))
    with without_collection():
        tracemalloc.start()
        try:
            play(scene, observe, loop)
        finally:
            tracemalloc.stop()
