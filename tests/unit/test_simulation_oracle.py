"""Each invariant of the simulation's oracle: quiet about a history that keeps it, and loud about one that does not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from streamflow import events
from streamflow.leases import STREAM_ROW, WORKERS, Gap, Lease, LeaseState, WindowState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position
from streamflow.testing.simulation import facts
from streamflow.testing.simulation.invariants import all_invariants
from streamflow.testing.simulation.invariants.delivery import differences
from streamflow.testing.simulation.oracle import Bounds, Oracle
from streamflow.testing.simulation.sometimes import STATES, Sometimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.testing.simulation.facts import Fact

Tale = "Callable[[History], None]"


@dataclass(eq=False)
class History:
    """Tells an oracle facts of pipeline `p`, shards `s1` and its child `s2`, and workers `w1` and `w2`."""

    bounds: Bounds = field(default_factory=Bounds)
    terms: facts.Terms = field(default_factory=facts.Terms)
    at_s: float = 0.0
    transactional: bool = False
    rows: dict[str, Lease] = field(default_factory=dict)
    invocations: int = 0

    def __post_init__(self) -> None:
        self.oracle = Oracle(
            ("p",), all_invariants(self.bounds), now=lambda: self.at_s, transactional=self.transactional
        )
        self.tell(facts.Promised(pipeline="p"))
        for node in ("w1", "w2"):
            self.tell(facts.NodeStarted(node=node, worker_id=node, terms=self.terms))
        self.tell(facts.ShardMade(shard_id="s1"))
        self.tell(facts.ShardMade(shard_id="s2", parents=("s1",)))

    def tell(self, *told: Fact) -> None:
        for fact in told:
            self.oracle.tell(fact)

    def broken(self) -> set[str]:
        return {violation.invariant for violation in self.oracle.violations}

    # -- what usually happens -------------------------------------------------------------------------------------------

    def make(self, *numbers: int, key: str = "k", shard_id: str = "s1", **more: Any) -> None:
        for number in numbers:
            self.tell(
                facts.RecordMade(shard_id=shard_id, number=number, key=key, body=f"body {number}".encode(), **more)
            )

    def store(self, node: str = "w1", shard_id: str = "s1", **changes: Any) -> None:
        """A row as `node` changes it; at first it is made."""
        before = self.rows.get(shard_id)
        base = before or Lease(pipeline="p", stream_arn="arn", shard_id=shard_id)
        after = self.rows[shard_id] = replace(base, **{"version": base.version + 1, **changes})
        self.tell(facts.RowStored(node=node, before=before, after=after))

    def take(self, node: str = "w1", shard_id: str = "s1", **changes: Any) -> None:
        if shard_id not in self.rows:
            self.store(node, shard_id, epoch=1)
        self.store(node, shard_id, owner=node, claimant=None, epoch=self.rows[shard_id].epoch + 1, **changes)

    def invoke(self, *numbers: int, node: str = "w1", shard_id: str = "s1", epoch: int | None = None) -> dict[str, Any]:
        self.invocations += 1
        epoch = self.rows[shard_id].epoch if epoch is None else epoch
        where: dict[str, Any] = {"node": node, "invocation": self.invocations, "pipeline": "p", "shard_id": shard_id}
        where |= {"epoch": epoch, "numbers": numbers}
        self.tell(facts.Invoked(**where))
        return where

    def deliver(self, *numbers: int, accept: bool = True, fenced: bool = False, **where: Any) -> None:
        place = self.invoke(*numbers, **where)
        if accept:
            self.tell(facts.Accepted(**place, fenced=fenced))
        self.tell(facts.Returned(**place, done=numbers))

    def fail(self, *numbers: int, done: tuple[int, ...] = (), **where: Any) -> None:
        self.tell(facts.Returned(**self.invoke(*numbers, **where), done=done))

    def letter(self, number: int, *, drawer: str = "dead", shard_id: str = "s1", **changes: Any) -> None:
        values: dict[str, Any] = {"body": f"body {number}".encode(), "key": "k", **changes}
        letter = facts.Letter(drawer=drawer, pipeline="p", shard_id=shard_id, number=number, **values)
        self.tell(facts.LettersStored(node="w1", letters=(letter,)))

    def roll_back(self, row: Lease) -> None:
        """The store has the row of `s1` as it was."""
        self.rows["s1"] = row
        self.tell(facts.StoreRolledBack(rows=(row,)))

    def checkpoint(self, number: int, node: str = "w1", **changes: Any) -> None:
        self.store(node, checkpoint=Position.after(str(number)), **changes)

    def event(self, event: Any, node: str = "w1") -> None:
        self.tell(facts.Told(node=node, event=event))

    def quiet(self) -> None:
        self.tell(facts.QuietBegun(nodes=("w1", "w2")))

    def poll(self, node: str = "w1", shard_id: str = "s1", **values: Any) -> None:
        self.tell(facts.Called(node=node, operation="GetRecords", shard_id=shard_id, **values))


def begun(terms: facts.Terms | None = None, **bounds: Any) -> History:
    """Three records, and `w1` at work."""
    history = History(Bounds(**bounds), terms or facts.Terms())
    history.make(1, 2, 3)
    history.take()
    return history


GAP = Gap(lost_from=Position.after("1"), found_at_s=0.0, cause="trimmed")


def trimmed() -> events.RecordsTrimmed:
    return events.RecordsTrimmed(pipeline="p", shard_id="s1", lost_from=GAP.lost_from, cause=GAP.cause)


# --- one function for each invariant: what is right, and, with `wrong`, what is not ------------------------------------


def lost(wrong: bool) -> History:
    """V1: a record is done, says its handler, and is in no sink."""
    history = begun()
    history.deliver(1, 2, 3, accept=not wrong)
    history.checkpoint(3)
    history.oracle.conclude()
    return history


def lost_silently(wrong: bool) -> History:
    """V1: retention took a record, and the gap is not noted."""
    history = begun()
    history.deliver(1)
    history.checkpoint(1)
    history.tell(facts.RecordsGone(shard_id="s1", through=2))
    history.event(trimmed())
    history.store(checkpoint=TRIM_HORIZON, gaps=() if wrong else (GAP,))
    history.deliver(3)
    history.checkpoint(3)
    history.oracle.conclude()
    return history


def told_nobody(wrong: bool) -> History:
    """V1: a gap is noted in the row, and no observer hears of it."""
    history = begun()
    history.deliver(1)
    history.checkpoint(1)
    if not wrong:
        history.event(trimmed())
    history.store(checkpoint=TRIM_HORIZON, gaps=(GAP,))
    return history


def out_of_order(wrong: bool) -> History:
    """V2: a change is written before an earlier one of the same item."""
    history = begun()
    for number in (2, 1, 3) if wrong else (1, 2, 1, 3):
        place = history.invoke(number)
        history.tell(facts.Accepted(**place), facts.Returned(**place))
    return history


def written_behind_a_fence(wrong: bool) -> History:
    """V2: the old owner writes after the new one."""
    history = begun(steals=True)
    history.deliver(1, fenced=True)
    old = history.invoke(2)
    history.take("w2")
    history.deliver(2, node="w2", fenced=True)
    if wrong:
        history.tell(facts.Accepted(**old, fenced=True))
    return history


def ahead(wrong: bool) -> History:
    """V3: the checkpoint covers what is not done."""
    history = begun()
    history.deliver(1, 2)
    history.checkpoint(3 if wrong else 2)
    return history


def ahead_at_the_end(wrong: bool) -> History:
    """V3: the end of a shard that is open."""
    history = begun()
    history.deliver(1, 2, 3)
    if not wrong:
        history.tell(facts.ShardFinished(shard_id="s1"))
    history.store(checkpoint=SHARD_END, state=LeaseState.AWAITING_CHILDREN)
    return history


def told_as_stored(wrong: bool) -> History:
    """V3: a checkpoint is told that is not in the store."""
    history = begun()
    history.deliver(1, 2)
    history.checkpoint(1 if wrong else 2)
    history.event(events.CheckpointStored(pipeline="p", shard_id="s1", checkpoint=Position.after("2"), duration_s=0.0))
    return history


def told_as_ended(wrong: bool) -> History:
    """V3: the end of a shard is told, and its row does not say it."""
    history = begun()
    history.deliver(1, 2, 3)
    history.tell(facts.ShardFinished(shard_id="s1"))
    if not wrong:
        history.store(owner=None, checkpoint=SHARD_END, state=LeaseState.AWAITING_CHILDREN)
    history.event(events.ShardClosed(pipeline="p", shard_id="s1", reason=events.ShardClosing.ENDED))
    return history


def checkpoint_back(wrong: bool) -> History:
    """V4."""
    history = begun()
    history.deliver(1, 2)
    history.checkpoint(2)
    history.checkpoint(1 if wrong else 2)
    return history


def checkpoint_back_after_a_roll_back(wrong: bool) -> History:
    """V4: the checkpoint goes back, and what was there had a version that no lost write had had."""
    history = begun()
    taken = history.rows["s1"]
    history.deliver(1, 2)
    history.checkpoint(1)
    history.roll_back(taken)
    history.checkpoint(2)
    if wrong:
        history.store()
    history.checkpoint(1)
    return history


def epoch_back(wrong: bool) -> History:
    """V4: a row is deleted, and made again with an epoch that was."""
    history = begun()
    history.tell(facts.RowStored(node="w1", before=history.rows["s1"], after=None))
    last = history.rows.pop("s1")
    history.store(epoch=last.epoch if wrong else last.epoch + 1)
    return history


def epoch_back_though_known(wrong: bool) -> History:
    """V4: a row that was deleted by hand is made again with an earlier time, by one that was shown the later one."""
    history = begun()
    history.store(epoch=1_764_000_600_000)
    history.tell(facts.RowsListed(node="w2" if wrong else "w1", rows=(history.rows["s1"],)))
    history.tell(facts.RowStored(node=facts.HAND, before=history.rows.pop("s1"), after=None))
    history.store("w2", epoch=1_764_000_000_000)
    return history


def epoch_made_up(wrong: bool) -> History:
    """V4: a row that was deleted by hand is made again with an epoch that is no time."""
    history = begun()
    history.store(epoch=1_764_000_600_000)
    history.tell(facts.RowStored(node=facts.HAND, before=history.rows.pop("s1"), after=None))
    history.store("w2", epoch=7 if wrong else 1_764_000_000_000)
    return history


def two_owners(wrong: bool) -> History:
    """V5: two workers take the same epoch."""
    history = begun()
    history.store("w2", owner="w2", epoch=3)
    before = history.rows["s1"]
    history.rows["s1"] = replace(before, epoch=2, owner="w1", version=2)
    history.store("w1", owner="w1", epoch=3 if wrong else 4)
    return history


def a_zombie(wrong: bool) -> History:
    """V5: who has lost the shard goes on; one batch that it had decided on while it stood still is allowed."""
    history = begun()
    history.at_s = 20.0
    history.take("w2")
    history.at_s = 21.0
    history.tell(facts.NodeHeld(node="w1", held_s=20.0))
    history.invoke(1, epoch=2)
    if wrong:
        history.invoke(2, epoch=2)
    return history


def a_zombie_of_a_hand(wrong: bool) -> History:
    """V5: a hand let the shard go for its owner, who hears of it within a lease's duration, although another has it before."""
    history = begun(lease_duration_s=10.0)
    history.at_s = 20.0
    before = history.rows["s1"]
    history.rows["s1"] = replace(before, owner=None, version=before.version + 1)
    history.tell(facts.RowStored(node=facts.HAND, before=before, after=history.rows["s1"]))
    history.at_s = 25.0
    history.take("w2")
    beat(history)
    history.at_s = 31.0 if wrong else 29.0
    history.invoke(1, epoch=before.epoch)
    return history


