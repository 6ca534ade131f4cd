"""The protocol with one of its rules left out or wrong; the explorer has to find out, or it would not find out about ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model.settings import Rules
from streamflow.leases import Lease, LeaseState
from streamflow.positions import SHARD_END
from streamflow.rules import belief, steps
from streamflow.rules.steps import Ended, Outcome, Taken

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from streamflow.rules.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    name: str
    rules: Rules
    world: str
    """The small world in which it is found in the fewest moves."""
    moves: int
    says: str


# --- steps that lead elsewhere ---------------------------------------------------------------------------------------


def _same_epoch(row: Lease, step: Step) -> Lease:
    after = steps.after(row, step)
    return replace(after, epoch=row.epoch) if isinstance(step, Taken) else after


def _ended_at_once(row: Lease, step: Step) -> Lease:
    return steps.after(row, Ended(()) if step == Ended(None) else step)


# --- answers read wrongly --------------------------------------------------------------------------------------------


def _never_stored(_before: Lease, _wanted: Lease, _current: Lease | None) -> Outcome:
    return Outcome.NOT_STORED


def _only_if_alone(before: Lease, wanted: Lease, current: Lease | None) -> Outcome:
    if current == before:
        return Outcome.NOT_STORED
    return Outcome.STORED if current == replace(wanted, version=before.version + 1) else Outcome.LOST


def _if_still_the_owner(held: Lease, current: Lease | None) -> bool:
    return current is not None and current.owner == held.owner


def _never(_held: Lease, _current: Lease | None) -> bool:
    return False


# --- who may have what -----------------------------------------------------------------------------------------------


def _whatever_is_unfinished(leases: Iterable[Lease]) -> list[Lease]:
    return [lease for lease in leases if lease.state is LeaseState.ACTIVE]


def _with_one_parent_done(leases: Iterable[Lease]) -> list[Lease]:
    rows = {lease.shard_id: lease for lease in leases}
    return [
        lease
        for lease in _whatever_is_unfinished(rows.values())
        if not lease.parents or any(rows[each].checkpoint == SHARD_END for each in lease.parents if each in rows)
    ]


def _unless_a_parent_is_known(leases: Iterable[Lease]) -> list[Lease]:
    rows = {lease.shard_id: lease for lease in leases}
    return [
        lease
        for lease in _whatever_is_unfinished(rows.values())
        if all(rows[each].checkpoint == SHARD_END for each in lease.parents if each in rows)
    ]


def _also_of_the_living(row: Lease, me: str, _living: Container[str]) -> bool:
    return row.owner != me


def _not_of_the_dead(row: Lease, me: str, _living: Container[str]) -> bool:
    return row.owner is None or row.owner == me


def _not_ones_own(row: Lease, me: str, living: Container[str]) -> bool:
    return row.owner != me and belief.unowned(row, me, living)


MUTANTS = (
    Mutant(
        name="a take goes on from the listing",
        rules=Rules(resumes_from_what_was_stored=False),
        world="a crash",
        moves=13,
        says="the checkpoint of P goes back",
    ),
    Mutant(
        name="a take has no condition",
        rules=Rules(conditional_take=False),
        world="a row deleted by hand",
        moves=5,
        says="the epoch of P goes back",
    ),
    Mutant(
        name="a take has no epoch of its own",
        rules=Rules(after=_same_epoch),
        world="a crash",
        moves=12,
        says="two workers deliver P under one epoch",
    ),
    Mutant(
        name="a take without an answer is believed in",
        rules=Rules(doubts_a_take_without_an_answer=False),
        world="a lost answer",
        moves=7,
        says="two workers may deliver P at once",
    ),
    Mutant(
        name="a checkpoint has no condition",
        rules=Rules(conditional_write=False),
        world="a stop",
        moves=7,
        says="a write of P is stored that its owner has not made",
    ),
    Mutant(
        name="a checkpoint counts what is in the handler's hands",
        rules=Rules(settles_before_it_checkpoints=False),
        world="two workers",
        moves=7,
        says="the checkpoint of P is ahead of what is settled",
    ),
    Mutant(
        name="a lost answer means that it is stored",
        rules=Rules(doubts_a_write_without_an_answer=False),
        world="a lost answer",
        moves=13,
        says="P is given up because of a write of its owner's own",
    ),
    Mutant(
        name="a lost answer means that it is not stored",
        rules=Rules(resolved=_never_stored),
        world="a lost answer",
        moves=13,
        says="P is given up because of a write of its owner's own",
    ),
    Mutant(
        name="a request hides that a write was stored whose answer was lost",
        rules=Rules(resolved=_only_if_alone),
        world="a lost answer and a request",
        moves=11,
        says="P is given up because of a write of its owner's own",
    ),
    Mutant(
        name="a conflict is a request, if the owner is the same",
        rules=Rules(was_asked=_if_still_the_owner),
        world="a store that forgets",
        moves=15,
        says="the store has forgotten a checkpoint of P, and its owner goes on as if it had not",
    ),
    Mutant(
        name="a conflict is never a request",
        rules=Rules(was_asked=_never),
        world="a request for the lease",
        moves=10,
        says="P is given up because of a write of its owner's own",
    ),
    Mutant(
        name="a row that is made again begins at 0",
        rules=Rules(born=lambda row, _at_ms: replace(row, epoch=0, version=0)),
        world="a row deleted by hand",
        moves=13,
        says="a write of P is stored that its owner has not made",
    ),
    Mutant(
        name="a child does not wait",
        rules=Rules(readable=_whatever_is_unfinished),
        world="a merge, one worker",
        moves=6,
        says="C is delivered before its parent P is done",
    ),
    Mutant(
        name="a child waits for one of its parents",
        rules=Rules(readable=_with_one_parent_done),
        world="a merge, one worker",
        moves=13,
        says="C is delivered before its parent Q is done",
    ),
    Mutant(
        name="a parent without a row counts as done",
        rules=Rules(readable=_unless_a_parent_is_known),
        world="a parent's row deleted by hand",
        moves=8,
        says="C is delivered before its parent P is done",
    ),
    Mutant(
        name="a shard ends before its children have rows",
        rules=Rules(creates_children_before_it_ends=False),
        world="a merge, one worker",
        moves=8,
        says="P is ended, and its child C has no row",
    ),
    Mutant(
        name="a shard ends although the service shows no children",
        rules=Rules(after=_ended_at_once),
        world="a child that is shown late",
        moves=8,
        says="P is ended, and its child C has no row",
    ),
    Mutant(
        name="a lease is let go with a record in the handler's hands",
        rules=Rules(drains_before_it_lets_go=False),
        world="a stop",
        moves=15,
        says="record 1 of P is repeated though nothing went wrong",
    ),
    Mutant(
        name="a lease that was passed on is believed in before it is taken",
        rules=Rules(takes_what_was_passed_on=False),
        world="a request for the lease",
        moves=12,
        says="two workers may deliver P at once",
    ),
    Mutant(
        name="a lease is taken from the living",
        rules=Rules(unowned=_also_of_the_living),
        world="two workers",
        moves=8,
        says="two workers may deliver P at once",
    ),
    Mutant(
        name="a lease is not taken from the dead",
        rules=Rules(unowned=_not_of_the_dead),
        world="a crash",
        moves=4,
        says="nothing leads to the end any more",
    ),
    Mutant(
        name="a lease of one's own that one does not know of is not taken",
        rules=Rules(unowned=_not_ones_own),
        world="a lost answer",
        moves=4,
        says="nothing leads to the end any more",
    ),
    Mutant(
        name="belief outlives patience",
        rules=Rules(valid_until=lambda sent_at, duration_s: sent_at + duration_s * 1.2),
        world="a pause",
        moves=10,
        says="two workers may deliver P at once",
    ),
    Mutant(
        name="patience is half a duration",
        rules=Rules(patience_s=lambda _row, duration_s: duration_s / 2),
        world="beats that take their time",
        moves=10,
        says="two workers may deliver P at once",
    ),
    Mutant(
        name="belief counts from the answer",
        rules=Rules(counts_from_the_sending=False),
        world="beats that take their time",
        moves=14,
        says="two workers may deliver P at once",
    ),
    Mutant(
        name="belief counts a beat without an answer",
        rules=Rules(doubts_a_beat_without_an_answer=False),
        world="beats that take their time",
        moves=13,
        says="two workers may deliver P at once",
    ),
    Mutant(
        name="who was taken for dead comes back under the same id",
        rules=Rules(new_life_when_struck=False),
        world="a pause",
        moves=11,
        says="two workers may deliver P at once",
    ),
)
