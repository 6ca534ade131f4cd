"""V8 under load: of shards that get equally much none is read much more often than another, and none is passed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Called, EvenLoad
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Truth

_RATIO_MAX = 4.0
_WATCHED_S_MIN = 8.0


@dataclass(slots=True)
class _Polled:
    """From the first page with records on: before that the shard was polled as an idle one."""

    since_s: float
    times: int = 0


@dataclass(slots=True, eq=False)
class PollsFair(OfFacts):
    """V8: among the shards that one worker owns all the while, polls a second differ by a factor of 4 at most."""

    name = "V8"
    hears: ClassVar[Sequence[type]] = (Called, EvenLoad)
    _began_s: float | None = None
    _polled: dict[tuple[str, str], _Polled] = field(default_factory=dict)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, EvenLoad):
            says = next(self._unfair(truth), None) if fact.over else None
            self._began_s = None if fact.over else truth.now_s
            self._polled.clear()
            return says
        assert isinstance(fact, Called)
        if self._began_s is None or fact.operation != "GetRecords" or fact.failed:
            return None
        place = fact.node, fact.shard_id
        if place in self._polled:
            self._polled[place].times += 1
        elif fact.records:
            self._polled[place] = _Polled(truth.now_s)
        return None

    def _unfair(self, truth: Truth) -> Iterator[str]:
        for node in {taker for course in truth.courses.values() if (taker := course.takers.get(course.epoch))}:
            rates = {shard_id: self._rate(node, shard_id, truth) for shard_id in self._owned_throughout(node, truth)}
            judged = {shard_id: rate for shard_id, rate in rates.items() if rate is not None}
            if len(judged) < 2:
                continue
            least, most = min(judged, key=judged.__getitem__), max(judged, key=judged.__getitem__)
            if judged[most] > _RATIO_MAX * judged[least]:
                yield f"{node} polls {most} {judged[most]:.1f} times a second, and {least} {judged[least]:.1f} times"

    def _owned_throughout(self, node: str, truth: Truth) -> set[str]:
        """The open shards of a worker in each of its flows: where one of them is somebody else's, polls are shared out."""
        assert self._began_s is not None
        owned: dict[str, bool] = {}
        for (_, shard_id), course in truth.courses.items():
            row = course.row
            stays = row is not None and row.state.value == "active" and row.owner is not None
            stays = stays and course.takers.get(course.epoch) == node and course.taken_at_s < self._began_s
            owned[shard_id] = owned.get(shard_id, True) and stays and not course.shard.finished
        return {shard_id for shard_id, stays in owned.items() if stays}

    def _rate(self, node: str, shard_id: str, truth: Truth) -> float | None:
        """Polls a second; none at all where the load was never noticed, None where that was too short a time ago."""
        polled = self._polled.get((node, shard_id))
        if polled is None:
            return 0.0
        watched_s = truth.now_s - polled.since_s
        return None if watched_s < _WATCHED_S_MIN else polled.times / watched_s
