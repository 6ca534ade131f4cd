"""The counters and histograms of the catalogue, and the bounds on what may become a series.

Families have no registry of their own: `collect` leaves their `_created` series out, which the library can do for the
whole process only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from streamflow.observe.catalogue import OTHER, WORKER, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric as Family

# Error codes come from a server and drop reasons from users' code: neither may grow the page without end.
OPEN_LABEL_VALUES_MAX = 50
LABEL_LENGTH_MAX = 128


class Series:
    """Written on the event loop, collected in any thread: the library locks each series."""

    def __init__(self) -> None:
        self._counters = {m.name: _counter(m) for m in WORKER if m.kind == "counter"}
        self._histograms = {m.name: _histogram(m) for m in WORKER if m.kind == "histogram"}
        self._counter_series: dict[tuple[str, ...], Counter] = {}
        self._histogram_series: dict[tuple[str, ...], Histogram] = {}
        self._open_values: dict[tuple[str, str], set[str]] = {}

    def count(self, metric: Metric, amount: float, *labels: str) -> None:
        key = (metric.name, *labels)
        series = self._counter_series.get(key)
        if series is None:
            family = self._counters[metric.name]
            series = self._counter_series[key] = family.labels(*labels) if labels else family
        series.inc(amount)

    def measure(self, metric: Metric, amount: float, *labels: str) -> None:
        key = (metric.name, *labels)
        series = self._histogram_series.get(key)
        if series is None:
            series = self._histogram_series[key] = self._histograms[metric.name].labels(*labels)
        series.observe(amount)

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
        for collector in (*self._counters.values(), *self._histograms.values()):
            for family in collector.collect():
                family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
                yield family


def label(value: str) -> str:
    """Printable and bounded; one lone surrogate would break the whole page."""
    printable = value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
    return printable[:LABEL_LENGTH_MAX]


def family_name(metric: Metric) -> str:
    """As the library wants it: it adds these ends by itself."""
    return metric.name.removesuffix("_total").removesuffix("_info")


def _counter(metric: Metric) -> Counter:
    return Counter(family_name(metric), metric.meaning, metric.labels, registry=None)


def _histogram(metric: Metric) -> Histogram:
    return Histogram(metric.name, metric.meaning, metric.labels, registry=None, buckets=metric.buckets)
