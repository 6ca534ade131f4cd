"""Prometheus' own tool judges our page, and the configuration and alert rules of the operations guide."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric as Family

from streamflow import events
from streamflow.cli.supervision.exposition import families, merged
from streamflow.errors import StoreError
from streamflow.observe import catalogue
from streamflow.observe.metrics import Metrics
from streamflow.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMTOOL = shutil.which("promtool")
GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"),
]

NOW_S = 1_764_000_000.0

_SHARD = {"pipeline": "orders", "shard_id": "shardId-1"}
EVENTS: tuple[events.Event, ...] = (
    events.PipelineStarted(pipeline="orders", stream_arn="arn:x", shards=1),
    events.ShardsDiscovered(pipeline="orders", listed=1, created=("shardId-1",), forgotten=(), duration_s=0.1),
    events.DiscoveryFailed(pipeline="orders", code="LimitExceededException", message="slow down", retry_after_s=1.0),
    events.LeaseTaken(**_SHARD, epoch=1, previous_owner=None),
    events.ShardOpened(**_SHARD, start=TRIM_HORIZON, epoch=1),
    events.ShardIsolated(**_SHARD, deaths=3, checkpoint=TRIM_HORIZON),
    events.IsolationEnded(**_SHARD, records=100),
    events.KillerHeld(**_SHARD, sequence_number="1", times=3),
    events.CancellationIgnored(
        **_SHARD, task="orders/shardId-1/delivery", where="app.py:7, handle", stack=("app.py:7, handle",), after_s=5.0
    ),
    events.PageRead(
        pipeline="orders",
        shard_id="shardId-1",
        records=10,
        bytes=7_000,
        duration_s=0.02,
        last_created_at_s=NOW_S - 3,
        buffered_bytes=7_000,
    ),
    events.ReadFailed(
        **_SHARD, code="ThrottlingException", throttled=True, retry_after_s=0.5, message='say "please"\nfirst'
    ),
    events.IteratorExpired(**_SHARD),
    events.RecordsTrimmed(**_SHARD, lost_from=TRIM_HORIZON, cause="too late"),
    events.BatchFailed(
        pipeline="orders",
        shard_id="shardId-1",
        records=10,
        attempt=1,
        handler_s=0.2,
        error=ValueError(),
        retry_after_s=1.0,
    ),
    events.BatchDelivered(
        pipeline="orders",
        shard_id="shardId-1",
        records=10,
        bytes=7_000,
        delivered=8,
        dropped={'a "quoted" \\ reason\n': 2},
        attempts=2,
        handler_s=0.2,
        first_created_at_s=NOW_S - 4,
        last_created_at_s=NOW_S - 3,
        now_s=NOW_S,
    ),
    events.RecordsSuppressed(pipeline="orders", records=4),
    events.RecordsDiscarded(
        **_SHARD,
        records=2,
        condition="RetryAttemptsExhausted",
        invoke_count=3,
        destinations=("dead_letters",),
        first=TRIM_HORIZON,
        last=TRIM_HORIZON,
    ),
    events.RecordsDiscarded(
        **_SHARD, records=1, condition="RecordAgeExceeded", invoke_count=1, destinations=(), first=None, last=None
    ),
    events.DestinationFailed(
        **_SHARD, destination="arn:q", records=2, attempt=1, error=StoreError("disk full"), retry_after_s=0.5
    ),
    events.RecordsParked(**_SHARD, records=3, opened=1, parked_keys=1),
    events.ParkingFailed(**_SHARD, error=StoreError("disk full"), retry_after_s=0.5),
    events.WindowClosed(
        pipeline="orders", shard_id="shardId-1", start_s=0, end_s=60, early=True, state_bytes=1_048_577
    ),
    events.CheckpointFailed(**_SHARD, error=StoreError("disk full"), retry_after_s=1.0),
    events.CheckpointStored(**_SHARD, checkpoint=TRIM_HORIZON, duration_s=0.01),
    events.LoopBlocked(blocked_s=0.5, task="orders/shardId-1/handler", where="app.py:3, handle"),
    events.LeaseLost(**_SHARD, reason="taken over"),
    events.LeaseReleased(**_SHARD),
    events.LeaseAskedFor(**_SHARD, owner="w2"),
    events.LeaseHandedOver(**_SHARD, to="w2"),
    events.LeasesListed(pipeline="orders", leases=4, unowned=1, workers=2),
    events.ReaderStuck(**_SHARD, stuck_s=61.0),
    events.HeartbeatFailed(worker_id="w1", error=StoreError("disk full"), retry_after_s=0.8),
    events.WorkerStruck(worker_id="w2", silent_s=10.1),
    events.WorkerTakenForDead(worker_id="w1#2", silent_s=12.0),
    events.ShardAwaitingChildren(**_SHARD),
    events.ShardClosed(
        pipeline="orders", shard_id="shardId-2", reason=events.ShardClosing.ENDED, children=("shardId-3",)
    ),
    events.StreamEnded(pipeline="users", stream_arn="arn:y"),
    events.PipelineStopped(pipeline="users", drained=True),
    events.PipelineFailed(pipeline="carts", error=StoreError("disk full")),
)


class FixedClock:
    def monotonic(self) -> float:
        return 100.0

    def wall(self) -> float:
        return NOW_S


def promtool(*arguments: str, page: bytes = b"", folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=page, capture_output=True, check=False, timeout=30, cwd=folder)


def test_the_page_after_every_kind_of_event_passes() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(events.Event))
    registry = CollectorRegistry()
    metrics = Metrics(registry, clock=FixedClock(), shard_series_max=1)
    for event in EVENTS:
        metrics(event)
    metrics(events.ShardOpened(pipeline="orders", shard_id="shardId-4", start=TRIM_HORIZON, epoch=1))
    page = generate_latest(registry)
    assert b'shard="_other"' in page
    judged = promtool("check", "metrics", page=page)
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, b"", b"")


def test_the_page_of_several_workers_passes() -> None:
    own = Family("streamflow_worker_up", catalogue.WORKER_UP.meaning, "gauge")
    pages = {}
    for worker_id in ("w-1", "w-2"):
        registry = CollectorRegistry()
        metrics = Metrics(registry, clock=FixedClock())
        for event in EVENTS:
            metrics(event)
        pages[worker_id] = families(registry)
        own.add_sample("streamflow_worker_up", {"worker": worker_id}, 1)

    class Together:
        def collect(self) -> Iterator[Family]:
            yield from merged([own], pages)

    registry = CollectorRegistry()
    registry.register(Together())
    page = generate_latest(registry)
    assert b'streamflow_poll_duration_seconds_bucket{le="0.001",pipeline="orders",worker="w-2"}' in page
    judged = promtool("check", "metrics", page=page)
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, b"", b"")


def test_promtool_finds_faults_at_all() -> None:
    faulty = b"# HELP lag_milliseconds Lag.\n# TYPE lag_milliseconds counter\nlag_milliseconds 1\n"
    assert promtool("check", "metrics", page=faulty).returncode != 0


def block(first_word: str) -> str:
    """The YAML block of the guide that begins with this key."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [text for text in blocks if text.startswith(first_word)]
    return str(found)