def an_epoch_of_two(wrong: bool) -> History:
    """V5: two workers dispatch in one epoch."""
    history = begun()
    history.deliver(1)
    history.invoke(2, node="w2" if wrong else "w1")
    return history


def beat(history: History, **values: Any) -> None:
    row = Lease(pipeline=WORKERS[0], stream_arn=WORKERS[1], shard_id="w1", owner="w1")
    history.tell(facts.RowStored(node="w1", before=None, after=row, **values))


def silent_and_at_work(wrong: bool) -> History:
    """V5: its last sign of life was sent four fifths of a lease duration ago, and a worker dispatches."""
    history = begun(lease_duration_s=10.0)
    history.at_s = 3.0
    beat(history, age_s=2.0)
    history.tell(facts.NodeHeld(node="w1", held_s=1.0))
    history.at_s = 9.1 if wrong else 8.9
    history.invoke(1)
    return history


def silent_and_storing(wrong: bool) -> History:
    """V5: as before, where each lease is renewed, and with a checkpoint; who stood still may send what it had decided on."""
    history = begun(lease_duration_s=10.0)
    history.deliver(1)
    history.at_s = 20.0
    history.tell(facts.NodeHeld(node="w1", held_s=20.0))
    history.at_s = 22.0 if wrong else 20.0
    history.checkpoint(1)
    return history


