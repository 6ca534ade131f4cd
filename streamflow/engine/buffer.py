"""Read-ahead, bounded in bytes per shard and per worker. Full means wait, never drop.

A shard that holds nothing may always read: the worker's bound is exceeded by at most one page per shard, and one slow
sink cannot starve the other shards.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from streamflow.engine.wakeup import WakeUp
from streamflow.rules.lanes import by_lane
from streamflow.rules.windows import CLOSE_GRACE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.engine.checkpoints import Checkpoints
    from streamflow.engine.read_ahead import ReadAhead
    from streamflow.records import Record
    from streamflow.rules.batching import Batcher
    from streamflow.rules.filters import Filters

RECORD_OVERHEAD_BYTES = 148
"""What a record in hand takes beside the page that its JSON is in, measured; of small records it is most."""


@dataclass(slots=True, eq=False)
class ShardBuffer:
    """Between the reader and the lanes of one shard. A page's bytes count until all of it is settled.

    Filters come first: what they leave out is settled as soon as everything before it is. Then each lane has a batcher.
    """

    batchers: Sequence[Batcher]
    checkpoints: Checkpoints
    read_ahead: ReadAhead
    bytes_max: int
    accepts: Filters | None = None
    windowed: bool = False
    """Whether lanes wait for the time that `note_caught_up` tells."""
    ended: bool = False
    failure: Exception | None = None
    """Why no page will follow, where it is not the end of the shard; what is buffered is delivered all the same."""
    bytes: int = 0
    unsettled: int = 0
    """Records that passed the filters and are not settled."""
    asked_at: float | None = None
    """Monotonic time since when the source owes the reader an answer; None while nothing is asked."""
    held_up: bool = False
    """There is no room for another page: no batch can become fuller by waiting."""
    caught_up_at_s: float = 0.0
    """Wall time of the last look that found nothing, as those before it: everything written until then has been read."""
    _empty_since_s: float | None = None
    _room: WakeUp = field(default_factory=WakeUp)
    _changes: list[WakeUp] = field(init=False)

    def __post_init__(self) -> None:
        self._changes = [WakeUp() for _ in self.batchers]

    # -- the reader's side --------------------------------------------------------------------------------------------

    async def wait_room(self) -> None:
        """Wait until this shard may read another page."""
        while self.bytes and (self.bytes >= self.bytes_max or self.read_ahead.bytes >= self.read_ahead.bytes_max):
            if not self.held_up:
                self.held_up = True
                self.wake()
            if self.bytes >= self.bytes_max:
                await self._room.wait()
            else:
                await self.read_ahead.wait_freed()
        self.held_up = False

    def put(self, records: Sequence[Record], *, weight: int, now: float) -> int:
        """Take in a page, oldest record first; the answer is how many of its records the filters leave out.

        `weight` is the size of the whole page: records are slices of it, and any of them keeps it.
        """
        lanes = by_lane(records, len(self.batchers), self.accepts)
        passing = sum(map(len, lanes))
        self._empty_since_s = None
        held = weight + len(records) * RECORD_OVERHEAD_BYTES
        self.bytes += held
        self.read_ahead.take(held)
        self.unsettled += passing
        self._free(self.checkpoints.admit(records, lanes, weight=held))
        for lane, places in enumerate(lanes):
            if places:
                whole = len(places) == len(records)
                chosen = records if whole else [records[place] for place in places]
                self.batchers[lane].add(chosen, now, weight=weight)
                self._changes[lane].call()
        return len(records) - passing

    def note_caught_up(self, asked_at_s: float) -> None:
        """A page came back empty. One such page may be on the way; none but such for a while are the tip."""
        if self._empty_since_s is None:
            self._empty_since_s = asked_at_s
        if asked_at_s - self._empty_since_s >= CLOSE_GRACE_S:
            self.caught_up_at_s = asked_at_s
            if self.windowed:
                self.wake()

    def end(self, failure: Exception | None = None) -> None:
        """No page will follow."""
        self.ended, self.failure = True, failure
        self.wake()

    # -- the lanes' side ----------------------------------------------------------------------------------------------

    def settle(self, lane: int, settled: int, *, oldest: int) -> None:
        """The lane has settled so many records more, and so its `oldest` ones."""
        self.unsettled -= settled
        self._free(self.checkpoints.settle(lane, oldest))

    async def wait_change(self, lane: int, *, until: float | None, now: float) -> None:
        """Wait for records of the lane, for the end, or for the stop; at most until the monotonic time `until`."""
        with anyio.move_on_after(None if until is None else max(0.0, until - now)):
            await self._changes[lane].wait()

    def wake(self) -> None:
        """Have whoever waits here look around."""
        for change in self._changes:
            change.call()

    def close(self) -> None:
        """Give back what is left, unsettled."""
        self.read_ahead.give_back(self.bytes)
        self.bytes = 0

    def _free(self, weight: int) -> None:
        if weight:
            self.bytes -= weight
            self.read_ahead.give_back(weight)
            self._room.call()
