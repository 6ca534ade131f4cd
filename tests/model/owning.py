"""What a worker does with one shard: looks, takes, delivers, checkpoints, ends, asks for it, and lets it go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.checker import Move
from model.requests import begun, stored
from model.states import Call, Part, Row, Shard, State, in_place_of, position, settled_by, with_part
from streamflow.leases import LeaseState
from streamflow.rules.steps import AskedFor, Checkpointed, Ended, PassedOn, Taken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.protocol import Protocol
    from streamflow.rules.steps import Step


def moves(model: Protocol, state: State, number: int, worker: int) -> Iterator[Move[State]]:
    life, part = state.lives[worker], state.shards[number].parts[worker]
    if life.phase == "dead":
        return
    if part.held is not None:
        yield from _holding(model, state, number, worker)
        if model.believes(state, number, worker):
            yield from _believing(model, state, number, worker, part, part.held)
        else:
            yield from _disbelieving(model, state, number, worker)
    elif life.phase == "runs" and life.listed:
        yield from _looking(model, state, number, worker)
    if part.flying and part.held is None and not model.rules.drains_before_it_lets_go:
        yield _settled(model, state, number, worker)


# --- without the lease -----------------------------------------------------------------------------------------------


def _looking(model: Protocol, state: State, number: int, worker: int) -> Iterator[Move[State]]:
    shard, name, me = state.shards[number], model.names[number], model.worker_id(state, worker)
    part, row = shard.parts[worker], shard.row
    if part.seen is not None:
        yield _take(model, state, number, worker, part.seen)
    if row is None or number not in model.readable(state) or not model.valid(state.lives[worker]):
        return
    if model.rules.unowned(row.lease, me, model.living(state)):
        if part.call is None and part.seen != row:
            if row.lease.owner == me and not model.rules.takes_what_was_passed_on:
                believing = begun(part, row)
                yield Move((me, "finds that", name, "was passed on to it"), state.with_part(number, worker, believing))
            yield Move((me, "sees that", name, "is free"), state.with_part(number, worker, part._replace(seen=row)))
    elif row.lease.claimant is None and (left := state.left.less("asks")) is not None:
        asked = stored(model, shard, in_place_of(row, model.after(row, AskedFor(me))))
        yield Move((me, "asks for", name), state._replace(left=left).with_shard(number, asked))


def _take(model: Protocol, state: State, number: int, worker: int, seen: Row) -> Move[State]:
    """What is taken is the row as it is now, if that is the one that was listed."""
    name, me = model.names[number], model.worker_id(state, worker)
    part, row = state.shards[number].parts[worker], state.shards[number].row
    one = "epoch" if not model.rules.resumes_from_what_was_stored else "version"
    if row is None or getattr(row.lease, one) != getattr(seen.lease, one):
        return Move((me, "finds", name, "changed"), state.with_part(number, worker, part._replace(seen=None)))
    before = row if model.rules.resumes_from_what_was_stored else seen
    step = Taken(me)
    call = Call(step, before, model.after(row, step))
    return Move((me, "takes", name), state.with_part(number, worker, part._replace(seen=None, call=call)))


# --- with it ---------------------------------------------------------------------------------------------------------


def _holding(model: Protocol, state: State, number: int, worker: int) -> Iterator[Move[State]]:
    """Also where the validity has just run out: what the handler was given may still come to its end."""
    shard, name, me = state.shards[number], model.names[number], model.worker_id(state, worker)
    part = shard.parts[worker]
    if part.flying:
        yield _settled(model, state, number, worker)
    held = part.held
    row = None if shard.row is None else shard.row.lease
    if held is not None and part.call is None and model.rules.was_lost(held.lease, row):
        yield Move((me, "sees that", name, "is not its own"), lost(model, state, number, worker))


def _believing(model: Protocol, state: State, number: int, worker: int, part: Part, held: Row) -> Iterator[Move[State]]:
    name, me, records = model.names[number], model.worker_id(state, worker), model.records[number]
    runs = state.lives[worker].phase == "runs"
    if part.leaving is None and runs:
        if part.settled < records and not part.flying:
            yield _dispatched(model, state, number, worker, held)
        if (asks := _asking(model, state, number, me)) is not None:
            leaving = part._replace(leaving=(asks, None))
            yield Move((me, "begins to let", name, "go for", asks), state.with_part(number, worker, leaving))
    if part.call is not None:
        return
    early = part.flying and not model.rules.settles_before_it_checkpoints
    if (at := part.settled + early) > settled_by(held.lease, records):
        yield _sent(model, state, number, worker, Checkpointed(position(at)))
    if part.settled == records and part.leaving is None:
        found, children = model.with_children(state, number)
        yield _sent(model, found, number, worker, Ended(children))
    drained = not part.flying and at == settled_by(held.lease, records)
    if part.leaving is not None and (drained or not model.rules.drains_before_it_lets_go):
        step = PassedOn(*part.leaving)
        gone = Part(parting=Call(step, held, model.after(held, step)))
        if part.flying:
            gone = gone._replace(settled=part.settled, flying=True)
        yield Move((me, "passes", name, "on"), state.with_part(number, worker, gone))


def _disbelieving(model: Protocol, state: State, number: int, worker: int) -> Iterator[Move[State]]:
    name, me = model.names[number], model.worker_id(state, worker)
    yield Move((me, "does not believe in", name, "any more"), lost(model, state, number, worker))


def lost(model: Protocol, state: State, number: int, worker: int) -> State:
    """The worker knows no more of the shard; what it had sent may still arrive."""
    shard = state.shards[number]
    part = shard.parts[worker]
    late = [*shard.late, *(call for call in (part.call,) if call is not None and call.phase == "sent")]
    if model.world.timed:
        # Belief may end any number of times here: what the store will refuse, since versions only grow, is forgotten.
        late = [call for call in late if shard.row is not None and call.before.lease.version == shard.row.lease.version]
    shard = shard._replace(late=tuple(late))
    return state.with_shard(number, shard).with_part(number, worker, Part(parting=part.parting))


def _asking(model: Protocol, state: State, number: int, me: str) -> str | None:
    row = state.shards[number].row
    if row is None or row.lease.claimant in {None, me} or row.lease.claimant not in model.living(state):
        return None
    return row.lease.claimant


def _sent(model: Protocol, state: State, number: int, worker: int, step: Step) -> Move[State]:
    part = state.shards[number].parts[worker]
    assert part.held is not None
    call = Call(step, part.held, model.after(part.held, step))
    words = (model.worker_id(state, worker), "sends its", call.noun, "of", model.names[number])
    return Move(words, state.with_part(number, worker, part._replace(call=call)))


# --- records ---------------------------------------------------------------------------------------------------------


def _dispatched(model: Protocol, state: State, number: int, worker: int, held: Row) -> Move[State]:
    shard, name, me = state.shards[number], model.names[number], model.worker_id(state, worker)
    part, epoch = shard.parts[worker], held.lease.epoch
    fence = max(shard.fence or (epoch, me), (epoch, me))
    changed = with_part(shard._replace(fence=fence), worker, part._replace(flying=True))
    words = (me, "delivers record", str(part.settled + 1), "of", name)
    broken = _out_of_turn(model, shard, name, me, epoch) or _before_parents(model, state, number, held)
    return Move(words, state.with_shard(number, changed), broken)


def _out_of_turn(model: Protocol, shard: Shard, name: str, me: str, epoch: int) -> str | None:
    if shard.fence is None or model.world.by_hand or model.world.forgetful:
        return None
    if epoch < shard.fence[0]:
        return f"{name} is delivered under an epoch that is over"
    return f"two workers deliver {name} under one epoch" if epoch == shard.fence[0] and me != shard.fence[1] else None


def _before_parents(model: Protocol, state: State, number: int, held: Row) -> str | None:
    name, row = model.names[number], state.shards[number].row
    for parent in model.world.tree.parents[name]:
        at = model.names.index(parent)
        before = state.shards[at]
        if before.done < model.records[at]:
            return f"{name} is delivered before its parent {parent} is done"
        # Whoever does not know yet that its own row was moved too will hear of it.
        unmoved = row is not None and (row.lease.owner, row.lease.epoch) == (held.lease.owner, held.lease.epoch)
        repeats = before.row is not None and before.row.lease.state is LeaseState.ACTIVE
        if model.world.waits_for_repeats and unmoved and repeats:
            return f"{name} is delivered while its parent {parent} is read again"
    return None


def _settled(model: Protocol, state: State, number: int, worker: int) -> Move[State]:
    shard, name, me = state.shards[number], model.names[number], model.worker_id(state, worker)
    part = shard.parts[worker]
    settled, broken = part.settled + 1, None
    if settled <= shard.done and model.without_fault(state):
        broken = f"record {settled} of {name} is repeated though nothing went wrong"
    stale = shard.fence is not None and part.held is not None and part.held.lease.epoch < shard.fence[0]
    if not model.world.fenced and stale and settled < shard.done:
        broken = f"the sink gets record {settled} of {name} behind record {shard.done}"
    part = Part(parting=part.parting) if part.held is None else part._replace(settled=settled, flying=False)
    changed = with_part(shard._replace(done=max(shard.done, settled)), worker, part)
    return Move((me, "has delivered record", str(settled), "of", name), state.with_shard(number, changed), broken)
