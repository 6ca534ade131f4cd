"""Events into Prometheus metrics on a registry that is an argument.

Events arrive on the event loop; `collect` runs in whatever thread renders the page, so everything it reads is copied
first or is immutable. Work is per page and per batch, never per record, and no histogram has a shard label.
"""

from __future__ import annotations

import heapq
import platform
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, TypeAlias, assert_never

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.core import Metric as Family

from streamflow.clock import SystemClock
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CancellationIgnored,
    CheckpointFailed,
    CheckpointStored,
    DestinationFailed,
    DiscoveryFailed,
    HeartbeatFailed,
    IsolationEnded,
    IteratorExpired,
    KillerHeld,
    LeaseAskedFor,
    LeaseHandedOver,
    LeaseLost,
    LeaseReleased,
    LeasesListed,
    LeaseTaken,
    LoopBlocked,
    PageRead,
    ParkingFailed,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReaderStuck,
    ReadFailed,
    RecordsDiscarded,
    RecordsParked,
    RecordsSuppressed,
    RecordsTrimmed,
    ShardAwaitingChildren,
    ShardClosed,
    ShardIsolated,
    ShardOpened,
    ShardsDiscovered,
    StreamEnded,
    WindowClosed,
    WorkerStruck,
    WorkerTakenForDead,
)
from streamflow.observe import catalogue
from streamflow.observe.balance import Balances
from streamflow.observe.catalogue import OTHER, WORKER, Metric
from streamflow.observe.results import NOTHING_PROCESSED, ProcessingResult, processing_result
from streamflow.observe.series import Series, Throughput, family_name, label
from streamflow.observe.shards import OpenShards, ShardFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry

    from streamflow.clock import Clock
    from streamflow.events import Event

RETENTION_S = 86_400.0
"""DynamoDB Streams keeps records for 24 hours; it cannot be changed."""

_Row: TypeAlias = "tuple[ShardFacts, dict[str, float]]"
_Delivery: TypeAlias = BatchFailed | RecordsDiscarded | DestinationFailed | RecordsParked | ParkingFailed | WindowClosed
_Lease: TypeAlias = (
    CheckpointStored
    | CheckpointFailed
    | LeaseTaken
    | LeaseLost
    | LeaseReleased
    | LeaseAskedFor
    | LeaseHandedOver
    | LeasesListed
    | ReaderStuck
)
_Worker: TypeAlias = LoopBlocked | HeartbeatFailed | WorkerStruck | WorkerTakenForDead
_Life: TypeAlias = (
    PipelineStarted
    | PipelineStopped
    | PipelineFailed
    | StreamEnded
    | ShardOpened
    | ShardClosed
    | ShardAwaitingChildren
    | ShardIsolated
    | IsolationEnded
    | KillerHeld
    | CancellationIgnored
    | ShardsDiscovered
    | DiscoveryFailed
)


