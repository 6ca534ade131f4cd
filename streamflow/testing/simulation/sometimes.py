"""Interesting states, and whether a run, or a sweep, ever came to them: what is never reached is not tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow import events
from streamflow.leases import STREAM_ROW
from streamflow.testing.simulation.facts import (
    HAND,
    Accepted,
    Invoked,
    LettersStored,
    NodeStarted,
    NodeStopped,
    Returned,
    RowStored,
    StoreRolledBack,
    Told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamflow.leases import Lease
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Truth

_State: TypeAlias = "tuple[type, Callable[[Any, Truth], bool]]"
"""A kind of fact, or of event, and whether one of it is what we wait for."""


def _event(kind: type) -> _State:
    return kind, lambda _event, _truth: True


def _row(state: Callable[[Lease | None, Lease, Truth], bool]) -> _State:
    def holds(fact: RowStored, truth: Truth) -> bool:
        return fact.after is not None and fact.node != HAND and state(fact.before, fact.after, truth)

    return RowStored, holds


def _retaken(before: Lease | None, row: Lease) -> bool:
    """From an owner that did not let it go."""
    return before is not None and before.epoch < row.epoch and before.owner not in {None, before.claimant, row.owner}


def _passed_on_while_it_ends(before: Lease | None, row: Lease, truth: Truth) -> bool:
    if before is None or row.owner in {before.owner, None} or row.owner != row.claimant:
        return False
    shard = truth.shards.get(row.shard_id)
    return shard is not None and shard.finished and row.state.value == "active"


def _children_found(before: Lease | None, row: Lease) -> bool:
    if before is None or row.shard_id == STREAM_ROW:
        return False
    return (before.state.value, row.state.value) == ("awaiting_children", "ended")


def _ended_empty(row: Lease, truth: Truth) -> bool:
    shard = truth.shards.get(row.shard_id)
    return shard is not None and not shard.numbers and row.state.value == "ended"


def _row_forgotten(fact: RowStored, _truth: Truth) -> bool:
    return fact.after is None and fact.node != HAND and fact.before is not None and fact.before.state.value == "ended"


def _stale(fact: Accepted, truth: Truth) -> bool:
    return truth.courses[fact.pipeline, fact.shard_id].epoch > fact.epoch


def _again(fact: Invoked, truth: Truth) -> bool:
    done_by = truth.courses[fact.pipeline, fact.shard_id].done_by
    return any(done_by.get(number, fact.epoch) < fact.epoch for number in fact.numbers)


def _two_of_one_name(fact: NodeStarted, truth: Truth) -> bool:
    return sum(life.worker_id == fact.worker_id and not life.ended for life in truth.nodes.values()) > 1


STATES: Mapping[str, _State] = {
    "a lease is taken from an owner that is silent": _row(lambda before, row, _: _retaken(before, row)),
    "a lease is passed on": _event(events.LeaseHandedOver),
    "a lease is passed on while its shard ends": _row(_passed_on_while_it_ends),
    "a lease is asked for": _event(events.LeaseAskedFor),
    "a lease is lost": _event(events.LeaseLost),
    "a worker is struck": _event(events.WorkerStruck),
    "a worker finds itself taken for dead": _event(events.WorkerTakenForDead),
    "two lives have one name": (NodeStarted, _two_of_one_name),
    "the first start is interrupted, and done by another": _row(
        lambda before, row, _: (
            row.shard_id == STREAM_ROW and row.state.value == "awaiting_children" and _retaken(before, row)
        )
    ),
    "the stream's row changes hands": _row(lambda before, row, _: row.shard_id == STREAM_ROW and _retaken(before, row)),
    "a parent waits for children that are listed late": _row(lambda before, row, _: _children_found(before, row)),
    "a shard ends without a record": _row(lambda _, row, truth: _ended_empty(row, truth)),
    "the row of an ended shard is forgotten": (RowStored, _row_forgotten),
    "a gap is noted": _row(lambda before, row, _: before is not None and before.gaps != row.gaps),
    "a row is changed by hand": (RowStored, lambda fact, _: fact.node == HAND),
    "the store forgets writes": (StoreRolledBack, lambda _fact, _: True),
    "a batch fails": (Returned, lambda fact, _: fact.counted and not fact.done),
    "a batch fails in part": (Returned, lambda fact, _: 0 < len(fact.done) < len(fact.numbers)),
    "a record fails alone": (Returned, lambda fact, _: fact.counted and not fact.done and len(fact.numbers) == 1),
    "a sink is busy": (Returned, lambda fact, _: not fact.counted),
    "an older owner still writes": (Accepted, _stale),
    "records come again to another owner": (Invoked, _again),
    "records are given up": _event(events.RecordsDiscarded),
    "a destination does not take what is given up": _event(events.DestinationFailed),
    "an item is parked": (LettersStored, lambda fact, _: any(letter.drawer == "parked" for letter in fact.letters)),
    "a later change of a parked item is set aside": (
        LettersStored,
        lambda fact, _: any(letter.reason == "KeyParked" for letter in fact.letters),
    ),
    "a worker stops with batches in flight": (NodeStopped, lambda fact, _: not fact.drained and not fact.failed),
    "a worker stops cleanly": (NodeStopped, lambda fact, _: fact.drained and not fact.failed),
    "a worker fails": (NodeStopped, lambda fact, _: fact.failed),
    "a checkpoint is not taken": _event(events.CheckpointFailed),
    "a heartbeat is not taken": _event(events.HeartbeatFailed),
    "an iterator has expired": _event(events.IteratorExpired),
    "a reader is stuck": _event(events.ReaderStuck),
    "discovery fails": _event(events.DiscoveryFailed),
    "a read fails": _event(events.ReadFailed),
}
"""What a sweep should come to, and how one fact tells it."""


@dataclass(slots=True, eq=False)
class Sometimes:
    """Which of the states one run has come to."""

    reached: set[str] = field(default_factory=set)
    _waiting: dict[type, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (kind, _) in STATES.items():
            self._waiting.setdefault(kind, []).append(name)

    def hear(self, fact: Fact, truth: Truth) -> None:
        """After the fact was noted. What was reached is not looked for again."""
        what = fact.event if isinstance(fact, Told) else fact
        waiting = self._waiting.get(type(what))
        if not waiting:
            return
        for name in list(waiting):
            if STATES[name][1](what, truth):
                self.reached.add(name)
                waiting.remove(name)
