"""Events into Prometheus metrics on a registry that is an argument.

Events arrive on the event loop; `collect` runs in whatever thread renders the page, so everything it reads is copied
first or is immutable. Work is per page and per batch, never per record, and no histogram has a shard label.
"""

from __future__ import annotations

import heapq
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, TypeAlias, assert_never

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.core import Metric as Family

from streamflow.clock import SystemClock
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CheckpointFailed,
    CheckpointStored,
    DiscoveryFailed,
    IteratorExpired,
    LeaseLost,
    LeaseReleased,
    LeaseTaken,
    LoopBlocked,
    PageRead,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReadFailed,
    RecordsTrimmed,
    ShardAwaitingChildren,
    ShardClosed,
    ShardOpened,
    ShardsDiscovered,
    StreamEnded,
)
from streamflow.observe import catalogue
from streamflow.observe.catalogue import CATALOGUE, OTHER, Metric
from streamflow.observe.shards import OpenShards, ShardFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client import CollectorRegistry

    from streamflow.clock import Clock
    from streamflow.events import Event

RETENTION_S = 86_400.0
"""DynamoDB Streams keeps records for 24 hours; it cannot be changed."""

# Error codes come from a server and drop reasons from users' code: neither may grow the page without end.
_OPEN_LABEL_VALUES_MAX = 50
_LABEL_LENGTH_MAX = 128

_Row: TypeAlias = "tuple[ShardFacts, dict[str, float]]"


