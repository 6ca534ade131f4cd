"""When a shard counts as unowned, and whom a fault may hit."""

from __future__ import annotations

import math
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest

from chaos.faults import Candidate, Fault, calm_s, choose
from chaos.locks import holds_write_lock
from chaos.plan import Plan
from chaos.spans import Spans
from chaos.workers import life_number, worker_id
from streamflow.leases import STREAM_ROW, Lease, LeaseState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LEASE_S = 3.0


def row(
    shard_id: str,
    owner: str | None,
    *,
    epoch: int = 1,
    state: LeaseState = LeaseState.ACTIVE,
    parents: tuple[str, ...] = (),
) -> Lease:
    return Lease(
        pipeline="p", stream_arn="s", shard_id=shard_id, owner=owner, epoch=epoch, state=state, parents=parents
    )


def spans(gone: dict[str, float] | None = None, *, faults: Sequence[Fault] = ()) -> Spans:
    """Owners to since when they are gone; all others live."""
    return Spans(gone_since_s=(gone or {}).get, calm_s=partial(calm_s, faults))


def lengths(looked: Spans) -> dict[str, float]:
    return {cause: span.length_s for cause, span in looked.longest.items()}


def test_living_owners_leave_no_span() -> None:
    looked = spans()
    assert looked.look([row("a", "one"), row("b", "two")], 1) == 0
    assert lengths(looked) == {}


def test_the_time_without_an_owner_counts_from_the_kill() -> None:
    looked = spans({"dead": 2.0})
    assert looked.look([row("a", "dead")], 2.2) == 1
    assert looked.look([row("a", "dead")], 4.0) == 1
    assert looked.look([row("a", "one")], 5.5) == 0
    assert lengths(looked) == {"fault": 3.5}


def test_a_released_row_counts_from_the_first_look() -> None:
    looked = spans()
    looked.look([row("a", None)], 2.0)
    looked.look([row("a", "one")], 2.5)
    assert lengths(looked) == {"free": 0.5}


def test_a_row_that_was_passed_on_is_unowned_until_it_is_taken() -> None:
    looked = spans()
    looked.look([replace(row("a", "one"), claimant="one")], 2.0)
    assert looked.look([replace(row("a", "one"), claimant="one")], 2.2) == 1
    assert looked.look([row("a", "one", epoch=2)], 2.6) == 0
    assert lengths(looked) == {"free": pytest.approx(0.6)}


def test_a_row_that_lost_its_dead_owner_is_still_unowned_since_the_kill() -> None:
    looked = spans({"dead": 2.0})
    looked.look([row("a", "dead")], 2.5)
    looked.look([row("a", None)], 4.0)
    looked.look([row("a", "one")], 5.0)
    assert lengths(looked) == {"fault": 3.0}


def test_an_owner_that_came_and_went_between_two_looks_ends_the_span() -> None:
    looked = spans({"dead": 2.0, "also": 4.0})
    looked.look([row("a", "dead")], 2.5)
    looked.look([row("a", "also")], 5.0)
    assert lengths(looked) == {"fault": 2.0}
    looked.look([row("a", "one")], 5.5)
    assert lengths(looked) == {"fault": 2.0}


def test_a_worker_that_goes_on_after_a_pause_owns_nothing_until_its_next_take() -> None:
    paused: dict[str, float] = {"one": 2.0}
    looked = spans(paused)
    looked.look([row("a", "one")], 2.5)
    paused.clear()
    assert looked.look([row("a", "one")], 6.0) == 1
    assert looked.look([row("a", "one", epoch=2)], 7.0) == 0
    assert lengths(looked) == {"fault": 5.0}


def test_after_an_outage_of_the_store_the_time_begins_anew() -> None:
    outage = Fault(kind="pause", life=1, began_s=3.0, ended_s=7.5, outage=True)
    pause = replace(outage, life=2, outage=False)
    assert calm_s([pause], 2.0, 9.0) == 7.0
    assert calm_s([outage, pause], 2.0, 9.0) == 1.5
    assert calm_s([outage], 0.0, 9.0) == 3.0
    assert calm_s([outage], 4.0, 5.0) == 0.0
    assert calm_s([outage], 8.0, 9.0) == 1.0
    assert calm_s([replace(outage, ended_s=math.inf)], 2.0, 9.0) == 1.0
    looked = spans({"dead": 2.0}, faults=[outage])
    looked.look([row("a", "dead")], 2.5)
    looked.look([row("a", "one")], 9.0)
    assert lengths(looked) == {"fault": 1.5}