class Metrics:
    """An observer, and the one collector that it registers on `registry`.

    Per-shard gauges show the `shard_series_max` laggiest shards of the worker; the rest of a pipeline is folded into
    `shard="_other"`. `retention_s` is what the stream keeps (24 h on DynamoDB Streams). `balances` are those of an observer
    that is told each event before this one is.

    Raises:
        ValueError: the registry already has metrics of these names.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        clock: Clock | None = None,
        shard_series_max: int = 200,
        retention_s: float = RETENTION_S,
        balances: Balances | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._shard_series_max = shard_series_max
        self._retention_s = retention_s
        self._keeps_balances = balances is None
        self._balances = Balances(OpenShards(self._clock)) if balances is None else balances
        self._shards = self._balances.shards
        self._running: dict[str, bool] = {}
        self._results: dict[str, ProcessingResult] = {}
        self._parked_keys: dict[str, int] = {}
        self._listed: dict[str, LeasesListed] = {}
        self._series = Series()
        self._throughputs: dict[str, Throughput] = {}
        self._count = self._series.count
        self._measure = self._series.measure
        self._versions = {"version": _own_version(), "python": platform.python_version()}
        registry.register(self)

    # -- taking note, on the event loop -------------------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        if self._keeps_balances:
            self._balances(event)
        match event:
            case BatchDelivered():
                self._delivered(event)
            case PageRead():
                to = self._throughput(event.pipeline)
                to.records_polled.amount += event.records
                to.records_filtered.amount += event.filtered
                to.bytes_polled.amount += event.bytes
                to.poll_s.add(event.duration_s)
            case ReadFailed():
                code = self._series.bounded(catalogue.POLL_ERRORS, event.pipeline, event.code)
                self._count(catalogue.POLL_ERRORS, 1, event.pipeline, code)
                self._count(catalogue.THROTTLES, int(event.throttled), event.pipeline)
            case IteratorExpired():
                self._count(catalogue.ITERATORS_EXPIRED, 1, event.pipeline)
            case RecordsTrimmed():
                self._count(catalogue.TRIMMED_GAPS, 1, event.pipeline)
            case RecordsSuppressed():
                self._count(catalogue.RECORDS_SUPPRESSED, event.records, event.pipeline)
            case LoopBlocked() | HeartbeatFailed() | WorkerStruck() | WorkerTakenForDead():
                self._note_worker(event)
            case (
                CheckpointStored()
                | CheckpointFailed()
                | LeaseTaken()
                | LeaseLost()
                | LeaseReleased()
                | LeaseAskedFor()
                | LeaseHandedOver()
                | LeasesListed()
                | ReaderStuck()
            ):
                self._note_lease(event)
            case (
                BatchFailed()
                | RecordsDiscarded()
                | DestinationFailed()
                | RecordsParked()
                | ParkingFailed()
                | WindowClosed()
            ):
                self._note_delivery(event)
            case _:
                self._note_life(event)
        if (result := processing_result(event)) is not None and not isinstance(event, _Worker):
            self._results[event.pipeline] = result

    def _throughput(self, pipeline: str) -> Throughput:
        found = self._throughputs.get(pipeline)
        if found is None:
            found = self._throughputs[pipeline] = Throughput(self._series, pipeline)
        return found

    def _note_worker(self, event: _Worker) -> None:
        match event:
            case LoopBlocked():
                self._count(catalogue.LOOP_BLOCKED, event.blocked_s)
            case HeartbeatFailed():
                self._count(catalogue.HEARTBEAT_FAILURES, 1)
            case WorkerStruck():
                self._count(catalogue.WORKERS_STRUCK, 1)
            case WorkerTakenForDead():
                self._count(catalogue.TAKEN_FOR_DEAD, 1)
            case _:
                assert_never(event)

    def _note_delivery(self, event: _Delivery) -> None:
        pipeline = event.pipeline
        match event:
            case BatchFailed(invoked=False):
                self._count(catalogue.ATTEMPTS_NOT_INVOKED, 1, pipeline)
            case BatchFailed():
                self._count(catalogue.RECORDS_FAILED, event.records, pipeline)
                self._measure(catalogue.HANDLER_DURATION, event.handler_s, pipeline, "failed")
                self._invoked(event, self._throughput(pipeline))
            case RecordsDiscarded():
                metric = catalogue.RECORDS_DEAD_LETTERED if event.destinations else catalogue.RECORDS_LOST
                self._count(metric, event.records, pipeline, event.condition)
            case DestinationFailed():
                self._count(catalogue.DESTINATION_FAILURES, 1, pipeline)
            case RecordsParked():
                self._count(catalogue.RECORDS_PARKED, event.records, pipeline)
                self._parked_keys[pipeline] = event.parked_keys
            case ParkingFailed():
                self._count(catalogue.PARKING_FAILURES, 1, pipeline)
            case WindowClosed():
                self._count(catalogue.WINDOWS_CLOSED, 1, pipeline, "yes" if event.early else "no")
            case _:
                assert_never(event)

    def _delivered(self, batch: BatchDelivered) -> None:
        to = self._throughput(batch.pipeline)
        to.records_delivered.amount += batch.delivered
        to.bytes_delivered.amount += batch.bytes
        for reason, records in batch.dropped.items():
            reason_label = self._series.bounded(catalogue.RECORDS_DROPPED, batch.pipeline, reason)
            self._count(catalogue.RECORDS_DROPPED, records, batch.pipeline, reason_label)
        if batch.records:  # the final invocation of a window is no batch of a size
            to.batch_records.add(batch.records)
            to.batch_bytes.add(batch.bytes)
        if batch.first_created_at_s:  # 0 where the creation time cannot be read
            to.latency_s.add(max(0.0, batch.now_s - batch.first_created_at_s))
        if not batch.partial:  # of that invocation `BatchFailed` tells, with all its records
            to.handler_s.add(batch.handler_s)
            self._invoked(batch, to)

    @staticmethod
    def _invoked(batch: BatchDelivered | BatchFailed, to: Throughput) -> None:
        to.records_invoked.amount += batch.records
        if batch.last_created_at_s:
            to.iterator_age_s.add(max(0.0, batch.now_s - batch.handler_s - batch.last_created_at_s))

    def _note_lease(self, event: _Lease) -> None:
        pipeline = event.pipeline
        match event:
            case CheckpointStored():
                self._count(catalogue.CHECKPOINTS, 1, pipeline, "stored")
                self._measure(catalogue.CHECKPOINT_DURATION, event.duration_s, pipeline)
            case CheckpointFailed():
                self._count(catalogue.CHECKPOINTS, 1, pipeline, "failed")
            case LeaseTaken():
                self._count(catalogue.LEASE_CHANGES, 1, pipeline, "taken")
            case LeaseLost():
                self._count(catalogue.LEASE_CHANGES, 1, pipeline, "lost")
            case LeaseReleased():
                self._count(catalogue.LEASE_CHANGES, 1, pipeline, "released")
            case LeaseAskedFor():
                self._count(catalogue.LEASE_CHANGES, 1, pipeline, "asked_for")
            case LeaseHandedOver():
                self._count(catalogue.LEASE_CHANGES, 1, pipeline, "handed_over")
            case LeasesListed():
                self._listed[pipeline] = event
            case ReaderStuck():
                self._count(catalogue.READERS_STUCK, 1, pipeline)
            case _:
                assert_never(event)

    def _note_life(self, event: _Life) -> None:
        pipeline = event.pipeline
        match event:
            case PipelineStarted():
                self._series.start_from_zero(pipeline)
                self._running[pipeline] = True
                self._results.setdefault(pipeline, NOTHING_PROCESSED)
            case PipelineStopped():
                self._running[pipeline] = False
            case PipelineFailed():
                self._running[pipeline] = False
                self._count(catalogue.PIPELINE_FAILURES, 1, pipeline)
            case StreamEnded():
                self._count(catalogue.STREAMS_ENDED, 1, pipeline)
            case ShardOpened():
                self._count(catalogue.SHARDS_OPENED, 1, pipeline)
            case ShardClosed():
                self._count(catalogue.SHARDS_CLOSED, 1, pipeline, event.reason)
                self._count(catalogue.RECORDS_ABANDONED, event.abandoned, pipeline)
            case ShardAwaitingChildren():
                self._count(catalogue.SHARDS_AWAITING_CHILDREN, 1, pipeline)
            case ShardIsolated():
                self._count(catalogue.SHARDS_ISOLATED, 1, pipeline)
            case IsolationEnded():
                pass
            case KillerHeld():
                self._count(catalogue.KILLERS_HELD, 1, pipeline)
            case CancellationIgnored():
                self._count(catalogue.CANCELLATIONS_IGNORED, 1, pipeline)
            case ShardsDiscovered():
                self._count(catalogue.DISCOVERIES, 1, pipeline, "done")
            case DiscoveryFailed():
                self._count(catalogue.DISCOVERIES, 1, pipeline, "failed")
            case _:
                assert_never(event)

    # -- rendering, in any thread -------------------------------------------------------------------------------------

    def describe(self) -> Iterator[Family]:
        """The names this collector takes, for the registry."""
        for metric in WORKER:
            yield Family(family_name(metric), metric.meaning, metric.kind)

    def collect(self) -> Iterator[Family]:
        """All families with their samples as of now."""
        yield from self._series.collect()
        yield from self._pipeline_gauges()
        shards = self._shards.snapshot()
        yield self._shard_states(shards)
        yield from self._shard_gauges(shards)
        yield InfoMetricFamily(family_name(catalogue.BUILD), catalogue.BUILD.meaning, self._versions)

    def _pipeline_gauges(self) -> Iterator[Family]:
        balances, listed = self._balances.snapshot(), self._listed.copy()
        held = Counter(shard.pipeline for shard in self._shards.snapshot())
        readings: dict[Metric, dict[str, int]] = {
            catalogue.PIPELINE_RUNNING: {name: int(running) for name, running in self._running.copy().items()},
            catalogue.RECORDS_IN_FLIGHT: {name: balance.in_flight for name, balance in balances.items()},
            catalogue.RECORDS_UNACCOUNTED: {name: balance.unaccounted for name, balance in balances.items()},
            catalogue.PARKED_KEYS: self._parked_keys.copy(),
            catalogue.LEASES_HELD: {name: held[name] for name in self._running.copy()},
            catalogue.LEASES_UNOWNED: {name: look.unowned for name, look in listed.items()},
            catalogue.WORKERS: {name: look.workers for name, look in listed.items()},
        }
        for metric, values in readings.items():
            family = _gauge(metric)
            for pipeline, value in values.items():
                family.add_metric([pipeline], value)
            yield family
        family = _gauge(catalogue.LAST_PROCESSING_RESULT)
        for pipeline, result in self._results.copy().items():
            for kind in catalogue.LAST_PROCESSING_RESULT.values:
                family.add_metric([pipeline, kind], int(kind == result.kind))
        yield family

    def _shard_states(self, shards: Sequence[ShardFacts]) -> Family:
        states = {(name, state): 0 for name in self._running.copy() for state in catalogue.SHARDS.values}
        for shard in shards:
            key = shard.pipeline, shard.state
            states[key] = states.get(key, 0) + 1
        family = _gauge(catalogue.SHARDS)
        for labels, count in states.items():
            family.add_metric(labels, count)
        return family

    def _shard_gauges(self, shards: Sequence[ShardFacts]) -> Iterator[Family]:
        now_s = self._clock.wall()
        rows: list[_Row] = [(shard, self._readings(shard, now_s)) for shard in shards]
        shown = heapq.nsmallest(self._shard_series_max, rows, key=_laggiest_first)
        shown_shards = {id(shard) for shard, _ in shown}
        folded: dict[str, list[dict[str, float]]] = {}
        for shard, readings in rows:
            if id(shard) not in shown_shards:
                folded.setdefault(shard.pipeline, []).append(readings)
        for metric in _SHARD_GAUGES:
            family = _gauge(metric)
            for shard, readings in shown:
                family.add_metric([shard.pipeline, label(shard.shard_id)], readings[metric.name])
            fold = _FOLDS[metric.fold or "max"]
            for pipeline, rest in folded.items():
                family.add_metric([pipeline, OTHER], fold(readings[metric.name] for readings in rest))
            yield family

    def _readings(self, shard: ShardFacts, now_s: float) -> dict[str, float]:
        age_s = shard.iterator_age_s(now_s)
        return {
            catalogue.ITERATOR_AGE.name: age_s,
            catalogue.CHECKPOINT_AGE.name: shard.checkpoint_age_s(now_s),
            catalogue.PROGRESS_AGE.name: shard.progress_age_s(now_s),
            catalogue.BUFFERED_BYTES.name: shard.buffered_bytes,
            catalogue.RETENTION_HEADROOM.name: max(0.0, self._retention_s - age_s),
            catalogue.FAILED_ATTEMPTS.name: shard.failed_attempts,
        }


_FOLDS: dict[str, Callable[[Iterable[float]], float]] = {"max": max, "min": min, "sum": sum}
_SHARD_GAUGES = tuple(metric for metric in WORKER if metric.fold)


def _laggiest_first(row: _Row) -> tuple[float, float, float, str, str]:
    """Ends with the names, so that shards which lag alike do not take turns in being shown."""
    shard, readings = row
    ages = -readings[catalogue.ITERATOR_AGE.name], -readings[catalogue.CHECKPOINT_AGE.name]
    return *ages, -shard.failed_attempts, shard.pipeline, shard.shard_id


def _own_version() -> str:
    try:
        return version("streamflow-engine")
    except PackageNotFoundError:  # a source tree that nobody installed
        return "unknown"


def _gauge(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
