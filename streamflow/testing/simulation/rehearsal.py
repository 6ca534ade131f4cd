"""The world of a user's scenario: their pipeline over a simulated stream and store, with their handler in every life."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from streamflow.destinations.letters import LettersDestination
from streamflow.engine.flow import Flow
from streamflow.errors import ConfigError, PartialFailure, SinkBusyError
from streamflow.failures import RecordsFailedError
from streamflow.handlers.adapt import open_handler
from streamflow.handlers.lambda_function import Environment
from streamflow.leases import LeaseLayout
from streamflow.middleware.chain import compose
from streamflow.pipeline import App, LambdaFunction, Pipeline, PipelineOptions
from streamflow.records import Record, Shard
from streamflow.rules.filters import compile_filters
from streamflow.sdk.declarations import SinkDeclaration
from streamflow.targets import code_line, did_you_mean
from streamflow.testing.refusals import RefusedError
from streamflow.testing.simulation.facts import Accepted, Invoked, Returned
from streamflow.testing.simulation.faults import KINDS
from streamflow.testing.simulation.loop import SimulationError
from streamflow.testing.simulation.oracle import Violation
from streamflow.testing.simulation.rows import MAY_LOSE_WRITES, NEVER_LOSES, STALE_SCANS, Profile
from streamflow.testing.simulation.running import Outcome, simulate_world
from streamflow.testing.simulation.scenario import Ending, Scenario, connect
from streamflow.testing.simulation.setups import Scale, Setup
from streamflow.testing.simulation.sinks import numbers_of
from streamflow.testing.simulation.table import SimulatedTable
from streamflow.testing.simulation.workers import Workers
from streamflow.testing.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AsyncExitStack
    from random import Random

    from streamflow.batches import Batch
    from streamflow.engine.flow import Surroundings
    from streamflow.protocols import Source
    from streamflow.testing.items import WireItem
    from streamflow.testing.simulation.draws import Draws
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.simulation.loop import SimulatedLoop

WORLD = "yours"
"""What an outcome calls this world."""
_OF_HANDLERS = frozenset({"delay", "sink", "fence", "cancelled", "item", "destination"})
ABSENT = (
    *(name for name, kind in KINDS.items() if kind.site in _OF_HANDLERS),
    "node.upgrade",
    "node.stop_hung",
)
"""Kinds that never strike: how handlers fail is the user's own, destinations are not opened, and there is one version."""
_PROFILES: dict[str, Profile] = {
    "dynamodb": STALE_SCANS,
    "redis": MAY_LOSE_WRITES,
    "rediss": MAY_LOSE_WRITES,
    "nats": MAY_LOSE_WRITES,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How large a rehearsal is, and for how much simulated time faults strike in it."""

    hours: float = 1.0
    workers: int = 2
    shards: int = 4
    writes_per_s: float = 0.2


def rehearse(
    make: Callable[[], Scenario],
    seed: int,
    extent: Extent | None = None,
    *,
    pipeline: str | None = None,
    without: Collection[str] = (),
) -> Outcome:
    """Simulate what `make` makes, which is called once. `without` are kinds of faults, or sites of them.

    Raises:
        ConfigError: what is made cannot be simulated.
    """
    scenario = make()
    app = scenario.made_app()
    chosen = _chosen(app, pipeline)
    if not callable(scenario.app) and hasattr(chosen.handler, "gen"):
        raise ConfigError(
            f"the sink of pipeline {chosen.name!r} can be entered once, and each life of a worker enters it: name a function "
            "that makes the pipeline, or give one to the Scenario as its app"
        )
    # The pipeline would end for good, which is what it was told to do.
    impossible = ("lineage.trimmed", "read.trimmed") if chosen.on_trimmed == "fail" else ()
    setup = _setup(app, chosen, extent or Extent())
    begun: list[Rehearsal] = []

    def workers(loop: SimulatedLoop, draws: Draws, faults: Faults) -> Workers:
        begun.append(Rehearsal(loop=loop, setup=setup, draws=draws, faults=faults, scenario=scenario, pipeline=chosen))
        return RehearsingWorkers(begun[0])

    outcome = simulate_world(seed, WORLD, workers, without=(*without, *impossible, *ABSENT))
    if begun[0].refused is not None:
        raise begun[0].refused
    return replace(outcome, without=tuple(without), raised=begun[0].raised)


def _chosen(app: App, name: str | None) -> Pipeline:
    names = [flow.name for flow in app.flows]
    if name is None and len(names) > 1:
        raise ConfigError(
            f"there are several pipelines or branches, and one is simulated at a time: name one of {', '.join(names)}"
        )
    flow = next((flow for flow in app.flows if name in (None, flow.name)), None)
    if flow is None:
        raise ConfigError(f"there is no pipeline {name!r}{did_you_mean(str(name), names)}; there is {', '.join(names)}")
    if isinstance(flow.handler, SinkDeclaration):
        raise ConfigError(
            f"the sink {flow.handler.name} of pipeline {flow.name!r} would write to its real target: simulate the pipeline "
            "with a handler that stands in for it, see docs/simulation.md"
        )
    return flow


def _setup(app: App, pipeline: Pipeline, extent: Extent) -> Setup:
    scheme = app.store.partition(":")[0]
    version = {name: getattr(pipeline, name) for name in PipelineOptions.model_fields}
    lasts_s = extent.hours * 3_600
    return Setup(
        scale=Scale(name=WORLD, workers=extent.workers, shards=extent.shards, keys=20, lasts_s=(lasts_s, lasts_s)),
        lasts_s=lasts_s,
        layout=LeaseLayout.KCL if scheme == "dynamodb" else LeaseLayout.NATIVE,
        profile=_PROFILES.get(scheme, NEVER_LOSES),
        sink="plain",
        versions=(version,),
        pipeline=pipeline.name,
        lease_duration_s=app.lease_duration_s,
        drain_timeout_s=app.drain_timeout_s,
        worker_buffer_bytes_max=app.buffer_bytes_max,
        writes_per_s=extent.writes_per_s,
    )


@dataclass(eq=False)
class Rehearsal(World):
    """To be made in the loop. `pipeline` is what the options are from; each life of a worker makes its own."""

    scenario: Scenario = field(kw_only=True)
    pipeline: Pipeline = field(kw_only=True)
    refused: ConfigError | None = None
    """What of the scenario cannot be simulated, if it showed only now: the run has ended."""

    def __post_init__(self) -> None:
        self.accepts = compile_filters(self.pipeline.filters, extensions=self.pipeline.filter_extensions)
        self._items: dict[bytes, WireItem] = {}
        self._changes = 0
        self.raised: Counter[str] = Counter()
        self._first: Pipeline | None = self.pipeline
        super().__post_init__()
        connect(self.network)

    def _table(self) -> SimulatedTable:
        return SimulatedTable(
            controls=self.controls,
            faults=self.faults,
            tell=self.tell,
            key_schema=dict(self.scenario.key),
            view_type=self.scenario.view_type,
            shards=self.setup.scale.shards,
            passes=lambda record: self.accepts is None or self.accepts(record),
        )

    def change(self, key: str, rng: Random) -> None:  # noqa: ARG002 - which item changes is the scenario's choice
        if self._items and rng.random() < self.scenario.deletes:
            gone = self._items.pop(rng.choice(list(self._items)))
            self.table.delete(self._key_of(gone), expired=rng.random() < 0.5)
            return
        self._changes += 1
        try:
            item = self.scenario.item(rng, self._changes)
        except Exception as error:  # noqa: BLE001 - it is the user's code
            self.refuse(f"{code_line(error)}: the item of change {self._changes}: {type(error).__name__}: {error}")
            return
        try:
            name = orjson.dumps(self._key_of(item))
            self.table.put(item)
        except (KeyError, TypeError, RefusedError) as error:
            keys = ", ".join(f"{key} ({kind})" for key, kind in self.scenario.key.items())
            self.refuse(f"change {self._changes} has no item in wire form with the key {keys}: {item!r:.80}: {error}")
        else:
            self._items[name] = item

    def load_evenly(self) -> bool:
        """What is written, and where it falls, is the scenario's choice."""
        return False

    def refuse(self, problem: str) -> None:
        """End the run: the scenario cannot be simulated."""
        self.refused = self.refused or ConfigError(problem)
        # A little later: what has been asked for in this moment is to begin before it ends.
        self.loop.call_later(1.0, self.loop.fail, SimulationError(problem))

    def _key_of(self, item: WireItem) -> WireItem:
        return {name: item[name] for name in self.scenario.key}

    def made(self) -> Pipeline:
        """The pipeline of a life that begins."""
        first, self._first = self._first, None
        return first or _chosen(self.scenario.made_app(), self.pipeline.name)

    # -- what came of it --------------------------------------------------------------------------------------------------

    def concluded(self) -> Sequence[Violation]:
        """What the scenario's own check says, and whatever it raises counts.

        It is not asked where records are not settled: that is told already, and nothing else is to be expected then.
        """
        unsettled = any(course.first_unsettled() is not None for course in self.oracle.truth.courses.values())
        if self.scenario.check is None or unsettled:
            return ()
        try:
            self.scenario.check(self._ending())
        except Exception as error:  # noqa: BLE001 - it is the finding
            text = f": {error}" if str(error) else ""
            says = f"{code_line(error)}: {type(error).__name__}{text}"
            return (Violation(invariant="check", says=says, at_s=self.elapsed_s()),)
        return ()

    def _ending(self) -> Ending:
        records: list[Record] = []
        letters: list[Record] = []
        for course in self.oracle.truth.courses.values():
            shard = Shard(stream_arn=self.stream_arn, shard_id=course.shard.shard_id, parents=course.shard.parents)
            due = [number for number in course.shard.numbers if number not in course.excused | course.lost]
            records += [self._record(course.shard.bodies[number], shard) for number in due]
            letters += [self._record(course.shard.bodies[number], shard) for number in due if number in course.letters]
        return Ending(records=records, letters=letters, items=list(self._items.values()))

    def _record(self, body: bytes, shard: Shard) -> Record:
        return Record(msgspec.Raw(body), shard, self.pipeline.numbers)


@dataclass(frozen=True, eq=False)
class RehearsingWorkers(Workers):
    """Those of a scenario, with its handler: what it is given and what it says is told."""

    world: Rehearsal
    _invocations: Iterator[int] = field(default_factory=partial(count, 1))

    async def _flow(
        self,
        name: str,
        source: Source,
        key: str,
        version: Mapping[str, Any],  # noqa: ARG002 - it is the pipeline's own
        around: Surroundings,
        stack: AsyncExitStack,
    ) -> Flow:
        pipeline, info = self.world.made(), await source.describe()
        environment = Environment(log_stream_name=f"1970/01/01/[$LATEST]{key}", now=around.clock.monotonic)
        try:
            handler = await stack.enter_async_context(
                open_handler(pipeline.handler, pipeline=name, environment=environment)
            )
        except ConfigError as error:
            self.world.refuse(str(error))
            raise
        return Flow(
            name=name,
            options=pipeline,
            source=source,
            info=info,
            chain=compose((partial(self._watched, key), *pipeline.middleware), handler.call),
            fence=None,
            around=around,
            accepts=self.world.accepts,
            # Whatever is given up is kept, to be looked at in the end.
            destinations=[LettersDestination(around.store)],
            event_bytes_max=pipeline.batch_bytes_max if isinstance(pipeline.handler, LambdaFunction) else None,
        )

    async def _watched(self, node: str, batch: Batch, call_next: Callable[[Batch], Any]) -> None:
        """Tell what the chain is given, and what it says is done."""
        about: dict[str, Any] = {
            "node": node,
            "invocation": next(self._invocations),
            "pipeline": batch.pipeline,
            "shard_id": batch.shard.shard_id,
            "epoch": batch.epoch,
            "numbers": numbers_of(batch.records),
        }
        self.world.tell(Invoked(**about))
        says: dict[str, Any] = {}
        try:
            await call_next(batch)
            says = {"done": about["numbers"]}
        except Exception as error:
            says = _said(batch, error)
            self.world.raised[f"{type(error).__name__} at {code_line(error)}"] += 1
            raise
        finally:
            if done := says.get("done"):
                self.world.tell(Accepted(**{**about, "numbers": done}))
            self.world.tell(Returned(**about, **says))


def _said(batch: Batch, error: Exception) -> dict[str, Any]:
    """What a handler says that raises, as `Returned` has it."""
    records = batch.records
    if isinstance(error, RecordsFailedError):
        kinds = {id(failure.record): failure.kind for failure in error.failures}
        if not kinds or not kinds.keys() <= set(map(id, records)):
            return {}
        named = {
            kind: numbers_of([record for record in records if kinds.get(id(record), "done") == kind])
            for kind in ("done", "refused", "waiting")
        }
        return {**named, "named": True}
    if isinstance(error, PartialFailure):
        numbers = [record.sequence_number for record in records]
        failed_numbers = set(error.sequence_numbers)
        if failed_numbers and failed_numbers <= set(numbers):
            return {"done": numbers_of(records[: min(map(numbers.index, failed_numbers))])}
    return {"counted": not isinstance(error, SinkBusyError)}
