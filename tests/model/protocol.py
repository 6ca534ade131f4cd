"""The protocol as a model: every move that a worker, the store, the network, the service or a person may make in a state.

What changes a row, who may take it, what may be read, and what an answer that did not come means, is decided by the
product's functions; what is written here is when each of them is asked, as the engine does it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from model import hands, lives, owning, requests
from model.settings import DURATION, PIPELINE, Rules, World
from model.states import Life, Part, Row, Shard, State, row_of, settled_by
from streamflow.leases import WORKERS, Lease, LeaseState
from streamflow.positions import TRIM_HORIZON
from streamflow.rules import lineage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from model.checker import Move
    from streamflow.rules.steps import Step


class Protocol:
    """A `Model`."""

    def __init__(self, world: World, rules: Rules | None = None) -> None:
        self.world = world
        self.rules = rules or Rules()
        self.names = world.tree.names
        self.records = [world.tree.records[name] for name in self.names]
        self._after: dict[tuple[Row, Step], Row] = {}
        self._readable: dict[tuple[Row | None, ...], frozenset[int]] = {}

    # -- the model ------------------------------------------------------------------------------------------------------

    def initial(self) -> State:
        """All rows that a first start makes are stored, and nobody owns any."""
        parts = tuple(Part() for _ in range(self.world.workers))
        shards = tuple(
            Shard(
                row=None if self.world.tree.parents[name] else row_of(self.lease_for(name)),
                parts=parts,
                shown=name not in self.world.tree.late,
            )
            for name in self.names
        )
        return State(shards, tuple(Life() for _ in range(self.world.workers)), self.world.left)

    def moves(self, state: State) -> Iterator[Move[State]]:
        yield from lives.moves(self, state)
        for number in range(len(self.names)):
            yield from requests.late_moves(self, state, number)
            for worker in range(self.world.workers):
                yield from owning.moves(self, state, number, worker)
                yield from requests.moves(self, state, number, worker)
        yield from hands.moves(self, state)

    def is_end(self, state: State) -> bool:
        return all(
            shard.trimmed if shard.row is None else shard.row.lease.state is LeaseState.ENDED for shard in state.shards
        )

    def broken(self, state: State) -> str | None:
        for number, shard in enumerate(state.shards):
            if shard.row is not None and settled_by(shard.row.lease, self.records[number]) > shard.done:
                return f"the checkpoint of {self.names[number]} is ahead of what is settled"
            believers = sum(self.may_deliver(state, number, worker) for worker in range(self.world.workers))
            if believers > 1 and not (self.world.by_hand or self.world.forgetful):
                return f"two workers may deliver {self.names[number]} at once"
        return None if self.world.by_hand else self._childless(state)

    def _childless(self, state: State) -> str | None:
        for shard, name in zip(state.shards, self.names, strict=True):
            if shard.row is None or shard.row.lease.state is not LeaseState.ENDED:
                continue
            for child in self.world.tree.children(name):
                if state.shards[self.names.index(child)].row is None:
                    return f"{name} is ended, and its child {child} has no row"
        return None

    # -- what the moves share -------------------------------------------------------------------------------------------

    def worker_id(self, state: State, worker: int) -> str:
        return f"{'abcdef'[worker]}#{state.lives[worker].number}"

    def living(self, state: State) -> frozenset[str]:
        """Whose rows are among those of workers: each id is of one life."""
        return frozenset(self.worker_id(state, each) for each, life in enumerate(state.lives) if life.listed)

    def valid(self, life: Life) -> bool:
        return life.phase != "dead" and life.age < self.rules.valid_until(0, DURATION)

    def believes(self, state: State, number: int, worker: int) -> bool:
        held = state.shards[number].parts[worker].held
        if held is None or held.lease.owner != self.worker_id(state, worker):
            return False
        return self.valid(state.lives[worker])

    def may_deliver(self, state: State, number: int, worker: int) -> bool:
        part = state.shards[number].parts[worker]
        if not self.believes(state, number, worker):
            return False
        return part.flying or (state.lives[worker].phase == "runs" and part.leaving is None)

    def is_silent(self, life: Life) -> bool:
        return life.listed and life.quiet >= self.rules.patience_s(self._worker_row, DURATION)

    def without_fault(self, state: State) -> bool:
        return state.left.faults == self.world.left.faults and not self.world.timed

    def readable(self, state: State) -> frozenset[int]:
        rows = tuple(shard.row for shard in state.shards)
        if rows not in self._readable:
            found = {lease.shard_id for lease in self.rules.readable([row.lease for row in rows if row is not None])}
            self._readable[rows] = frozenset(each for each, name in enumerate(self.names) if name in found)
        return self._readable[rows]

    def after(self, row: Row, step: Step) -> Row:
        if (row, step) not in self._after:
            self._after[row, step] = row_of(self.rules.after(row.lease, step))
        return self._after[row, step]

    def lease_for(self, name: str) -> Lease:
        return lineage.lease_for(self.world.tree.listed(name), pipeline=PIPELINE, start=TRIM_HORIZON)

    def with_children(self, state: State, number: int) -> tuple[State, tuple[str, ...] | None]:
        """The state with the rows of a shard's children; their names, or None while the service shows none."""
        children: Sequence[str] = self.world.tree.children(self.names[number])
        if children and not state.shards[number].shown:
            return state, None
        for child in children if self.rules.creates_children_before_it_ends else ():
            state = hands.created(self, state, self.lease_for(child))
        return state, tuple(children)

    @cached_property
    def _worker_row(self) -> Lease:
        pipeline, stream_arn = WORKERS
        return Lease(pipeline=pipeline, stream_arn=stream_arn, shard_id="a", owner="a", duration_s=DURATION)
