"""The progress of several workers as that of one."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from snapshots import ORDERS, SHARD, snapshot
from streamflow.cli.supervision.totals import past, summed
from streamflow.observe.progress import PipelineProgress, ProgressSnapshot, StateName


def of_all(*snapshots: ProgressSnapshot) -> ProgressSnapshot:
    return summed(snapshots, at_s=9.0, uptime_s=8.0)


def unaccounted(progress: PipelineProgress) -> int:
    settled = progress.records_filtered + progress.records_delivered + progress.records_dropped
    given_up = progress.records_dead_lettered + progress.records_lost + progress.records_parked
    return progress.records_polled - settled - given_up - progress.records_abandoned - progress.records_in_flight


def test_of_one_worker_it_is_what_that_worker_says() -> None:
    assert of_all(snapshot(ORDERS)) == replace(snapshot(ORDERS), at_s=9.0, uptime_s=8.0)


def test_amounts_are_added_up_and_the_worst_of_the_rest_is_shown() -> None:
    other = replace(
        ORDERS, lag_s=7.0, failed_attempts=9, parked_keys=1, shards=(replace(SHARD, shard_id="b", lag_s=7.0),)
    )
    (both,) = of_all(snapshot(ORDERS), snapshot(other)).pipelines
    worst = {"lag_s": 7.0, "failed_attempts": 9, "parked_keys": 2}
    for name, value in asdict(ORDERS).items():
        if isinstance(value, int | float) and name not in worst:
            assert getattr(both, name) == 2 * value, name
    assert {name: getattr(both, name) for name in worst} == worst
    assert [shard.shard_id for shard in both.shards] == ["b", "shard-0"]
    assert unaccounted(both) == unaccounted(ORDERS) == 0


def test_what_no_worker_knows_is_not_known() -> None:
    unknown = replace(ORDERS, lag_s=None, parked_keys=None)
    (both,) = of_all(snapshot(unknown), snapshot(unknown)).pipelines
    assert (both.lag_s, both.parked_keys) == (None, None)
    (both,) = of_all(snapshot(unknown), snapshot(ORDERS)).pipelines
    assert (both.lag_s, both.parked_keys) == (1.0, 2)


def test_pipelines_that_only_some_have_heard_of_are_there_once() -> None:
    users = replace(ORDERS, pipeline="users")
    both = of_all(snapshot(ORDERS), snapshot(ORDERS, users))
    assert [(each.pipeline, each.records_polled) for each in both.pipelines] == [("orders", 200), ("users", 100)]


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["running", "starting"], "running"),
        (["stopped", "running"], "running"),
        (["failed", "starting"], "starting"),
        (["failed", "ended"], "failed"),
        (["stopped", "ended"], "ended"),
        (["stopped", "stopped"], "stopped"),
    ],
)
def test_a_pipeline_runs_where_any_worker_runs_it(states: list[StateName], state: str) -> None:
    (both,) = of_all(*(snapshot(replace(ORDERS, state=each)) for each in states)).pipelines
    assert both.state == state


@pytest.mark.parametrize(
    ("results", "result"),
    [
        (["No records processed", "OK"], "OK"),
        (["OK", "PROBLEM: Function call failed", "No records processed"], "PROBLEM: Function call failed"),
    ],
)
def test_a_problem_of_one_worker_is_shown(results: list[str], result: str) -> None:
    (both,) = of_all(*(snapshot(replace(ORDERS, last_processing_result=each)) for each in results)).pipelines
    assert both.last_processing_result == result


def test_a_worker_that_is_gone_has_abandoned_what_it_had_in_hand() -> None:
    (gone,) = past(snapshot(ORDERS)).pipelines
    assert (gone.records_in_flight, gone.records_abandoned, gone.records_polled) == (0, 4, 100)
    assert (gone.shards_open, gone.shards_closed, gone.polled_per_s, gone.lag_s, gone.shards) == (0, 5, 0.0, None, ())
    assert gone.state == "stopped"
    assert unaccounted(gone) == 0


def test_how_the_last_process_ended_is_shown_and_of_those_before_it_is_not() -> None:
    failed = snapshot(replace(ORDERS, state="failed"))
    assert past(failed).pipelines[0].state == "failed"
    assert past(failed, succeeded=True).pipelines[0].state == "stopped"


def test_each_workers_last_error_is_kept_before_any_older_one() -> None:
    many = snapshot(errors=tuple(f"a{number}" for number in range(5)))
    few = snapshot(errors=("b0", "b1"))
    assert of_all(many, few).errors == ("a2", "b0", "a3", "b1", "a4")
    assert of_all(few, few).errors == ("b0", "b1")


def test_before_anything_was_reported_there_is_nothing() -> None:
    assert of_all() == ProgressSnapshot(at_s=9.0, uptime_s=8.0, pipelines=(), errors=())