def test_a_writer_inside_a_transaction_is_known_by_its_lock(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        assert not holds_write_lock(os.getpid())  # noqa: TID251 - a process that lives
        connection.execute("BEGIN IMMEDIATE")
        assert holds_write_lock(os.getpid())  # noqa: TID251 - a process that lives
        assert not holds_write_lock(1)
        connection.execute("COMMIT")
        assert not holds_write_lock(os.getpid())  # noqa: TID251 - a process that lives


def test_who_waits_for_the_lock_does_not_hold_it() -> None:
    assert not holds_write_lock(7, "1: -> POSIX  ADVISORY  WRITE 7 fe:00:21 120 120\n")


def test_what_is_unowned_at_the_end_counts_until_then() -> None:
    looked = spans({"dead": 2.0})
    looked.look([row("a", "dead")], 3.0)
    looked.close(9.0)
    assert lengths(looked) == {"fault": 7.0}


@pytest.mark.parametrize("state", [LeaseState.ENDED, LeaseState.AWAITING_CHILDREN])
def test_what_is_read_to_its_end_needs_no_owner(state: LeaseState) -> None:
    assert spans().look([row("a", None, state=state)], 1) == 0


def test_a_child_needs_an_owner_when_all_its_parents_have_ended() -> None:
    child = row("c", None, parents=("a", "b"))
    ended = row("a", None, state=LeaseState.ENDED)
    assert spans().look([ended, row("b", "one"), child], 1) == 0
    assert spans().look([ended, child], 1) == 0
    assert spans().look([ended, row("b", None, state=LeaseState.ENDED), child], 1) == 1
    assert spans().look([ended, row("b", None, state=LeaseState.AWAITING_CHILDREN), child], 1) == 1


def test_the_row_of_the_stream_is_no_shard() -> None:
    assert spans().look([row(STREAM_ROW, None)], 1) == 0


def test_the_worst_span_is_kept() -> None:
    looked = spans({"dead": 0.0})
    for at_s, owner in ((1.0, "dead"), (3.0, "one"), (4.0, "dead"), (4.5, "one")):
        looked.look([row("a", owner)], at_s)
    assert lengths(looked) == {"fault": 4.5}


def test_owners_are_known_by_their_ids() -> None:
    assert life_number(worker_id(12)) == 12
    assert life_number(worker_id(12) + "#2") == 12
    assert life_number("host-4711-abcdef") is None


# --- faults ----------------------------------------------------------------------------------------------------------


def candidates(*lives: tuple[bool, bool]) -> list[Candidate]:
    """By number: paused, seasoned."""
    return [Candidate(life=life, paused=paused, seasoned=known) for life, (paused, known) in enumerate(lives)]


def test_the_only_seasoned_worker_is_spared() -> None:
    random = Random(1)
    found = {choose(random, candidates((False, True), (True, True), (False, False)), LEASE_S) for _ in range(200)}
    assert {choice.life for choice in found if choice is not None} == {1, 2}
    assert choose(random, candidates((False, True)), LEASE_S) is None


def test_who_is_starting_again_gets_the_time_for_it() -> None:
    random = Random(1)
    lives = [Candidate(life=0), Candidate(life=1, seasoned=False, fragile=True)]
    assert {choose(random, lives, LEASE_S) for _ in range(50)} == {None}
    lives.append(Candidate(life=2))
    assert {choice.life for _ in range(50) if (choice := choose(random, lives, LEASE_S)) is not None} == {0, 2}


def test_a_paused_worker_can_only_be_killed() -> None:
    random = Random(1)
    found = [choose(random, candidates((True, True)), LEASE_S) for _ in range(100)]
    assert {choice.kind for choice in found if choice is not None} == {"kill"}


def test_all_workers_are_hit_in_both_ways_and_pauses_outlast_the_lease() -> None:
    random = Random(1)
    found = [choose(random, candidates(*[(False, True)] * 4), LEASE_S) for _ in range(200)]
    assert {(choice.life, choice.kind) for choice in found if choice is not None} == {
        (life, kind) for life in range(4) for kind in ("kill", "pause")
    }
    assert min(choice.pause_s for choice in found if choice is not None and choice.kind == "pause") > LEASE_S
    assert {choice.restart_after_s > 0 for choice in found if choice is not None and choice.kind == "kill"} == {
        True,
        False,
    }


def test_the_same_seed_makes_the_same_choices() -> None:
    def drawn(seed: int) -> list[object]:
        random = Random(seed)
        return [choose(random, candidates(*[(False, True)] * 4), LEASE_S) for _ in range(20)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_plan_tells_the_command_that_repeats_it() -> None:
    plan = Plan(seed=7, mode="graceful", store="redis", seconds=20, records=5000, shards=8, lease_duration_s=2.5)
    assert plan.command == (
        "PYTHONPATH=tests python -m chaos --store redis --mode graceful --seconds 20 --records 5000 --shards 8 "
        "--workers 4 --lease-duration-s 2.5 --fault-interval-s 2 --failpoint-share 0 --seed 7"
    )
