"""An oracle that keeps one bit for each record of a replayed stream, and the newest place of each shard.

Ten million records take 1.25 MB. A place counts the records of one shard from 0; it is read off the sequence number, which in
these streams states page and index. Keys there are of one record each, so order is judged over the whole shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.replay_stream import Shape
    from streamflow.records import Record


class Marks:
    """What a handler was given of a stream of this shape. `expected` is how many records each shard has, by its number."""

    def __init__(self, shape: Shape, expected: Sequence[int]) -> None:
        self._pages = shape.pages
        self._per_page = shape.records_per_page
        self._expected = expected
        self._bits = [bytearray((count + 7) // 8) for count in expected]
        self._newest = [-1] * len(expected)
        self.received = 0
        """Different records."""
        self.duplicates = 0
        self.disordered = 0
        """Records that first came behind a newer one of their shard."""
        self.invented = 0

    def take(self, records: Iterable[Record]) -> None:
        for record in records:
            self.mark(*self.place_of(record))

    def place_of(self, record: Record) -> tuple[int, int]:
        """The number of its shard, and its place there."""
        shard, number = int(record.shard.shard_id[-8:], 16), record.sequence_number
        return shard, (int(number[7:16]) - shard * self._pages) * self._per_page + int(number[16:])

    def mark(self, shard: int, place: int) -> None:
        if not 0 <= place < self._expected[shard]:
            self.invented += 1
            return
        bits, byte, bit = self._bits[shard], place >> 3, 1 << (place & 7)
        if bits[byte] & bit:
            self.duplicates += 1
            return
        bits[byte] |= bit
        self.received += 1
        if place > self._newest[shard]:
            self._newest[shard] = place
        else:
            self.disordered += 1

    def lost(self) -> int:
        """Records that never came."""
        return sum(self._expected) - self.received

    def skipped(self) -> int:
        """Those of them that a newer one of their shard has passed: what is lost already where reading goes on."""
        return sum(newest + 1 for newest in self._newest) - self.received

    def details(self, *, complete: bool = True) -> Mapping[str, float]:
        return {
            "lost": self.lost() if complete else self.skipped(),
            "duplicates": self.duplicates,
            "disordered": self.disordered,
            "invented": self.invented,
        }
