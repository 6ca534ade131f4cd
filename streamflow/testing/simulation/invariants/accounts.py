"""V13: every record that was read is in exactly one place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import BatchDelivered, PageRead, RecordsDiscarded, RecordsParked, ShardClosed, ShardOpened
from streamflow.testing.simulation.facts import Returned, Told
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Truth

_Place = tuple[str, str, str]


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
