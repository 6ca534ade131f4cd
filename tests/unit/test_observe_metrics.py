"""Events in, a Prometheus page out; and the catalogue and its page in the documentation say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from streamflow import events
from streamflow.dead_letters import Condition
from streamflow.errors import DestinationError, PartialFailure, SinkBusyError, StoreError
from streamflow.events import (
    BatchDelivered,
    PageRead,
    PipelineStarted,
    ReadFailed,
    ShardClosed,
    ShardClosing,
    ShardOpened,
)
from streamflow.observe import catalogue
from streamflow.observe.catalogue import CATALOGUE
from streamflow.observe.metrics import Metrics
from streamflow.observe.results import ACCEPTED, FUNCTION_FAILED, NOTHING_PROCESSED
from streamflow.positions import TRIM_HORIZON

DOCS = Path(__file__).parents[2] / "docs"


@dataclass
class FakeClock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_764_000_000.0 + self.now


class Page:
    """A registry with our metrics, and the value of a series."""

    def __init__(self, *, shard_series_max: int = 200) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, clock=self.clock, shard_series_max=shard_series_max)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def series(self, name: str) -> dict[str, float]:
        """Shard to value."""
        families = text_string_to_metric_families(generate_latest(self.registry).decode())
        return {s.labels["shard"]: s.value for family in families for s in family.samples if s.name == name}

    def open(
        self, shard_id: str, *, pipeline: str = "orders", created_ago_s: float | None = None, read: int = 0
    ) -> None:
        self.metrics(ShardOpened(pipeline=pipeline, shard_id=shard_id, start=TRIM_HORIZON, epoch=1))
        if created_ago_s is not None:
            self.metrics(page_read(pipeline, shard_id, read, self.clock.wall() - created_ago_s))


def page_read(pipeline: str, shard_id: str, records: int, created_at_s: float | None) -> PageRead:
    return PageRead(
        pipeline=pipeline,
        shard_id=shard_id,
        records=records,
        bytes=records * 700,
        duration_s=0.02,
        last_created_at_s=created_at_s,
        buffered_bytes=records * 700,
    )


def failed(**changes: object) -> events.BatchFailed:
    facts: dict[str, object] = {
        "pipeline": "orders",
        "shard_id": "shard-1",
        "records": 10,
        "attempt": 1,
        "handler_s": 2.0,
        "error": ValueError(),
        "retry_after_s": 1.0,
        "last_created_at_s": 1_764_000_001.0,
        "now_s": 1_764_000_004.5,
    }
    return events.BatchFailed(**{**facts, **changes})  # type: ignore[arg-type]


def discarded(records: int, *destinations: str, condition: str = "RetryAttemptsExhausted") -> events.RecordsDiscarded:
    return events.RecordsDiscarded(
        pipeline="orders",
        shard_id="shard-1",
        records=records,
        condition=condition,
        invoke_count=2,
        destinations=destinations,
        first=None,
        last=None,
    )


def delivered(**changes: object) -> BatchDelivered:
    facts: dict[str, object] = {
        "pipeline": "orders",
        "shard_id": "shard-1",
        "records": 10,
        "bytes": 7_000,
        "delivered": 8,
        "dropped": {"test orders": 2},
        "attempts": 1,
        "handler_s": 0.25,
        "first_created_at_s": 1_764_000_000.0,
        "last_created_at_s": 1_764_000_001.0,
        "now_s": 1_764_000_004.5,
    }
    return BatchDelivered(**{**facts, **changes})  # type: ignore[arg-type]


# --- counting --------------------------------------------------------------------------------------------------------


def test_what_changed_nothing_at_a_sink_is_counted() -> None:
    page = Page()
    page.metrics(events.RecordsSuppressed(pipeline="orders", records=3))
    page.metrics(events.RecordsSuppressed(pipeline="orders", records=2))
    assert page.value("streamflow_records_suppressed_total", pipeline="orders") == 5


def test_polled_is_delivered_plus_dropped_plus_in_hand() -> None:
    page = Page()
    page.open("shard-1")
    page.metrics(page_read("orders", "shard-1", 25, None))
    page.metrics(delivered())
    page.metrics(delivered())
    assert page.value("streamflow_records_polled_total", pipeline="orders") == 25
    assert page.value("streamflow_bytes_polled_total", pipeline="orders") == 17_500
    assert page.value("streamflow_records_delivered_total", pipeline="orders") == 16
    assert page.value("streamflow_bytes_delivered_total", pipeline="orders") == 14_000
    assert page.value("streamflow_records_dropped_total", pipeline="orders", reason="test orders") == 4


def test_histograms_count_per_batch_and_measure_from_the_first_record() -> None:
    page = Page()
    page.metrics(delivered())
    assert page.value("streamflow_batch_records_count", pipeline="orders") == 1
    assert page.value("streamflow_batch_records_sum", pipeline="orders") == 10
    assert page.value("streamflow_batch_bytes_sum", pipeline="orders") == 7_000
    assert page.value("streamflow_handler_duration_seconds_sum", pipeline="orders", outcome="delivered") == 0.25
    assert page.value("streamflow_end_to_end_latency_seconds_sum", pipeline="orders") == 4.5
    assert page.value("streamflow_end_to_end_latency_seconds_bucket", pipeline="orders", le="3.0") == 0
    assert page.value("streamflow_end_to_end_latency_seconds_bucket", pipeline="orders", le="5.0") == 1


def test_a_batch_whose_creation_time_cannot_be_read_has_no_latency() -> None:
    page = Page()
    page.metrics(delivered(first_created_at_s=0.0))
    assert page.value("streamflow_end_to_end_latency_seconds_count", pipeline="orders") is None


def test_a_failed_attempt_counts_its_records_and_its_time() -> None:
    page = Page()
    page.open("shard-1")
    for attempt in (1, 2, 3):
        page.metrics(failed(attempt=attempt))
    assert page.value("streamflow_records_failed_total", pipeline="orders") == 30
    assert page.value("streamflow_handler_duration_seconds_count", pipeline="orders", outcome="failed") == 3
    assert page.value("streamflow_shard_failed_attempts", pipeline="orders", shard="shard-1") == 3
    assert page.value("streamflow_shards", pipeline="orders", state="blocked") == 1
    page.metrics(delivered())
    assert page.value("streamflow_shard_failed_attempts", pipeline="orders", shard="shard-1") == 0


@pytest.mark.parametrize(
    ("event", "name", "labels"),
    [
        (events.IteratorExpired(pipeline="p", shard_id="s"), "streamflow_iterators_expired_total", {}),
        (
            events.RecordsTrimmed(pipeline="p", shard_id="s", lost_from=TRIM_HORIZON, cause="late"),
            "streamflow_trimmed_gaps_total",
            {},
        ),
        (
            events.CheckpointStored(pipeline="p", shard_id="s", checkpoint=TRIM_HORIZON, duration_s=0.1),
            "streamflow_checkpoints_total",
            {"result": "stored"},
        ),
        (
            events.CheckpointFailed(pipeline="p", shard_id="s", error=StoreError(), retry_after_s=1.0),
            "streamflow_checkpoints_total",
            {"result": "failed"},
        ),
        (
            events.LeaseTaken(pipeline="p", shard_id="s", epoch=2, previous_owner="other"),
            "streamflow_lease_changes_total",
            {"kind": "taken"},
        ),
        (
            events.LeaseLost(pipeline="p", shard_id="s", reason="taken over"),
            "streamflow_lease_changes_total",
            {"kind": "lost"},
        ),
        (events.LeaseReleased(pipeline="p", shard_id="s"), "streamflow_lease_changes_total", {"kind": "released"}),
        (ShardOpened(pipeline="p", shard_id="s", start=TRIM_HORIZON, epoch=1), "streamflow_shards_opened_total", {}),
        (
            ShardClosed(pipeline="p", shard_id="s", reason=ShardClosing.ENDED),
            "streamflow_shards_closed_total",
            {"reason": "ended"},
        ),
        (
            events.ShardAwaitingChildren(pipeline="p", shard_id="s"),
            "streamflow_shards_awaiting_children_total",
            {},
        ),
        (
            events.ShardsDiscovered(pipeline="p", listed=4, created=("s",), forgotten=(), duration_s=0.1),
            "streamflow_discoveries_total",
            {"result": "done"},
        ),
        (
            events.DiscoveryFailed(pipeline="p", code="X", message="m", retry_after_s=1.0),
            "streamflow_discoveries_total",
            {"result": "failed"},
        ),
        (events.PipelineFailed(pipeline="p", error=StoreError()), "streamflow_pipeline_failures_total", {}),
        (events.StreamEnded(pipeline="p", stream_arn="arn"), "streamflow_streams_ended_total", {}),
        (PipelineStarted(pipeline="p", stream_arn="arn", shards=1), "streamflow_pipeline_running", {}),
        (
            events.DestinationFailed(
                pipeline="p",
                shard_id="s",
                destination="dead_letters",
                records=7,
                attempt=1,
                error=DestinationError("no", code="X"),
                retry_after_s=1.0,
            ),
            "streamflow_destination_failures_total",
            {},
        ),
        (
            events.ParkingFailed(pipeline="p", shard_id="s", error=StoreError(), retry_after_s=1.0),
            "streamflow_parking_failures_total",
            {},
        ),
        (
            events.WindowClosed(pipeline="p", shard_id="s", start_s=0, end_s=60, early=False, state_bytes=2),
            "streamflow_windows_closed_total",
            {"early": "no"},
        ),
        (
            events.WindowClosed(pipeline="p", shard_id="s", start_s=0, end_s=60, early=True, state_bytes=2_000_000),
            "streamflow_windows_closed_total",
            {"early": "yes"},
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | dict) else "",
)
def test_each_fact_moves_its_metric_by_one(event: events.Event, name: str, labels: dict[str, str]) -> None:
    page = Page()
    before = page.value(name, pipeline="p", **labels) or 0
    page.metrics(event)
    assert page.value(name, pipeline="p", **labels) == before + 1


def test_throttles_count_as_poll_errors_too() -> None:
    page = Page()
    for throttled, code in ((True, "ThrottlingException"), (False, "InternalServerError")):
        page.metrics(
            ReadFailed(
                pipeline="orders", shard_id="s", code=code, throttled=throttled, retry_after_s=1.0, message="later"
            )
        )
    assert page.value("streamflow_throttles_total", pipeline="orders") == 1
    assert page.value("streamflow_poll_errors_total", pipeline="orders", code="ThrottlingException") == 1
    assert page.value("streamflow_poll_errors_total", pipeline="orders", code="InternalServerError") == 1


def test_blocked_time_adds_up() -> None:
    page = Page()
    for _ in range(2):
        page.metrics(events.LoopBlocked(blocked_s=0.75, task="orders/s/handler", where="app.py:3, handle"))
    assert page.value("streamflow_loop_blocked_seconds_total") == 1.5


def test_a_pipeline_runs_until_it_stops() -> None:
    page = Page()
    page.metrics(PipelineStarted(pipeline="orders", stream_arn="arn", shards=0))
    assert page.value("streamflow_pipeline_running", pipeline="orders") == 1
    page.metrics(events.PipelineStopped(pipeline="orders", drained=True))
    assert page.value("streamflow_pipeline_running", pipeline="orders") == 0


def test_counters_that_alerts_watch_start_at_zero() -> None:
    page = Page()
    page.metrics(PipelineStarted(pipeline="orders", stream_arn="arn", shards=0))
    assert page.value("streamflow_trimmed_gaps_total", pipeline="orders") == 0
    assert page.value("streamflow_checkpoints_total", pipeline="orders", result="failed") == 0
    assert page.value("streamflow_shards", pipeline="orders", state="blocked") == 0


# --- the counts of an event source mapping ---------------------------------------------------------------------------


def test_polled_counts_all_records_of_a_page_and_filtered_those_left_out() -> None:
    page = Page()
    page.metrics(replace(page_read("orders", "shard-1", 25, None), filtered=20))
    page.metrics(page_read("orders", "shard-1", 0, None))
    assert page.value("streamflow_records_polled_total", pipeline="orders") == 25
    assert page.value("streamflow_records_filtered_total", pipeline="orders") == 20


def test_invoked_counts_again_for_each_retry_and_failed_all_records_of_a_failed_invocation() -> None:
    page = Page()
    page.metrics(failed(records=3))
    page.metrics(failed(records=3, attempt=2))
    page.metrics(delivered(records=3, delivered=3, dropped={}, attempts=3))
    assert page.value("streamflow_records_invoked_total", pipeline="orders") == 9
    assert page.value("streamflow_records_failed_total", pipeline="orders") == 6


def test_an_invocation_that_delivered_a_part_is_one_failed_invocation_with_all_its_records() -> None:
    page = Page()
    page.metrics(delivered(records=4, delivered=4, dropped={}, partial=True))
    page.metrics(failed(records=6, error=PartialFailure(["105"])))
    assert page.value("streamflow_records_invoked_total", pipeline="orders") == 6
    assert page.value("streamflow_records_failed_total", pipeline="orders") == 6
    assert page.value("streamflow_records_delivered_total", pipeline="orders") == 4
    assert page.value("streamflow_handler_duration_seconds_count", pipeline="orders", outcome="delivered") is None
    assert page.value("streamflow_handler_duration_seconds_count", pipeline="orders", outcome="failed") == 1
    assert page.value("streamflow_batch_iterator_age_seconds_count", pipeline="orders") == 1
    assert page.value("streamflow_end_to_end_latency_seconds_count", pipeline="orders") == 1


def test_an_attempt_that_never_reached_the_handler_was_no_invocation() -> None:
    page = Page()
    page.metrics(PipelineStarted(pipeline="orders", stream_arn="arn", shards=1))
    page.metrics(failed(invoked=False, error=SinkBusyError("later", retry_after_s=1.0)))
    assert page.value("streamflow_attempts_not_invoked_total", pipeline="orders") == 1
    assert page.value("streamflow_records_invoked_total", pipeline="orders") == 0
    assert page.value("streamflow_records_failed_total", pipeline="orders") == 0
    assert page.value("streamflow_handler_duration_seconds_count", pipeline="orders", outcome="failed") is None
    assert page.value("streamflow_batch_iterator_age_seconds_count", pipeline="orders") is None


@pytest.mark.parametrize("condition", catalogue.CONDITIONS)
def test_given_up_records_are_dead_lettered_once_or_lost(condition: str) -> None:
    page = Page()
    page.metrics(PipelineStarted(pipeline="orders", stream_arn="arn", shards=1))
    page.metrics(discarded(3, "dead_letters", "arn:aws:s3:::failed", condition=condition))
    assert page.value("streamflow_records_dead_lettered_total", pipeline="orders", condition=condition) == 3
    assert page.value("streamflow_records_lost_total", pipeline="orders", condition=condition) == 0
    page.metrics(discarded(4, condition=condition))
    assert page.value("streamflow_records_dead_lettered_total", pipeline="orders", condition=condition) == 3
    assert page.value("streamflow_records_lost_total", pipeline="orders", condition=condition) == 4


def test_the_conditions_are_those_of_discarded_batches() -> None:
    assert get_args(Condition) == catalogue.CONDITIONS


def test_the_age_of_a_batch_is_that_of_its_last_record_when_it_was_dispatched() -> None:
    page = Page()
    page.metrics(delivered())  # created at 1, handed over at 4.25
    assert page.value("streamflow_batch_iterator_age_seconds_sum", pipeline="orders") == 3.25
    page.metrics(failed())  # created at 1, handed over at 2.5: an invocation, too
    assert page.value("streamflow_batch_iterator_age_seconds_sum", pipeline="orders") == 4.75
    page.metrics(failed(last_created_at_s=0.0))
    assert page.value("streamflow_batch_iterator_age_seconds_count", pipeline="orders") == 2


def test_the_final_invocation_of_a_window_is_an_invocation_and_no_batch_of_a_size() -> None:
    page = Page()
    page.metrics(delivered(records=0, delivered=0, dropped={}, bytes=13, first_created_at_s=0.0, last_created_at_s=0.0))
    assert page.value("streamflow_handler_duration_seconds_count", pipeline="orders", outcome="delivered") == 1
    assert page.value("streamflow_batch_records_count", pipeline="orders") is None
    assert page.value("streamflow_batch_iterator_age_seconds_count", pipeline="orders") is None


def test_parked_records_add_up_and_parked_keys_are_as_last_told() -> None:
    page = Page()
    for records, opened, keys in ((5, 2, 2), (3, 0, 1)):
        page.metrics(
            events.RecordsParked(
                pipeline="orders", shard_id="shard-1", records=records, opened=opened, parked_keys=keys
            )
        )
    assert page.value("streamflow_records_parked_total", pipeline="orders") == 8
    assert page.value("streamflow_parked_keys", pipeline="orders") == 1


# --- the balance -----------------------------------------------------------------------------------------------------


def test_what_was_polled_is_in_flight_until_it_is_settled() -> None:
    page = Page()
    page.open("shard-1")
    page.metrics(replace(page_read("orders", "shard-1", 30, None), filtered=6))
    in_flight = [page.value("streamflow_records_in_flight", pipeline="orders")]
    parked = events.RecordsParked(pipeline="orders", shard_id="shard-1", records=2, opened=1, parked_keys=1)
    for event in (delivered(), discarded(3, "dead_letters"), discarded(4), parked):
        page.metrics(event)
        in_flight.append(page.value("streamflow_records_in_flight", pipeline="orders"))
        assert page.value("streamflow_records_unaccounted", pipeline="orders") == 0
    assert in_flight == [24, 14, 11, 7, 5]
    page.metrics(ShardClosed(pipeline="orders", shard_id="shard-1", reason=ShardClosing.STOPPED, abandoned=5))
    assert page.value("streamflow_records_abandoned_total", pipeline="orders") == 5
    assert page.value("streamflow_records_in_flight", pipeline="orders") == 0
    assert page.value("streamflow_records_unaccounted", pipeline="orders") == 0


def test_a_record_that_vanishes_or_is_settled_twice_shows() -> None:
    page = Page()
    page.open("shard-1")
    page.metrics(page_read("orders", "shard-1", 10, None))
    page.metrics(ShardClosed(pipeline="orders", shard_id="shard-1", reason=ShardClosing.STOPPED, abandoned=7))
    assert page.value("streamflow_records_unaccounted", pipeline="orders") == 3
    page.open("shard-2")
    page.metrics(page_read("orders", "shard-2", 10, None))
    for _ in range(2):
        page.metrics(delivered(shard_id="shard-2"))
    assert page.value("streamflow_records_unaccounted", pipeline="orders") == 3 - 10


def test_pipelines_are_balanced_one_by_one() -> None:
    page = Page()
    page.open("shard-1", pipeline="orders", created_ago_s=1.0, read=10)
    page.open("shard-1", pipeline="users", created_ago_s=1.0, read=4)
    assert page.value("streamflow_records_in_flight", pipeline="orders") == 10
    assert page.value("streamflow_records_in_flight", pipeline="users") == 4


# --- the last result -------------------------------------------------------------------------------------------------


def result_shown(page: Page) -> list[str]:
    values = catalogue.LAST_PROCESSING_RESULT.values
    name = "streamflow_last_processing_result"
    return [value for value in values if page.value(name, pipeline="orders", result=value) == 1]


def test_the_last_result_is_one_of_four() -> None:
    page = Page()
    page.metrics(PipelineStarted(pipeline="orders", stream_arn="arn", shards=1))
    assert result_shown(page) == ["none"]
    page.metrics(delivered())
    assert result_shown(page) == ["ok"]
    page.metrics(failed())
    assert result_shown(page) == ["function_error"]
    page.metrics(
        ReadFailed(pipeline="orders", shard_id="s", code="X", throttled=False, retry_after_s=1.0, message="X: denied")
    )
    assert result_shown(page) == ["source_error"]
    page.metrics(PipelineStarted(pipeline="orders", stream_arn="arn", shards=1))
    assert result_shown(page) == ["source_error"]


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_shard_series_are_capped_to_the_laggiest_and_the_rest_is_folded() -> None:
    page = Page(shard_series_max=2)
    for number in range(5):
        page.open(f"shard-{number}", created_ago_s=number * 100.0, read=number)
    assert page.series("streamflow_shard_iterator_age_seconds") == {"shard-4": 400, "shard-3": 300, "_other": 200}
    headroom = page.series("streamflow_shard_retention_headroom_seconds")
    assert headroom == {"shard-4": 86_000, "shard-3": 86_100, "_other": 86_200}
    buffered = page.series("streamflow_shard_buffered_bytes")
    assert buffered == {"shard-4": 2_800, "shard-3": 2_100, "_other": 700 * (0 + 1 + 2)}


def test_each_pipeline_folds_its_own_rest() -> None:
    page = Page(shard_series_max=1)
    page.open("a", pipeline="orders", created_ago_s=900.0, read=1)
    page.open("b", pipeline="orders", created_ago_s=50.0, read=1)
    page.open("c", pipeline="users", created_ago_s=70.0, read=1)
    name = "streamflow_shard_iterator_age_seconds"
    assert page.value(name, pipeline="orders", shard="_other") == 50
    assert page.value(name, pipeline="users", shard="_other") == 70


@pytest.mark.fault("F55")
def test_ten_thousand_shards_make_no_more_series_than_the_cap() -> None:
    page = Page()
    for number in range(10_000):
        page.open(f"shard-{number}")
    assert len(page.series("streamflow_shard_iterator_age_seconds")) == 201


def test_shards_that_lag_alike_do_not_take_turns() -> None:
    page = Page(shard_series_max=3)
    for number in (4, 2, 0, 3, 1):
        page.open(f"shard-{number}", created_ago_s=10.0, read=1)
    first = page.series("streamflow_shard_iterator_age_seconds")
    page.metrics(page_read("orders", "shard-4", 1, page.clock.wall() - 10.0))
    assert page.series("streamflow_shard_iterator_age_seconds").keys() == first.keys()


def test_a_closed_shard_leaves_no_series() -> None:
    page = Page()
    page.open("shard-1", created_ago_s=5.0, read=1)
    page.metrics(ShardClosed(pipeline="orders", shard_id="shard-1", reason=ShardClosing.ENDED))
    assert page.series("streamflow_shard_iterator_age_seconds") == {}


def test_a_stalled_shard_shows_its_lag_at_the_next_scrape_without_any_event() -> None:
    page = Page()
    page.open("shard-1")
    page.metrics(page_read("orders", "shard-1", 0, None))
    assert page.value("streamflow_shard_iterator_age_seconds", pipeline="orders", shard="shard-1") == 0
    page.clock.now += 300
    age_s = page.value("streamflow_shard_iterator_age_seconds", pipeline="orders", shard="shard-1")
    assert age_s == pytest.approx(300.02), "since the page was asked for"


def test_drop_reasons_and_error_codes_cannot_grow_the_page_without_end() -> None:
    page = Page()
    for number in range(200):
        page.metrics(delivered(dropped={f"customer {number}": 1}))
        page.metrics(
            ReadFailed(
                pipeline="orders", shard_id="s", code=f"E{number}", throttled=False, retry_after_s=1.0, message=""
            )
        )
    text = generate_latest(page.registry).decode()
    assert text.count("streamflow_records_dropped_total{") == 51
    assert text.count("streamflow_poll_errors_total{") == 51
    assert page.value("streamflow_records_dropped_total", pipeline="orders", reason="_other") == 150


def test_a_lone_surrogate_or_a_line_break_in_a_label_does_not_break_the_page() -> None:
    page = Page()
    page.metrics(delivered(dropped={"a\ud800b\nc\r" + "x" * 500: 1}))
    page.open("shard-\ud800")
    text = generate_latest(page.registry).decode()
    assert 'reason="a?b?c?xxx' in text
    assert 'shard="shard-?"' in text
    assert max(len(line) for line in text.splitlines()) < 400


@pytest.mark.fault("F55")
def test_no_histogram_has_a_shard_label() -> None:
    assert [metric.name for metric in CATALOGUE if "shard" in metric.labels and metric.kind != "gauge"] == []


def test_only_our_registry_goes_without_created_series() -> None:
    page = Page()
    page.metrics(delivered())
    foreign = CollectorRegistry()
    Counter("host_requests", "Requests of the host.", registry=foreign).inc()
    assert "_created" not in generate_latest(page.registry).decode()
    assert "host_requests_created" in generate_latest(foreign).decode()


def test_two_metrics_on_one_registry_are_refused() -> None:
    page = Page()
    with pytest.raises(ValueError, match="streamflow_records_polled"):
        Metrics(page.registry, clock=page.clock)


# --- the catalogue ---------------------------------------------------------------------------------------------------


def test_the_page_shows_what_the_catalogue_has_of_a_worker_and_nothing_else() -> None:
    page = Page()
    text = generate_latest(page.registry).decode()
    shown = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    kinds = {metric.name: "gauge" if metric.kind == "info" else metric.kind for metric in catalogue.WORKER}
    assert shown == kinds


def test_openmetrics_renders_too() -> None:
    page = Page()
    page.metrics(delivered())
    render, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert render(page.registry).endswith(b"# EOF\n")


def test_names_follow_the_rules_of_prometheus() -> None:
    for metric in CATALOGUE:
        assert metric.name.startswith("streamflow_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.name.endswith("_info") == (metric.kind == "info"), metric.name
        if metric.unit in {"seconds", "bytes"}:
            assert metric.unit in metric.name.split("_"), metric.name
        assert (metric.kind == "histogram") == bool(metric.buckets), metric.name
        assert ("shard" in metric.labels) == (metric.fold is not None), metric.name
        assert metric.meaning.endswith((".", ").")), metric.name
        assert metric.remedy.endswith((".", "?")), metric.name


def test_names_are_unique() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)


def test_the_documented_table_is_the_catalogue() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    found = text.partition("<!-- catalogue -->\n")[2].partition("<!-- end of catalogue -->")[0].strip()
    assert found == catalogue.table().strip(), "run: python -m streamflow.observe.catalogue, and paste the table"


def test_the_catalogue_prints_itself() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "streamflow.observe.catalogue"], capture_output=True, text=True, check=True, timeout=30
    )
    assert printed.stdout == catalogue.table()


def test_the_page_says_which_of_our_metrics_is_which_of_lambdas() -> None:
    section = (DOCS / "metrics.md").read_text(encoding="utf-8").partition("## Lambda's metrics and ours")[2]
    rows = {row.split("|")[1].strip(" `"): row.split("|")[2] for row in section.splitlines() if row.startswith("| `")}
    told = {name: re.findall(r"streamflow_[a-z_]+", ours) for name, ours in rows.items() if "streamflow_" in ours}
    assert told == {
        "PolledEventCount": ["streamflow_records_polled_total"],
        "FilteredOutEventCount": ["streamflow_records_filtered_total"],
        "InvokedEventCount": ["streamflow_records_invoked_total"],
        "FailedInvokeEventCount": ["streamflow_records_failed_total"],
        "DroppedEventCount": ["streamflow_records_lost_total"],
        "OnFailureDestinationDeliveredEventCount": ["streamflow_records_dead_lettered_total"],
        "DestinationDeliveryFailures": ["streamflow_destination_failures_total"],
        "IteratorAge": ["streamflow_batch_iterator_age_seconds"],
        "LastProcessingResult": ["streamflow_last_processing_result"],
    }
    for text in (NOTHING_PROCESSED.text, ACCEPTED.text, FUNCTION_FAILED.text):
        assert text in rows


@pytest.mark.parametrize("guide", ["operations.md", "metrics.md"])
def test_every_metric_that_a_guide_names_exists(guide: str) -> None:
    text = (DOCS / guide).read_text(encoding="utf-8")
    named = set(re.findall(r"\bstreamflow_[a-z_]+", text))
    known = {metric.name for metric in CATALOGUE}
    known |= {f"{metric.name}_{end}" for metric in CATALOGUE if metric.buckets for end in ("bucket", "sum", "count")}
    assert named
    assert named - known == set()