def child_first(wrong: bool) -> History:
    """V6: the child is delivered while the parent is not done."""
    history = begun()
    history.make(4, shard_id="s2")
    history.deliver(1, 2)
    if not wrong:
        history.deliver(3)
    history.take(shard_id="s2")
    history.deliver(4, shard_id="s2")
    return history


def child_read_first(wrong: bool) -> History:
    """V6: the child is read while the parent's row says that it is not done."""
    history = begun()
    history.deliver(1, 2, 3)
    history.tell(facts.ShardFinished(shard_id="s1"))
    if not wrong:
        history.store(checkpoint=SHARD_END, state=LeaseState.AWAITING_CHILDREN)
    history.poll(shard_id="s2")
    return history


def ended_without_its_child(wrong: bool) -> History:
    """V6: a shard is ended though its child is not shown yet."""
    history = begun()
    history.deliver(1, 2, 3)
    history.tell(facts.ShardFinished(shard_id="s1"))
    state = LeaseState.ENDED if wrong else LeaseState.AWAITING_CHILDREN
    history.store(owner=None, checkpoint=SHARD_END, state=state)
    return history


def ended_before_its_child(wrong: bool) -> History:
    """V6: a shard is ended before the row of its child is stored."""
    history = begun()
    history.deliver(1, 2, 3)
    history.tell(facts.ShardFinished(shard_id="s1"))
    if not wrong:
        history.store(shard_id="s2")
    history.store(owner=None, checkpoint=SHARD_END, state=LeaseState.ENDED, children=("s2",))
    return history


def started_too_early(wrong: bool) -> History:
    """V6: a stream counts as started before what is listed has rows."""
    history = History()
    history.store(shard_id=STREAM_ROW, state=LeaseState.AWAITING_CHILDREN)
    history.tell(facts.Shown(node="w1", shard_ids=("s1",)))
    if not wrong:
        history.store(shard_id="s1")
    history.store(shard_id=STREAM_ROW, state=LeaseState.ACTIVE)
    return history


