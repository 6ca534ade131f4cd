"""Workers: that they live, that others see it, and how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.checker import Move
from model.requests import stored
from model.settings import AGE_MAX
from model.states import Life, Part, State, in_place_of, with_part
from streamflow.rules.steps import Withdrawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model.protocol import Protocol


def moves(model: Protocol, state: State) -> Iterator[Move[State]]:
    if model.world.timed:
        yield Move(("a tick passes",), _later(model, state))
    for worker, life in enumerate(state.lives):
        me = model.worker_id(state, worker)
        timed = worker < model.world.timed
        if life.phase == "dead":
            if timed:
                continue  # it could be taken for dead again and again: one life is enough to see how it ends
            born = Life(number=life.number + 1)
            yield Move((me, "is started again"), state.with_life(worker, born))
            continue
        yield from _beats(model, state, worker, life) if timed else _is_back(model, state, worker, life)
        yield from _strikes(model, state, worker, life)
        yield from _ends(model, state, worker, life)
        if not timed and (left := state.left.less("pauses")) is not None:
            paused = life._replace(age=AGE_MAX, quiet=AGE_MAX)
            yield Move(
                (me, "stands still for longer than anyone waits"), state._replace(left=left).with_life(worker, paused)
            )


def _strikes(model: Protocol, state: State, worker: int, life: Life) -> Iterator[Move[State]]:
    """Who was silent for too long, for this worker."""
    if life.phase != "runs" or not life.listed or not model.valid(life):
        return
    for other, its in enumerate(state.lives):
        if other != worker and model.is_silent(its):
            words = (model.worker_id(state, worker), "strikes", model.worker_id(state, other))
            yield Move(words, state.with_life(other, its._replace(listed=False)))


# --- signs of life ---------------------------------------------------------------------------------------------------


def _is_back(model: Protocol, state: State, worker: int, life: Life) -> Iterator[Move[State]]:
    """The first beat after a pause."""
    if life.age == 0 and life.listed:
        return
    words = (model.worker_id(state, worker), "beats again" if life.listed else "finds itself struck")
    yield Move(words, state.with_life(worker, _beaten(model, life, 0)))


def _beaten(model: Protocol, life: Life, age: int) -> Life:
    """Acknowledged, if the row is still there; else another life begins."""
    if life.listed:
        return life._replace(age=age, quiet=min(life.quiet, age), beat=None)
    number = life.number + model.rules.new_life_when_struck
    return Life(number=number, phase=life.phase)


def _beats(model: Protocol, state: State, worker: int, life: Life) -> Iterator[Move[State]]:
    """A beat is sent, arrives, is answered, or is not; any of it may take as long as it likes."""
    me, rules = model.worker_id(state, worker), model.rules
    if life.beat is None:
        yield Move((me, "sends a beat"), state.with_life(worker, life._replace(beat=(0, "sent"))))
        return
    age, phase = life.beat
    given_up = life._replace(beat=None)
    if phase == "sent":
        arrived = (age, "stored" if life.listed else "refused")
        quiet = 0 if life.listed else life.quiet
        yield Move(
            (f"{me}'s beat arrives and is", arrived[1]),
            state.with_life(worker, life._replace(beat=arrived, quiet=quiet)),
        )
        if not rules.doubts_a_beat_without_an_answer:
            yield Move(
                (f"{me}'s beat is lost, and it thinks nothing of it",),
                state.with_life(worker, given_up._replace(age=age)),
            )
    elif phase == "stored":
        counted = age if rules.counts_from_the_sending else 0
        yield Move((me, "is told that its beat is stored"), state.with_life(worker, given_up._replace(age=counted)))
    else:
        struck = life._replace(phase="dead", beat=None)
        yield Move((me, "finds itself struck"), state.with_life(worker, struck))
    if phase != "refused":
        yield Move((f"{me}'s beat gets no answer",), state.with_life(worker, given_up))


def _later(model: Protocol, state: State) -> State:
    return state._replace(
        lives=tuple(_older(life) if each < model.world.timed else life for each, life in enumerate(state.lives))
    )


def _older(life: Life) -> Life:
    beat = None if life.beat is None else (min(life.beat[0] + 1, AGE_MAX), life.beat[1])
    return life._replace(age=min(life.age + 1, AGE_MAX), quiet=min(life.quiet + 1, AGE_MAX), beat=beat)


# --- ends ------------------------------------------------------------------------------------------------------------


def _ends(model: Protocol, state: State, worker: int, life: Life) -> Iterator[Move[State]]:
    me = model.worker_id(state, worker)
    if (left := state.left.less("crashes")) is not None:
        crashed = state._replace(left=left)
        for number, shard in enumerate(state.shards):
            part = shard.parts[worker]
            sent = [call for call in (part.call, part.parting) if call is not None and call.phase == "sent"]
            crashed = crashed.with_shard(number, with_part(shard._replace(late=(*shard.late, *sent)), worker, Part()))
        dead = life._replace(phase="dead", age=AGE_MAX, quiet=AGE_MAX, beat=None)
        yield Move((me, "dies"), crashed.with_life(worker, dead))
    if life.phase == "runs" and life.listed and (left := state.left.less("stops")) is not None:
        yield Move((me, "begins to stop"), _stopping(model, state._replace(left=left), worker, life))
    if life.phase == "stops" and not any(_busy(shard.parts[worker]) for shard in state.shards):
        gone = Life(number=life.number, phase="dead", listed=False)
        yield Move((me, "takes its leave"), _withdrawn(model, state, worker).with_life(worker, gone))


def _busy(part: Part) -> bool:
    return part.held is not None or part.call is not None or part.parting is not None


def _stopping(model: Protocol, state: State, worker: int, life: Life) -> State:
    """Everything held begins to be let go, for an heir; what is on its way to this worker is not wanted any more."""
    others = [each for each, its in enumerate(state.lives) if each != worker and its.phase == "runs" and its.listed]
    heir = model.worker_id(state, others[0]) if others else None
    state = _withdrawn(model, state, worker)
    for number, shard in enumerate(state.shards):
        part = shard.parts[worker]._replace(seen=None)
        if part.held is not None and part.leaving is None:
            part = part._replace(leaving=(None, heir))
        state = state.with_part(number, worker, part)
    return state.with_life(worker, life._replace(phase="stops"))


def _withdrawn(model: Protocol, state: State, worker: int) -> State:
    me = model.worker_id(state, worker)
    for number, shard in enumerate(state.shards):
        row = shard.row
        if row is None or shard.parts[worker].held is not None or me not in {row.lease.owner, row.lease.claimant}:
            continue
        new = in_place_of(row, model.after(row, Withdrawn(me)))
        state = state.with_shard(number, stored(model, shard, new))
    return state
