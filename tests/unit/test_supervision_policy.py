"""What becomes of a worker whose process has ended, as a table."""

from __future__ import annotations

from random import Random

import pytest

from streamflow.cli.main import Exit
from streamflow.cli.supervision.policy import WRONG, Again, Decision, Life, Over, Refused, RestartPolicy

POLICY = RestartPolicy(first_s=1.0, max_s=30.0, steady_s=60.0)


class Longest(Random):
    """Draws the longest pause."""

    def random(self) -> float:
        return 1.0


def decide(life: Life, *, failures: int = 0, proven: bool = True, stopping: bool = False) -> Decision:
    return POLICY.decide(life, failures=failures, proven=proven, stopping=stopping, random=Longest())


KILLED = Life(status=-9, opened=True, ran_s=5.0)
FAILED = Life(status=1, opened=True, ran_s=5.0)
WRONG_AT_ONCE = Life(status=WRONG)
ENDED = Life(status=0, opened=True, ended=True, ran_s=5.0)
DRAINED = Life(status=0, opened=True, ran_s=5.0)
STEADY = Life(status=1, opened=True, ran_s=60.0)


@pytest.mark.parametrize(
    ("life", "failures", "decision"),
    [
        (KILLED, 0, Again(after_s=1.0, failures=1)),
        (FAILED, 1, Again(after_s=2.0, failures=2)),
        (FAILED, 4, Again(after_s=16.0, failures=5)),
        (FAILED, 5, Again(after_s=30.0, failures=6)),
        (FAILED, 10_000, Again(after_s=30.0, failures=10_001)),
        (Life(status=1), 1, Again(after_s=2.0, failures=2)),
        (STEADY, 7, Again(after_s=1.0, failures=1)),
        (ENDED, 3, Over()),
        (DRAINED, 3, Again(after_s=1.0, failures=1)),
        (WRONG_AT_ONCE, 0, Again(after_s=1.0, failures=1)),
    ],
)
def test_a_worker_goes_on_until_its_streams_have_ended(life: Life, failures: int, decision: Decision) -> None:
    assert decide(life, failures=failures) == decision


def test_a_wrong_configuration_is_refused_until_it_has_proved_right_once() -> None:
    assert decide(WRONG_AT_ONCE, proven=False) == Refused()
    assert decide(FAILED, proven=False) == Again(after_s=1.0, failures=1)


@pytest.mark.parametrize("life", [KILLED, FAILED, WRONG_AT_ONCE, ENDED, DRAINED, STEADY])
@pytest.mark.parametrize("proven", [False, True])
def test_nothing_is_started_while_everything_stops(life: Life, proven: bool) -> None:
    assert decide(life, proven=proven, stopping=True) == Over()


def test_pauses_are_anywhere_between_nothing_and_the_whole() -> None:
    random = Random(7)
    decisions = [POLICY.decide(FAILED, failures=3, proven=True, stopping=False, random=random) for _ in range(500)]
    pauses = [decision.after_s for decision in decisions if isinstance(decision, Again)]
    assert len(pauses) == 500
    assert 0.0 <= min(pauses) < 0.5
    assert 7.5 < max(pauses) <= 8.0


@pytest.mark.parametrize(
    ("life", "clean"),
    [
        (ENDED, True),
        (DRAINED, True),
        (FAILED, False),
        (KILLED, False),
        (Life(status=-15), True),  # told to stop before it had anything in flight
        (WRONG_AT_ONCE, True),
    ],
)
def test_only_what_was_in_flight_can_be_given_up(life: Life, clean: bool) -> None:
    assert life.clean is clean


@pytest.mark.parametrize(("status", "told"), [(0, "status-0"), (2, "status-2"), (-9, "SIGKILL"), (-99, "signal-99")])
def test_an_ending_is_told_in_a_word(status: int, told: str) -> None:
    assert Life(status=status).ending == told


def test_the_code_of_a_wrong_configuration_is_that_of_the_command_line() -> None:
    assert WRONG == Exit.WRONG