def resumed_behind(wrong: bool) -> History:
    """V7: a new owner begins before the checkpoint that it took over."""
    history = begun()
    history.deliver(1, 2)
    history.checkpoint(1)
    history.take("w2")
    history.deliver(*((1, 2) if wrong else (2,)), node="w2")
    return history


def done_twice(wrong: bool) -> History:
    """V7: the same owner delivers again what was done; what failed may come again."""
    history = begun()
    history.deliver(1)
    history.fail(2)
    history.deliver(1 if wrong else 2)
    return history


def unclean_stop(wrong: bool) -> History:
    """V7: a worker stops cleanly, and what it had done is not stored, and not told as repeating."""
    history = begun()
    history.deliver(1, 2)
    history.checkpoint(1)
    history.tell(facts.StopAsked(node="w1"))
    history.tell(facts.NodeStopped(node="w1", repeating={} if wrong else {("p", "s1"): 1}))
    return history


def unclean_hand_over(wrong: bool) -> History:
    """V7: a lease is passed on while nothing fails, before what was done is stored."""
    history = begun()
    history.quiet()
    history.deliver(1, 2)
    history.at_s = 35.0
    history.store()
    history.checkpoint(1 if wrong else 2, owner="w2", claimant="w2")
    return history


def unclean_hand_over_behind_a_failure(wrong: bool) -> History:
    """V7: as before, and a record fails; what is done behind one that was under way when faults ended cannot be stored."""
    history = begun(facts.Terms(lanes=2))
    history.make(4, key="of one lane")
    history.make(5, key="of another")
    failing = None if wrong else history.invoke(4)
    history.deliver(1, 2, 3)
    history.deliver(5)
    history.quiet()
    failing = failing or history.invoke(4)
    history.at_s = 35.0
    history.tell(facts.Returned(**failing))
    history.store()
    history.checkpoint(3, owner="w2", claimant="w2")
    return history


def unclean_hand_over_before_a_failure(wrong: bool) -> History:
    """V7: a lease is passed on, and what was done before a record that fails is not stored."""
    history = begun(facts.Terms(lanes=2))
    history.make(4, key="of another lane")
    failing = history.invoke(4)
    history.deliver(1, 2, 3)
    history.quiet()
    history.at_s = 35.0
    history.tell(facts.Returned(**failing))
    history.store()
    history.checkpoint(2 if wrong else 3, owner="w2", claimant="w2")
    return history


def late_checkpoint(wrong: bool) -> History:
    """V7: nothing fails, and what is done is not stored."""
    history = begun()
    history.deliver(1, 2)
    history.quiet()
    if not wrong:
        history.checkpoint(2)
    history.at_s = 60.0
    history.tell(facts.Sampled(node="w1"))
    return history


def comes_twice_in_quiet(wrong: bool) -> History:
    """V7: nothing fails, a worker is stopped, and the next one delivers what was done."""
    history = begun()
    history.quiet()
    history.at_s = 35.0
    history.store()
    history.deliver(1)
    history.checkpoint(1, owner=None)
    history.take("w2")
    history.deliver(1 if wrong else 2, node="w2")
    return history


def left_in_the_middle(wrong: bool) -> History:
    """V7: nothing fails, and a worker that is stopped does not wait for what it has begun."""
    history = begun()
    history.quiet()
    history.at_s = 35.0
    history.tell(facts.StopAsked(node="w1"))
    history.at_s = 36.0 if wrong else 61.0
    history.tell(facts.NodeStopped(node="w1", drained=False))
    return history


def starving(wrong: bool) -> History:
    """V8: an open shard is polled no more, though nothing fails."""
    history = begun()
    history.quiet()
    history.poll()
    history.at_s = 100.0
    if not wrong:
        history.poll()
    history.oracle.conclude()
    return history


def loaded(least_every: int) -> History:
    """`w1` owns two shards under even load, and polls one of them only every so many times."""
    history = History()
    history.tell(facts.ShardMade(shard_id="s3"))
    history.take()
    history.take(shard_id="s3")
    history.at_s = 1.0
    history.tell(facts.EvenLoad())
    for number in range(100):
        history.at_s += 0.25
        history.poll(records=1)
        if number % least_every == 0:
            history.poll(shard_id="s3", records=1)
    history.tell(facts.EvenLoad(over=True))
    return history


def unfair(wrong: bool) -> History:
    """V8: of two shards that get equally much one is polled much less often."""
    return loaded(5 if wrong else 3)


def passed_over(wrong: bool) -> History:
    """V8: one of them is never polled."""
    return loaded(1_000 if wrong else 1)


def too_much_in_hand(wrong: bool) -> History:
    """V9."""
    history = begun(buffer_bytes_max=1_000)
    history.event(page(2, bytes=600))
    history.tell(facts.Sampled(node="w1", buffered_bytes=2_100 if wrong else 1_900, shards=1))
    return history


def read_although_full(wrong: bool) -> History:
    """V9: a page is read for a shard that has more in hand than it may."""
    history = begun(facts.Terms(buffer_bytes_max=1_000))
    history.event(page(1, bytes=500, buffered_bytes=1_800 if wrong else 1_600))
    return history


