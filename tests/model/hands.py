"""What happens to rows beside the workers' own leases: discovery, people, and a store that forgets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from model.checker import Move
from model.requests import stored
from model.settings import PIPELINE
from model.states import State, in_place_of, newest, row_of
from streamflow.leases import LeaseState
from streamflow.positions import TRIM_HORIZON
from streamflow.rules import lineage, resets
from streamflow.rules.steps import Ended

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.protocol import Protocol
    from streamflow.leases import Lease


def moves(model: Protocol, state: State) -> Iterator[Move[State]]:
    if any(life.phase == "runs" for life in state.lives):
        yield from _discovery(model, state)
    yield from _service(model, state)
    yield from _people(model, state)
    for number, shard in enumerate(state.shards):
        if shard.previous is not None and (left := state.left.less("rollbacks")) is not None:
            forgotten = shard._replace(row=shard.previous, previous=None)
            words = ("the store forgets its last write of", model.names[number])
            yield Move(words, state._replace(left=left).with_shard(number, forgotten))


def _discovery(model: Protocol, state: State) -> Iterator[Move[State]]:
    for number, shard in enumerate(state.shards):
        if shard.row is None or shard.row.lease.state is not LeaseState.AWAITING_CHILDREN:
            continue
        found, children = model.with_children(state, number)
        if children is not None:
            found = _stored(model, found, number, model.after(shard.row, Ended(children)).lease)
            yield Move(("the children of", model.names[number], "are found"), found)
    if any(shard.row is None or shard.trimmed for shard in state.shards):
        audited = _audited(model, state)
        if audited != state:
            yield Move(("the audit compares the listing with the rows",), audited)


def _audited(model: Protocol, state: State) -> State:
    tree = model.world.tree
    rows = {shard.row.lease.shard_id: shard.row.lease for shard in state.shards if shard.row is not None}
    listed = {
        name: tree.listed(name)
        for name, shard in zip(model.names, state.shards, strict=True)
        if not shard.trimmed and all(_shows(model, state, parent) for parent in tree.parents[name])
    }
    plan = lineage.plan(listed, rows, pipeline=PIPELINE)
    for lease in plan.create:
        state = created(model, state, lease)
    for lease in plan.unblock:
        state = _stored(model, state, model.names.index(lease.shard_id), lease)
    for lease in plan.forget:
        number = model.names.index(lease.shard_id)
        state = state.with_shard(number, state.shards[number]._replace(row=None))
    return state


def _shows(model: Protocol, state: State, parent: str) -> bool:
    """A child is listed once its parent has ended, for the service if not for us."""
    return state.shards[model.names.index(parent)].shown


def _service(model: Protocol, state: State) -> Iterator[Move[State]]:
    for number, shard in enumerate(state.shards):
        if not shard.shown:
            shown = state.with_shard(number, shard._replace(shown=True))
            yield Move(("the service shows the children of", model.names[number]), shown)
        ended = shard.row is not None and shard.row.lease.state is LeaseState.ENDED
        # The oldest go first.
        oldest = all(
            state.shards[model.names.index(each)].trimmed for each in model.world.tree.parents[model.names[number]]
        )
        if ended and oldest and not shard.trimmed and (left := state.left.less("trims")) is not None:
            trimmed = state._replace(left=left).with_shard(number, shard._replace(trimmed=True))
            yield Move(("the service lists", model.names[number], "no more"), trimmed)


def _people(model: Protocol, state: State) -> Iterator[Move[State]]:
    for number, shard in enumerate(state.shards):
        if shard.row is None:
            continue
        name = model.names[number]
        if (left := state.left.less("deletes")) is not None:
            deleted = state._replace(left=left).with_shard(number, shard._replace(row=None))
            yield Move(("somebody deletes the row of", name), deleted)
        if (left := state.left.less("resets")) is not None:
            yield Move(("somebody moves", name, "back to its start"), _reset(model, state._replace(left=left), number))


def _reset(model: Protocol, state: State, number: int) -> State:
    rows = {shard.row.lease.shard_id: shard.row.lease for shard in state.shards if shard.row is not None}
    moved = resets.with_descendants([resets.reset(rows[model.names[number]], TRIM_HORIZON)], rows)
    for each in moved:
        lease = each.lease(user="somebody", now_s=0.0)
        state = _stored(model, state, model.names.index(lease.shard_id), replace(lease, gaps=()))
    return state


def created(model: Protocol, state: State, lease: Lease) -> State:
    """With a row that is new, unless it is there."""
    number = model.names.index(lease.shard_id)
    shard = state.shards[number]
    if shard.row is not None:
        return state
    return state.with_shard(number, shard._replace(row=row_of(model.rules.born(lease, newest(shard) + 2))))


def _stored(model: Protocol, state: State, number: int, lease: Lease) -> State:
    shard = state.shards[number]
    assert shard.row is not None
    return state.with_shard(number, stored(model, shard, in_place_of(shard.row, row_of(lease))))
