"""Prometheus' own tool judges the alert rules of the page on workers, and the query that workers are scaled by."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMTOOL = shutil.which("promtool")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus"),
]

RULES_TEST = """
rule_files: [rules.yml, scaling.yml]
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      # One worker looked before another one took the shards; the other pipeline's workers both see them lie about.
      - {series: 'streamflow_leases_unowned{pipeline="shared", instance="a"}', values: '4x60'}
      - {series: 'streamflow_leases_unowned{pipeline="shared", instance="b"}', values: '0x60'}
      - {series: 'streamflow_leases_unowned{pipeline="stuck", instance="a"}', values: '3x60'}
      - {series: 'streamflow_leases_unowned{pipeline="stuck", instance="b"}', values: '2x60'}
      - {series: 'streamflow_shard_progress_age_seconds{pipeline="orders", shard="idle"}', values: '10x60'}
      - {series: 'streamflow_shard_progress_age_seconds{pipeline="orders", shard="hung"}', values: '0+15x60'}
      - {series: 'streamflow_taken_for_dead_total{instance="a"}', values: '0x30 1x30'}
      - {series: 'streamflow_taken_for_dead_total{instance="b"}', values: '2x60'}
      - {series: 'streamflow_shard_iterator_age_seconds{pipeline="orders", shard="x", instance="a"}', values: '7x60'}
      - {series: 'streamflow_shard_iterator_age_seconds{pipeline="orders", shard="y", instance="b"}', values: '90x60'}
    alert_rule_test:
      - eval_time: 12m
        alertname: StreamflowShardsUnowned
        exp_alerts:
          - exp_labels: {pipeline: stuck, severity: page}
            exp_annotations: {summary: "stuck: 2 shards have no owner"}
      - eval_time: 12m
        alertname: StreamflowShardWithoutProgress
        exp_alerts:
          - exp_labels: {pipeline: orders, shard: hung, severity: page}
            exp_annotations: {summary: "orders: hung stands still"}
      - eval_time: 12m
        alertname: StreamflowWorkerTakenForDead
        exp_alerts:
          - exp_labels: {instance: a, severity: ticket}
            exp_annotations: {summary: "a stood still, or could not reach the store"}
    promql_expr_test:
      - expr: workers_are_scaled_by
        eval_time: 5m
        exp_samples: [{labels: 'workers_are_scaled_by', value: 90}]
"""


def test_alerts_fire_for_what_they_say_and_scaling_sees_the_worst_shard(tmp_path: Path) -> None:
    (rules,) = re.findall(r"```yaml\n(groups:.*?)```", (ROOT / "docs" / "workers.md").read_text("utf-8"), re.DOTALL)
    (query,) = re.findall(r"query: (.*)", (ROOT / "examples" / "deploy" / "keda.yaml").read_text("utf-8"))
    scaling = f"groups: [{{name: scaling, rules: [{{record: workers_are_scaled_by, expr: '{query}'}}]}}]"
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "scaling.yml").write_text(scaling)
    (tmp_path / "rules_test.yml").write_text(RULES_TEST)
    assert PROMTOOL is not None
    command = [PROMTOOL, "test", "rules", "rules_test.yml"]
    judged = subprocess.run(command, capture_output=True, check=False, timeout=30, cwd=tmp_path)
    assert judged.returncode == 0, (judged.stdout + judged.stderr).decode()