def too_many_tasks(wrong: bool) -> History:
    """V9."""
    history = begun()
    history.tell(facts.Sampled(node="w1", tasks=200 if wrong else 20, shards=1))
    return history


def slow_stop(wrong: bool) -> History:
    """V10."""
    history = begun()
    history.tell(facts.StopAsked(node="w1"))
    history.at_s = 100.0 if wrong else 20.0
    history.tell(facts.NodeStopped(node="w1", drained=False))
    return history


def still_at_work(wrong: bool) -> History:
    """V10: after its end a worker calls its handler."""
    history = begun()
    if wrong:
        history.tell(facts.StopAsked(node="w1"), facts.NodeStopped(node="w1", drained=False))
    history.invoke(1)
    return history


def still_an_owner(wrong: bool) -> History:
    """V10: a clean stop, while nothing fails, leaves a lease behind."""
    history = begun()
    history.quiet()
    history.at_s = 35.0
    history.tell(facts.StopAsked(node="w1"))
    if not wrong:
        history.store(owner=None)
    history.tell(facts.NodeStopped(node="w1"))
    return history


_NEVER_AGAIN = facts.Terms(retries_max=0)


def given_up_without_a_failure(wrong: bool) -> History:
    """V11."""
    history = begun(_NEVER_AGAIN)
    history.fail(*(() if wrong else (1,)))
    history.letter(1)
    return history


def given_up_in_company(wrong: bool) -> History:
    """V11: batches are halved, and the record never failed alone."""
    history = begun(facts.Terms(retries_max=0, halves=True), bisect=True)
    history.fail(1, 2)
    if not wrong:
        history.fail(1)
    history.letter(1)
    return history


def given_up_changed(wrong: bool) -> History:
    """V11: the letter is not what the service has."""
    history = begun(_NEVER_AGAIN)
    history.fail(1)
    history.letter(1, body=b"else" if wrong else b"body 1")
    return history


def delivered_while_parked(wrong: bool) -> History:
    """V11: a later change of an item that is set aside."""
    history = begun(_NEVER_AGAIN)
    history.fail(1)
    history.letter(1, drawer="parked")
    history.letter(2, drawer="parked", reason="KeyParked")
    history.checkpoint(2)
    history.take("w2")
    if wrong:
        history.deliver(3, node="w2")
    else:
        history.letter(3, drawer="parked", reason="KeyParked")
    return history


def delivered_by_who_parked(wrong: bool) -> History:
    """V11: the owner that has set an item aside delivers its next change."""
    history = begun(facts.Terms(retries_max=0, halves=True, parks_max=9))
    history.fail(1)
    history.letter(1, drawer="parked")
    if wrong:
        history.deliver(2)
    else:
        history.letter(2, drawer="parked", reason="KeyParked")
    return history


def tried_once_more(wrong: bool) -> History:
    """V12: a batch, with two retries of its own behind the record that was done."""
    history = begun(facts.Terms(retries_max=2))
    history.fail(1, 2, 3, done=(1,))
    for _ in range(4 if wrong else 3):
        history.fail(2, 3)
    return history


def tried_again_after_a_roll_back(wrong: bool) -> History:
    """V12: the store forgets a row's writes, and its owner, who has not taken it since, tries what had its one retry."""
    history = begun(facts.Terms(retries_max=1))
    taken = history.rows["s1"]
    history.fail(1)
    history.fail(1)
    history.roll_back(replace(taken, owner=None, epoch=taken.epoch - 1))
    if not wrong:
        history.take()
    history.fail(1, epoch=taken.epoch)
    return history


def halves_tried_once_more(wrong: bool) -> History:
    """V12: a half has as many retries as the whole, and a split costs none."""
    history = begun(facts.Terms(retries_max=1, halves=True))
    history.fail(1, 2, 3)
    history.fail(2, 3)
    for _ in range(3 if wrong else 2):
        history.fail(3)
    return history


def tried_although_refused(wrong: bool) -> History:
    """V12: a record that is never to be taken, and one that waits for it."""
    history = begun(facts.Terms(retries_max=1))
    history.tell(facts.Returned(**history.invoke(1, 2, 3), done=(1,), named=True, refused=(2,), waiting=(3,)))
    history.letter(2, reason="RecordRefused")
    history.fail(3)
    history.fail(*((2, 3) if wrong else (3,)))
    return history


def given_up_too_early(wrong: bool) -> History:
    """V12: a sink that is busy takes no retry."""
    history = begun(facts.Terms(retries_max=1))
    history.fail(1)
    history.tell(facts.Returned(**history.invoke(1), counted=False))
    if not wrong:
        history.fail(1)
    history.letter(1)
    return history


def given_up_too_young(wrong: bool) -> History:
    """V12: by a clock that is ten seconds ahead."""
    history = begun(facts.Terms(age_max_s=60.0))
    history.tell(facts.ClockJumped(node="w1", ahead_s=10.0))
    history.at_s = 40.0 if wrong else 49.5
    history.letter(1, reason="RecordAgeExceeded")
    return history


