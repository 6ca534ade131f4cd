"""What the workers of a rolling restart log of their leases, as times in which shards were nobody's."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from chaos.handovers import longest_gap
from streamflow import events
from streamflow.observe.logs import EventLog, KeyValueFormatter

TAKEN = events.LeaseTaken(pipeline="p", shard_id="s", epoch=2, previous_owner="one")
GIVEN = events.LeaseHandedOver(pipeline="p", shard_id="s", to="two")


def logged(*facts: tuple[float, events.Event]) -> list[str]:
    """The lines that a worker's log really has for these events."""
    lines: list[str] = []

    class Lines(logging.Handler):
        at_s = 0.0

        def emit(self, record: logging.LogRecord) -> None:
            record.created = self.at_s
            lines.append(KeyValueFormatter().format(record))

    logger, handler = logging.getLogger("streamflow"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        for at_s, event in facts:
            handler.at_s = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + at_s
            EventLog(logger)(event)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return lines


def test_from_hand_to_hand() -> None:
    gap = longest_gap([logged((3.25, TAKEN), (9.0, GIVEN), (9.1, TAKEN)), logged((1.0, TAKEN), (3.0, GIVEN))])
    assert gap is not None
    assert gap.shard_id == "s"
    assert gap.length_s == pytest.approx(0.25)


def test_a_release_and_a_passing_on_of_what_was_not_taken_count_from_the_first() -> None:
    released = events.LeaseReleased(pipeline="p", shard_id="s")
    gap = longest_gap([logged((1.0, released), (1.5, GIVEN), (2.0, TAKEN))])
    assert gap is not None
    assert gap.length_s == pytest.approx(1.0)


def test_children_are_nobodys_from_the_end_of_their_parent_on() -> None:
    ended = events.ShardClosed(
        pipeline="p", shard_id="parent", reason=events.ShardClosing.ENDED, children=("s", "t"), abandoned=0
    )
    child = events.LeaseTaken(pipeline="p", shard_id="t", epoch=1, previous_owner=None)
    gap = longest_gap([logged((1.0, ended), (1.1, TAKEN), (1.75, child))])
    assert gap is not None
    assert gap.shard_id == "t"
    assert gap.length_s == pytest.approx(0.75)


def test_who_logs_that_it_took_a_lease_before_the_other_logs_that_it_let_go_left_no_gap() -> None:
    giving = logged((1.0, TAKEN), (3.01, GIVEN))
    taking = logged((3.0, TAKEN), (20.0, GIVEN), (20.5, TAKEN))
    gap = longest_gap([giving, taking])
    assert gap is not None
    assert gap.length_s == pytest.approx(0.5)


def test_a_child_that_was_taken_before_the_end_of_its_parent_was_logged_left_no_gap() -> None:
    ended = events.ShardClosed(
        pipeline="p", shard_id="parent", reason=events.ShardClosing.ENDED, children=("s",), abandoned=0
    )
    gap = longest_gap([logged((1.01, ended)), logged((1.0, TAKEN), (9.0, GIVEN), (9.25, TAKEN))])
    assert gap is not None
    assert gap.length_s == pytest.approx(0.25)


def test_what_nobody_takes_any_more_does_not_count() -> None:
    assert longest_gap([logged((1.0, TAKEN), (3.0, GIVEN))]) is None
    assert longest_gap([["not a line", ""]]) is None
