"""Children after parents, whatever the listing shows; ended shards are never replayed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.leases import STREAM_ROW, Lease, LeaseState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position
from streamflow.records import Shard
from streamflow.rules import lineage

if TYPE_CHECKING:
    from collections.abc import Mapping

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/l"


def shard(number: int, *parents: int, closed: bool = False) -> Shard:
    return Shard(
        stream_arn=ARN, shard_id=f"shard-{number:03}", parents=tuple(f"shard-{p:03}" for p in parents), closed=closed
    )


@st.composite
def forests(draw: st.DrawFn) -> dict[str, Shard]:
    """Shards with up to two earlier parents each; some parents are trimmed from the listing."""
    count = draw(st.integers(1, 14))
    shards = []
    for number in range(count):
        parents = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) if number else []
        shards.append(shard(number, *parents))
    trimmed = draw(st.integers(0, count - 1))
    return {s.shard_id: s for s in shards[trimmed:]}


def stored(plan: lineage.Plan, rows: Mapping[str, Lease]) -> dict[str, Lease]:
    after = dict(rows)
    for lease in plan.create:
        after.setdefault(lease.shard_id, replace(lease, version=1))
    for lease in plan.unblock:
        after[lease.shard_id] = replace(lease, version=lease.version + 1)
    for lease in plan.forget:
        del after[lease.shard_id]
    return after


@given(forests(), st.randoms(use_true_random=False))
def test_everything_is_read_once_and_children_after_their_parents(listed: dict[str, Shard], random: object) -> None:
    rows = stored(lineage.plan(listed, {}, pipeline="p"), {})
    read: list[str] = []
    while ready := lineage.readable(rows.values()):
        lease = random.choice(ready)  # type: ignore[attr-defined]
        assert all(parent in read for parent in listed[lease.shard_id].parents if parent in listed)
        read.append(lease.shard_id)
        rows[lease.shard_id] = replace(lease, state=LeaseState.ENDED, checkpoint=SHARD_END)
        rows = stored(lineage.plan(listed, rows, pipeline="p"), rows)
    assert sorted(read) == sorted(listed)


@given(forests(), forests())
def test_an_ended_row_is_forgotten_only_when_nothing_needs_it(first: dict[str, Shard], then: dict[str, Shard]) -> None:
    rows = {
        lease.shard_id: replace(lease, state=LeaseState.ENDED, checkpoint=SHARD_END)
        for lease in lineage.plan(first, {}, pipeline="p").create
    }
    plan = lineage.plan(then, rows, pipeline="p")
    for lease in plan.forget:
        assert lease.shard_id not in then
        assert all(lease.shard_id not in other.parents for other in then.values())
    assert not {lease.shard_id for lease in plan.create} & set(rows)


@pytest.mark.fault("F52")
def test_a_listing_that_goes_in_circles_is_read_nowhere_and_hangs_nothing() -> None:
    listed = {s.shard_id: s for s in (shard(1, 2), shard(2, 1))}
    rows = stored(lineage.plan(listed, {}, pipeline="p"), {})
    assert set(rows) == set(listed)
    assert lineage.readable(rows.values()) == []


@pytest.mark.fault("F52")
def test_tens_of_thousands_of_generations_are_fine_in_either_order_of_ids() -> None:
    count = 30_000
    rising = {s.shard_id: s for s in (shard(n, *([n - 1] if n else [])) for n in range(count))}
    falling = {s.shard_id: s for s in (shard(n, *([n + 1] if n + 1 < count else [])) for n in range(count))}
    for listed in (rising, falling):
        plan = lineage.plan(listed, {}, pipeline="p")
        assert len(plan.create) == count
        rows = stored(plan, {})
        (oldest,) = lineage.readable(rows.values())
        assert listed[oldest.shard_id].parents == ()


def test_parent_absent_from_listing_but_unfinished_in_the_store_blocks_its_child() -> None:
    parent = lineage.lease_for(shard(1), pipeline="p", start=TRIM_HORIZON)
    child = lineage.lease_for(shard(2, 1), pipeline="p", start=TRIM_HORIZON)
    rows = {lease.shard_id: lease for lease in (parent, child)}
    rows = stored(lineage.plan({"shard-002": shard(2, 1)}, rows, pipeline="p"), rows)
    assert [lease.shard_id for lease in lineage.readable(rows.values())] == ["shard-001"]


def test_parent_without_row_blocks_until_a_listing_proves_it_trimmed() -> None:
    child = lineage.lease_for(shard(2, 1), pipeline="p", start=TRIM_HORIZON)
    assert lineage.readable([child]) == []
    rows = stored(lineage.plan({"shard-002": shard(2, 1)}, {"shard-002": child}, pipeline="p"), {"shard-002": child})
    assert [lease.shard_id for lease in lineage.readable(rows.values())] == ["shard-002"]


def test_a_merged_shard_waits_for_both_parents() -> None:
    listed = {s.shard_id: s for s in (shard(1), shard(2), shard(3, 1, 2))}
    rows = stored(lineage.plan(listed, {}, pipeline="p"), {})
    rows["shard-001"] = replace(rows["shard-001"], state=LeaseState.ENDED)
    assert [lease.shard_id for lease in lineage.readable(rows.values())] == ["shard-002"]
    rows["shard-002"] = replace(rows["shard-002"], state=LeaseState.AWAITING_CHILDREN)
    assert [lease.shard_id for lease in lineage.readable(rows.values())] == ["shard-003"]


def test_latest_starts_open_leaves_at_their_tips_and_nothing_else() -> None:
    tip = Position.at_timestamp(100.0)
    tips = {"shard-002": tip}
    assert lineage.bootstrap_position(shard(2, 1), tips=tips) == tip
    assert lineage.bootstrap_position(shard(1, closed=True), tips=tips) == SHARD_END
    assert lineage.bootstrap_position(shard(1), tips=None) == TRIM_HORIZON


def test_a_closed_leaf_of_a_live_stream_awaits_its_children() -> None:
    row = lineage.lease_for(shard(1, closed=True), pipeline="p", start=SHARD_END, expects_children=True)
    assert row.state is LeaseState.AWAITING_CHILDREN
    assert lineage.awaiting_children([row]) == [row]


def test_the_streams_own_row_is_no_shard() -> None:
    row = Lease(pipeline="p", stream_arn=ARN, shard_id=STREAM_ROW, state=LeaseState.AWAITING_CHILDREN)
    assert lineage.readable([row]) == []
    assert lineage.awaiting_children([row]) == []
    assert lineage.plan({}, {STREAM_ROW: replace(row, state=LeaseState.ENDED)}, pipeline="p").forget == ()
