"""V3, of tumbling windows: the state that handlers hand on knows of exactly the records that are done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from streamflow.events import RecordsDiscarded
from streamflow.testing.simulation.facts import HAND, Invoked, Returned, RowStored, Told
from streamflow.testing.simulation.oracle import OfFacts
from streamflow.testing.simulation.truth import through

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.truth import Course, Truth

_Owner = tuple[str, str, str, int]
"""Node, pipeline, shard and epoch."""


@dataclass(slots=True)
class _Open:
    """The window that one owner's handler has worked on last; `numbers` are the records that it is done with in it."""

    start_s: int | None = None
    numbers: frozenset[int] = frozenset()


@dataclass(slots=True, eq=False)
class WindowsKept(OfFacts):
    """V3: a handler is given what its last success left, or what was stored when its owner came, and a checkpoint is
    stored with a state that knows of every record behind it that is done and whose window is not over.
    """

    name = "V3"
    hears: ClassVar[Sequence[type]] = (RowStored, Invoked, Returned, Told)
    _open: dict[_Owner, _Open] = field(default_factory=dict)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:
        match fact:
            case RowStored():
                return self._stored(fact, truth)
            case Invoked(window=seen) if seen is not None:
                known = self._open.get((fact.node, fact.pipeline, fact.shard_id, fact.epoch))
                if known is None or _unsure(truth.courses[fact.pipeline, fact.shard_id], fact.epoch):
                    return None
                expected = known.numbers if seen.start_s == known.start_s else frozenset()
                if expected != set(seen.numbers):
                    return (
                        f"{fact.node} hands on a state of {seen.numbers} in {fact.shard_id}, not of {sorted(expected)}"
                    )
            case Returned(window=seen) if seen is not None:
                left = _Open() if seen.final else _Open(seen.start_s, frozenset(seen.numbers))
                owner = fact.node, fact.pipeline, fact.shard_id, fact.epoch
                if owner in self._open:
                    self._open[owner] = left
            case Told(event=RecordsDiscarded(records=0, pipeline=pipeline, shard_id=shard_id)):
                # The last invocation of a window is given up, and the window with it.
                owner = fact.node, pipeline, shard_id, truth.courses[pipeline, shard_id].epoch
                if owner in self._open:
                    self._open[owner] = _Open()
            case _:
                pass
        return None

    def _stored(self, fact: RowStored, truth: Truth) -> str | None:
        before, row = fact.before, fact.after
        course = None if row is None else truth.course(row.pipeline, row.shard_id)
        if row is None or course is None or fact.node == HAND:
            return None
        owner = fact.node, row.pipeline, row.shard_id, row.epoch
        if before is None or row.epoch != before.epoch:
            # Also where an owner moves beyond an epoch that its sink has seen: it has let go of all that it had in hand.
            self._open[owner] = _Open() if row.window is None else _Open(row.window.start_s, _numbers(row))
            return None
        known = self._open.get(owner)
        if known is None or _unsure(course, row.epoch) or row.checkpoint == before.checkpoint:
            return None
        covered = through(row.checkpoint)
        left_out = {number for number in known.numbers if number <= covered} - _numbers(row)
        if not left_out:
            return None
        return f"{fact.node} stored {row.checkpoint} of {row.shard_id} with a state that lacks {min(left_out)}"


def _unsure(course: Course, epoch: int) -> bool:
    return course.touched or course.forgotten_in(epoch)


def _numbers(row: Lease) -> frozenset[int]:
    state = {} if row.window is None else json.loads(row.window.state)
    return frozenset(map(int, state.get("numbers", ())))
