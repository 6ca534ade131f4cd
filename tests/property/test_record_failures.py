"""A sink that tells records apart: every record is settled or given up exactly once, and items keep their order."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.rules.attempts import AttemptRules, Attempts, Discard, Invoke, Pause, Settle, SomeFailed, Succeeded

Change = tuple[int, int]
"""The place in the batch, and the item."""


@dataclass
class Target:
    """Writes in order per item, as `write_in_requests` does. `faults` has what the first tries of each record come to."""

    faults: dict[int, list[str]]
    written: list[Change] = field(default_factory=list)
    refused: list[Change] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)

    def write(self, changes: list[Change]) -> SomeFailed | Succeeded:
        kinds: dict[str, list[int]] = {"failed": [], "refused": [], "waiting": []}
        hindered: set[int] = set()
        for place, change in enumerate(changes):
            number, item = change
            if item in hindered:
                kinds["waiting"].append(place)
                continue
            self.tries[number] = self.tries.get(number, 0) + 1
            faults = self.faults.get(number, [])
            fault = faults[0] if faults and faults[0] == "refused" else faults.pop(0) if faults else "written"
            if fault == "written":
                self.written.append(change)
            else:
                hindered.add(item)
                kinds[fault].append(place)
        return _outcome(kinds)


def _outcome(kinds: dict[str, list[int]]) -> SomeFailed | Succeeded:
    if not any(kinds.values()):
        return Succeeded()
    return SomeFailed(failed=kinds["failed"], refused=kinds["refused"], waiting=kinds["waiting"])


FAULTS = st.lists(st.sampled_from(["failed", "waiting", "refused"]), max_size=4)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Change], Target]:
    items = draw(st.lists(st.integers(0, 3), min_size=1, max_size=12))
    changes = list(enumerate(items))
    return changes, Target({number: draw(FAULTS) for number, _ in changes})


def played(
    changes: list[Change], target: Target, rules: AttemptRules[Change]
) -> tuple[list[Change], list[Discard[Change]], list[float]]:
    """What was settled, what was given up, and the pauses."""
    attempts = Attempts(changes, rules, float)
    settled: list[Change] = []
    given_up: list[Discard[Change]] = []
    pauses: list[float] = []
    for _ in range(2_000):
        action = attempts.next(0.0)
        match action:
            case None:
                return settled, given_up, pauses
            case Invoke(records=records):
                attempts.invoked(target.write(list(records)))
            case Settle(records=records):
                settled += records
            case Discard():
                given_up.append(action)
            case Pause(delay_s=delay_s):
                pauses.append(delay_s)
    raise AssertionError("it never ends")


def rules(retries_max: int = -1, *, bisect: bool = False, refusals: bool = True) -> AttemptRules[Change]:
    return AttemptRules(retries_max=retries_max, bisect=bisect, refusals=refusals, created_at_s=lambda _: 0.0)


@given(scenes(), st.integers(-1, 3), st.booleans())
def test_every_record_is_settled_or_given_up_once(
    scene: tuple[list[Change], Target], retries_max: int, bisect: bool
) -> None:
    changes, target = scene
    settled, given_up, _ = played(changes, target, rules(retries_max, bisect=bisect))
    gone = [change for discard in given_up for change in discard.records]
    assert sorted(settled + gone) == changes
    assert sorted(settled) == sorted(target.written)


@pytest.mark.fault("F23")
@given(scenes(), st.integers(-1, 3))
def test_items_are_written_in_order_and_once(scene: tuple[list[Change], Target], retries_max: int) -> None:
    changes, target = scene
    played(changes, target, rules(retries_max))
    assert len(target.written) == len(set(target.written))
    for item in {item for _, item in changes}:
        numbers = [number for number, of in target.written if of == item]
        assert numbers == sorted(numbers)


@given(scenes())
def test_a_refused_record_is_given_up_alone_and_never_tried_again(scene: tuple[list[Change], Target]) -> None:
    changes, target = scene
    expected = {number for number, faults in target.faults.items() if "refused" in faults}
    before = {number: faults.index("refused") + 1 for number, faults in target.faults.items() if "refused" in faults}
    _, given_up, _ = played(changes, target, rules())
    assert {discard.condition for discard in given_up} <= {"RecordRefused"}
    assert {number for discard in given_up for number, _ in discard.records} == expected
    assert all(len(discard.records) == 1 for discard in given_up)
    assert all(target.tries[number] == tries for number, tries in before.items())


@given(scenes(), st.integers(0, 3))
def test_no_record_is_tried_beyond_its_retries(scene: tuple[list[Change], Target], retries_max: int) -> None:
    changes, target = scene
    failing = {number: [fault for fault in faults if fault == "failed"] for number, faults in target.faults.items()}
    target.faults = failing
    played(changes, target, rules(retries_max))
    assert all(tries <= retries_max + 1 for tries in target.tries.values())


@given(scenes())
def test_waiting_costs_no_retry(scene: tuple[list[Change], Target]) -> None:
    changes, target = scene
    target.faults = {number: ["waiting"] * len(faults) for number, faults in target.faults.items()}
    settled, given_up, _ = played(changes, target, rules(0))
    assert (sorted(settled), given_up) == (changes, [])


@given(scenes())
def test_nothing_is_tried_again_without_a_pause_unless_something_was_refused(
    scene: tuple[list[Change], Target],
) -> None:
    changes, target = scene
    target.faults = {number: [each for each in faults if each != "refused"] for number, faults in target.faults.items()}
    failures = max(map(len, target.faults.values()))
    _, _, pauses = played(changes, target, rules())
    assert len(pauses) >= failures
    assert all(delay_s > 0 for delay_s in pauses)


def test_without_refusals_a_refused_record_holds_its_batch() -> None:
    attempts = Attempts([(0, 0), (1, 1)], rules(refusals=False), lambda _: 1.0)
    attempts.next(0.0)
    attempts.invoked(SomeFailed(refused=[0]))
    assert attempts.next(0.0) == Settle([(1, 1)])
    assert attempts.next(0.0) == Pause(1.0)
    assert attempts.next(0.0) == Invoke(records=[(0, 0)], attempt=2, unchanged=False)


def test_the_pause_is_the_one_that_was_asked_for() -> None:
    attempts = Attempts([(0, 0), (1, 1)], rules(), lambda _: 1.0)
    attempts.next(0.0)
    attempts.invoked(SomeFailed(waiting=[0, 1], retry_after_s=7.5))
    assert attempts.next(0.0) == Pause(7.5)
    assert attempts.next(0.0) == Invoke(records=[(0, 0), (1, 1)], attempt=1, unchanged=True)


def test_who_bisects_gives_records_up_one_by_one() -> None:
    attempts = Attempts([(0, 0), (1, 1), (2, 2)], rules(0, bisect=True), lambda _: 1.0)
    attempts.next(0.0)
    attempts.invoked(SomeFailed(failed=[0, 2]))
    actions = [attempts.next(0.0) for _ in range(4)]
    assert actions[0] == Settle([(1, 1)])
    assert [discard.records for discard in actions[1:3] if isinstance(discard, Discard)] == [[(0, 0)], [(2, 2)]]
    assert actions[3] is None
