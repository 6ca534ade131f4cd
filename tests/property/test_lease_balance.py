"""Whatever the rows say, takes and asks lead to a fleet where all is owned, shares are equal, and then nothing moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.leases import Lease, LeaseLayout
from streamflow.rules import balance
from streamflow.rules.balance import View

WORKERS = [f"w{number}" for number in range(6)]
MOVES_SHARE = 0.25


def row(number: int, owner: str | None = None) -> Lease:
    return Lease(pipeline="p", stream_arn="arn", shard_id=f"shardId-{number:05d}", owner=owner)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[str], list[Lease]]:
    """Living workers, and rows with any owners, some of them dead."""
    living = draw(st.lists(st.sampled_from(WORKERS), min_size=1, unique=True))
    owners = draw(st.lists(st.sampled_from([None, *WORKERS]), max_size=40))
    return living, [row(number, owner) for number, owner in enumerate(owners)]


def view(me: str, living: list[str], rows: list[Lease], *, left_over: bool = False) -> View:
    free = frozenset(each.shard_id for each in rows if each.owner not in living)
    return View(me=me, workers=frozenset(living), rows=rows, free=free, left_over=free if left_over else frozenset())


def settle(living: list[str], rows: list[Lease], *, rounds: int = 60) -> tuple[list[Lease], int]:
    """Every worker in turn takes and asks, and every request is granted; the answer is what is left, and the moves."""
    by_id = {each.shard_id: each for each in rows}
    moves = 0
    for number in range(rounds):
        for me in living:
            seen = view(me, living, list(by_id.values()), left_over=number > 0)
            for each in balance.takes(seen):
                by_id[each.shard_id] = replace(each, owner=me, claimant=None)
            for each in balance.asks(view(me, living, list(by_id.values()))):
                by_id[each.shard_id] = replace(each, owner=me)
                moves += 1
    return list(by_id.values()), moves


@given(fleets())
def test_a_fleet_comes_to_rest_with_everything_owned_and_shared_out(fleet: tuple[list[str], list[Lease]]) -> None:
    living, rows = fleet
    settled, _ = settle(living, rows)
    counts = Counter(dict.fromkeys(living, 0)) + Counter(each.owner for each in settled)
    assert set(counts) <= set(living)
    assert sum(counts.values()) == len(rows)
    shares = [counts[worker] for worker in living]
    assert max(shares) - min(shares) <= max(1, max(shares) * 0.1)
    again, moves = settle(living, settled, rounds=3)
    assert (again, moves) == (settled, 0)


@given(fleets())
def test_no_more_moves_than_it_takes(fleet: tuple[list[str], list[Lease]]) -> None:
    """Only what is above somebody's share moves, each of it once."""
    living, rows = fleet
    taken, _ = settle(living, [each for each in rows if each.owner in living], rounds=0)
    counts = Counter(each.owner for each in taken)
    floor = len(taken) // len(living)
    above = sum(max(0, count - floor) for count in counts.values())
    _, moves = settle(living, taken)
    assert moves <= above


@given(fleets())
def test_nobody_takes_what_a_living_worker_owns_or_asks_for_what_is_free(fleet: tuple[list[str], list[Lease]]) -> None:
    living, rows = fleet
    seen = view(living[0], living, rows)
    taken, asked = balance.takes(seen), balance.asks(seen)
    assert all(each.shard_id in seen.free for each in taken)
    assert all(each.owner in living[1:] for each in asked)
    assert len({each.shard_id for each in [*taken, *asked]}) == len(taken) + len(asked)
    share = -(-len(rows) // len(living))
    assert len(asked) <= max(1, share * MOVES_SHARE + 1)


@given(fleets())
def test_at_the_first_sight_nobody_takes_more_than_its_share(fleet: tuple[list[str], list[Lease]]) -> None:
    living, rows = fleet
    seen = view(living[0], living, rows)
    mine = sum(each.owner == living[0] for each in rows)
    share = -(-len(rows) // len(living))
    assert len(balance.takes(seen)) <= max(0, share - mine)


def test_what_was_passed_on_is_taken_beyond_the_share() -> None:
    rows = [row(0, "w1"), row(1, "w1")]
    seen = View(me="w1", workers=frozenset(WORKERS), rows=rows, free=frozenset({rows[1].shard_id}))
    assert balance.takes(seen) == [rows[1]]


def test_what_another_was_promised_is_left_to_it_at_first() -> None:
    promised = replace(row(0), claimant="w2")
    seen = View(me="w1", workers=frozenset({"w1", "w2"}), rows=[promised], free=frozenset({promised.shard_id}))
    assert balance.takes(seen) == []
    assert balance.takes(replace(seen, left_over=seen.free)) == [promised]
    assert balance.takes(replace(seen, workers=frozenset({"w1"}))) == [promised]


def test_a_request_that_is_pending_counts_as_a_lease() -> None:
    rows = [replace(row(0, "w2"), claimant="w1"), row(1, "w2"), row(2, "w2")]
    seen = View(me="w1", workers=frozenset({"w1", "w2"}), rows=rows, free=frozenset())
    assert balance.asks(seen) == []


@given(fleets())
def test_who_leaves_gives_everything_to_those_who_have_least(fleet: tuple[list[str], list[Lease]]) -> None:
    living, rows = fleet
    me, *others = living
    mine = {each.shard_id for each in rows if each.owner == me}
    found = balance.heirs(view(me, living, rows))
    if not others:
        assert found == {}
        return
    assert found.keys() == mine
    before = Counter(each.owner for each in rows if each.owner in others)
    after = before + Counter(found.values())
    # Nobody gets a lease while somebody else has less.
    assert all(after[heir] <= min(after[other] for other in others) + 1 for heir in found.values())


def test_a_shard_that_could_not_be_read_is_not_asked_for() -> None:
    rows = [row(1, "them"), row(2, "them"), row(3, "them"), row(4, "them")]
    look = view("me", ["me", "them"], rows)
    wanted = balance.asks(look)
    assert wanted
    avoided = frozenset(found.shard_id for found in wanted)
    others = balance.asks(replace(look, avoided=avoided))
    assert others
    assert not avoided & {found.shard_id for found in others}


def test_a_branch_follows_the_first_one() -> None:
    rows = [row(0, "w2"), row(1, "w1"), row(2)]
    company = {rows[0].shard_id: "w1", rows[1].shard_id: "w2", rows[2].shard_id: "w2"}
    seen = View(
        me="w1", workers=frozenset({"w1", "w2"}), rows=rows, free=frozenset({rows[2].shard_id}), company=company
    )
    assert balance.asks(seen) == [rows[0]]
    assert balance.takes(seen) == []
    assert balance.takes(replace(seen, me="w2")) == [rows[2]]
    assert balance.takes(replace(seen, left_over=seen.free)) == [rows[2]], "rather apart than nowhere"


def test_small_tables_are_looked_at_often_and_large_ones_as_the_kcl_does() -> None:
    assert balance.listing_interval_s(64, 10.0) == 0.4
    assert balance.listing_interval_s(10_000, 9.0) == pytest.approx(3.0)
    assert balance.listing_interval_s(10_000, 10.0, LeaseLayout.KCL) == 12.5
    assert balance.listing_interval_s(500, 10.0, LeaseLayout.KCL_SHARED) == 5.0