def two_at_once(wrong: bool) -> History:
    """V2: two changes of an item are in two handlers."""
    history = begun(facts.Terms(lanes=2))
    place = history.invoke(1)
    if not wrong:
        history.tell(facts.Returned(**place, done=(1,)))
    history.invoke(2)
    return history


def two_at_once_after_a_roll_back(wrong: bool) -> History:
    """V2: the store forgets a row's writes, and its owner, who has not taken it since, has two changes in two handlers."""
    history = begun(facts.Terms(lanes=2))
    taken = history.rows["s1"]
    history.invoke(1)
    history.roll_back(replace(taken, owner=None, epoch=taken.epoch - 1))
    if not wrong:
        history.take()
    history.invoke(2, epoch=taken.epoch)
    return history


def a_zombie_once_the_lost_writes_are_made_again(wrong: bool) -> History:
    """V5: the store forgot writes, they are made again, and from then on who has lost the shard is held to it as before."""
    history = begun()
    taken = history.rows["s1"]
    history.deliver(1)
    history.checkpoint(1)
    history.roll_back(taken)
    history.take("w2")
    history.deliver(1, node="w2")
    history.checkpoint(1, node="w2")
    lost_epoch = history.rows["s1"].epoch
    history.take("w1")
    if wrong:
        history.invoke(2, node="w2", epoch=lost_epoch)
    else:
        history.invoke(2, node="w1")
        history.invoke(2, node="w2", epoch=taken.epoch)
    return history


def too_many_handlers(wrong: bool) -> History:
    """V2: more than there are lanes."""
    history = begun(facts.Terms(lanes=2))
    history.make(4, 5, key="another")
    history.make(6, key="a third")
    history.invoke(1, 2)
    history.invoke(4, 5)
    if wrong:
        history.invoke(6)
    return history


def deaf_to_the_fence(wrong: bool) -> History:
    """V5: the sink has told of a newer owner."""
    history = begun()
    history.tell(facts.Returned(**history.invoke(1), fenced=True))
    if not wrong:
        history.take("w2")
    history.invoke(1, node="w1" if wrong else "w2")
    return history


def let_go_in_the_middle(wrong: bool) -> History:
    """V5: the thread of a handler is at work, and its lease is let go."""
    history = begun()
    place = history.invoke(1)
    if not wrong:
        history.tell(facts.Returned(**place))
    history.store(owner=None)
    return history


def _window(*numbers: int, start_s: int = 0, final: bool = False) -> facts.WindowSeen:
    return facts.WindowSeen(start_s=start_s, numbers=numbers, final=final)


def _state(*numbers: int) -> WindowState:
    return WindowState(0, 10, orjson.dumps({"numbers": [str(number) for number in numbers]}))


def stored_without_its_window(wrong: bool) -> History:
    """V3: the next owner would not know what the window has had."""
    history = begun()
    history.tell(facts.Returned(**history.invoke(1, 2), done=(1, 2), window=_window(1, 2)))
    history.checkpoint(2, window=_state(1) if wrong else _state(1, 2))
    return history


def another_state_handed_on(wrong: bool, to: str = "w2") -> History:
    """V3: what the handler gets is not what was stored for it."""
    history = begun()
    history.tell(facts.Returned(**history.invoke(1, 2), done=(1, 2), window=_window(1, 2)))
    history.checkpoint(2, window=_state(1, 2))
    history.take(to)
    seen = _window(2) if wrong else _window(1, 2)
    place: dict[str, Any] = {
        "node": to,
        "invocation": 9,
        "pipeline": "p",
        "shard_id": "s1",
        "epoch": history.rows["s1"].epoch,
    }
    history.tell(facts.Invoked(**place, numbers=(3,), window=seen))
    return history


def another_state_handed_on_to_itself(wrong: bool) -> History:
    """V3: the same, where a worker takes its own row again."""
    return another_state_handed_on(wrong, to="w1")


def page(records: int, **more: Any) -> events.PageRead:
    values: dict[str, Any] = {"bytes": 1, "duration_s": 0.0, "last_created_at_s": None, **more}
    return events.PageRead(pipeline="p", shard_id="s1", records=records, **values)


def delivered(records: int) -> events.BatchDelivered:
    return events.BatchDelivered(
        pipeline="p", shard_id="s1", records=records, bytes=1, delivered=records, dropped={}, attempts=1,
        handler_s=0.0, first_created_at_s=0.0, last_created_at_s=0.0, now_s=0.0,
    )  # fmt: skip


def opened() -> events.ShardOpened:
    return events.ShardOpened(pipeline="p", shard_id="s1", start=TRIM_HORIZON, epoch=2)


def counted_wrongly(wrong: bool) -> History:
    """V13: a shard is let go, and the records in hand are not those that were read and not settled."""
    history = begun()
    history.event(opened())
    history.event(page(3, filtered=1))
    history.deliver(1)
    history.event(delivered(1))
    history.event(
        events.ShardClosed(pipeline="p", shard_id="s1", reason=events.ShardClosing.STOPPED, abandoned=0 if wrong else 1)
    )
    return history


