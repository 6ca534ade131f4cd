"""When to cut a batch: by count, by bytes of the encoded event, or by age.

The window's clock starts with the first buffered record, or restarts when the previous invocation ends, whichever is
later (esm.md 2.3). A single record beyond the byte limit still goes, alone.
"""

from __future__ import annotations

from collections import deque
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
    _pages: deque[Sequence[Record]] = field(default_factory=deque)
    _offset: int = 0
    _count: int = 0
    _opened_at: float | None = None

    def add(self, records: Sequence[Record], now: float) -> None:
        """Buffer a page's records, oldest first."""
        if not records:
            return
        if self._opened_at is None:
            self._opened_at = now
        self._pages.append(records)
        self._count += len(records)

    def __len__(self) -> int:
        return self._count

    def restart_window(self, now: float) -> None:
        """The previous invocation ended: what is buffered gets a whole window from now."""
        if self._opened_at is not None:
            self._opened_at = now

    def truncate(self, count: int) -> None:
        """Keep the oldest `count` of what is buffered."""
        kept = self._pop(count) if count else ()
        self._pages.clear()
        self._offset = self._count = 0
        self._put_back(kept)
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
        if not out_of_time and self._count < self.limits.records_max and self._bytes_at_most() <= self.limits.bytes_max:
            return None
        records, cut_by_bytes = self._cut(min(self._count, self.limits.records_max))
        if not out_of_time and not cut_by_bytes and len(records) < self.limits.records_max:
            self._put_back(records)
            return None
        if not self._count:
            self._opened_at = None
        return records

    def _bytes_at_most(self) -> int:
        return EVENT_ENVELOPE_BYTES + sum(
            sum([len(record.json) for record in page]) + len(page) * self.limits.overhead_bytes for page in self._pages
        )

    def _cut(self, count: int) -> tuple[Sequence[Record], bool]:
        records = self._pop(count)
        limit = self.limits.bytes_max - EVENT_ENVELOPE_BYTES
        sizes = [len(record.json) for record in records]
        if sum(sizes) + len(sizes) * self.limits.overhead_bytes <= limit:
            return records, False
        total = 0
        for index, size in enumerate(sizes):
            total += size + self.limits.overhead_bytes
            if total > limit:
                kept = max(1, index)
                self._put_back(records[kept:])
                return records[:kept], True
        return records, False

    def _pop(self, count: int) -> Sequence[Record]:
        first = self._pages[0]
        if self._offset == 0 and len(first) == count:
            self._count -= count
            return self._pages.popleft()
        taken: list[Record] = []
        while len(taken) < count:
            page = self._pages[0]
            part = page[self._offset : self._offset + count - len(taken)]
            taken.extend(part)
            self._offset += len(part)
            if self._offset == len(page):
                self._pages.popleft()
                self._offset = 0
        self._count -= count
        return tuple(taken)

    def _put_back(self, records: Sequence[Record]) -> None:
        if not records:
            return
        if self._offset:
            self._pages[0] = self._pages[0][self._offset :]
            self._offset = 0
        self._pages.appendleft(records)
        self._count += len(records)
