"""The counters and histograms of the catalogue, and the bounds on what may become a series.

Written on the event loop several times for each batch, and read a few times a minute: so a series is a number, or a list of
them, and becomes a family of the library's when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from streamflow.observe import catalogue
from streamflow.observe.catalogue import OTHER, WORKER, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric as Family

# Error codes come from a server and drop reasons from users' code: neither may grow the page without end.
OPEN_LABEL_VALUES_MAX = 50
LABEL_LENGTH_MAX = 128


class Total:
    """A counter's series."""

    __slots__ = ("amount",)

    def __init__(self) -> None:
        self.amount: float = 0


class Distribution:
    """A histogram's series: how many amounts fell into each bucket, the last of which has no upper bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, amount: float) -> None:
        self.counts[bisect_left(self.bounds, amount)] += 1
        self.sum += amount

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound to how many were not above it, safe from any thread."""
        bounds = [floatToGoString(bound) for bound in (*self.bounds, float("inf"))]  # type: ignore[no-untyped-call]
        return list(zip(bounds, accumulate(self.counts.copy()), strict=True))


class Series:
    """Written on the event loop, collected in any thread: a read finds each series as it was at some moment."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[tuple[str, ...], Total]] = {
            metric.name: {} if metric.labels else {(): Total()} for metric in WORKER if metric.kind == "counter"
        }
        self._histograms: dict[str, dict[tuple[str, ...], Distribution]] = {
            metric.name: {} for metric in WORKER if metric.kind == "histogram"
        }
        self._open_values: dict[tuple[str, str], set[str]] = {}

    def total(self, metric: Metric, *labels: str) -> Total:
        """The series of these labels, shown from now on; to be kept by whoever writes to it often."""
        series = self._counters[metric.name]
        found = series.get(labels)
        if found is None:
            found = series[labels] = Total()
        return found

    def distribution(self, metric: Metric, *labels: str) -> Distribution:
        """As `total`; shown as soon as there is something in it."""
        series = self._histograms[metric.name]
        found = series.get(labels)
        if found is None:
            found = series[labels] = Distribution(metric.buckets)
        return found

    def count(self, metric: Metric, amount: float, *labels: str) -> None:
        self.total(metric, *labels).amount += amount

    def measure(self, metric: Metric, amount: float, *labels: str) -> None:
        self.distribution(metric, *labels).add(amount)

    def bounded(self, metric: Metric, pipeline: str, value: str) -> str:
        """The value as a label; beyond the first 50 of a pipeline they are one."""
        value = label(value)
        known = self._open_values.setdefault((metric.name, pipeline), set())
        if value not in known:
            if len(known) >= OPEN_LABEL_VALUES_MAX:
                return OTHER
            known.add(value)
        return value

    def start_from_zero(self, pipeline: str) -> None:
        """Show the counters whose labels are known: `increase()` does not see a counter that begins at 1."""
        for metric in WORKER:
            if metric.kind != "counter" or not metric.labels:
                continue
            if metric.labels == ("pipeline",):
                self.count(metric, 0, pipeline)
            for value in metric.values:
                self.count(metric, 0, pipeline, value)

    def collect(self) -> Iterator[Family]:
        for metric in WORKER:
            if metric.kind == "counter":
                counter = CounterMetricFamily(family_name(metric), metric.meaning, labels=metric.labels)
                for labels, total in self._counters[metric.name].copy().items():
                    counter.add_metric(labels, total.amount)
                yield counter
            elif metric.kind == "histogram":
                histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
                for labels, found in self._histograms[metric.name].copy().items():
                    if any(found.counts):
                        histogram.add_metric(labels, found.buckets(), found.sum)
                yield histogram


class Throughput:
    """The series of one pipeline that every page or batch is written to."""

    __slots__ = (
        "batch_bytes",
        "batch_records",
        "bytes_delivered",
        "bytes_polled",
        "handler_s",
        "iterator_age_s",
        "latency_s",
        "poll_s",
        "records_delivered",
        "records_filtered",
        "records_invoked",
        "records_polled",
    )

    def __init__(self, series: Series, pipeline: str) -> None:
        self.records_polled = series.total(catalogue.RECORDS_POLLED, pipeline)
        self.records_filtered = series.total(catalogue.RECORDS_FILTERED, pipeline)
        self.bytes_polled = series.total(catalogue.BYTES_POLLED, pipeline)
        self.poll_s = series.distribution(catalogue.POLL_DURATION, pipeline)
        self.records_delivered = series.total(catalogue.RECORDS_DELIVERED, pipeline)
        self.bytes_delivered = series.total(catalogue.BYTES_DELIVERED, pipeline)
        self.records_invoked = series.total(catalogue.RECORDS_INVOKED, pipeline)
        self.batch_records = series.distribution(catalogue.BATCH_RECORDS, pipeline)
        self.batch_bytes = series.distribution(catalogue.BATCH_BYTES, pipeline)
        self.latency_s = series.distribution(catalogue.END_TO_END_LATENCY, pipeline)
        self.handler_s = series.distribution(catalogue.HANDLER_DURATION, pipeline, "delivered")
        self.iterator_age_s = series.distribution(catalogue.BATCH_ITERATOR_AGE, pipeline)


def label(value: str) -> str:
    """Printable and bounded; one lone surrogate would break the whole page."""
    printable = value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
    return printable[:LABEL_LENGTH_MAX]


def family_name(metric: Metric) -> str:
    """As the library wants it: it adds these ends by itself."""
    return metric.name.removesuffix("_total").removesuffix("_info")
