"""The page of `leases watch`."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamflow.leases import LeaseState
from streamflow.observe import catalogue
from streamflow.observe.fleet import Figures, PipelineFigures
from streamflow.observe.fleet_metrics import FleetMetrics


def figures(*, silence_s: dict[str, float] | None = None, **changes: Any) -> Figures:
    values = {
        "pipeline": "orders",
        "shards": {LeaseState.ACTIVE: 3, LeaseState.ENDED: 2},
        "held": {"w1": 2, "w2": 1},
        "unowned": 1,
        "workers": 1,
        "lag_s": {"a": 30.0, "b": 0.0},
        "headroom_s": 86_370.0,
        **changes,
    }
    silence_s = {"w1": 0.0, "w2": 12.5} if silence_s is None else silence_s
    return Figures(at_s=100.0, pipelines=(PipelineFigures(**values),), silence_s=silence_s, silent=frozenset({"w2"}))


class Page:
    def __init__(self, series_max: int = 200) -> None:
        self.registry = CollectorRegistry()
        self.metrics = FleetMetrics(self.registry, series_max=series_max)

    def samples(self) -> dict[str, float]:
        lines = [line for line in generate_latest(self.registry).decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_look_becomes_series() -> None:
    page = Page()
    page.metrics.note(figures(), failed=False)
    assert page.samples() == {
        'streamflow_fleet_looks_total{result="done"}': 1,
        'streamflow_fleet_looks_total{result="failed"}': 0,
        "streamflow_fleet_last_look_timestamp_seconds": 100,
        'streamflow_fleet_owner_silence_seconds{owner="w1"}': 0,
        'streamflow_fleet_owner_silence_seconds{owner="w2"}': 12.5,
        'streamflow_fleet_leases{owner="w1",pipeline="orders"}': 2,
        'streamflow_fleet_leases{owner="w2",pipeline="orders"}': 1,
        'streamflow_fleet_leases_unowned{pipeline="orders"}': 1,
        'streamflow_fleet_workers{pipeline="orders"}': 1,
        'streamflow_fleet_shards{pipeline="orders",state="active"}': 3,
        'streamflow_fleet_shards{pipeline="orders",state="awaiting_children"}': 0,
        'streamflow_fleet_shards{pipeline="orders",state="ended"}': 2,
        'streamflow_fleet_shard_lag_seconds{pipeline="orders",shard="a"}': 30,
        'streamflow_fleet_shard_lag_seconds{pipeline="orders",shard="b"}': 0,
        'streamflow_fleet_retention_headroom_seconds{pipeline="orders"}': 86_370,
    }


def test_before_the_first_look_only_looks_are_counted() -> None:
    page = Page()
    page.metrics.note(None, failed=True)
    assert page.samples() == {
        'streamflow_fleet_looks_total{result="done"}': 0,
        'streamflow_fleet_looks_total{result="failed"}': 1,
    }


def test_figures_stay_when_the_store_does_not_answer() -> None:
    page = Page()
    page.metrics.note(figures(), failed=False)
    page.metrics.note(None, failed=True)
    samples = page.samples()
    assert samples['streamflow_fleet_looks_total{result="failed"}'] == 1
    assert samples["streamflow_fleet_last_look_timestamp_seconds"] == 100


def test_owners_and_shards_beyond_the_cap_are_folded() -> None:
    page = Page(series_max=1)
    many = {"a": 5.0, "b": 30.0, "c": 7.0}
    page.metrics.note(figures(held={"w1": 2, "w2": 4, "w3": 3}, lag_s=many, silence_s=many), failed=False)
    shown = page.samples()
    assert {name: value for name, value in shown.items() if "_leases{" in name} == {
        'streamflow_fleet_leases{owner="w2",pipeline="orders"}': 4,
        'streamflow_fleet_leases{owner="_other",pipeline="orders"}': 5,
    }
    assert {name: value for name, value in shown.items() if "lag" in name} == {
        'streamflow_fleet_shard_lag_seconds{pipeline="orders",shard="b"}': 30,
        'streamflow_fleet_shard_lag_seconds{pipeline="orders",shard="_other"}': 7,
    }
    assert {name: value for name, value in shown.items() if "silence" in name} == {
        'streamflow_fleet_owner_silence_seconds{owner="b"}': 30,
        'streamflow_fleet_owner_silence_seconds{owner="_other"}': 7,
    }


def test_without_lag_there_is_no_headroom() -> None:
    page = Page()
    page.metrics.note(figures(lag_s={}, headroom_s=None), failed=False)
    assert not [name for name in page.samples() if "lag" in name or "headroom" in name]


def test_names_of_owners_cannot_break_the_page() -> None:
    page = Page()
    page.metrics.note(figures(silence_s={"x\ud800" + "y" * 200: 1.0}), failed=False)
    assert [name for name in page.samples() if 'owner="x?yy' in name and len(name) < 200]


def test_the_page_shows_what_the_catalogue_has_of_a_fleet_and_nothing_else() -> None:
    page = Page()
    page.metrics.note(figures(), failed=False)
    text = generate_latest(page.registry).decode()
    shown = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    assert shown == {metric.name: metric.kind for metric in catalogue.FLEET}


def test_the_catalogue_has_all_metrics_of_a_fleet_in_their_place() -> None:
    assert [metric for metric in catalogue.CATALOGUE if metric.name.startswith("streamflow_fleet_")] == list(
        catalogue.FLEET
    )
    assert not set(catalogue.FLEET) & set(catalogue.WORKER)


def test_two_on_one_registry_are_refused() -> None:
    page = Page()
    with pytest.raises(ValueError, match="streamflow_fleet_looks"):
        FleetMetrics(page.registry)
