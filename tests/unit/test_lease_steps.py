"""What a step changes in a row, and nothing else; what became of one whose answer was lost; how long one believes and waits."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from streamflow.leases import Gap, Lease, LeaseState, WindowState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position
from streamflow.rules import belief
from streamflow.rules.steps import (
    AskedFor,
    Beaten,
    Checkpointed,
    Ended,
    GapFound,
    MovedByHand,
    Outcome,
    Outrun,
    PassedOn,
    Renewed,
    Started,
    Step,
    Taken,
    Unblocked,
    Withdrawn,
    after,
    born,
    made_at_ms,
    of_same_life,
    resolved,
    was_asked,
    was_lost,
)

WINDOW = WindowState(0, 60, b"{}")
GAP = Gap(lost_from=TRIM_HORIZON, found_at_s=1.0, cause="trimmed")
ROW = Lease(
    pipeline="p",
    stream_arn="s",
    shard_id="b",
    owner="w1",
    claimant="w2",
    epoch=5,
    version=9,
    checkpoint=Position.after("3"),
    parents=("a", "z"),
    window=WINDOW,
)


def changes(step: Step, row: Lease = ROW) -> dict[str, Any]:
    """The fields that differ afterwards."""
    there = after(row, step)
    return {
        each.name: getattr(there, each.name)
        for each in fields(Lease)
        if getattr(there, each.name) != getattr(row, each.name)
    }


@pytest.mark.parametrize(
    ("step", "changed"),
    [
        (Taken("w3"), {"owner": "w3", "claimant": None, "epoch": 6}),
        (AskedFor("w3"), {"claimant": "w3"}),
        (Renewed(), {}),
        (Checkpointed(Position.after("7")), {"checkpoint": Position.after("7"), "window": None}),
        (Checkpointed(Position.after("7"), WINDOW), {"checkpoint": Position.after("7")}),
        (GapFound(GAP, TRIM_HORIZON), {"gaps": (GAP,), "checkpoint": TRIM_HORIZON}),
        (GapFound(GAP, None), {"gaps": (GAP,)}),
        (PassedOn(), {"owner": None, "claimant": None}),
        (PassedOn(to="w2", heir="w3"), {"owner": "w2"}),
        (PassedOn(to="w4", heir="w3"), {"owner": "w3", "claimant": "w3"}),
        (Withdrawn("w1"), {"owner": None}),
        (Withdrawn("w2"), {"claimant": None}),
        (Withdrawn("w3"), {}),
        (Ended(("c",)), {"owner": None, "checkpoint": SHARD_END, "state": LeaseState.ENDED, "children": ("c",)}),
        (Ended(()), {"owner": None, "checkpoint": SHARD_END, "state": LeaseState.ENDED}),
        (Ended(None), {"owner": None, "checkpoint": SHARD_END, "state": LeaseState.AWAITING_CHILDREN}),
        (Unblocked(("z",)), {"parents": ("z",)}),
        (Beaten(("p", "q")), {"children": ("p", "q")}),
    ],
    ids=str,
)
def test_a_step_changes_this_and_nothing_else(step: Step, changed: dict[str, Any]) -> None:
    assert changes(step) == changed


def test_the_streams_row_starts_once_everything_is_stored() -> None:
    assert changes(Started(), replace(ROW, state=LeaseState.AWAITING_CHILDREN)) == {"state": LeaseState.ACTIVE}


def test_who_moves_a_checkpoint_takes_the_lease_from_everybody() -> None:
    moved = MovedByHand(checkpoint=TRIM_HORIZON, state=LeaseState.ACTIVE, window=None, note=GAP)
    expected = {"owner": None, "claimant": None, "checkpoint": TRIM_HORIZON, "window": None, "gaps": (GAP,)}
    assert changes(moved) == expected
    unnoted = replace(moved, note=None)
    assert "gaps" not in changes(unnoted)


def test_the_newest_16_gaps_are_kept() -> None:
    row = ROW
    for number in range(20):
        row = after(row, GapFound(replace(GAP, found_at_s=float(number)), None))
    assert [gap.found_at_s for gap in row.gaps] == [float(number) for number in range(4, 20)]


def test_a_row_that_is_made_again_is_beyond_its_former_self() -> None:
    assert born(ROW, 1_764_000_000_000) == replace(ROW, epoch=1_764_000_000_000, version=1_764_000_000_000)


def test_a_clock_that_is_behind_makes_no_row_before_what_was_seen() -> None:
    assert made_at_ms(1_764_000_000_000, 0) == 1_764_000_000_000
    assert made_at_ms(1_764_000_000_000, 1_764_003_600_000) > 1_764_003_600_000


@pytest.mark.parametrize(("seen", "epoch"), [(99, 100), (2, ROW.epoch + 1)])
def test_an_owner_that_is_fenced_by_what_was_before_moves_beyond_it(seen: int, epoch: int) -> None:
    assert after(ROW, Outrun(seen)) == replace(ROW, epoch=epoch)


# --- what became of a step -------------------------------------------------------------------------------------------

WANTED = after(ROW, Checkpointed(Position.after("7"), WINDOW))
STORED = replace(WANTED, version=10)


@pytest.mark.parametrize(
    ("current", "outcome"),
    [
        (ROW, Outcome.NOT_STORED),
        (STORED, Outcome.STORED),
        (replace(STORED, claimant="w3", version=11), Outcome.STORED),
        (replace(STORED, claimant="w3"), Outcome.STORED),
        (replace(STORED, claimant=None, version=11), Outcome.STORED),
        (replace(ROW, claimant="w3", version=10), Outcome.LOST),
        (replace(STORED, owner="w3", version=11), Outcome.LOST),
        (replace(STORED, version=8), Outcome.LOST),
        (None, Outcome.LOST),
    ],
)
def test_the_row_as_it_is_now_tells_what_became_of_a_step(current: Lease | None, outcome: Outcome) -> None:
    assert resolved(ROW, WANTED, current) is outcome


def test_a_renewal_that_was_not_stored_is_not_taken_for_one_because_of_a_request() -> None:
    """In the KCL's layout a request leaves the version alone: that the owner lives, nobody has seen."""
    assert resolved(ROW, after(ROW, Renewed()), replace(ROW, claimant="w3")) is Outcome.LOST
    assert resolved(ROW, after(ROW, Renewed()), replace(ROW, version=10)) is Outcome.STORED


