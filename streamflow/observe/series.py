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

from streamflow.observe.catalogue import OTHER, WORKER, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric as Family

# Error codes come from a server and drop reasons from users' code: neither may grow the page without end.
OPEN_LABEL_VALUES_MAX = 50
LABEL_LENGTH_MAX = 128


class _Distribution:
    """How many amounts fell into each bucket, the last of which has no upper bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound to how many were not above it, safe from any thread."""
        bounds = [floatToGoString(bound) for bound in (*self.bounds, float("inf"))]  # type: ignore[no-untyped-call]
        return list(zip(bounds, accumulate(self.counts.copy()), strict=True))


class Series:
    """Written on the event loop, collected in any thread: a read finds each series as it was at some moment."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[tuple[str, ...], float]] = {
            metric.name: {} if metric.labels else {(): 0} for metric in WORKER if metric.kind == "counter"
        }
        self._histograms: dict[str, dict[tuple[str, ...], _Distribution]] = {
            metric.name: {} for metric in WORKER if metric.kind == "histogram"
        }
        self._open_values: dict[tuple[str, str], set[str]] = {}

    def count(self, metric: Metric, amount: float, *labels: str) -> None:
        series = self._counters[metric.name]
        series[labels] = series.get(labels, 0) + amount

    def measure(self, metric: Metric, amount: float, *labels: str) -> None:
        series = self._histograms[metric.name]
        found = series.get(labels)
        if found is None:
            found = series[labels] = _Distribution(metric.buckets)
        found.counts[bisect_left(found.bounds, amount)] += 1
        found.sum += amount

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
                for labels, value in self._counters[metric.name].copy().items():
                    counter.add_metric(labels, value)
                yield counter
            elif metric.kind == "histogram":
                histogram = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
                for labels, found in self._histograms[metric.name].copy().items():
                    histogram.add_metric(labels, found.buckets(), found.sum)
                yield histogram


def label(value: str) -> str:
    """Printable and bounded; one lone surrogate would break the whole page."""
    printable = value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
    return printable[:LABEL_LENGTH_MAX]


def family_name(metric: Metric) -> str:
    """As the library wants it: it adds these ends by itself."""
    return metric.name.removesuffix("_total").removesuffix("_info")
