"""Records settled out of order, over the lanes of a shard, to the position below which everything is settled.

Invariant: `position` never passes a record that was admitted to a lane and is not settled, and never moves back.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamflow.positions import Position, PositionKind
from streamflow.records import newest_outline

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamflow.records import Record


@dataclass(slots=True)
class _Lane:
    """What a lane has to settle: the ordinals of its records, run by run, from `offset` of the first run on."""

    runs: list[Sequence[int]] = field(default_factory=list)
    offset: int = 0

    def settle(self, count: int) -> int:
        """Take the oldest `count` away; the answer is the ordinal of the last of them."""
        last = -1
        while count:
            if not self.runs:
                raise ValueError(f"{count} more records are settled than were admitted")
            run = self.runs[0]
            step = min(count, len(run) - self.offset)
            self.offset += step
            count -= step
            last = run[self.offset - 1]
            if self.offset == len(run):
                del self.runs[0]
                self.offset = 0
        return last

    def unsettled(self) -> list[int]:
        ordinals = [ordinal for run in self.runs for ordinal in run]
        return ordinals[self.offset :]


@dataclass(slots=True)
class _Page:
    """The records from the ordinal `start` on; those that the frontier has passed are forgotten."""

    start: int
    records: list[Record]
    weight: int


class Frontier:
    """The state of one shard: every record that was read has an ordinal, in stream order."""

    __slots__ = ("_admitted", "_lanes", "_newest_settled", "_pages", "_position", "_settled_weight", "unsettled_from")

    def __init__(self, start: Position, *, lanes: int = 1) -> None:
        self._position = start
        self._lanes = [_Lane() for _ in range(lanes)]
        # Lists: a few pages at most, and an idle shard has many of these and nothing in them.
        self._pages: list[_Page] = []
        self._admitted = 0
        self._newest_settled = -1
        self._settled_weight = 0
        self.unsettled_from = 0
        """The ordinal of the oldest unsettled record, or of the next one to come: grows as the frontier moves."""

    def begin_at(self, records: Sequence[Record]) -> bool:
        """Where the start is a time, the first record that was read says which place that is; true if it does.

        To be asked before the first page is admitted: nothing was settled then.
        """
        if self._admitted or self._position.kind is not PositionKind.AT_TIMESTAMP:
            return False
        outline = newest_outline(records[:1])
        if outline is not None:
            self._position = Position.at(outline[0].sequence_number)
        return outline is not None

    def admit(self, records: Sequence[Record], lanes: Sequence[Sequence[int]], *, weight: int = 0) -> None:
        """Take note of a page, oldest record first; `lanes` has the places in the page that each lane is to settle.

        A record in no lane is settled already. `weight` is what keeping the page costs, until `pop_settled`.
        """
        if not records:
            return
        start = self._admitted
        self._pages.append(_Page(start, list(records), weight))
        self._admitted += len(records)
        for lane, places in zip(self._lanes, lanes, strict=True):
            if isinstance(places, range):
                lane.runs.append(range(start + places.start, start + places.stop))
            elif places:
                lane.runs.append([start + place for place in places])
        self._advance()

    def settle(self, lane: int, count: int) -> None:
        """The lane is done with the `count` oldest of its records.

        Raises:
            ValueError: it did not have that many: one record must not be accounted for twice.
        """
        if count:
            self._newest_settled = max(self._newest_settled, self._lanes[lane].settle(count))
            self._advance()

    def _advance(self) -> None:
        """Move on to the oldest unsettled record, and forget those before it.

        What a handler had decoded of them goes with them, so that its memory serves the next batch.
        """
        self.unsettled_from = min(
            [lane.runs[0][lane.offset] for lane in self._lanes if lane.runs], default=self._admitted
        )
        while self._pages and (passed := self.unsettled_from - self._pages[0].start) > 0:
            page = self._pages[0]
            behind = page.records[:passed]
            newest = newest_outline(behind)
            if newest is not None:
                self._position = newest[0]
            page.start += len(behind)
            del page.records[:passed]
            if page.records:
                break
            del self._pages[0]
            self._settled_weight += page.weight

    @property
    def ahead(self) -> bool:
        """Whether a lane has settled records that are behind the frontier: they would come again after a crash."""
        return self._newest_settled > self.unsettled_from

    def pop_settled(self) -> int:
        """The weight of the pages that were settled to their end since this was asked last."""
        weight, self._settled_weight = self._settled_weight, 0
        return weight

    @property
    def position(self) -> Position:
        """The frontier. A record without a readable position moves it nowhere."""
        return self._position

    def kept_at_stop(self, in_flight: Sequence[int], left: Iterable[int] = ()) -> list[int]:
        """How many records each lane still delivers when the shard stops, those in flight (given by lane) included.

        All that is older than the newest record that any handler has seen: so a clean stop repeats nothing. But nothing
        that is newer than a record of the lanes in `left`, which deliver no more: it comes again whoever delivers it now.
        """
        unsettled = [lane.unsettled() for lane in self._lanes]
        seen = [ordinals[count - 1] for ordinals, count in zip(unsettled, in_flight, strict=True) if count]
        oldest_left = min([unsettled[lane][0] for lane in left if unsettled[lane]], default=self._admitted)
        newest = min(max([*seen, self._newest_settled]), oldest_left - 1)
        return [bisect_right(ordinals, newest) for ordinals in unsettled]


class Remains:
    """What is unsettled of one batch: records settle in any order, and the frontier moves over them in theirs."""

    __slots__ = ("_done", "_records", "_settled")

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._settled = 0
        self._done: set[int] = set()  # identities of records that older unsettled ones hold back

    def __len__(self) -> int:
        return len(self._records) - self._settled

    def behind(self, count: int) -> Sequence[Record]:
        """Those behind the oldest `count` that are unsettled."""
        return self._records[self._settled + count :]

    def settle(self, records: Sequence[Record]) -> int:
        """Take these away; the answer is how many of the oldest are settled now in a row that were not before."""
        if len(records) == len(self._records) - self._settled:
            self._done.clear()
            count = len(records)
        else:
            self._done.update(map(id, records))
            count = 0
            for record in self._records[self._settled :]:
                if id(record) not in self._done:
                    break
                self._done.remove(id(record))
                count += 1
        self._settled += count
        return count
