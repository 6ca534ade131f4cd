"""Pages of one shard that several readers share: which of them a reader at a position needs next.

Invariant: the pages stand in stream order without a gap, so whoever has what is before the first of them can go on here.
Of empty pages only the newest is kept: a reader that comes seldom would never be done with those of one that comes often.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.positions import PositionKind
from streamflow.records import newest_outline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.positions import Position
    from streamflow.protocols import Page
    from streamflow.records import Record


@dataclass(frozen=True, slots=True)
class _Entry:
    """`before` is the position in front of the page, `after` the one behind it; the same for an empty page."""

    number: int
    before: Position
    after: Position
    page: Page


class PageLog:
    """The newest pages of a shard, `bytes_max` of them at most and the newest one always."""

    __slots__ = ("_bytes", "_bytes_max", "_entries", "_kept_from", "_next", "_tip")

    def __init__(self, start: Position, bytes_max: int) -> None:
        self._entries: deque[_Entry] = deque()
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept_from = 0
        self._next = 0
        self._tip = start

    @property
    def tip(self) -> Position:
        """Behind the newest page."""
        return self._tip

    @property
    def next_number(self) -> int:
        """Of the page that will be read next."""
        return self._next

    def append(self, page: Page) -> None:
        """Take in the page that was read at the tip."""
        newest = newest_outline(page.records)
        after = self._tip if newest is None else newest[0]
        if self._entries and not self._entries[-1].page.records:
            self._bytes -= self._entries.pop().page.bytes
        self._entries.append(_Entry(self._next, self._tip, after, page))
        self._next += 1
        self._tip = after
        self._bytes += page.bytes
        while self._bytes > self._bytes_max and len(self._entries) > 1:
            gone = self._entries.popleft()
            self._bytes -= gone.page.bytes
            self._kept_from = gone.number + 1

    def page(self, number: int) -> tuple[int, Page] | None:
        """The page of that number, or the one behind it if it was empty, and its number.

        None if it is not held any more, or was not read yet.
        """
        if not self._kept_from <= number < self._next:
            return None
        entry = self._entries[bisect_left(self._entries, number, key=lambda entry: entry.number)]
        return entry.number, entry.page

    def number_at(self, position: Position) -> int | None:
        """The number of the page that holds what comes behind `position`; None if that is not held any more.

        That of the next page for a reader who has everything.
        """
        if position == self._tip:
            return self._next
        if not _is_behind_a_record(position):
            # The start of the shard, or a time: only the reader that began there knows what comes next.
            return next((entry.number for entry in self._entries if entry.before == position), None)
        known_from = self._known_from()
        if known_from is None or position.order < known_from.order:
            return None
        return next((entry.number for entry in self._entries if position.order < entry.after.order), None)

    def _known_from(self) -> Position | None:
        """The first position that is known to have nothing between it and what the log holds.

        Not the place where the first page was asked for, if that was the horizon or a time: before the first record there
        may be others, which the reader that begins there does not want, or does not know to be lost.
        """
        for entry in self._entries:
            if _is_behind_a_record(entry.before):
                return entry.before
            if (first := newest_outline(entry.page.records[:1])) is not None:
                return first[0]
        return None


def behind(records: Sequence[Record], position: Position) -> Sequence[Record]:
    """The records that come behind `position`: all of them where it is not behind a record."""
    if not _is_behind_a_record(position):
        return records
    for place in range(len(records) - 1, -1, -1):
        outline = newest_outline(records[place : place + 1])
        if outline is not None and outline[0].order <= position.order:
            return records[place + 1 :]
    return records


def _is_behind_a_record(position: Position) -> bool:
    return position.kind is PositionKind.AFTER_SEQUENCE_NUMBER
