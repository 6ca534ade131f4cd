"""The oracle on journals made by hand: each violation is found, each innocent case is not."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from chaos.faults import Fault
from chaos.journal import Acceptance, Journal, Tail
from chaos.oracle import Accounts, Explanations
from chaos.plan import Plan
from chaos.sightings import Sightings
from chaos.workers import Life, Workers
from streamflow.leases import Lease
from streamflow.positions import Position

if TYPE_CHECKING:
    from pathlib import Path

SHARD = "shard"
KILL = Fault(kind="kill", life=1, began_s=10.0, ended_s=10.0)
PAUSE = Fault(kind="pause", life=1, began_s=10.0, ended_s=20.0)


def batch(at_s: float, *changes: tuple[int, int], life: int = 1, epoch: int = 1, shard_id: str = SHARD) -> Acceptance:
    """Changes of items to versions; the sequence number of version 3 of item 1 is 103."""
    numbered = tuple((item, version, str(100 * item + version)) for item, version in changes)
    return Acceptance(at_s=at_s, life=life, shard_id=shard_id, epoch=epoch, changes=numbered)


def entered(*batches: Acceptance) -> Accounts:
    accounts = Accounts()
    for each in batches:
        accounts.enter(each)
    return accounts


def seen(number: int, at_s: float, shard_id: str = SHARD) -> Sightings:
    sightings = Sightings()
    sightings.look([row(number, shard_id)], at_s)
    return sightings


def row(number: int, shard_id: str = SHARD) -> Lease:
    return Lease(pipeline="p", stream_arn="s", shard_id=shard_id, checkpoint=Position.after(str(number)))


def reasons(accounts: Accounts, *faults: Fault, sightings: Sightings | None = None) -> list[str | None]:
    explanations = Explanations.of(accounts.entries, faults, sightings or Sightings())
    return [explanations.unexplained(repetition) for repetition in accounts.repetitions]


# --- lost, invented, out of order ------------------------------------------------------------------------------------


def test_what_came_once_and_in_order_is_as_promised() -> None:
    accounts = entered(batch(1, (1, 1), (2, 1), (1, 2)), batch(2, (1, 3)))
    assert accounts.delivered == 4
    assert accounts.missing([0, 3, 1]) == []
    assert accounts.invented([0, 3, 1]) == 0
    assert (accounts.order_violations, accounts.repetitions) == (0, [])


def test_what_never_came_is_lost() -> None:
    accounts = entered(batch(1, (1, 1)), batch(2, (1, 3)))
    assert accounts.missing([0, 4, 1]) == [(1, 2), (1, 4), (2, 1)]


def test_what_was_never_written_is_invented() -> None:
    assert entered(batch(1, (1, 1), (1, 2), (7, 1))).invented([0, 1]) == 2


def test_a_version_that_first_comes_after_a_newer_one_is_a_violation() -> None:
    accounts = entered(batch(1, (1, 1), (1, 3)), batch(2, (1, 2)))
    assert accounts.order_violations == 1
    assert accounts.violations == ["version 2 of item 1 came after 3, in batch 1"]


def test_versions_that_come_again_from_a_checkpoint_on_are_no_violation() -> None:
    accounts = entered(batch(1, (1, 1), (1, 2), (1, 3)), batch(12, (1, 2), (1, 3), (1, 4), life=2, epoch=2))
    assert accounts.order_violations == 0
    assert accounts.delivered == 4


def test_shards_have_epochs_of_their_own() -> None:
    accounts = entered(batch(1, (1, 1), epoch=7, shard_id="parent"), batch(2, (1, 2), epoch=1, shard_id="child"))
    assert (accounts.delivered, accounts.repetitions) == (2, [])


# --- zombies ---------------------------------------------------------------------------------------------------------


def test_what_only_a_zombie_delivered_is_lost() -> None:
    accounts = entered(batch(1, (1, 1)), batch(12, (1, 1), life=2, epoch=2), batch(21, (1, 2)))
    assert accounts.missing([0, 2]) == [(1, 2)]


def test_a_zombie_that_runs_ahead_violates_nothing() -> None:
    accounts = entered(
        batch(12, (1, 1), life=2, epoch=2), batch(21, (1, 2), (1, 3)), batch(22, (1, 2), life=2, epoch=2)
    )
    assert accounts.order_violations == 0
    assert accounts.delivered == 2


def test_the_batch_that_was_on_its_way_when_its_worker_was_paused_is_explained() -> None:
    zombie = entered(batch(12, (1, 1), life=2, epoch=2), batch(20.01, (1, 1)))
    assert reasons(zombie, PAUSE) == [None]


def test_the_batch_whose_write_the_pause_held_up_is_explained() -> None:
    zombie = entered(batch(12, (1, 1), life=2, epoch=2), batch(9.999, (1, 1)))
    assert reasons(zombie, PAUSE) == [None]


def test_a_second_batch_of_a_zombie_is_not_explained() -> None:
    zombie = entered(batch(12, (1, 1), life=2, epoch=2), batch(20.01, (1, 1)), batch(20.02, (1, 2)))
    assert [reason is None for reason in reasons(zombie, PAUSE)] == [True, False]


def test_a_zombie_that_was_never_paused_is_not_explained() -> None:
    zombie = entered(batch(12, (1, 1), life=2, epoch=2), batch(12.5, (1, 1)))
    of_another = Fault(kind="pause", life=3, began_s=10.0, ended_s=20.0)
    assert reasons(zombie) == reasons(zombie, of_another) != [None]


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_what_a_killed_worker_had_delivered_and_not_stored_is_explained() -> None:
    accounts = entered(batch(9, (1, 1), (1, 2)), batch(14, (1, 2), life=2, epoch=2))
    assert reasons(accounts, KILL) == [None]


def test_what_a_paused_worker_had_delivered_and_not_stored_is_explained() -> None:
    accounts = entered(batch(9, (1, 1)), batch(14, (1, 1), life=2, epoch=2))
    assert reasons(accounts, PAUSE) == [None]


def test_a_pause_that_lasts_explains_as_well() -> None:
    accounts = entered(batch(9, (1, 1)), batch(14, (1, 1), life=2, epoch=2))
    assert reasons(accounts, Fault(kind="pause", life=1, began_s=10.0, ended_s=math.inf)) == [None]


def test_what_was_on_its_way_before_the_next_owner_began_is_explained() -> None:
    accounts = entered(batch(20.01, (1, 1)), batch(20.02, (1, 1), life=2, epoch=2))
    assert reasons(accounts, PAUSE) == [None]


def test_what_was_delivered_long_after_a_pause_is_not_explained_by_it() -> None:
    accounts = entered(batch(21, (1, 1)), batch(22, (1, 2)), batch(30, (1, 2), life=2, epoch=2))
    assert reasons(accounts, PAUSE) == ["the worker that had delivered it was neither killed nor paused"]


def test_what_the_victim_did_while_it_was_being_killed_is_explained(tmp_path: Path) -> None:
    workers = Workers(plan=Plan(seed=1), folder=tmp_path, store_url="memory:")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        life = Life(number=1, slot=0, process=process, log=tmp_path / "log", fragile=False)
        workers.kill(life)
    (kill,) = workers.faults
    assert life.ended_s == kill.began_s < kill.ended_s
    meanwhile = (kill.began_s + kill.ended_s) / 2
    accounts = entered(batch(meanwhile, (1, 1)), batch(kill.ended_s + 4, (1, 1), life=2, epoch=2))
    assert reasons(accounts, kill) == [None]


def test_a_duplicate_of_a_hand_over_is_not_explained() -> None:
    accounts = entered(batch(9, (1, 1)), batch(14, (1, 1), life=2, epoch=2))
    of_the_next_owner = Fault(kind="kill", life=2, began_s=10.0, ended_s=10.0)
    assert reasons(accounts) == reasons(accounts, of_the_next_owner) != [None]


def test_a_paused_worker_that_kept_the_store_from_all_explains_what_others_repeat_but_no_zombies() -> None:
    outage = Fault(kind="pause", life=3, began_s=10.0, ended_s=20.0, outage=True)
    repeated = entered(batch(11, (1, 1)), batch(21, (1, 1), life=2, epoch=2))
    assert reasons(repeated, outage) == [None]
    assert reasons(repeated, replace(outage, outage=False)) != [None]
    zombie = entered(batch(12, (1, 1), life=2, epoch=2), batch(20.01, (1, 1)))
    assert reasons(zombie, outage) != [None]


def test_a_fault_after_the_next_owner_had_begun_does_not_explain() -> None:
    handed_over = entered(
        batch(8, (1, 1), (2, 1)), batch(9.5, (1, 2), life=2, epoch=2), batch(14, (2, 1), life=2, epoch=2)
    )
    assert reasons(handed_over, KILL) == ["the worker that had delivered it was neither killed nor paused"]


def test_the_same_owner_delivering_twice_is_not_explained() -> None:
    accounts = entered(batch(9, (1, 1)), batch(9.5, (1, 1)))
    assert reasons(accounts, KILL, PAUSE) == ["the same owner delivered it twice"]


def test_what_lies_before_a_stored_checkpoint_is_not_explained() -> None:
    accounts = entered(batch(9, (1, 1), (1, 2)), batch(14, (1, 1), (1, 2), life=2, epoch=2))
    assert reasons(accounts, KILL, sightings=seen(101, at_s=9.5)) == [
        "it lay before a checkpoint that had been stored",
        None,
    ]


def test_a_checkpoint_that_was_stored_later_or_of_another_shard_accuses_nobody() -> None:
    accounts = entered(batch(9, (1, 1)), batch(14, (1, 1), life=2, epoch=2))
    assert reasons(accounts, KILL, sightings=seen(101, at_s=15)) == [None]
    assert reasons(accounts, KILL, sightings=seen(101, at_s=9, shard_id="other")) == [None]


def test_each_repetition_is_judged_by_the_acceptance_just_before_it() -> None:
    accounts = entered(batch(9, (1, 1)), batch(14, (1, 1), life=2, epoch=2), batch(15, (1, 1), life=3, epoch=3))
    assert [reason is None for reason in reasons(accounts, KILL)] == [True, False]


# --- sightings and the journal ---------------------------------------------------------------------------------------


def test_a_checkpoint_that_moves_back_is_told() -> None:
    sightings = seen(105, at_s=1)
    sightings.look([row(104)], 2)
    assert sightings.regressions == [f"{SHARD} from 105 to 104, epoch 0"]
    assert sightings.checkpoint_before(SHARD, 3) == 105
    assert sightings.checkpoint_before(SHARD, 1) == 0


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append(batch(1, (1, 1)))
    with path.open("ab") as torn:
        torn.write(b'\n[2.0,1,"shard",1,[[1,2,"10')
    journal.append(batch(3, (1, 3)))
    journal.close()
    with path.open("rb", buffering=0) as file:
        tail = Tail(file)
        assert list(tail.read()) == [batch(1, (1, 1)), batch(3, (1, 3))]
        assert tail.torn == 1
        assert list(tail.read()) == []
