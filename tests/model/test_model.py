"""Every state of the small worlds: nothing is broken, and from each of them everything can still be done.

What is counted is the same on every machine: a figure that differs from the one that is kept says that the model, or a rule
that it takes from the product, is not what it was. `PYTHONPATH=tests python -m model full --keep docs/model.jsonl` keeps
them anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from model.__main__ import line
from model.checker import STUCK, Move, explore
from model.protocol import Protocol
from model.settings import CHILD, LARGE, ONE_SHARD, SMALL, World
from model.states import Left, Part, Row, Shard, position, relabelled, row_of, settled_by
from model.wrong_rules import MUTANTS, Mutant
from streamflow.leases import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = Path(__file__).resolve().parents[2] / "docs" / "model.jsonl"
WORLDS = {world.name: world for world in SMALL}


def kept() -> dict[str, bytes]:
    return {orjson.loads(each)["world"]: each for each in KEPT.read_bytes().splitlines()}


@pytest.mark.parametrize("world", SMALL, ids=lambda world: world.name)
def test_nothing_is_broken_in_any_state_and_each_leads_to_an_end(world: World) -> None:
    found = explore(Protocol(world))
    assert found.finding is None, str(found.finding)
    assert line(world, found) == kept()[world.name]
    print(f"{world.name}: {found.states} states, {found.moves} moves, {found.cpu_s:.2f} s")


def test_what_was_explored_at_length_is_kept() -> None:
    assert list(kept()) == [world.name for world in (*SMALL, *LARGE)]
    assert all(orjson.loads(each)["holds"] for each in kept().values())


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_found(mutant: Mutant) -> None:
    found = explore(Protocol(WORLDS[mutant.world], mutant.rules)).finding
    assert found is not None, "it survived"
    assert (found.says, len(found.trace)) == (mutant.says, mutant.moves), str(found)


def test_a_trace_is_in_words() -> None:
    mutant = next(each for each in MUTANTS if each.name == "a checkpoint counts what is in the handler's hands")
    finding = explore(Protocol(WORLDS[mutant.world], mutant.rules)).finding
    assert str(finding).splitlines() == [
        "the checkpoint of P is ahead of what is settled, after 7 moves:",
        "  1. a#1 sees that P is free",
        "  2. a#1 takes P",
        "  3. a#1's take of P arrives and is stored",
        "  4. a#1 is told that its take of P is stored",
        "  5. a#1 delivers record 1 of P",
        "  6. a#1 sends its checkpoint of P",
        "  7. a#1's checkpoint of P arrives and is stored",
    ]


# --- what no protocol can promise ------------------------------------------------------------------------------------


def test_a_sink_without_a_fence_may_get_a_late_record_from_a_worker_that_stood_still() -> None:
    """It is inherent: between the last look at the clock and the effect, a process may stand still for as long as it likes."""
    world = World(name="no fence", tree=ONE_SHARD, left=Left(pauses=1), fenced=False)
    finding = explore(Protocol(world)).finding
    assert finding is not None
    assert (finding.says, len(finding.trace)) == ("the sink gets record 1 of P behind record 2", 16)


def test_a_child_that_is_just_being_taken_does_not_hear_that_somebody_moves_its_parent_back() -> None:
    """Its row is not moved, since nobody owns it: workers are to be stopped before a checkpoint is moved back past an end."""
    world = World(name="repeats", tree=CHILD, left=Left(resets=1), by_hand=True, waits_for_repeats=True)
    finding = explore(Protocol(world)).finding
    assert finding is not None
    assert (finding.says, len(finding.trace)) == ("C is delivered while its parent P is read again", 15)


# --- the explorer itself ---------------------------------------------------------------------------------------------


class Counting:
    """From 0 up to `last` by one or two, and from `trap` nowhere."""

    def __init__(self, *, last: int, forbidden: int = -1, trap: int = -1, forbidden_move: int = -1) -> None:
        self.last, self.forbidden, self.trap, self.forbidden_move = last, forbidden, trap, forbidden_move

    def initial(self) -> int:
        return 0

    def moves(self, state: int) -> Iterator[Move[int]]:
        for by in (1, 2):
            if state != self.trap and state + by <= self.last:
                yield Move(
                    (f"{state} and {by}",), state + by, "no" if state == self.forbidden_move and by == 1 else None
                )

    def broken(self, state: int) -> str | None:
        return "forbidden" if state == self.forbidden else None

    def is_end(self, state: int) -> bool:
        return state == self.last


def test_every_state_is_visited_once() -> None:
    found = explore(Counting(last=10))
    assert (found.states, found.moves, found.ends, found.finding) == (11, 19, 1, None)


def test_the_shortest_way_to_what_is_broken_is_told() -> None:
    finding = explore(Counting(last=10, forbidden=5)).finding
    assert finding is not None
    assert (finding.says, len(finding.trace)) == ("forbidden", 3)
    assert explore(Counting(last=10, forbidden=0)).finding is not None


def test_a_move_may_break_something_though_its_state_is_known() -> None:
    finding = explore(Counting(last=10, forbidden_move=4)).finding
    assert finding is not None
    assert (finding.says, list(finding.trace)) == ("no", ["0 and 2", "2 and 2", "4 and 1"])


def test_a_state_that_leads_to_no_end_is_found() -> None:
    finding = explore(Counting(last=10, trap=9)).finding
    assert finding is not None
    assert (finding.says, len(finding.trace)) == (STUCK, 5)


def test_a_model_without_an_end_is_given_up() -> None:
    with pytest.raises(MemoryError, match="more than 100 states"):
        explore(Counting(last=10_000), states_max=100)


def test_states_that_differ_by_their_counting_only_are_one() -> None:
    def shard(*numbers: int) -> Shard:
        seen, held, row = (
            Lease(pipeline="p", stream_arn="s", shard_id="P", version=each, epoch=each) for each in numbers
        )
        return relabelled(Shard(row=row_of(row), parts=(Part(seen=row_of(seen), held=row_of(held)),)))

    assert shard(5, 6, 9) == shard(70, 71, 80)
    assert shard(5, 6, 9) != shard(5, 7, 9), "whether one version follows the other decides what a write meets"
    assert shard(5, 6, 9) != shard(5, 6, 7)


def test_a_row_says_how_many_records_are_settled() -> None:
    row = Lease(pipeline="p", stream_arn="s", shard_id="P", checkpoint=position(2))
    assert (settled_by(row, 7), settled_by(Lease(pipeline="p", stream_arn="s", shard_id="P"), 7)) == (2, 0)
    assert isinstance(row_of(row), Row)
