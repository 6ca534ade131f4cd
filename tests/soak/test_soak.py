"""The parts of the soak that are short enough for the suite, and what judges them; how fast anything is, is not judged here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from benchmarks.replay_stream import Shape
from soak import __main__ as command
from soak import page
from soak.marks import Marks
from soak.parts import PARTS
from soak.samples import slope
from soak.verdict import Limit, Verdict, none
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = Shape(2, 3, "small")
# Limits that a busy machine may miss; all others are about records.
_SPEED = (" per s", " ms", "ms of", "times the", "MB ", "s handed over", "s without", "of a core", "scrapes 0")


def record(shard: int, place: int) -> Record:
    number = SHAPE.sequence_number(shard, place // 1_000, place % 1_000)
    shape = Shard(stream_arn=SHAPE.stream_arn, shard_id=SHAPE.shard_id(shard))
    return Record(msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"%s"}}' % number.encode()), shape)


def marked(*places: tuple[int, int], expected: tuple[int, int] = (3_000, 3_000)) -> Marks:
    marks = Marks(SHAPE, expected)
    marks.take(record(*place) for place in places)
    return marks


# --- the oracle ------------------------------------------------------------------------------------------------------


def test_what_came_once_and_in_order_is_all_there() -> None:
    marks = marked(*((shard, place) for shard in (0, 1) for place in range(3_000)))
    assert marks.received == 6_000
    assert set(marks.details().values()) == {0}


def test_what_never_came_is_lost_and_what_was_passed_is_skipped() -> None:
    marks = marked((0, 0), (0, 1), (0, 5), (1, 0))
    assert marks.lost() == 5_996
    assert marks.skipped() == 3
    assert marks.details(complete=False)["lost"] == 3


def test_what_came_twice_is_a_duplicate_and_no_disorder() -> None:
    details = marked((0, 0), (0, 1), (0, 0)).details()
    assert (details["duplicates"], details["disordered"]) == (1, 0)


def test_what_came_first_behind_a_newer_one_is_disorder() -> None:
    assert marked((0, 1), (0, 0)).details()["disordered"] == 1


def test_what_nobody_wrote_is_invented() -> None:
    assert marked((1, 2_999), expected=(3_000, 2_999)).details()["invented"] == 1


def test_places_count_over_the_pages_of_a_shard() -> None:
    marks = Marks(SHAPE, (3_000, 3_000))
    assert [marks.place_of(record(1, place)) for place in (0, 999, 1_000, 2_999)] == [
        (1, 0),
        (1, 999),
        (1, 1_000),
        (1, 2_999),
    ]


def test_a_slope_is_that_of_the_line_through_the_values() -> None:
    assert slope([1.0, 3.0, 5.0, 7.0]) == pytest.approx(2.0)
    assert slope([5.0, 4.0, 6.0, 5.0]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="too few"):
        slope([1.0, 2.0])


# --- verdicts and the page -------------------------------------------------------------------------------------------


def verdict(name: str = "L1", *limits: Limit) -> Verdict:
    return Verdict(
        name=name,
        says="what it is about",
        command="make soak",
        seed=7,
        seconds=2.0,
        records=1_000,
        kills=3,
        lost=0,
        duplicates=4,
        limits=list(limits),
        figures={},
    )


def test_a_limit_is_kept_up_to_its_bound() -> None:
    assert [Limit(name="n", found=found, at_most=1.0).met for found in (1.0, 1.001)] == [True, False]
    assert [Limit(name="n", found=found, at_least=1.0).met for found in (1.0, 0.999)] == [True, False]
    assert [limit.met for limit in none(lost=0, out_of_order=1)] == [True, False]


def test_a_later_verdict_takes_the_place_of_an_earlier_one_of_its_part(tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    page.merged(path, [verdict("L2"), verdict("L1")])
    later = verdict("L2", Limit(name="slow", found=2.0, at_most=1.0))
    assert page.merged(path, [later]) == [verdict("L1"), later] == page.kept(path)


def test_the_table_says_what_was_not_kept() -> None:
    text = page.render([verdict("L1", *none(lost=0)), verdict("L2", *none(lost=2))])
    assert "| **L1** what it is about | 2 | 1,000 | 3 | 0 | 4 | lost 0 (≤ 0) | yes |" in text
    assert "| lost 2 (≤ 0) | no |" in text


def test_a_limit_that_is_not_kept_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "L1", _Played(verdict("L1", *none(lost=1))))
    told = CliRunner().invoke(command.main, ["L1"])
    assert told.exit_code == 1
    assert "NOT MET: lost 1 (≤ 0); again: make soak" in told.output


class _Played:
    seconds = 1.0

    def __init__(self, told: Verdict) -> None:
        self._told = told

    def play(self, _part: object, _seconds: float, _seed: int) -> Verdict:
        return self._told


# --- the parts, shortened --------------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "seconds"), [("L7", 1), ("L8", 1), ("L10", 1)])
def test_a_short_part_accounts_for_every_record(name: str, seconds: float) -> None:
    part = PARTS[name]
    found = part.play(part, seconds, 1)
    print(found.line)
    assert found.records > 0
    assert [limit.text for limit in found.broken if not any(word in limit.text for word in _SPEED)] == []


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_memory_is_sampled_while_the_sink_stalls() -> None:
    part = PARTS["L5"]
    found = part.play(part, 6, 1)
    assert found.figures["points"] >= 3
    assert [limit.text for limit in found.broken if not any(word in limit.text for word in _SPEED)] == []
