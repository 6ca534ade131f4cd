"""When to cut a batch: by count, by bytes of the encoded event, or by age.

The window's clock starts with the first buffered record, or restarts when the previous invocation ends, whichever is
later (esm.md 2.3). A single record beyond the byte limit still goes, alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamflow.batches import EVENT_ENVELOPE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """`bytes_max` is measured on the encoded Lambda event; `overhead_bytes` is what each record adds beyond its JSON."""

    records_max: int
    bytes_max: int
    window_s: float
    overhead_bytes: int


@dataclass(slots=True)
class Batcher:
    """Buffered records of one lane. Times are seconds of any monotonic clock, the same in every call."""

    limits: BatchLimits
    _pages: list[tuple[list[Record], int]] = field(default_factory=list)
    """What is left of each, with the most that its records may have in bytes."""
    _count: int = 0
    _opened_at: float | None = None

    def add(self, records: Sequence[Record], now: float, *, weight: int) -> None:
        """Buffer a page's records, oldest first; their JSON has `weight` bytes in all, or less."""
        if not records:
            return
        if self._opened_at is None:
            self._opened_at = now
        self._pages.append((list(records), weight))
        self._count += len(records)

    def __len__(self) -> int:
        return self._count

    def restart_window(self, now: float) -> None:
        """The previous invocation ended: what is buffered gets a whole window from now."""
        if self._opened_at is not None:
            self._opened_at = now

    def truncate(self, count: int) -> None:
        """Keep the oldest `count` of what is buffered."""
        kept, weight = self._pop(count) if count else ((), 0)
        self._pages.clear()
        self._count = 0
        self._put_back(kept, weight)
        if not kept:
            self._opened_at = None

    @property
    def due_at(self) -> float | None:
        """When the window of the buffered records ends; None where nothing is buffered."""
        return None if self._opened_at is None else self._opened_at + self.limits.window_s

    def take(self, now: float, *, ended: bool = False) -> Sequence[Record] | None:
        """Cut the next batch if one is due: full, out of time, or the last of its shard (`ended`); else None."""
        if not self._count:
            return None
        due_at = self.due_at
        out_of_time = ended or (due_at is not None and now >= due_at)
        if not out_of_time and self._count < self.limits.records_max and self._all_fit():
            return None
        records, cut_by_bytes, weight = self._cut(min(self._count, self.limits.records_max))
        if not out_of_time and not cut_by_bytes and len(records) < self.limits.records_max:
            self._put_back(records, weight)
            return None
        if not self._count:
            self._opened_at = None
        return records

    def _all_fit(self) -> bool:
        return self._fits(self._count, sum([weight for _, weight in self._pages]))

    def _fits(self, count: int, weight: int) -> bool:
        """Whether so many records are sure to be within the limit, without a look at each."""
        limits = self.limits
        return EVENT_ENVELOPE_BYTES + weight + count * limits.overhead_bytes <= limits.bytes_max

    def _cut(self, count: int) -> tuple[Sequence[Record], bool, int]:
        """The oldest `count` or as many as fit, whether that is less, and the most that they have in bytes."""
        records, weight = self._pop(count)
        if self._fits(count, weight):
            return records, False, weight
        total = EVENT_ENVELOPE_BYTES
        for index, record in enumerate(records):
            total += len(record.json) + self.limits.overhead_bytes
            if total > self.limits.bytes_max:
                kept = max(1, index)
                rest = records[kept:]
                self._put_back(rest, sum([len(record.json) for record in rest]))
                return records[:kept], True, weight
        return records, False, weight

    def _pop(self, count: int) -> tuple[Sequence[Record], int]:
        self._count -= count
        page, weights = self._pages[0]
        if count < len(page):  # as mostly: a page is ten batches
            taken = page[:count]
            del page[:count]
            return taken, weights
        taken = page
        self._pages.pop(0)
        while (missing := count - len(taken)) > 0:
            page, weight = self._pages[0]
            weights += weight
            taken += page[:missing]
            del page[:missing]
            if not page:
                self._pages.pop(0)
        return taken, weights

    def _put_back(self, records: Sequence[Record], weight: int) -> None:
        if records:
            self._pages.insert(0, (list(records), weight))
            self._count += len(records)
