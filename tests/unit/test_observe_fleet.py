"""What rows say of a fleet, look after look."""

from __future__ import annotations

from typing import Any

import pytest

from leased_rows import row, worker
from streamflow.leases import STREAM_ROW, Lease, LeaseLayout, LeaseState
from streamflow.observe.fleet import Figures, Measured, PipelineFigures, Sightings, entry, figures, folded, to_measure
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position

NOW_S = 1_764_000_000.0
DAY_S = 86_400.0


def workers(*rows: Lease) -> dict[str, Lease]:
    return {each.shard_id: each for each in rows}


def measured(made_at_s: float | None, checkpoint: Position = TRIM_HORIZON, at_s: float = NOW_S) -> Measured:
    return Measured(checkpoint=checkpoint, at_s=at_s, made_at_s=made_at_s)


def seen(*rows: Lease, layout: LeaseLayout = LeaseLayout.NATIVE, **changes: Any) -> Figures:
    living = changes.pop("workers", {})
    owners = {each.owner for each in rows if each.owner is not None} | living.keys()
    arguments = {
        "pipelines": ["orders"],
        "layout": layout,
        "silence_s": dict.fromkeys(owners, 0.0),
        "patience_s": 10.0,
        "measured": {},
        "at_s": NOW_S,
        "retention_s": DAY_S,
        **changes,
    }
    return figures(rows, living, **arguments)


def of_orders(*rows: Lease, **changes: Any) -> PipelineFigures:
    (found,) = seen(*rows, **changes).pipelines
    return found


# --- silence ---------------------------------------------------------------------------------------------------------


def test_silence_counts_from_the_look_that_first_saw_the_newest_row() -> None:
    sightings = Sightings()
    assert sightings.note([], workers(worker("w1")), now=100.0) == {"w1": 0.0}
    assert sightings.note([], workers(worker("w1")), now=107.0) == {"w1": 7.0}
    written = Lease(pipeline="", stream_arn="workers", shard_id="w1", owner="w1", version=1)
    assert sightings.note([], {"w1": written}, now=112.0) == {"w1": 0.0}
    assert sightings.note([], {"w1": written}, now=115.0) == {"w1": 3.0}


def test_a_renewed_lease_is_a_sign_of_life_of_its_owner_alone() -> None:
    sightings = Sightings()
    sightings.note([row("a", owner="w1", version=1), row("b", owner="w2", version=1)], {}, now=0.0)
    rows = [row("a", owner="w1", version=2), row("b", owner="w2", version=1)]
    assert sightings.note(rows, {}, now=10.0) == {"w1": 0.0, "w2": 10.0}


def test_losing_a_lease_is_no_sign_of_life_and_taking_it_is_one() -> None:
    sightings = Sightings()
    sightings.note([row("a", owner="w1"), row("b", owner="w1"), row("c", owner="w2")], {}, now=0.0)
    rows = [row("a", owner="w1"), row("b", owner="w2", version=1), row("c", owner="w2")]
    assert sightings.note(rows, {}, now=5.0) == {"w1": 5.0, "w2": 0.0}


def test_who_has_no_row_and_no_lease_any_more_is_forgotten() -> None:
    sightings = Sightings()
    sightings.note([row("a", owner="w1")], {}, now=0.0)
    assert sightings.note([row("a")], {}, now=5.0) == {}
    assert sightings.note([row("a", owner="w1")], {}, now=9.0) == {"w1": 0.0}


@pytest.mark.parametrize(
    ("silence_s", "duration_s", "silent"),
    [(9.9, 10.0, False), (10.0, 10.0, True), (10.0, 30.0, False), (10.0, None, True)],
)
def test_an_owner_is_silent_after_the_duration_that_its_row_says(
    silence_s: float, duration_s: float | None, silent: bool
) -> None:
    found = seen(row("a", owner="w1"), workers=workers(worker("w1", duration_s)), silence_s={"w1": silence_s})
    assert found.silent == ({"w1"} if silent else set())


def test_an_owner_without_a_row_is_gone_at_once_where_workers_have_rows_and_has_patience_where_they_have_none() -> None:
    a = row("a", owner="w1")
    assert seen(a).silent == {"w1"}
    assert seen(a, layout=LeaseLayout.KCL, silence_s={"w1": 19.0}, patience_s=20.0).silent == set()
    assert seen(a, layout=LeaseLayout.KCL, silence_s={"w1": 20.0}, patience_s=20.0).silent == {"w1"}


# --- figures ---------------------------------------------------------------------------------------------------------


def test_shards_are_counted_by_state_and_owner_without_the_row_of_the_stream() -> None:
    found = of_orders(
        row(STREAM_ROW, owner="w1"),
        row("a", SHARD_END, owner="w1"),
        row("b", SHARD_END, owner="w1", state=LeaseState.AWAITING_CHILDREN),
        row("c", owner="w1"),
        row("d", owner="w1"),
        row("e", owner="w2"),
        workers=workers(worker("w1"), worker("w2"), worker("idle"), worker("other", pipelines=("audit",))),
    )
    assert found.shards == {LeaseState.ENDED: 1, LeaseState.AWAITING_CHILDREN: 1, LeaseState.ACTIVE: 3}
    assert found.held == {"w1": 2, "w2": 1}
    assert (found.unowned, found.workers) == (0, 3)


