"""V13: the gauge of lag does not flatter, and it comes back to nothing."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import PageRead, ShardOpened
from streamflow.testing.simulation.facts import Called, Sampled, Told

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Life, Truth

# An empty page vouches for this long; creation times are whole seconds, and a page takes its time.
_VOUCHED_S, _ROUNDING_S = 15.0, 3.0
# A clock that drifts, by at most so much, and one that was set.
_DRIFT, _SET_S = 0.02, 1.0


@dataclass(slots=True)
class _Answers:
    """What one worker has been answered about one shard."""

    through: int = 0
    """The number of the last record that any answer has had."""
    empty_at_s: float = -math.inf
    """When an answer had no record last: nobody can know more then, also where the service hides some."""


@dataclass(slots=True, eq=False)
class LagIsTold:
    """V13: the iterator age of a shard is at least the age of the oldest record that its worker was never answered.

    Up to 15 s after an empty page it may be 0. Once faults are over it is no more than the pause between two polls.
    """

    bounds: Bounds
    name = "V13"
    hears: ClassVar[Sequence[type]] = (Called, Told, Sampled)
    _answers: dict[tuple[str, str], _Answers] = field(default_factory=dict)
    _reading: set[tuple[str, str, str]] = field(default_factory=set)
    """Node, pipeline and shard of which a page was read since it was opened: before that nothing is known of it."""
    _samples: dict[str, tuple[float, Sampled]] = field(default_factory=dict)
    """The newest of each node, with its time."""
    _clocks_set: set[str] = field(default_factory=set)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        match fact:
            case Called(operation="GetRecords", failed=False):
                answers = self._answers.setdefault((fact.node, fact.shard_id), _Answers())
                if fact.records:
                    answers.through = max(answers.through, fact.last)
                else:
                    answers.empty_at_s = truth.now_s
            case Told(event=ShardOpened(pipeline=pipeline, shard_id=shard_id)):
                self._reading.discard((fact.node, pipeline, shard_id))
            case Told(event=PageRead(pipeline=pipeline, shard_id=shard_id)):
                self._reading.add((fact.node, pipeline, shard_id))
            case Sampled():
                return self._sampled(fact, truth)
            case _:
                pass
        return None

    def _sampled(self, fact: Sampled, truth: Truth) -> str | None:
        before_s, before = self._samples.get(fact.node, (truth.now_s, fact))
        self._samples[fact.node] = truth.now_s, fact
        if abs(fact.ahead_s - before.ahead_s) > _SET_S + 2 * _DRIFT * (truth.now_s - before_s):
            self._clocks_set.add(fact.node)
        # Whose clock was set takes one time from the other, and both are right.
        if fact.node in self._clocks_set:
            return None
        for (pipeline, shard_id), age_s in fact.ages_s.items():
            if (fact.node, pipeline, shard_id) not in self._reading:
                continue
            owed_s = self._owed_s(fact.node, shard_id, truth) - max(0.0, -fact.ahead_s)
            if owed_s > _VOUCHED_S + _ROUNDING_S and age_s < owed_s * (1 - _DRIFT) - _ROUNDING_S:
                return f"{fact.node} shows {shard_id} as {age_s:.1f} s old, and it is {owed_s:.1f} s behind"
        return None

    def _owed_s(self, node: str, shard_id: str, truth: Truth) -> float:
        """How old the shard is at least, as far as its worker can know."""
        answers, shard = self._answers.get((node, shard_id)), truth.shards[shard_id]
        if answers is None or _stood_since(truth.nodes[node], answers.empty_at_s):
            return 0.0
        unread = bisect_right(shard.numbers, max(answers.through, shard.gone_through))
        if unread >= len(shard.numbers):
            return 0.0
        return truth.now_s - max(shard.made_at_s[shard.numbers[unread]], answers.empty_at_s)

    def broken_at_end(self, truth: Truth, /) -> Iterator[str]:
        bound_s = 2 * self.bounds.idle_poll_s + _VOUCHED_S + _ROUNDING_S
        for node in truth.quiet_nodes:
            at_s, sample = self._samples.get(node, (-math.inf, None))
            # The polls that faults have put off are over, and a clock that was set late is no shard's age.
            if sample is None or at_s < truth.quiet_at_s + bound_s + 3 * self.bounds.lease_duration_s:
                continue
            for (_, shard_id), age_s in sample.ages_s.items():
                shard = truth.shards[shard_id]
                unread = shard.made_at_s[shard.numbers[-1]] if shard.numbers else -math.inf
                if age_s > bound_s and unread < at_s - bound_s and node not in self._clocks_set:
                    yield f"{node} shows {shard_id} as {age_s:.1f} s old, and there is nothing to be read"


def _stood_since(life: Life, at_s: float) -> bool:
    """Whether the worker stood still when it was answered, or has since: it takes the answer for a newer one."""
    return life.stands or life.held_until_s >= at_s > -math.inf