def told_as_delivered(wrong: bool) -> History:
    """V13: more is told as delivered than handlers were done with."""
    history = begun()
    history.event(opened())
    history.event(page(3))
    history.deliver(1)
    history.event(delivered(2 if wrong else 1))
    return history


def flattering_lag(wrong: bool) -> History:
    """V13: the gauge shows less than the age of what is not read."""
    history = begun()
    history.event(opened())
    history.poll(records=1, last=1)
    history.event(page(1))
    history.at_s = 100.0
    history.tell(facts.Sampled(node="w1", ages_s={("p", "s1"): 5.0 if wrong else 99.0}))
    return history


def flattering_lag_since_an_empty_page(wrong: bool) -> History:
    """V13: the gauge counts from another page than the empty one that was answered last."""
    history = begun()
    history.event(opened())
    history.poll(records=3, last=3)
    history.at_s = 10.0
    history.poll()
    history.event(page(0))
    history.at_s = 11.0
    history.make(4)
    history.at_s = 40.0
    history.tell(facts.Sampled(node="w1", ages_s={("p", "s1"): 20.0 if wrong else 30.0}))
    return history


def lag_that_stays(wrong: bool) -> History:
    """V13: nothing fails, everything is read, and the gauge goes on."""
    history = begun()
    history.event(opened())
    history.poll(records=3, last=3)
    history.event(page(3))
    history.quiet()
    history.at_s = 100.0
    history.poll()
    history.tell(facts.Sampled(node="w1", ages_s={("p", "s1"): 100.0 if wrong else 0.0}))
    history.oracle.truth.quiet_nodes = ("w1",)
    history.oracle.conclude()
    return history


def never_done(wrong: bool) -> History:
    """V14."""
    history = begun()
    history.tell(facts.Converged(took_s=None if wrong else 3.0, missing="record 3"))
    return history


def restless(wrong: bool) -> History:
    """V14: leases go to and fro while nothing happens."""
    history = begun()
    history.quiet()
    for _ in range(3 if wrong else 1):
        history.take("w2")
        history.take("w1")
    history.oracle.conclude()
    return history


def unequal(wrong: bool) -> History:
    """V14: leases rest, and one worker has all of them."""
    history = History()
    history.tell(facts.ShardMade(shard_id="s3"))
    history.take("w1")
    history.take("w1" if wrong else "w2", shard_id="s3")
    history.quiet()
    history.at_s = 100.0
    history.poll()
    history.poll(shard_id="s3")
    history.oracle.conclude()
    return history


def hurried(wrong: bool) -> History:
    """V15: an idle shard is polled far too often."""
    history = begun()
    for number in range(100):
        history.at_s = number * (0.01 if wrong else 0.25)
        history.poll()
    return history


def listing_storm(wrong: bool) -> History:
    """V15."""
    history = begun()
    for number in range(1_000):
        history.at_s = number * (0.01 if wrong else 0.2)
        history.tell(facts.Called(node="w1", operation="DescribeStream"))
    return history


def stormy(wrong: bool) -> History:
    """V15: what fails is asked for again and again."""
    history = begun()
    for number in range(20):
        history.at_s = number * (0.1 if wrong else 0.5)
        history.tell(facts.Heard(node="w1", operation="GetRecords", shard_id="s1", failed=True))
    return history


def stormy_between_answers(wrong: bool) -> History:
    """V15: what is answered in between begins anew."""
    history = begun()
    for number in range(40):
        history.at_s = number * 0.1
        failed = wrong or bool(number % 3)
        history.tell(facts.Heard(node="w1", operation="DescribeStream", failed=failed))
    return history


def leaking(wrong: bool) -> History:
    """V16: a text of a record is in a log."""
    history = begun(canaries=("canary",))
    history.tell(facts.Wrote(node="w1", text=f"batch failed: {'canary' if wrong else 'ValueError'}"))
    return history


def leaking_by_event(wrong: bool) -> History:
    """V16: a text of a record is in an error that observers get."""
    history = begun(canaries=("canary",))
    error = ValueError("canary" if wrong else "no")
    history.event(events.PipelineFailed(pipeline="p", error=error))
    return history


def left_behind(wrong: bool) -> History:
    """V17."""
    history = begun()
    history.tell(facts.StopAsked(node="w1"))
    history.tell(facts.NodeStopped(node="w1", drained=False, tasks_left=("p/s1/reader",) if wrong else ()))
    return history


def unheard(wrong: bool) -> History:
    """V17."""
    history = begun()
    if wrong:
        history.tell(facts.LoopComplained(text="Task exception was never retrieved"))
    return history