class Metrics:
    """An observer, and the one collector that it registers on `registry`.

    Per-shard gauges show the `shard_series_max` laggiest shards of the worker; the rest of a pipeline is folded into
    `shard="_other"`. `retention_s` is what the stream keeps (24 h on DynamoDB Streams).

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
    ) -> None:
        self._clock = clock or SystemClock()
        self._shard_series_max = shard_series_max
        self._retention_s = retention_s
        self._shards = OpenShards(self._clock)
        self._running: dict[str, bool] = {}
        # Families without a registry of their own: `collect` leaves their `_created` series out, which the library
        # can do for the whole process only.
        self._counters = {m.name: _counter(m) for m in CATALOGUE if m.kind == "counter"}
        self._histograms = {m.name: _histogram(m) for m in CATALOGUE if m.kind == "histogram"}
        self._counter_series: dict[tuple[str, ...], Counter] = {}
        self._histogram_series: dict[tuple[str, ...], Histogram] = {}
        self._open_values: dict[tuple[str, str], set[str]] = {}
        self._versions = {"version": _own_version(), "python": platform.python_version()}
        registry.register(self)

    # -- taking note, on the event loop -------------------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        self._shards(event)
        match event:
            case PageRead():
                self._count(catalogue.RECORDS_POLLED, event.records, event.pipeline)
                self._count(catalogue.BYTES_POLLED, event.bytes, event.pipeline)
                self._measure(catalogue.POLL_DURATION, event.duration_s, event.pipeline)
            case BatchDelivered():
                self._delivered(event)
            case BatchFailed():
                self._count(catalogue.RECORDS_FAILED, event.records, event.pipeline)
                self._measure(catalogue.HANDLER_DURATION, event.handler_s, event.pipeline, "failed")
            case CheckpointStored():
                self._count(catalogue.CHECKPOINTS, 1, event.pipeline, "stored")
                self._measure(catalogue.CHECKPOINT_DURATION, event.duration_s, event.pipeline)
            case CheckpointFailed():
                self._count(catalogue.CHECKPOINTS, 1, event.pipeline, "failed")
            case ReadFailed():
                code = self._bounded(catalogue.POLL_ERRORS, event.pipeline, event.code)
                self._count(catalogue.POLL_ERRORS, 1, event.pipeline, code)
                self._count(catalogue.THROTTLES, int(event.throttled), event.pipeline)
            case IteratorExpired():
                self._count(catalogue.ITERATORS_EXPIRED, 1, event.pipeline)
            case RecordsTrimmed():
                self._count(catalogue.TRIMMED_GAPS, 1, event.pipeline)
            case LeaseTaken():
                self._count(catalogue.LEASE_CHANGES, 1, event.pipeline, "taken")
            case LeaseLost():
                self._count(catalogue.LEASE_CHANGES, 1, event.pipeline, "lost")
            case LeaseReleased():
                self._count(catalogue.LEASE_CHANGES, 1, event.pipeline, "released")
            case LoopBlocked():
                self._count(catalogue.LOOP_BLOCKED, event.blocked_s)
            case _:
                self._note_life(event)

    def _note_life(
        self,
        event: PipelineStarted
        | PipelineStopped
        | PipelineFailed
        | StreamEnded
        | ShardOpened
        | ShardClosed
        | ShardAwaitingChildren
        | ShardsDiscovered
        | DiscoveryFailed,
    ) -> None:
        pipeline = event.pipeline
        match event:
            case PipelineStarted():
                self._start_from_zero(pipeline)
                self._running[pipeline] = True
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
            case ShardAwaitingChildren():
                self._count(catalogue.SHARDS_AWAITING_CHILDREN, 1, pipeline)
            case ShardsDiscovered():
                self._count(catalogue.DISCOVERIES, 1, pipeline, "done")
            case DiscoveryFailed():
                self._count(catalogue.DISCOVERIES, 1, pipeline, "failed")
            case _:
                assert_never(event)

    def _delivered(self, batch: BatchDelivered) -> None:
        pipeline = batch.pipeline
        self._count(catalogue.RECORDS_DELIVERED, batch.delivered, pipeline)
        self._count(catalogue.BYTES_DELIVERED, batch.bytes, pipeline)
        for reason, records in batch.dropped.items():
            label = self._bounded(catalogue.RECORDS_DROPPED, pipeline, reason)
            self._count(catalogue.RECORDS_DROPPED, records, pipeline, label)
        self._measure(catalogue.BATCH_RECORDS, batch.records, pipeline)
        self._measure(catalogue.BATCH_BYTES, batch.bytes, pipeline)
        self._measure(catalogue.HANDLER_DURATION, batch.handler_s, pipeline, "delivered")
        if batch.first_created_at_s:  # 0 where the creation time cannot be read
            latency_s = max(0.0, batch.now_s - batch.first_created_at_s)
            self._measure(catalogue.END_TO_END_LATENCY, latency_s, pipeline)

    def _count(self, metric: Metric, amount: float, *labels: str) -> None:
        key = (metric.name, *labels)
        series = self._counter_series.get(key)
        if series is None:
            family = self._counters[metric.name]
            series = self._counter_series[key] = family.labels(*labels) if labels else family
        series.inc(amount)

    def _measure(self, metric: Metric, amount: float, *labels: str) -> None:
        key = (metric.name, *labels)
        series = self._histogram_series.get(key)
        if series is None:
            series = self._histogram_series[key] = self._histograms[metric.name].labels(*labels)
        series.observe(amount)

    def _bounded(self, metric: Metric, pipeline: str, value: str) -> str:
        """The value as a label; beyond the first 50 of a pipeline they are one."""
        value = _label(value)
        known = self._open_values.setdefault((metric.name, pipeline), set())
        if value not in known:
            if len(known) >= _OPEN_LABEL_VALUES_MAX:
                return OTHER
            known.add(value)
        return value

    def _start_from_zero(self, pipeline: str) -> None:
        """Show the counters whose labels are known: `increase()` does not see a counter that begins at 1."""
        for metric in CATALOGUE:
            if metric.kind != "counter" or not metric.labels:
                continue
            if metric.labels == ("pipeline",):
                self._count(metric, 0, pipeline)
            for value in metric.values:
                self._count(metric, 0, pipeline, value)

    # -- rendering, in any thread -------------------------------------------------------------------------------------

    def describe(self) -> Iterator[Family]:
        """The names this collector takes, for the registry."""
        for metric in CATALOGUE:
            yield Family(_family_name(metric), metric.meaning, metric.kind)

    def collect(self) -> Iterator[Family]:
        """All families with their samples as of now."""
        for collector in (*self._counters.values(), *self._histograms.values()):
            for family in collector.collect():
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
                yield family
        shards = self._shards.snapshot()
        yield self._pipelines_running()
        yield self._shard_states(shards)
        yield from self._shard_gauges(shards)
        yield InfoMetricFamily(_family_name(catalogue.BUILD), catalogue.BUILD.meaning, self._versions)

    def _pipelines_running(self) -> Family:
        family = _gauge(catalogue.PIPELINE_RUNNING)
        for pipeline, running in self._running.copy().items():
            family.add_metric([pipeline], int(running))
        return family

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
                family.add_metric([shard.pipeline, _label(shard.shard_id)], readings[metric.name])
            fold = _FOLDS[metric.fold or "max"]
            for pipeline, rest in folded.items():
                family.add_metric([pipeline, OTHER], fold(readings[metric.name] for readings in rest))
            yield family

    def _readings(self, shard: ShardFacts, now_s: float) -> dict[str, float]:
        age_s = shard.iterator_age_s(now_s)
        return {
            catalogue.ITERATOR_AGE.name: age_s,
            catalogue.CHECKPOINT_AGE.name: shard.checkpoint_age_s(now_s),
            catalogue.BUFFERED_BYTES.name: shard.buffered_bytes,
            catalogue.RETENTION_HEADROOM.name: max(0.0, self._retention_s - age_s),
            catalogue.FAILED_ATTEMPTS.name: shard.failed_attempts,
        }


_FOLDS: dict[str, Callable[[Iterable[float]], float]] = {"max": max, "min": min, "sum": sum}
_SHARD_GAUGES = tuple(metric for metric in CATALOGUE if metric.fold)


def _laggiest_first(row: _Row) -> tuple[float, float, float, str, str]:
    """Ends with the names, so that shards which lag alike do not take turns in being shown."""
    shard, readings = row
    ages = -readings[catalogue.ITERATOR_AGE.name], -readings[catalogue.CHECKPOINT_AGE.name]
    return *ages, -shard.failed_attempts, shard.pipeline, shard.shard_id


def _label(value: str) -> str:
    """Printable and bounded; one lone surrogate would break the whole page."""
    printable = value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
    return printable[:_LABEL_LENGTH_MAX]


def _own_version() -> str:
    try:
        return version("streamflow-engine")
    except PackageNotFoundError:  # a source tree that nobody installed
        return "unknown"


def _family_name(metric: Metric) -> str:
    return metric.name.removesuffix("_total").removesuffix("_info")


def _counter(metric: Metric) -> Counter:
    return Counter(_family_name(metric), metric.meaning, metric.labels, registry=None)


def _histogram(metric: Metric) -> Histogram:
    return Histogram(metric.name, metric.meaning, metric.labels, registry=None, buckets=metric.buckets)


def _gauge(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
