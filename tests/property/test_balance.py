"""Whatever happens to the records of a pipeline, each is in one place, and metrics and progress say in which.

A model keeps every record by itself, tells the observers the events that an engine tells, and compares after each one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from prometheus_client import CollectorRegistry

from streamflow import events
from streamflow.errors import DestinationError, PartialFailure, StoreError
from streamflow.observe.metrics import Metrics
from streamflow.observe.progress import Progress
from streamflow.observe.shards import OpenShards
from streamflow.positions import TRIM_HORIZON, Position

if TYPE_CHECKING:
    from streamflow.events import Event

Place = Literal["filtered", "delivered", "dropped", "dead_lettered", "lost", "parked", "abandoned", "in_flight"]
PLACES: tuple[Place, ...] = get_args(Place)
PIPELINES = ("orders", "users")
CONDITIONS = ("RetryAttemptsExhausted", "RecordAgeExceeded")
OUTCOMES = ("accepted", "failed", "partial", "busy")


@dataclass
class FakeClock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_764_000_000.0 + self.now


@dataclass
class Record:
    place: Place = "in_flight"
    invoked: int = 0
    failed: int = 0


@dataclass
class Shard:
    """Records in the order of the shard; their sequence numbers are their places in it, from 1."""

    pipeline: str
    shard_id: str
    records: list[Record] = field(default_factory=list)
    stored: int = 0

    @property
    def in_hand(self) -> list[Record]:
        return [record for record in self.records if record.place == "in_flight"]

    @property
    def settled(self) -> int:
        """How many of the oldest records are settled."""
        places = (number for number, record in enumerate(self.records) if record.place == "in_flight")
        return next(places, len(self.records))


_UNENDED = [reason for reason in events.ShardClosing if reason is not events.ShardClosing.ENDED]


class World(RuleBasedStateMachine):
    shards = Bundle("shards")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.progress = Progress(self.clock)
        self.open_shards = OpenShards(self.clock)
        self.observers = (Metrics(self.registry, clock=self.clock), self.progress, self.open_shards)
        self.records: dict[str, list[Record]] = {pipeline: [] for pipeline in PIPELINES}
        self.open: dict[tuple[str, str], Shard] = {}
        self.opened = 0
        for pipeline in PIPELINES:
            self.tell(events.PipelineStarted(pipeline=pipeline, stream_arn="arn", shards=0))

    def tell(self, event: Event) -> None:
        self.clock.now += 1.0
        for observer in self.observers:
            observer(event)

    # -- what happens -------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.open) < 4)
    @rule(target=shards, pipeline=st.sampled_from(PIPELINES))
    def open_shard(self, pipeline: str) -> Shard:
        self.opened += 1
        shard = Shard(pipeline, f"shard-{self.opened}")
        self.open[pipeline, shard.shard_id] = shard
        self.tell(events.ShardOpened(pipeline=pipeline, shard_id=shard.shard_id, start=TRIM_HORIZON, epoch=1))
        return shard

    @rule(shard=shards, passing=st.lists(st.booleans(), max_size=8))
    def read(self, shard: Shard, passing: list[bool]) -> None:
        page = [Record("in_flight" if passes else "filtered") for passes in passing]
        shard.records += page
        self.records[shard.pipeline] += page
        self.tell(
            events.PageRead(
                pipeline=shard.pipeline,
                shard_id=shard.shard_id,
                records=len(page),
                bytes=100,
                duration_s=0.01,
                last_created_at_s=self.clock.wall() if page else None,
                filtered=passing.count(False),
                last=Position.after(str(len(shard.records))) if page else None,
            )
        )

    @rule(shard=shards, outcome=st.sampled_from(OUTCOMES), data=st.data())
    def attempt(self, shard: Shard, outcome: str, data: st.DataObject) -> None:
        batch = self._some_of(shard, data)
        if outcome == "busy":
            self._failed(shard, batch, PartialFailure(["1"]), invoked=False)
            return
        for record in batch:
            record.invoked += 1
        if outcome == "accepted":
            self._deliver(shard, batch, data, partial=False)
            return
        for record in batch:
            record.failed += 1
        done = batch[: data.draw(st.integers(1, max(1, len(batch) - 1)))] if outcome == "partial" else []
        if done and len(done) < len(batch):
            self._failed(shard, batch, PartialFailure(["1"]))
            self._deliver(shard, done, data, partial=True)
        else:
            self._failed(shard, batch, ValueError())

    @rule(shard=shards, condition=st.sampled_from(CONDITIONS), kept=st.booleans(), data=st.data())
    def give_up(self, shard: Shard, condition: str, kept: bool, data: st.DataObject) -> None:
        batch = self._some_of(shard, data)
        if kept and data.draw(st.booleans()):
            error = DestinationError("no", code="X")
            self.tell(
                events.DestinationFailed(
                    pipeline=shard.pipeline,
                    shard_id=shard.shard_id,
                    destination="dead_letters",
                    records=len(batch),
                    attempt=1,
                    error=error,
                    retry_after_s=1.0,
                )
            )
        for record in batch:
            record.place = "dead_lettered" if kept else "lost"
        self.tell(
            events.RecordsDiscarded(
                pipeline=shard.pipeline,
                shard_id=shard.shard_id,
                records=len(batch),
                condition=condition,
                invoke_count=1,
                destinations=("dead_letters", "arn:aws:s3:::failed") if kept else (),
                first=None,
                last=None,
            )
        )

    @rule(shard=shards, data=st.data())
    def park(self, shard: Shard, data: st.DataObject) -> None:
        batch = self._some_of(shard, data)
        pipeline, shard_id = shard.pipeline, shard.shard_id
        self.tell(events.ParkingFailed(pipeline=pipeline, shard_id=shard_id, error=StoreError("no"), retry_after_s=1.0))
        for record in batch:
            record.place = "parked"
        self.tell(
            events.RecordsParked(
                pipeline=pipeline, shard_id=shard_id, records=len(batch), opened=min(1, len(batch)), parked_keys=1
            )
        )

    @rule(shard=shards, behind=st.integers(0, 5))
    def store(self, shard: Shard, behind: int) -> None:
        shard.stored = max(shard.stored, shard.settled - behind)
        if shard.stored:
            checkpoint = Position.after(str(shard.stored))
            self.tell(
                events.CheckpointStored(
                    pipeline=shard.pipeline, shard_id=shard.shard_id, checkpoint=checkpoint, duration_s=0.01
                )
            )

    @rule(shard=consumes(shards), reason=st.sampled_from(_UNENDED))
    def let_go(self, shard: Shard, reason: events.ShardClosing) -> None:
        left = shard.in_hand
        for record in left:
            record.place = "abandoned"
        del self.open[shard.pipeline, shard.shard_id]
        self.tell(
            events.ShardClosed(pipeline=shard.pipeline, shard_id=shard.shard_id, reason=reason, abandoned=len(left))
        )

    def _some_of(self, shard: Shard, data: st.DataObject) -> list[Record]:
        """A batch: records of the shard in order, none for the final invocation of a window."""
        in_hand = shard.in_hand
        chosen = data.draw(st.lists(st.booleans(), min_size=len(in_hand), max_size=len(in_hand)))
        return [record for record, is_chosen in zip(in_hand, chosen, strict=True) if is_chosen]

    def _deliver(self, shard: Shard, batch: list[Record], data: st.DataObject, *, partial: bool) -> None:
        reasons = [data.draw(st.sampled_from(("", "", "test", "old"))) for _ in batch]
        for record, reason in zip(batch, reasons, strict=True):
            record.place = "dropped" if reason else "delivered"
        created_at_s = self.clock.wall() if batch else 0.0
        self.tell(
            events.BatchDelivered(
                pipeline=shard.pipeline,
                shard_id=shard.shard_id,
                records=len(batch),
                bytes=100,
                delivered=reasons.count(""),
                dropped={reason: count for reason, count in Counter(reasons).items() if reason},
                attempts=1,
                handler_s=0.1,
                first_created_at_s=created_at_s,
                last_created_at_s=created_at_s,
                now_s=self.clock.wall(),
                partial=partial,
            )
        )

    def _failed(self, shard: Shard, batch: list[Record], error: Exception, *, invoked: bool = True) -> None:
        self.tell(
            events.BatchFailed(
                pipeline=shard.pipeline,
                shard_id=shard.shard_id,
                records=len(batch),
                attempt=1,
                handler_s=0.1,
                error=error,
                retry_after_s=1.0,
                invoked=invoked,
            )
        )

    # -- what is told -------------------------------------------------------------------------------------------------

    @invariant()
    def each_record_is_counted_where_it_is(self) -> None:
        page = Page(self.registry)
        for pipeline, records in self.records.items():
            truth = Counter(record.place for record in records)
            told = {place: page.sum(_SERIES[place], pipeline) for place in PLACES}
            assert told == {place: truth[place] for place in PLACES}
            assert page.sum("streamflow_records_polled_total", pipeline) == len(records) == sum(told.values())
            assert page.sum("streamflow_records_unaccounted", pipeline) == 0
            assert page.sum("streamflow_records_invoked_total", pipeline) == sum(r.invoked for r in records)
            assert page.sum("streamflow_records_failed_total", pipeline) == sum(r.failed for r in records)

    @invariant()
    def progress_tells_the_same(self) -> None:
        for progress in self.progress.snapshot().pipelines:
            truth = Counter(record.place for record in self.records[progress.pipeline])
            assert progress.records_polled == truth.total()
            assert {place: getattr(progress, f"records_{place}") for place in PLACES} == {p: truth[p] for p in PLACES}
            assert progress.records_unaccounted == 0

    @invariant()
    def the_checkpoint_is_old_exactly_where_something_read_is_not_stored(self) -> None:
        later_s = self.clock.wall() + 1.0
        facts = {(shard.pipeline, shard.shard_id): shard for shard in self.open_shards.snapshot()}
        assert facts.keys() == self.open.keys()
        for key, shard in self.open.items():
            assert (facts[key].checkpoint_age_s(later_s) == 0.0) == (shard.stored == len(shard.records))


_SERIES: dict[Place, str] = {place: f"streamflow_records_{place}_total" for place in PLACES}
_SERIES["in_flight"] = "streamflow_records_in_flight"


class Page:
    """One rendering of the registry, summed by name and pipeline."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sums: Counter[tuple[str, str]] = Counter()
        for family in registry.collect():
            for sample in family.samples:
                self._sums[sample.name, sample.labels.get("pipeline", "")] += int(sample.value)

    def sum(self, name: str, pipeline: str) -> int:
        return self._sums[name, pipeline]


TestBalance = World.TestCase
TestBalance.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
