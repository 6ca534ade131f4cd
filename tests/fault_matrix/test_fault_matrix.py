"""The page of faults is what the tests found: every fault is there, and every test that it names is there and has its mark."""

from __future__ import annotations

from pathlib import Path

from fault_matrix.marks import marked
from fault_matrix.page import render
from fault_matrix.results import load
from fault_matrix.rows import ROWS

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "docs" / "fault-matrix.json", ROOT / "docs" / "fault-matrix.md"


def test_the_faults_are_f1_to_f60() -> None:
    assert [row.number for row in ROWS] == [f"F{number}" for number in range(1, 61)]


def test_every_text_is_a_sentence() -> None:
    texts = [text for row in ROWS for text in (row.expected, row.differs, row.untested) if text]
    assert [text for text in texts if not (text[0].isupper() and text.endswith("."))] == []


def test_every_fault_has_a_test_or_says_why_not() -> None:
    tests = marked(ROOT)
    assert tests.keys() <= {row.number for row in ROWS}, "a mark names no fault"
    assert [row.number for row in ROWS if row.number not in tests and not row.untested] == []


def test_the_results_are_those_of_the_tests_that_have_marks() -> None:
    found = {number: sorted(outcomes) for number, outcomes in load(RESULTS).items()}
    assert found == marked(ROOT), "run: make faults"


def test_no_test_has_failed() -> None:
    outcomes = [(number, *each) for number, found in load(RESULTS).items() for each in found.items()]
    assert [each for each in outcomes if each[-1] == "failed"] == []


def test_the_page_is_that_of_the_results() -> None:
    assert PAGE.read_text("utf-8") == render(ROWS, load(RESULTS)), "run: make faults"
