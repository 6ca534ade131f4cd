"""V13: every record that was read is in exactly one place, and the gauge of lag does not flatter."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import BatchDelivered, PageRead, RecordsDiscarded, RecordsParked, ShardClosed, ShardOpened
from streamflow.testing.simulation.facts import Called, Returned, Sampled, Told
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Truth

_Place = tuple[str, str, str]

# An empty page vouches for this long; creation times are whole seconds, and a page takes its time.
_VOUCHED_S, _ROUNDING_S = 15.0, 3.0


@dataclass(slots=True, eq=False)
class CountersConserve(OfFacts):
    """V13: read = filtered + settled + in hand, shard by shard, and nothing counts as delivered that no handler did."""

    name = "V13"
    hears: ClassVar[Sequence[type]] = (Told, Returned)
    _in_hand: Counter[_Place] = field(default_factory=Counter)
    _done: Counter[_Place] = field(default_factory=Counter)
    """With which handlers were done, less what the engine has told as delivered."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - the counts are their own truth
        if isinstance(fact, Returned):
            self._done[fact.node, fact.pipeline, fact.shard_id] += len(fact.done)
            return None
        assert isinstance(fact, Told)
        event = fact.event
        if not isinstance(
            event, PageRead | BatchDelivered | RecordsDiscarded | RecordsParked | ShardOpened | ShardClosed
        ):
            return None
        place = fact.node, event.pipeline, event.shard_id
        match event:
            case ShardOpened():
                self._in_hand[place] = self._done[place] = 0
            case PageRead(records=records, filtered=filtered):
                self._in_hand[place] += records - filtered
            case ShardClosed(abandoned=abandoned):
                if self._in_hand[place] != abandoned:
                    return f"{fact.node} abandoned {abandoned} records of {event.shard_id}, not {self._in_hand[place]}"
            case BatchDelivered(records=records) | RecordsDiscarded(records=records) | RecordsParked(records=records):
                self._in_hand[place] -= records
                if self._in_hand[place] < 0:
                    return f"{fact.node} settled {-self._in_hand[place]} records of {event.shard_id} more than it read"
                if isinstance(event, BatchDelivered):
                    return self._delivered(place, records)
        return None

    def _delivered(self, place: _Place, records: int) -> str | None:
        self._done[place] -= records
        if self._done[place] < 0:
            return f"{place[0]} told {-self._done[place]} records of {place[2]} as delivered, which no handler was done with"
        return None


@dataclass(slots=True, eq=False)
class LagIsTold(OfFacts):
    """V13: the iterator age of a shard is at least the age of the oldest record that its worker has not read.

    An empty page cannot be told from the tip, and so it vouches for everything that was made before it.
    """

    name = "V13"
    hears: ClassVar[Sequence[type]] = (Called, Sampled, Told)
    _read_through: dict[tuple[str, str], int] = field(default_factory=dict)
    _empty_at_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _reading: set[_Place] = field(default_factory=set)
    """Who has had a page since the shard was opened."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, Called):
            if fact.operation == "GetRecords" and not fact.failed:
                place = fact.node, fact.shard_id
                self._read_through[place] = max(self._read_through.get(place, 0), fact.last)
                if not fact.records:
                    self._empty_at_s[place] = truth.now_s
            return None
        if isinstance(fact, Told):
            self._note_page(fact)
            return None
        assert isinstance(fact, Sampled)
        for (pipeline, shard_id), age_s in fact.ages_s.items():
            if (fact.node, pipeline, shard_id) not in self._reading:
                continue
            shard = truth.shards[shard_id]
            read = self._read_through.get((fact.node, shard_id))
            if not read:
                continue
            unread = bisect_right(shard.numbers, max(read, shard.gone_through))
            if unread >= len(shard.numbers):
                continue
            made_at_s = shard.made_at_s[shard.numbers[unread]]
            lag_s = truth.now_s - max(made_at_s, self._empty_at_s.get((fact.node, shard_id), made_at_s))
            if age_s < lag_s - _VOUCHED_S - _ROUNDING_S - abs(fact.ahead_s):
                return f"{fact.node} shows {shard_id} as {age_s:.1f} s old, and it is {lag_s:.1f} s behind"
        return None

    def _note_page(self, fact: Told) -> None:
        """Until its first page has come, nothing is known of a shard that was opened; others may have come further before."""
        match fact.event:
            case ShardOpened(pipeline=pipeline, shard_id=shard_id):
                self._read_through.pop((fact.node, shard_id), None)
                self._reading.discard((fact.node, pipeline, shard_id))
            case PageRead(pipeline=pipeline, shard_id=shard_id):
                self._reading.add((fact.node, pipeline, shard_id))
            case _:
                pass
