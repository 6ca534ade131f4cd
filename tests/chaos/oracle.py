"""Whether what the sink accepted is what was promised. Pure: acceptances, faults and checkpoints are passed in.

The rules:

- **A valid owner.** Epochs of a shard grow with each change of owner. What is accepted for a shard under an older epoch
  after the first acceptance under a newer one comes from a zombie, a worker that has lost the shard and may not know it
  yet. A zombie's acceptances deliver nothing: what follows looks at those of valid owners alone.
- **Lost** is a version of an item that no valid owner delivered by the end.
- **Order.** The first acceptance of a version is a violation where a newer version of the same item was accepted before.
- **Repeated** is every acceptance by a valid owner after the first, and every one by a zombie.
- **Explained.** Such a repetition is the price of a fault if all of this holds:
  the shard had changed its owner since the acceptance before;
  before the next owner's first acceptance, the worker of the one before was killed or paused, and not before that one,
  unless it was the first batch of the shard after a pause (it was on its way when the worker was stopped); or a paused
  worker kept everybody from writing the store, so that others lost their leases, too;
  and the record lies behind every checkpoint of the shard that was seen in the store before the repetition.
  A zombie's acceptance is explained by a pause, as a batch that was on its way: it is the first of the shard since.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.faults import Fault
    from chaos.journal import Acceptance
    from chaos.sightings import Sightings

EXAMPLES_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One batch, without its records."""

    at_s: float
    life: int
    shard_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """A record that was accepted again: `before` and `after` number entries; `before` is None for a zombie's."""

    item: int
    version: int
    sequence_number: int
    before: int | None
    after: int


@dataclass(slots=True, eq=False)
class Accounts:
    """What was accepted, entered batch by batch in the order of acceptance. Four bytes per record, and a little per batch."""

    delivered: int = 0
    """Records that a valid owner delivered, each counted once."""
    order_violations: int = 0
    violations: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    repetitions: list[Repetition] = field(default_factory=list)
    _accepted: dict[int, array[int]] = field(default_factory=dict)
    """Item to the number of the entry that accepted its versions last, from version 1 on; -1 for none."""
    _newest: Counter[int] = field(default_factory=Counter)
    _epochs: Counter[str] = field(default_factory=Counter)

    def enter(self, acceptance: Acceptance) -> None:
        number = len(self.entries)
        shard_id, epoch = acceptance.shard_id, acceptance.epoch
        self.entries.append(Entry(at_s=acceptance.at_s, life=acceptance.life, shard_id=shard_id, epoch=epoch))
        if epoch < self._epochs[shard_id]:
            for item, version, text in acceptance.changes:
                self._repeat(item, version, text, before=None, after=number)
            return
        self._epochs[shard_id] = epoch
        for item, version, text in acceptance.changes:
            before = self._accept(item, version, number)
            if before >= 0:
                self._repeat(item, version, text, before=before, after=number)
            elif version < self._newest[item]:
                self._violate(f"version {version} of item {item} came after {self._newest[item]}, in batch {number}")
            else:
                self._newest[item] = version

    def _accept(self, item: int, version: int, number: int) -> int:
        """The entry that accepted it before, -1 for none."""
        accepted = self._accepted.setdefault(item, array("i"))
        if version > len(accepted):
            accepted.extend([-1] * (version - len(accepted)))
        before = accepted[version - 1]
        accepted[version - 1] = number
        self.delivered += before < 0
        return before

    def _repeat(self, item: int, version: int, text: str, *, before: int | None, after: int) -> None:
        self.repetitions.append(
            Repetition(item=item, version=version, sequence_number=int(text), before=before, after=after)
        )

    def _violate(self, text: str) -> None:
        self.order_violations += 1
        if len(self.violations) < EXAMPLES_MAX:
            self.violations.append(text)

    def missing(self, versions: Sequence[int]) -> list[tuple[int, int]]:
        """Item and version of what was written and not delivered; `versions` is how many each item has."""
        found = []
        for item, count in enumerate(versions):
            accepted = self._accepted.get(item, array("i"))
            known = {version for version, entry in enumerate(accepted, 1) if entry >= 0}
            if len(known) < count:
                found += [(item, version) for version in range(1, count + 1) if version not in known]
        return found

    def invented(self, versions: Sequence[int]) -> int:
        """Versions that were accepted and never written."""
        return sum(
            max(0, len(accepted) - (versions[item] if item < len(versions) else 0))
            for item, accepted in self._accepted.items()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanations:
    """Which repetitions a fault explains."""

    entries: Sequence[Entry]
    faults: dict[int, list[Fault]]
    """By the life that they hit."""
    outages: Sequence[Fault]
    sightings: Sightings
    _firsts: dict[tuple[int, str, float], int] = field(default_factory=dict)
    """Life, shard and the end of a pause, to the first entry of that life for the shard since then."""
    _epochs: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)
    """Shard to its epochs, growing, and when each first delivered."""

    @classmethod
    def of(cls, entries: Sequence[Entry], faults: Sequence[Fault], sightings: Sightings) -> Explanations:
        by_life: dict[int, list[Fault]] = {}
        for fault in faults:
            by_life.setdefault(fault.life, []).append(fault)
        outages = [fault for fault in faults if fault.outage]
        found = cls(entries=entries, faults=by_life, outages=outages, sightings=sightings)
        for number, entry in enumerate(entries):
            found._note(number, entry)
        return found

    def _note(self, number: int, entry: Entry) -> None:
        for fault in self.faults.get(entry.life, ()):
            if entry.at_s > fault.ended_s:
                self._firsts.setdefault((entry.life, entry.shard_id, fault.ended_s), number)
        epochs, times = self._epochs.setdefault(entry.shard_id, ([], []))
        if not epochs or entry.epoch > epochs[-1]:
            epochs.append(entry.epoch)
            times.append(entry.at_s)

    def unexplained(self, repetition: Repetition) -> str | None:
        """Why no fault explains it; None where one does."""
        after = self.entries[repetition.after]
        if repetition.before is None:
            if self._was_on_its_way(repetition.after):
                return None
            return "a worker that had not been stopped in between delivered under an epoch that was over"
        before = self.entries[repetition.before]
        if after.epoch <= before.epoch:
            return "the same owner delivered it twice"
        checkpoint = self.sightings.checkpoint_before(after.shard_id, after.at_s)
        if repetition.sequence_number <= checkpoint:
            return "it lay before a checkpoint that had been stored"
        epochs, times = self._epochs[after.shard_id]
        if not self._was_hit(repetition.before, until_s=times[bisect_right(epochs, before.epoch)]):
            return "the worker that had delivered it was neither killed nor paused"
        return None

    def _was_hit(self, number: int, *, until_s: float) -> bool:
        entry = self.entries[number]
        faults = [*self.faults.get(entry.life, ()), *self.outages]
        hit = any(entry.at_s <= fault.ended_s and fault.began_s <= until_s for fault in faults)
        return hit or self._was_on_its_way(number)

    def _was_on_its_way(self, number: int) -> bool:
        """Whether a pause fell between the call of the handler and its effect: before the time in the entry or behind it."""
        entry = self.entries[number]
        return any(
            fault.kind == "pause"
            and (
                self._firsts.get((entry.life, entry.shard_id, fault.ended_s)) == number
                or fault.began_s - _STAMPED_S_MAX <= entry.at_s <= fault.ended_s
            )
            for fault in self.faults.get(entry.life, ())
        )


# Between taking the time of an acceptance and writing it there is nothing to wait for.
_STAMPED_S_MAX = 1.0
