"""A sink whose target refuses much: three records in ten at their first try, one in ten thousand whenever it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio

from streamflow.clock import thread_monotonic
from streamflow.events import RecordsDiscarded
from streamflow.failures import RecordFailure, RecordsFailedError

if TYPE_CHECKING:
    from soak.marks import Marks
    from streamflow.batches import Batch
    from streamflow.events import Event

_POISON_EVERY = 10_000
# A prime, so that shards which are shorter than that have poison too, each in another place.
_SPREAD = 7_919


class BadSink:
    """Writes into the oracle. Which records fail is a function of their places."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._tried: set[tuple[int, int]] = set()
        self.failed_once = 0
        self.poison: set[str] = set()
        """Sequence numbers of records that were never written."""
        self.complete = anyio.Event()
        """Every record was written or given up."""
        self._given_up = 0
        self.began_s = self.newest_s = 0.0
        """When it was called first, and when it last wrote something."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass

    async def write(self, batch: Batch) -> None:
        failures = []
        self.began_s = self.began_s or thread_monotonic()
        for record in batch:
            shard, place = self._marks.place_of(record)
            if (shard * _SPREAD + place) % _POISON_EVERY == _POISON_EVERY // 2:
                self.poison.add(record.sequence_number)
                # Of both kinds: one that is tried again until its retries are used up, and one that never is.
                kind = "refused" if shard % 2 else "failed"
                failures.append(RecordFailure(record, kind, "poison"))  # type: ignore[arg-type]
            elif place % 10 < 3 and (shard, place) not in self._tried:
                self._tried.add((shard, place))
                self.failed_once += 1
                failures.append(RecordFailure(record, "failed", "busy"))
            else:
                self._tried.discard((shard, place))
                self._marks.mark(shard, place)
                self.newest_s = thread_monotonic()
        self._look()
        if failures:
            raise RecordsFailedError(failures)

    def discarded(self, event: Event) -> None:
        """An observer: how many were given up."""
        if isinstance(event, RecordsDiscarded):
            self._given_up += event.records
            self._look()

    def _look(self) -> None:
        if self._marks.lost() == self._given_up:
            self.complete.set()
