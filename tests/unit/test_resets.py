"""Moving a checkpoint by hand: which way it goes, and what goes with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.leases import STREAM_ROW, Gap, Lease, LeaseState, WindowState
from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamflow.records import Shard
from streamflow.rules import lineage, resets
from streamflow.rules.resets import Direction, direction

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
NOW_S = 1_764_000_000.0


def row(shard_id: str, checkpoint: Position = TRIM_HORIZON, *parents: str, **fields: object) -> Lease:
    state = LeaseState.ENDED if checkpoint == SHARD_END else LeaseState.ACTIVE
    values = {"state": state, "parents": parents, "checkpoint": checkpoint, **fields}
    return Lease(pipeline="orders", stream_arn=ARN, shard_id=shard_id, **values)  # type: ignore[arg-type]


def listing(*rows: Lease) -> dict[str, Shard]:
    return {each.shard_id: Shard(stream_arn=ARN, shard_id=each.shard_id, parents=each.parents) for each in rows}


def made(ago_s: float, name: str) -> str:
    """A shard id as the service makes it."""
    return f"shardId-{int((NOW_S - ago_s) * 1000):020d}-{name}"


def moved(found: list[resets.Reset]) -> dict[str, str]:
    return {each.row.shard_id: str(each.checkpoint) for each in found}


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (Position.after("7"), Position.after("7"), Direction.NONE),
        (Position.after("10"), Position.after("9"), Direction.BACK),
        (Position.after("9"), Position.after("10"), Direction.AHEAD),
        (Position.after("7"), Position.at("7"), Direction.BACK),
        (Position.at("7"), Position.after("7"), Direction.AHEAD),
        (Position.after("7"), TRIM_HORIZON, Direction.BACK),
        (TRIM_HORIZON, Position.after("7"), Direction.AHEAD),
        (TRIM_HORIZON, Position.at_timestamp(7.0), Direction.AHEAD),
        (SHARD_END, Position.at_timestamp(7.0), Direction.BACK),
        (Position.after("7"), SHARD_END, Direction.AHEAD),
        (Position.at_timestamp(7.0), Position.at_timestamp(6.0), Direction.BACK),
        (Position.at_timestamp(6.0), Position.at_timestamp(7.0), Direction.AHEAD),
        (Position.after("7"), Position.at_timestamp(7.0), Direction.UNKNOWN),
        (LATEST, Position.after("7"), Direction.UNKNOWN),
    ],
)
def test_a_direction_is_told_only_where_the_places_tell_it(before: Position, after: Position, found: Direction) -> None:
    assert direction(before, after) is found


def test_a_reset_frees_the_lease_clears_the_window_and_leaves_a_note() -> None:
    before = row(
        "a", Position.after("9"), owner="w1", claimant="w2", epoch=4, version=8, window=WindowState(0, 9, b"{}")
    )
    after = resets.reset(before, Position.after("5")).lease(user="ann", now_s=NOW_S)
    assert (after.owner, after.claimant, after.window, after.epoch, after.version) == (None, None, None, 4, 8)
    assert after.gaps == (
        Gap(
            lost_from=Position.after("9"),
            found_at_s=NOW_S,
            cause="moved back to AFTER_SEQUENCE_NUMBER:5 by ann",
        ),
    )
    assert not resets.is_loss(after.gaps[0])
    ahead = resets.reset(before, Position.after("11")).lease(user="ann", now_s=NOW_S)
    assert resets.is_loss(ahead.gaps[0])


def test_only_the_newest_notes_are_kept() -> None:
    old = tuple(Gap(lost_from=TRIM_HORIZON, found_at_s=float(n), cause="trimmed") for n in range(16))
    after = resets.reset(row("a", Position.after("9"), gaps=old), TRIM_HORIZON).lease(user="ann", now_s=NOW_S)
    assert (len(after.gaps), after.gaps[0].found_at_s, after.gaps[-1].found_at_s) == (16, 1.0, NOW_S)


def test_the_end_of_a_shard_asks_for_its_children() -> None:
    assert resets.reset(row("a", Position.after("9")), SHARD_END).state is LeaseState.AWAITING_CHILDREN
    assert resets.reset(row("a", SHARD_END), SHARD_END).state is LeaseState.ENDED


def test_begun_descendants_go_back_with_a_shard_and_others_stay() -> None:
    rows = [
        row("a", SHARD_END),
        row("b", SHARD_END, "a"),
        row("c", Position.after("8"), "b"),
        row("d", TRIM_HORIZON, "b"),
        row("x", Position.after("5")),
        row(STREAM_ROW),
    ]
    known = resets.shards_of(rows)
    found = resets.with_descendants([resets.reset(known["a"], Position.after("3"))], known)
    assert moved(found) == {"a": "AFTER_SEQUENCE_NUMBER:3", "b": "TRIM_HORIZON", "c": "TRIM_HORIZON"}
    assert [each.row.shard_id for each in found] == ["a", "b", "c"]
    ahead = resets.with_descendants([resets.reset(known["x"], Position.after("6"))], known)
    assert moved(ahead) == {"x": "AFTER_SEQUENCE_NUMBER:6"}


def test_a_child_that_somebody_has_begun_without_a_checkpoint_lets_go() -> None:
    rows = [row("a", SHARD_END), row("b", TRIM_HORIZON, "a", owner="w1"), row("c", TRIM_HORIZON, "a")]
    known, listed = resets.shards_of(rows), listing(*rows)
    for found in (
        resets.with_descendants([resets.reset(known["a"], Position.after("3"))], known),
        resets.to_trim_horizon(rows, listed),
        resets.to_time(rows, listed, NOW_S, reached_s={}),
    ):
        assert [(each.row.shard_id, each.direction) for each in found] == [
            ("a", Direction.BACK),
            ("b", Direction.NONE),
        ]
        stored = found[1].lease(user="ann", now_s=NOW_S)
        assert (stored.owner, stored.checkpoint, stored.gaps) == (None, TRIM_HORIZON, ())


def test_nothing_changes_where_a_shard_is_already() -> None:
    known = resets.shards_of([row("a", SHARD_END), row("b", Position.after("8"), "a")])
    assert resets.with_descendants([resets.reset(known["b"], Position.after("8"))], known) == []


def test_to_the_horizon_every_listed_shard_starts_again_and_children_wait() -> None:
    rows = [
        row("a", SHARD_END),
        row("b", Position.after("8"), "a"),
        row("c", TRIM_HORIZON, "a"),
        row("gone", SHARD_END),
    ]
    found = resets.to_trim_horizon(rows, listing(*rows[:3]))
    assert moved(found) == {"a": "TRIM_HORIZON", "b": "TRIM_HORIZON"}
    stored = [each.lease(user="ann", now_s=NOW_S) for each in found]
    assert [each.shard_id for each in lineage.readable([*stored, rows[2], rows[3]])] == ["a"]


def test_to_a_time_only_shards_that_are_past_it_go_back() -> None:
    rows = [
        row("past", Position.after("9")),
        row("behind", Position.after("8")),
        row("trimmed", Position.after("2")),
        row("unseen", Position.after("3")),
        row("new", TRIM_HORIZON),
        row("later", Position.at_timestamp(NOW_S - 10)),
        row("earlier", Position.at_timestamp(NOW_S - 100)),
        row("gone", Position.after("7")),
    ]
    listed = listing(*rows[:-1])
    assert [each.shard_id for each in resets.numbered(rows, listed)] == ["past", "behind", "trimmed", "unseen"]
    reached = {"past": NOW_S - 50, "behind": NOW_S - 51, "trimmed": float("-inf"), "unseen": None}
    # Half a second later than the time of the record, which is rounded down.
    found = resets.to_time(rows, listed, NOW_S - 49.5, reached_s=reached)
    assert {each.row.shard_id: each.direction for each in found} == {
        "later": Direction.BACK,
        "past": Direction.BACK,
        "unseen": Direction.UNKNOWN,
    }
    assert {str(each.checkpoint) for each in found} == {f"AT_TIMESTAMP:{NOW_S - 49.5}"}


def test_to_a_time_an_ended_shard_comes_back_unless_its_children_are_older() -> None:
    hours = 3_600.0
    old, middle, young = made(12 * hours, "old"), made(8 * hours, "middle"), made(4 * hours, "young")
    rows = [row(old, SHARD_END), row(middle, SHARD_END, old), row(young, Position.after("9"), middle)]
    listed, reached = listing(*rows), {young: NOW_S - 60}
    assert [each.row.shard_id for each in resets.to_time(rows, listed, NOW_S - 2 * hours, reached_s=reached)] == [young]
    back = resets.to_time(rows, listed, NOW_S - 6 * hours, reached_s=reached)
    assert [(each.row.shard_id, each.state) for each in back] == [
        (middle, LeaseState.ACTIVE),
        (young, LeaseState.ACTIVE),
    ]
    # Clocks may differ: within a quarter of an hour nobody is left out.
    near = resets.to_time(rows, listed, NOW_S - 4 * hours + 600, reached_s=reached)
    assert [each.row.shard_id for each in near] == [middle, young]


def test_to_a_time_an_ended_shard_whose_id_says_nothing_comes_back() -> None:
    rows = [row("a", SHARD_END), row("b", SHARD_END, "a")]
    assert moved(resets.to_time(rows, listing(*rows), NOW_S, reached_s={})).keys() == {"a", "b"}


@given(st.lists(st.lists(st.integers(0, 30), max_size=2), max_size=12))
def test_parents_come_before_children_in_any_lineage(parents: list[list[int]]) -> None:
    rows = [
        row(f"{n:02}", SHARD_END, *sorted({f"{p % n:02}" for p in above} if n else ()))
        for n, above in enumerate(parents)
    ]
    order = [each.row.shard_id for each in resets.in_lineage_order([resets.reset(each, TRIM_HORIZON) for each in rows])]
    assert sorted(order) == [each.shard_id for each in rows]
    for each in rows:
        assert all(order.index(parent) < order.index(each.shard_id) for parent in each.parents)