def test_unowned_is_what_may_be_read_and_nobody_alive_has() -> None:
    found = of_orders(
        row("a", owner="gone"),
        row("b"),
        row("child", TRIM_HORIZON, "b"),
        row("trimmed-parent", TRIM_HORIZON, "of-yesterday"),
        row("c", owner="w1"),
        row("next", TRIM_HORIZON, "ended"),
        row("ended", SHARD_END),
        workers=workers(worker("w1")),
    )
    assert (found.unowned, found.workers) == (4, 1)
    assert found.held == {"gone": 1, "w1": 1}


def test_pipelines_of_one_store_are_told_apart() -> None:
    found = seen(row("a", owner="w1"), row("a", pipeline="audit"), pipelines=["orders", "audit", "new"])
    assert [(each.pipeline, dict(each.held)) for each in found.pipelines] == [
        ("orders", {"w1": 1}),
        ("audit", {}),
        ("new", {}),
    ]


# --- lag -------------------------------------------------------------------------------------------------------------


def test_lag_is_the_age_of_the_first_record_behind_the_checkpoint_and_headroom_that_of_the_worst_shard() -> None:
    rows = [row("a"), row("b"), row("c"), row("d"), row("e", SHARD_END)]
    found = of_orders(
        *rows,
        measured={
            rows[0].key: measured(NOW_S - 30),
            rows[1].key: measured(None),
            rows[2].key: measured(NOW_S + 2),  # the service's clock is ahead of ours
            rows[4].key: measured(NOW_S - 500),
        },
    )
    assert found.lag_s == {"a": 30.0, "b": 0.0, "c": 0.0}
    assert found.headroom_s == DAY_S - 30


def test_trimmed_records_are_a_lag_of_all_of_retention() -> None:
    a, b = row("a"), row("b")
    found = of_orders(a, b, measured={a.key: measured(float("-inf")), b.key: measured(NOW_S - 2 * DAY_S)})
    assert found.lag_s == {"a": DAY_S, "b": DAY_S}
    assert found.headroom_s == 0


def test_lag_grows_until_the_checkpoint_moves_and_is_of_the_measurement_from_then_on() -> None:
    known = measured(NOW_S - 30, Position.after("5"))
    assert known.lag_s(Position.after("5"), now_s=NOW_S + 60, retention_s=DAY_S) == 90
    assert known.lag_s(Position.after("6"), now_s=NOW_S + 60, retention_s=DAY_S) == 30


def test_nothing_measured_is_no_lag_and_no_headroom() -> None:
    found = of_orders(row("a"))
    assert (found.lag_s, found.headroom_s) == ({}, None)


def test_those_not_looked_at_for_longest_come_first() -> None:
    rows = [row(name) for name in "abcde"]
    tried_at = {rows[0].key: 3.0, rows[1].key: 1.0, rows[3].key: 2.0}
    assert [each.shard_id for each in to_measure(rows, {}, tried_at, most=4)] == ["c", "e", "b", "d"]
    assert to_measure(rows, {}, tried_at, most=0) == []


def test_only_unfinished_shards_whose_answer_may_be_another_one_are_looked_at() -> None:
    rows = [row(STREAM_ROW), row("ended", SHARD_END), row("found"), row("moved", Position.after("9")), row("empty")]
    known = {
        rows[2].key: measured(NOW_S - 5),
        rows[3].key: measured(NOW_S - 5, Position.after("8")),
        rows[4].key: measured(None),
    }
    assert [each.shard_id for each in to_measure(rows, known, {}, most=9)] == ["empty", "moved"]


# --- shown -----------------------------------------------------------------------------------------------------------


def test_the_highest_stay_and_the_rest_is_folded() -> None:
    values = [("a", 1.0), ("b", 9.0), ("c", 5.0), ("d", 3.0)]
    assert folded(values, most=2, into="_other", fold=max) == {"b": 9.0, "c": 5.0, "_other": 3.0}
    assert folded(values, most=2, into="_other", fold=sum) == {"b": 9.0, "c": 5.0, "_other": 4.0}
    assert folded(values, most=4, into="_other", fold=sum) == dict(values)


def test_equal_labels_become_one() -> None:
    values = [("same", 1.0), ("same", 4.0), ("_other", 7.0), ("low", 0.0)]
    assert folded(values, most=3, into="_other", fold=sum) == {"_other": 7.0, "same": 5.0}


def test_figures_as_json() -> None:
    a = row("a", owner="gone")
    found = seen(a, measured={a.key: measured(NOW_S - 30)}, silence_s={"gone": 12.3456})
    assert entry(found) == {
        "pipelines": [
            {
                "pipeline": "orders",
                "shards": {"active": 1, "awaiting_children": 0, "ended": 0},
                "leases": {"gone": 1},
                "unowned": 1,
                "workers": 0,
                "lag_s": {"a": 30.0},
                "headroom_s": DAY_S - 30,
            }
        ],
        "owners": [{"owner": "gone", "silence_s": 12.346, "silent": True}],
    }
