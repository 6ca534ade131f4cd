"""The metrics of several workers on one page, read by the library's own parser."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from streamflow.cli.supervision.exposition import families, merged
from streamflow.events import BatchDelivered, PageRead, PipelineStarted
from streamflow.observe import catalogue
from streamflow.observe.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_S = 1_764_000_000.0
PAGE_READ = PageRead(
    pipeline="orders", shard_id="shard-0", records=8, bytes=70, duration_s=0.02, last_created_at_s=NOW_S
)


class FixedClock:
    def monotonic(self) -> float:
        return 100.0

    def wall(self) -> float:
        return NOW_S


def worker(records: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = Metrics(registry, clock=FixedClock())
    metrics(PipelineStarted(pipeline="orders", stream_arn="arn:x", shards=1))
    metrics(PAGE_READ)
    metrics(
        BatchDelivered(
            pipeline="orders",
            shard_id="shard-0",
            records=records,
            bytes=7_000,
            delivered=records,
            dropped={},
            attempts=1,
            handler_s=0.2,
            first_created_at_s=NOW_S - 4,
            last_created_at_s=NOW_S - 3,
            now_s=NOW_S,
        )
    )
    return registry


def sent(registry: CollectorRegistry) -> list[Any]:
    """As it arrives: through JSON."""
    return json.loads(json.dumps(families(registry)))  # type: ignore[no-any-return]


class Merged:
    def __init__(self, pages: dict[str, list[Any]], own: tuple[Family, ...] = ()) -> None:
        self.registry = CollectorRegistry()
        self._pages, self._own = pages, own
        self.registry.register(self)

    def collect(self) -> Iterator[Family]:
        yield from merged(self._own, self._pages)


@pytest.fixture
def both() -> Merged:
    own = Family("streamflow_worker_restarts", "Restarts.", "counter")
    own.add_sample("streamflow_worker_restarts_total", {"worker": "w-1"}, 3)
    return Merged({"w-1": sent(worker(3)), "w-2": sent(worker(5))}, (own,))


def parsed(text: str, *, openmetrics: bool = False) -> dict[str, Family]:
    parse: Any = parse_openmetrics if openmetrics else parse_text  # the library's is not typed
    found = list(parse(text))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_every_sample_of_every_worker_is_there_with_its_worker(both: Merged, openmetrics: bool) -> None:
    render: Any = generate_openmetrics if openmetrics else generate_latest
    together = parsed(render(both.registry).decode(), openmetrics=openmetrics)
    for worker_id, records in (("w-1", 3), ("w-2", 5)):
        alone = parsed(render(worker(records)).decode(), openmetrics=openmetrics)
        for name, family in alone.items():
            ours = [
                (sample.name, {key: value for key, value in sample.labels.items() if key != "worker"}, sample.value)
                for sample in together[name].samples
                if sample.labels.get("worker") == worker_id
            ]
            assert (family.type, family.documentation) == (together[name].type, together[name].documentation)
            assert ours == [(sample.name, sample.labels, sample.value) for sample in family.samples], name
    assert all("worker" in sample.labels for family in together.values() for sample in family.samples)


def test_each_family_is_described_once(both: Merged) -> None:
    text = generate_latest(both.registry).decode()
    described = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described)) == len(catalogue.WORKER) + 1


def test_our_own_samples_stay_as_they_are(both: Merged) -> None:
    restarts = parsed(generate_latest(both.registry).decode())["streamflow_worker_restarts"]
    assert [(sample.labels, sample.value) for sample in restarts.samples] == [({"worker": "w-1"}, 3.0)]


def test_a_hostile_worker_id_stays_one_label() -> None:
    hostile = 'w"\n\\-1'
    page = generate_latest(Merged({hostile: sent(worker(1))}).registry).decode()
    running = parsed(page)["streamflow_pipeline_running"]
    assert [sample.labels["worker"] for sample in running.samples] == [hostile]


def test_where_two_versions_disagree_the_first_is_shown() -> None:
    older = [["streamflow_lag", "Lag.", "gauge", [["streamflow_lag", {}, 1.0]]]]
    newer = [["streamflow_lag", "Lag.", "counter", [["streamflow_lag_total", {}, 1.0]]]]
    page = generate_latest(Merged({"w-1": older, "w-2": newer}).registry).decode()
    assert [line for line in page.splitlines() if not line.startswith("#")] == ['streamflow_lag{worker="w-1"} 1.0']


def test_without_any_worker_there_is_only_our_own() -> None:
    assert generate_latest(Merged({}).registry) == b""