CASES: list[tuple[str, Callable[[bool], History]]] = [
    ("V1", lost), ("V1", lost_silently), ("V1", told_nobody), ("V2", out_of_order), ("V2", written_behind_a_fence),
    ("V3", ahead), ("V3", ahead_at_the_end), ("V3", told_as_stored), ("V3", told_as_ended), ("V4", checkpoint_back),
    ("V4", epoch_back), ("V4", epoch_back_though_known), ("V4", epoch_made_up), ("V5", two_owners), ("V5", a_zombie),
    ("V5", an_epoch_of_two), ("V5", silent_and_at_work), ("V5", silent_and_storing),
    ("V6", child_first), ("V6", child_read_first), ("V6", ended_without_its_child),
    ("V6", ended_before_its_child), ("V6", started_too_early), ("V7", resumed_behind), ("V7", done_twice), ("V7", unclean_stop),
    ("V7", unclean_hand_over), ("V7", unclean_hand_over_behind_a_failure), ("V7", unclean_hand_over_before_a_failure),
    ("V7", late_checkpoint), ("V7", comes_twice_in_quiet), ("V7", left_in_the_middle),
    ("V8", starving), ("V9", too_much_in_hand), ("V9", too_many_tasks),
    ("V10", slow_stop), ("V10", still_at_work), ("V10", still_an_owner),
    ("V11", given_up_without_a_failure), ("V11", given_up_in_company), ("V11", given_up_changed),
    ("V11", delivered_while_parked), ("V13", counted_wrongly), ("V13", told_as_delivered),
    ("V13", flattering_lag), ("V14", never_done), ("V14", restless), ("V14", unequal), ("V15", hurried),
    ("V15", listing_storm), ("V16", leaking), ("V16", leaking_by_event), ("V17", left_behind), ("V17", unheard),
    ("V2", two_at_once), ("V2", too_many_handlers), ("V3", stored_without_its_window), ("V3", another_state_handed_on),
    ("V3", another_state_handed_on_to_itself),
    ("V5", deaf_to_the_fence), ("V5", let_go_in_the_middle), ("V9", read_although_full), ("V11", delivered_by_who_parked),
    ("V12", tried_once_more), ("V12", halves_tried_once_more), ("V12", tried_although_refused),
    ("V12", given_up_too_early), ("V12", given_up_too_young),
    ("V8", unfair), ("V8", passed_over), ("V15", stormy), ("V15", stormy_between_answers),
    ("V13", flattering_lag_since_an_empty_page), ("V13", lag_that_stays),
    ("V2", two_at_once_after_a_roll_back), ("V12", tried_again_after_a_roll_back), ("V4", checkpoint_back_after_a_roll_back),
    ("V5", a_zombie_once_the_lost_writes_are_made_again), ("V5", a_zombie_of_a_hand),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "tale"), CASES, ids=[tale.__name__ for _, tale in CASES])
def test_an_invariant_is_broken_by_what_breaks_it(invariant: str, tale: Callable[[bool], History]) -> None:
    assert invariant in tale(True).broken()


@pytest.mark.parametrize(("invariant", "tale"), CASES, ids=[tale.__name__ for _, tale in CASES])
def test_no_invariant_is_broken_by_what_is_right(invariant: str, tale: Callable[[bool], History]) -> None:
    assert tale(False).oracle.violations == []


def test_every_invariant_has_a_case() -> None:
    assert {name for name, _ in CASES} == {f"V{number}" for number in range(1, 18)}
    assert {invariant.name for invariant in all_invariants(Bounds())} == {f"V{number}" for number in range(1, 18)}


def test_two_runs_differ_where_one_writes_something_else() -> None:
    one = {("p", "k"): [1, 2, 3], ("p", "l"): [4]}
    assert list(differences(one, {**one})) == []
    assert len(list(differences(one, {**one, ("p", "k"): [1, 3, 2]}))) == 1
    assert len(list(differences(one, {("p", "k"): [1, 2, 3]}))) == 1
    assert len(list(differences(one, {**one, ("p", "k"): [1, 2, 2, 3]}))) == 1


def test_the_records_of_a_sink_that_keeps_the_checkpoint_are_settled_by_being_there() -> None:
    for transactional in (False, True):
        history = History(transactional=transactional)
        history.make(1)
        history.take()
        history.tell(facts.Accepted(**history.invoke(1)))
        history.checkpoint(1)
        assert history.broken() == (set() if transactional else {"V3"})


def test_only_so_many_violations_of_one_invariant_are_kept() -> None:
    history = begun()
    for _ in range(20):
        history.tell(facts.LoopComplained(text="again"))
    assert len(history.oracle.violations) == 5


def test_a_state_is_reached_once_and_others_are_waited_for() -> None:
    history, sometimes = begun(), Sometimes()
    fact = facts.LoopComplained(text="nothing of interest")
    sometimes.hear(fact, history.oracle.truth)
    assert not sometimes.reached
    for event in (
        events.LeaseReleased(pipeline="p", shard_id="s1"),
        events.LeaseLost(pipeline="p", shard_id="s1", reason=""),
    ):
        sometimes.hear(facts.Told(node="w1", event=event), history.oracle.truth)
    assert sometimes.reached == {"a lease is lost"}
    place = history.invoke(1)
    sometimes.hear(facts.Returned(**place), history.oracle.truth)
    assert sometimes.reached == {"a lease is lost", "a batch fails", "a record fails alone"}
    assert sometimes.reached < STATES.keys()
