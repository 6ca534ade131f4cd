"""A world: the stream, the store and the sink in truth, and the network before them.

The oracle hears of every effect as it happens.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.failpoints import NAMES
from streamflow.testing.controls import Controls
from streamflow.testing.simulation.clocks import VirtualClock
from streamflow.testing.simulation.facts import (
    Invoked,
    LoopComplained,
    Promised,
    Returned,
    Told,
    Wrote,
)
from streamflow.testing.simulation.invariants import all_invariants
from streamflow.testing.simulation.loop import NODE
from streamflow.testing.simulation.network import Network
from streamflow.testing.simulation.oracle import Oracle
from streamflow.testing.simulation.rows import SimulatedRows
from streamflow.testing.simulation.setups import CANARY, KINDS_OF_ITEM
from streamflow.testing.simulation.sinks import SimulatedSink
from streamflow.testing.simulation.sometimes import Sometimes
from streamflow.testing.simulation.streams import SimulatedStreams
from streamflow.testing.simulation.table import SimulatedTable
from streamflow.testing.simulation.truth import through

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from streamflow.records import Record
    from streamflow.testing.simulation.draws import Draws
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.simulation.loop import SimulatedLoop
    from streamflow.testing.simulation.oracle import Violation
    from streamflow.testing.simulation.setups import Setup
    from streamflow.testing.simulation.truth import Course


_POINTS_ARMED = 0.25
"""At so many of the failpoints a worker dawdles, in one run."""


def _any(_record: Record) -> bool:
    return True


def _wanted(record: Record) -> bool:
    """What the filter of a drawn pipeline lets pass, said without it."""
    image = record.new_image
    return image is not None and image.get("kind") == KINDS_OF_ITEM[0]


@dataclass(eq=False)
class World:
    """To be made in the loop."""

    loop: SimulatedLoop
    setup: Setup
    draws: Draws
    faults: Faults

    def __post_init__(self) -> None:
        setup = self.setup
        self.started_at_s = self.loop.now
        self.sometimes = Sometimes()
        transactional = setup.sink == "transactional"
        invariants = all_invariants(setup.bounds())
        self.oracle = Oracle(setup.pipelines, invariants, now=self.elapsed_s, transactional=transactional)
        self.network = Network(self.draws, self.faults)
        if setup.versions[0]["starting_position"] == "TRIM_HORIZON":
            for pipeline in setup.pipelines:
                self.tell(Promised(pipeline=pipeline))
        clock = VirtualClock()
        self.controls = Controls(now=clock.wall, **setup.tables)
        self.streams = SimulatedStreams(self.controls.tables, self.faults, self.tell)
        self.table = self._table()
        self.stream_arn = self.table.stream.stream_arn
        self.rows = SimulatedRows(setup.layout, profile=setup.profile, tell=self.tell)
        self.sink = SimulatedSink(tell=self.tell, faults=self.faults, kind=setup.sink)
        self._versions: Counter[str] = Counter()
        self._points = {name for name in NAMES if self.draws.uniform("point", name) < _POINTS_ARMED}
        self._reached: Counter[tuple[str, str]] = Counter()

    def elapsed_s(self) -> float:
        """Simulated time since the start."""
        return self.loop.now - self.started_at_s

    def tell(self, fact: Fact) -> None:
        """Whatever happens goes through here; what a node does while it dies does not happen."""
        if isinstance(fact, Invoked | Returned | Told) and self.oracle.truth.nodes[fact.node].ended == "crashed":
            return
        self.oracle.tell(fact)
        self.sometimes.hear(fact, self.oracle.truth)

    async def dawdle(self, point: str) -> None:
        """To be awaited wherever a worker reaches a failpoint: at some of them it takes its time now and then."""
        if point in self._points:
            place = point, NODE.get()
            self._reached[place] += 1
            address = *place, self._reached[place]
            if self.faults.strikes("worker.dawdles", *address):
                await anyio.sleep(self.faults.rng("worker.dawdles", *address).uniform(0.0, 3.0))

    def concluded(self) -> Sequence[Violation]:
        """What is to be said of the world once everybody has stopped, beyond what the oracle says."""
        return ()

    # -- the stream -----------------------------------------------------------------------------------------------------

    def _table(self) -> SimulatedTable:
        return SimulatedTable(
            controls=self.controls,
            faults=self.faults,
            tell=self.tell,
            shards=self.setup.scale.shards,
            passes=_wanted if self.setup.filtered else _any,
        )

    def change(self, key: str, rng: Random) -> None:
        """Something happens to an item: mostly it is written, and some are deleted now and then."""
        if self.draws.uniform("kind of item", key) < 0.9 or rng.random() < 0.5:
            self._write(key, KINDS_OF_ITEM[rng.random() < 0.3])
        else:
            self.table.delete({"id": {"S": key}}, expired=rng.random() < 0.5)

    def _write(self, key: str, kind: str) -> None:
        """The next version of the item."""
        self._versions[key] += 1
        item = {
            "id": {"S": key},
            "kind": {"S": kind},
            "version": {"N": str(self._versions[key])},
            "note": {"S": CANARY},
        }
        self.table.put(item)

    def load_evenly(self) -> bool:
        """Write one record to each open shard; false where this cannot be done."""
        for shard in self.table.stream.open_shards:
            self._write(self.table.key_in(shard), KINDS_OF_ITEM[0])
        return True

    # -- what is heard of it --------------------------------------------------------------------------------------------

    def note_left(self) -> None:
        """Everybody has ended: tell what any life, also one that was killed, has left in the loop."""
        for key in self.oracle.truth.nodes:
            if left := self.loop.left_of(key):
                self.tell(LoopComplained(text=f"at the end {key} has left {', '.join(left)} behind"))

    def note_complaint(self, context: dict[str, Any]) -> None:
        """Something raised where nobody could hear it. What a node does while it dies is not asked about."""
        handle = context.get("handle")
        key = handle._context.get(NODE, "").partition("/")[0] if handle is not None else ""
        life = self.oracle.truth.nodes.get(key)
        if life is None or life.ended != "crashed":
            error = context.get("exception")
            self.tell(LoopComplained(text=f"{key or 'the loop'}: {context['message']}: {error!r}"))

    def note_line(self, text: str) -> None:
        """Somebody logged a line."""
        self.tell(Wrote(node="", text=text))

    # -- what came of it ------------------------------------------------------------------------------------------------

    def missing(self) -> str:
        """Why the world is not at rest yet; empty when everything due is settled and stored."""
        for (pipeline, shard_id), course in self.oracle.truth.courses.items():
            shard, row = course.shard, course.row
            if (number := course.first_unsettled()) is not None:
                return f"{pipeline}: record {number} of {shard_id} is not settled"
            if shard.gone:
                continue
            if row is None:
                return f"{pipeline}: {shard_id} has no row"
            if shard.finished and row.state.value != "ended":
                return f"{pipeline}: {shard_id} is not ended, but {row.state.value}"
            if not shard.finished and not self._lives(course):
                return f"{pipeline}: {shard_id} is nobody's who lives"
            if not self.oracle.transactional and course.first_behind(through(row.checkpoint)) is not None:
                return f"{pipeline}: the checkpoint of {shard_id} is {row.checkpoint}, and later records are done"
        return ""

    def _lives(self, course: Course) -> bool:
        row = course.row
        taker = None if row is None else course.takers.get(row.epoch)
        life = None if taker is None else self.oracle.truth.nodes.get(taker)
        return row is not None and row.owner is not None and life is not None and not life.ended


@contextmanager
def told_logs(heard: Callable[[str], object]) -> Iterator[None]:
    """Have `heard` hear every line that streamflow logs, whatever the levels of loggers are.

    To be entered outside the loop: a run that breaks off does not come to the end of what is inside.
    """
    logger = logging.getLogger("streamflow")
    handler = _Lines(heard)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Lines(logging.Handler):
    def __init__(self, heard: Callable[[str], object]) -> None:
        super().__init__()
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard(self.format(record))