@pytest.mark.parametrize(
    ("current", "asked"),
    [
        (None, False),
        (ROW, False),
        (replace(ROW, claimant="w3", version=10), True),
        (replace(ROW, claimant="w3"), True),
        (replace(ROW, claimant=None, version=11), True),
        (replace(ROW, claimant="w3", version=10, checkpoint=TRIM_HORIZON), False),
        (replace(ROW, claimant="w3", version=10, epoch=6), False),
    ],
)
def test_a_conflict_may_be_but_a_request(current: Lease | None, asked: bool) -> None:
    assert was_asked(ROW, current) is asked


@pytest.mark.parametrize(
    ("listed", "lost"),
    [
        (None, True),
        (ROW, False),
        (replace(ROW, version=10, owner="w2"), True),
        (replace(ROW, version=10, epoch=6), True),
        (replace(ROW, version=10, claimant="w3"), False),
        (replace(ROW, version=8, owner="w2", epoch=4), False),
    ],
)
def test_a_listing_shows_what_was_lost_but_not_what_it_is_too_old_for(listed: Lease | None, lost: bool) -> None:
    assert was_lost(ROW, listed) is lost


def test_a_workers_row_is_of_one_life() -> None:
    assert of_same_life(ROW, replace(ROW, version=12))
    assert not of_same_life(ROW, replace(ROW, epoch=6))
    assert not of_same_life(ROW, None)


# --- belief and patience ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duration_s", [1.0, 10.0, 300.0])
def test_belief_ends_before_patience_does(duration_s: float) -> None:
    worker = replace(ROW, duration_s=duration_s)
    for row in (worker, ROW):
        assert belief.valid_until(100.0, duration_s) - 100.0 < belief.patience_s(row, duration_s)
    assert 2 * belief.beat_interval_s(duration_s) < belief.valid_until(0.0, duration_s), "one beat may get lost"


def test_a_worker_is_waited_for_as_long_as_its_own_row_says() -> None:
    assert belief.patience_s(replace(ROW, duration_s=30.0), 10.0) == 30.0


def test_what_was_passed_on_and_not_taken_is_waited_for_less() -> None:
    assert belief.patience_s(after(ROW, PassedOn(to="w2")), 9.0) == 3.0
    assert belief.patience_s(ROW, 9.0) == 9.0


@pytest.mark.parametrize(
    ("owner", "free"),
    [(None, True), ("me", True), ("dead", True), ("w1", False)],
    ids=["nobody", "me", "dead", "alive"],
)
def test_who_may_be_taken_from(owner: str | None, free: bool) -> None:
    assert belief.unowned(replace(ROW, owner=owner), "me", {"w1"}) is free