def test_the_documented_configuration_and_rules_are_valid(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(block("groups:"), encoding="utf-8")
    (tmp_path / "prometheus.yml").write_text(f"rule_files: [rules.yml]\n{block('scrape_configs:')}", encoding="utf-8")
    (tmp_path / "streamflow-token").write_text("not-much-of-a-secret", encoding="utf-8")
    judged = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert judged.returncode == 0, judged.stdout + judged.stderr


RULES_TEST = """
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'streamflow_shard_retention_headroom_seconds{pipeline="late", shard="a"}', values: '21000x60'}
      - {series: 'streamflow_shard_retention_headroom_seconds{pipeline="late", shard="b"}', values: '86400x60'}
      - {series: 'streamflow_shard_retention_headroom_seconds{pipeline="fine", shard="a"}', values: '86400x60'}
      # A batch that fails for ever, while reading is caught up.
      - {series: 'streamflow_shard_checkpoint_age_seconds{pipeline="poison", shard="a"}', values: '0+60x60'}
      - {series: 'streamflow_shard_iterator_age_seconds{pipeline="poison", shard="a"}', values: '0x60'}
      # Polls that never come back.
      - {series: 'streamflow_shard_checkpoint_age_seconds{pipeline="silent", shard="a"}', values: '0x60'}
      - {series: 'streamflow_shard_iterator_age_seconds{pipeline="silent", shard="a"}', values: '0+60x60'}
      # Twenty hours of backlog, being read; and an idle shard that is polled every five minutes.
      - {series: 'streamflow_shard_checkpoint_age_seconds{pipeline="backlog", shard="a"}', values: '1x60'}
      - {series: 'streamflow_shard_iterator_age_seconds{pipeline="backlog", shard="a"}', values: '72000-300x60'}
      - series: 'streamflow_shard_iterator_age_seconds{pipeline="idle", shard="a"}'
        values: '0 60 120 180 240 0 60 120 180 240 0 60 120 180 240 0 60 120 180 240 0 60 120 180 240 0 60 120 180 240 0'
    alert_rule_test:
      - eval_time: 30m
        alertname: StreamflowRetentionHeadroomLow
        exp_alerts:
          - exp_labels: {pipeline: late, severity: page}
            exp_annotations: {summary: "late: unread records are lost in 5h 50m 0s"}
      - eval_time: 30m
        alertname: StreamflowShardStuck
        exp_alerts:
          - exp_labels: {pipeline: poison, shard: a, severity: page}
            exp_annotations: {summary: "poison: a does not move"}
          - exp_labels: {pipeline: silent, shard: a, severity: page}
            exp_annotations: {summary: "silent: a does not move"}
"""


def test_the_documented_alerts_fire_for_what_they_say_and_for_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(block("groups:"), encoding="utf-8")
    (tmp_path / "rules_test.yml").write_text(RULES_TEST, encoding="utf-8")
    judged = promtool("test", "rules", "rules_test.yml", folder=tmp_path)
    assert judged.returncode == 0, (judged.stdout + judged.stderr).decode()
