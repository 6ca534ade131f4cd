"""What is known of a fleet, as Prometheus metrics: a collector that shows the newest look.

Looks are noted on the event loop and collected in the thread that renders the page: what both share is replaced, never
changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family

from streamflow.leases import LeaseState
from streamflow.observe import catalogue
from streamflow.observe.catalogue import FLEET, OTHER, Metric
from streamflow.observe.fleet import folded
from streamflow.observe.series import family_name, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client import CollectorRegistry

    from streamflow.observe.fleet import Figures, PipelineFigures

SERIES_MAX = 200


class FleetMetrics:
    """The one collector that it registers on `registry`.

    Of the owners and of the shards of a pipeline, `series_max` have series of their own; the rest is `_other`. Until the
    first look that succeeds there is nothing but the count of looks.
    """

    def __init__(self, registry: CollectorRegistry, *, series_max: int = SERIES_MAX) -> None:
        self._series_max = series_max
        self._figures: Figures | None = None
        self._looks = dict.fromkeys(catalogue.FLEET_LOOKS.values, 0)
        registry.register(self)

    def note(self, figures: Figures | None, *, failed: bool) -> None:
        """Take note of a look; without figures, those of the one before stay."""
        self._looks["failed" if failed else "done"] += 1
        if figures is not None:
            self._figures = figures

    def describe(self) -> Iterator[Family]:
        """The names this collector takes, for the registry."""
        for metric in FLEET:
            yield Family(family_name(metric), metric.meaning, metric.kind)

    def collect(self) -> Iterator[Family]:
        """All families with their samples as of the newest look."""
        looks = CounterMetricFamily(
            family_name(catalogue.FLEET_LOOKS), catalogue.FLEET_LOOKS.meaning, labels=catalogue.FLEET_LOOKS.labels
        )
        for result, count in self._looks.items():
            looks.add_metric([result], count)
        yield looks
        figures = self._figures
        if figures is None:
            return
        yield _gauge(catalogue.FLEET_LAST_LOOK, [([], figures.at_s)])
        silence_s = self._bounded(figures.silence_s, max)
        yield _gauge(catalogue.FLEET_OWNER_SILENCE, (([owner], value) for owner, value in silence_s.items()))
        yield from self._of_pipelines(figures.pipelines)

    def _of_pipelines(self, pipelines: Iterable[PipelineFigures]) -> Iterator[Family]:
        samples: dict[Metric, list[tuple[list[str], float]]] = {metric: [] for metric in _OF_PIPELINES}
        for each in pipelines:
            name = each.pipeline
            samples[catalogue.FLEET_UNOWNED].append(([name], each.unowned))
            samples[catalogue.FLEET_WORKERS].append(([name], each.workers))
            samples[catalogue.FLEET_SHARDS] += (
                ([name, state.value], each.shards.get(state, 0)) for state in LeaseState
            )
            held = self._bounded(each.held, sum)
            samples[catalogue.FLEET_LEASES] += (([name, owner], value) for owner, value in held.items())
            lag_s = self._bounded(each.lag_s, max)
            samples[catalogue.FLEET_LAG] += (([name, shard_id], value) for shard_id, value in lag_s.items())
            if each.headroom_s is not None:
                samples[catalogue.FLEET_HEADROOM].append(([name], each.headroom_s))
        for metric, found in samples.items():
            yield _gauge(metric, found)

    def _bounded(self, values: Mapping[str, float], fold: Callable[[Iterable[float]], float]) -> dict[str, float]:
        labelled = ((label(name), value) for name, value in values.items())
        return folded(labelled, most=self._series_max, into=OTHER, fold=fold)


_OF_PIPELINES = tuple(metric for metric in FLEET if "pipeline" in metric.labels)


def _gauge(metric: Metric, samples: Iterable[tuple[list[str], float]]) -> Family:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
