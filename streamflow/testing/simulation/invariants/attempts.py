"""V12: a batch is invoked exactly as often as its retries take, and nothing is given up sooner, or for an age it has not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import (
    ClockJumped,
    Invoked,
    LettersStored,
    NodeStarted,
    Returned,
    RowStored,
    Sampled,
)
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact, Letter, Terms
    from streamflow.testing.simulation.truth import Truth

_Owner = tuple[str, str, str, int]
"""Node, pipeline, shard and epoch."""

# Clocks of nodes drift by this much at most; creation times are whole seconds.
_DRIFT, _ROUNDING_S = 0.02, 1.0


@dataclass(slots=True, eq=False)
class RetriesExact(OfFacts):
    """V12: whoever has a shard invokes its records until their retries are used up: not once more, and not once less.

    The records of one batch share a count. It begins anew with each half, and with what is left behind a record that was
    done; a sink that is busy, and a record that only waits for another, cost nothing. Where the store forgot writes, a node
    may take the same epoch twice, and counts from nothing the second time.
    """

    name = "V12"
    hears: ClassVar[Sequence[type]] = (Invoked, Returned, LettersStored, RowStored)
    _failures: dict[_Owner, dict[int, int]] = field(default_factory=dict)
    _doomed: dict[_Owner, set[int]] = field(default_factory=dict)
    """What has to be given up."""
    _ever_doomed: set[tuple[str, str, str, int]] = field(default_factory=set)
    """Node, pipeline, shard and record: a request for a letter may arrive when the shard is another owner's."""
    _parked: dict[str, set[str]] = field(default_factory=dict)
    """Pipeline to the items that are set aside."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        match fact:
            case Invoked():
                return self._invoked(fact, truth.nodes[fact.node].terms)
            case Returned():
                self._returned(fact, truth.nodes[fact.node].terms)
                return None
            case LettersStored(letters=letters):
                return next((says for letter in letters if (says := self._kept(fact.node, letter))), None)
            case RowStored(before=before, after=row) if (
                before is not None and row is not None and row.epoch != before.epoch
            ):
                owner = fact.node, row.pipeline, row.shard_id, row.epoch
                self._failures.pop(owner, None)
                self._doomed.pop(owner, None)
                return None
            case _:
                return None

    def _invoked(self, fact: Invoked, terms: Terms) -> str | None:
        doomed = self._doomed.get((fact.node, fact.pipeline, fact.shard_id, fact.epoch))
        if not doomed or (again := next((number for number in fact.numbers if number in doomed), None)) is None:
            return None
        if terms.parks_max and len(self._parked.get(fact.pipeline, ())) >= terms.parks_max:
            return None  # there is no room for another item, and so the shard is held
        doomed.discard(again)
        return f"{fact.node} tries {again} of {fact.shard_id} again, which had all of its {terms.retries_max} retries"

    def _returned(self, fact: Returned, terms: Terms) -> None:
        if not fact.counted:
            return
        owner = fact.node, fact.pipeline, fact.shard_id, fact.epoch
        failures = self._failures.setdefault(owner, {})
        done = set(fact.done)
        left = [number for number in fact.numbers if number not in done]
        count = max((failures.pop(number, 0) for number in fact.numbers), default=0) + 1
        exhausted = 0 <= terms.retries_max < count
        doomed: set[int] = set()
        if fact.named:
            refused = set(fact.refused) if terms.refusals else set()
            waiting = set(fact.waiting)
            failed = [number for number in left if number not in refused and number not in waiting]
            doomed = refused | set(failed) if exhausted else refused
            if not exhausted or not failed:
                count -= not failed
                failures.update(dict.fromkeys([*failed, *waiting], count))
        elif not done and not (terms.halves and len(left) > 1):
            doomed = set(left) if exhausted else set()
            failures.update(dict.fromkeys(left, count))
        if doomed:
            self._doomed.setdefault(owner, set()).update(doomed)
            self._ever_doomed.update((*owner[:3], number) for number in doomed)

    def _kept(self, node: str, letter: Letter) -> str | None:
        if letter.drawer == "parked":
            self._parked.setdefault(letter.pipeline, set()).add(letter.key)
        if letter.reason not in {"RetryAttemptsExhausted", "RecordRefused"}:
            return None
        if (node, letter.pipeline, letter.shard_id, letter.number) in self._ever_doomed:
            return None
        return f"{node} gave {letter.number} of {letter.shard_id} up, which had retries left"


@dataclass(slots=True, eq=False)
class AgesHonoured(OfFacts):
    """V12: a record that is given up for its age is that old, by the clock of the node that gave it up."""

    name = "V12"
    hears: ClassVar[Sequence[type]] = (NodeStarted, ClockJumped, Sampled, LettersStored)
    _ahead: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Node to how far its clock was ahead of the service's at most, and when that was seen last."""

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        if isinstance(fact, NodeStarted | ClockJumped | Sampled):
            ahead_s = fact.ahead_s
            known = self._ahead.get(fact.node)
            self._ahead[fact.node] = (ahead_s if known is None else max(ahead_s, known[0]), truth.now_s)
            return None
        assert isinstance(fact, LettersStored)
        return next((says for letter in fact.letters if (says := self._kept(fact.node, letter, truth))), None)

    def _kept(self, node: str, letter: Letter, truth: Truth) -> str | None:
        age_max_s, known = truth.nodes[node].terms.age_max_s, self._ahead.get(node)
        if letter.reason != "RecordAgeExceeded" or known is None:
            return None
        if age_max_s is None:
            return f"{node} gave {letter.number} of {letter.shard_id} up for its age"
        age_s = truth.now_s - truth.shards[letter.shard_id].made_at_s[letter.number]
        seen_s = age_s + known[0] + _DRIFT * (truth.now_s - known[1]) + _ROUNDING_S
        if seen_s >= age_max_s:
            return None
        return f"{node} gave {letter.number} of {letter.shard_id} up for its age, {age_s:.1f} s of {age_max_s:.0f} s"
