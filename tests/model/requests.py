"""Steps on their way: they arrive, are answered, or are not; what senders make of it; and what the store must not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.checker import Move
from model.states import Call, Part, Row, Shard, State, in_place_of, settled_by, with_part
from streamflow.rules.steps import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.protocol import Protocol


def moves(model: Protocol, state: State, number: int, worker: int) -> Iterator[Move[State]]:
    part = state.shards[number].parts[worker]
    if part.call is not None:
        yield from _of_call(model, state, number, worker, part.call)
    if part.parting is not None:
        yield from _of_parting(model, state, number, worker, part.parting)


def late_moves(model: Protocol, state: State, number: int) -> Iterator[Move[State]]:
    """A request arrives whose sender does not wait for it any more."""
    shard, name = state.shards[number], model.names[number]
    for at, call in enumerate(shard.late):
        stored, _, broken = _arrived(model, shard, number, call)
        stored = stored._replace(late=shard.late[:at] + shard.late[at + 1 :])
        yield Move(("a late", call.noun, "of", name, "arrives"), state.with_shard(number, stored), broken)


def stored(model: Protocol, shard: Shard, row: Row) -> Shard:
    """The shard with another row."""
    return shard._replace(row=row, previous=shard.row if model.world.forgetful else None)


# --- a take, or a write of an owner ----------------------------------------------------------------------------------


def _of_call(model: Protocol, state: State, number: int, worker: int, call: Call) -> Iterator[Move[State]]:
    shard, name, me = state.shards[number], model.names[number], model.worker_id(state, worker)
    part = shard.parts[worker]
    words = f"{me}'s {call.noun} of {name}"
    if call.phase == "sent":
        changed, answer, broken = _arrived(model, shard, number, call)
        changed = with_part(changed, worker, part._replace(call=answer))
        yield Move((words, "arrives and is", answer.phase), state.with_shard(number, changed), broken)
        if (left := state.left.less("delays")) is not None:
            late = shard._replace(late=(*shard.late, call))
            late = with_part(late, worker, _without_answer(model, part, call))
            yield Move((words, "is delayed"), state._replace(left=left).with_shard(number, late))
    if call.phase != "unknown" and (left := state.left.less("unknown")) is not None:
        lost = _without_answer(model, part, call)
        told = "does not arrive" if call.phase == "sent" else f"is {call.phase}, and the answer is lost"
        yield Move((words, told), state._replace(left=left).with_part(number, worker, lost))
    if call.phase in {"stored", "refused"}:
        found, broken = _answered(model, state, number, worker, call)
        yield Move((me, "is told that its", call.noun, "of", name, "is", call.phase), found, broken)
    if call.phase == "unknown":
        found, told, broken = _resolved(model, state, number, worker, call)
        yield Move((me, "looks what became of its", call.noun, "of", name, "and finds it", told), found, broken)


def _arrived(model: Protocol, shard: Shard, number: int, call: Call) -> tuple[Shard, Call, str | None]:
    """The shard after the store has had the request, the request with its answer, and what that breaks."""
    row = shard.row
    if row is None or not _is_met(model, row, call):
        return shard, call._replace(phase="refused"), None
    new = in_place_of(row, call.wanted)
    broken = _broken(model, number, row, new, call)
    return stored(model, shard, new), call._replace(phase="stored", wanted=new), broken


def _is_met(model: Protocol, row: Row, call: Call) -> bool:
    rules = model.rules
    if call.is_take:
        if not rules.resumes_from_what_was_stored:
            return row.lease.epoch == call.before.lease.epoch
        return row.lease.version == call.before.lease.version or not rules.conditional_take
    return row.lease.version == call.before.lease.version or not rules.conditional_write


def _broken(model: Protocol, number: int, row: Row, new: Row, call: Call) -> str | None:
    name, records = model.names[number], model.records[number]
    if settled_by(new.lease, records) < settled_by(row.lease, records):
        return f"the checkpoint of {name} goes back"
    if new.lease.epoch < row.lease.epoch:
        return f"the epoch of {name} goes back"
    before = call.before.lease
    of_its_own = (row.lease.owner, row.lease.epoch) == (before.owner, before.epoch)
    if not call.is_take and not of_its_own and not model.world.forgetful:
        return f"a write of {name} is stored that its owner has not made"
    return None


def _without_answer(model: Protocol, part: Part, call: Call) -> Part:
    if not call.is_take and not model.rules.doubts_a_write_without_an_answer:
        return _with_row(part, _as_stored(call))
    if not call.is_take:
        return part._replace(call=call._replace(phase="unknown"))
    if model.rules.doubts_a_take_without_an_answer:
        return part._replace(call=None)  # if it was stored all the same, the next look finds a row of its own
    return begun(part, _as_stored(call))


def _as_stored(call: Call) -> Row:
    return call.wanted if call.phase == "stored" else in_place_of(call.before, call.wanted)


def begun(part: Part, row: Row, *, start: Row | None = None) -> Part:
    """The worker goes on from the checkpoint of the row that the store returned."""
    return Part(held=row, settled=settled_by((start or row).lease, 0), parting=part.parting)


def _answered(model: Protocol, state: State, number: int, worker: int, call: Call) -> tuple[State, str | None]:
    shard = state.shards[number]
    part = shard.parts[worker]
    if call.is_take:
        if call.phase == "refused":
            return state.with_part(number, worker, part._replace(call=None)), None
        start = call.wanted if model.rules.resumes_from_what_was_stored else call.before
        part = begun(part, call.wanted, start=start)
        if state.lives[worker].phase == "stops":
            part = part._replace(leaving=(None, None))
        return state.with_part(number, worker, part), None
    if call.phase == "stored":
        return _held(model, state, number, worker, call.wanted)
    return _asked_or_lost(model, state, number, worker, call)


def _resolved(model: Protocol, state: State, number: int, worker: int, call: Call) -> tuple[State, str, str | None]:
    row = state.shards[number].row
    outcome = model.rules.resolved(call.before.lease, call.wanted.lease, None if row is None else row.lease)
    if outcome is Outcome.STORED:
        found, broken = _held(model, state, number, worker, row or call.wanted)
    elif outcome is Outcome.NOT_STORED:
        found, broken = _held(model, state, number, worker, call.before)
    else:
        found, broken = _asked_or_lost(model, state, number, worker, call)
    return found, outcome.value, broken


def _asked_or_lost(model: Protocol, state: State, number: int, worker: int, call: Call) -> tuple[State, str | None]:
    """After a conflict: where it was but a request, the worker goes on, and sends again what was not stored."""
    row = state.shards[number].row
    if row is not None and model.rules.was_asked(call.before.lease, row.lease):
        return _held(model, state, number, worker, row)
    return _lost(model, state, number, worker)


def _held(model: Protocol, state: State, number: int, worker: int, row: Row) -> tuple[State, str | None]:
    """The worker goes on with its row as it is now."""
    part, records, name = state.shards[number].parts[worker], model.records[number], model.names[number]
    broken = None
    if part.held is not None and settled_by(row.lease, records) < settled_by(part.held.lease, records):
        broken = f"the store has forgotten a checkpoint of {name}, and its owner goes on as if it had not"
    return state.with_part(number, worker, _with_row(part, row)), broken


def _with_row(part: Part, row: Row) -> Part:
    over = row.lease.owner is None  # it has ended the shard
    return Part(parting=part.parting) if over else part._replace(call=None, held=row)


def _lost(model: Protocol, state: State, number: int, worker: int) -> tuple[State, str | None]:
    """The worker stops: somebody else has written the row. Who was in the middle of a delivery delivers no more."""
    shard, name = state.shards[number], model.names[number]
    part = shard.parts[worker]
    mine = shard.row is not None and shard.row.lease.owner == model.worker_id(state, worker)
    may_be_right = model.world.by_hand or model.world.forgetful or model.world.left.delays
    broken = f"{name} is given up because of a write of its owner's own" if mine and not may_be_right else None
    return state.with_part(number, worker, Part(parting=part.parting)), broken


# --- the last write of a lease that is let go ------------------------------------------------------------------------


def _of_parting(model: Protocol, state: State, number: int, worker: int, call: Call) -> Iterator[Move[State]]:
    shard, name, me = state.shards[number], model.names[number], model.worker_id(state, worker)
    part = shard.parts[worker]
    gone = part._replace(parting=None)
    words = f"{me}'s passing on of {name}"
    if call.phase == "sent":
        changed, answer, broken = _arrived(model, shard, number, call)
        changed = with_part(changed, worker, part._replace(parting=answer if answer.phase == "refused" else None))
        yield Move((words, "arrives and is", answer.phase), state.with_shard(number, changed), broken)
        if (left := state.left.less("unknown")) is not None:
            yield Move((words, "does not arrive"), state._replace(left=left).with_part(number, worker, gone))
        if (left := state.left.less("delays")) is not None:
            late = with_part(shard._replace(late=(*shard.late, call)), worker, gone)
            yield Move((words, "is delayed"), state._replace(left=left).with_shard(number, late))
    elif shard.row is not None and model.rules.was_asked(call.before.lease, shard.row.lease):
        again = Call(call.step, shard.row, model.after(shard.row, call.step))
        yield Move((me, "passes", name, "on once more"), state.with_part(number, worker, part._replace(parting=again)))
    else:
        yield Move((me, "learns that", name, "is not its own any more"), state.with_part(number, worker, gone))
