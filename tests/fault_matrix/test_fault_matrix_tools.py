"""Marks are found in the source, results are collected however the tests are run, and the page says what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fault_matrix.marks import marked, marks_of
from fault_matrix.page import observed, render, verdict
from fault_matrix.results import Results, load
from fault_matrix.rows import Row

ROOT = Path(__file__).parents[2]
ROW = Row(number="F1", fault="A fault", expected="Refuse.")

SOURCE = """
import pytest

@pytest.mark.fault("F1", "F2")
@pytest.mark.parametrize("n", [1])
async def test_one(n): ...

class TestThat:
    @pytest.mark.fault("F2")
    def test_two(self): ...

@pytest.mark.anyio
def test_three(): ...
"""

# --- marks -----------------------------------------------------------------------------------------------------------


def test_marks_are_found_on_functions_and_in_classes() -> None:
    assert [*marks_of(SOURCE, "tests/unit/test_x.py")] == [
        ("F1", "tests/unit/test_x.py::test_one"),
        ("F2", "tests/unit/test_x.py::test_one"),
        ("F2", "tests/unit/test_x.py::TestThat::test_two"),
    ]


@pytest.mark.parametrize("decorator", ["@pytest.mark.fault", "@pytest.mark.fault()", "@pytest.mark.fault(NUMBER)"])
def test_a_mark_without_a_number_in_it_is_refused(decorator: str) -> None:
    with pytest.raises(ValueError, match=r"tests/x\.py:1: a mark names its faults"):
        list(marks_of(f"{decorator}\ndef test_one(): ...", "tests/x.py"))


def test_tests_and_plugins_are_looked_through(tmp_path: Path) -> None:
    for place in ("tests/unit", "plugins/redis/tests", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "test_x.py").write_text('import pytest\n@pytest.mark.fault("F7")\ndef test_y(): ...\n')
    assert marked(tmp_path) == {"F7": ["plugins/redis/tests/test_x.py::test_y", "tests/unit/test_x.py::test_y"]}


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_worst_of_a_tests_parameters_counts_and_numbers_are_in_order(tmp_path: Path) -> None:
    results = Results()
    results.note("b.py::test_b[1]", ["F10", "F2"], "passed")
    results.note("b.py::test_b[2]", ["F10", "F2"], "skipped: no server")
    results.note("b.py::test_b[3]", ["F10", "F2"], "passed")
    results.note("a.py::test_a[x]", ["F2"], "failed")
    results.note("a.py::test_a[y]", ["F2"], "passed")
    results.note("c.py::test_c", [], "failed")
    results.write(tmp_path / "r.json")
    assert load(tmp_path / "r.json") == {
        "F2": {"a.py::test_a": "failed", "b.py::test_b": "skipped: no server"},
        "F10": {"b.py::test_b": "skipped: no server"},
    }
    assert list(load(tmp_path / "r.json")) == ["F2", "F10"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_option_writes_the_same_file_with_and_without_workers(workers: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["fault_matrix.results"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault(number): x\n")
    (tmp_path / "test_x.py").write_text(_TESTS)
    program = [sys.executable, "-m", "pytest", "-q", "-n", workers, "--dist", "loadgroup", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [*program, "-m", "fault", "--fault-results", "r.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "tests"), "PATH": ""},
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert load(tmp_path / "r.json") == {
        "F1": {
            "test_x.py::test_breaks_before_it_begins": "failed",
            "test_x.py::test_fails_once": "failed",
            "test_x.py::test_passes": "passed",
        },
        "F2": {"test_x.py::test_cannot": "skipped: there is no server", "test_x.py::test_passes": "passed"},
    }


_TESTS = """
import pytest

@pytest.mark.fault("F1", "F2")
@pytest.mark.xdist_group("together")
def test_passes(): ...

@pytest.mark.fault("F1")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_fails_once(n):
    assert n != 2

@pytest.mark.fault("F2")
def test_cannot():
    pytest.skip("there is no server")

@pytest.fixture
def broken():
    raise RuntimeError

@pytest.mark.fault("F1")
def test_breaks_before_it_begins(broken): ...

def test_other(): ...
"""

# --- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "outcomes", "expected"),
    [
        (ROW, {"a": "passed"}, "as expected"),
        (ROW, {"a": "passed", "b": "failed"}, "failed"),
        (ROW, {"a": "passed", "b": "skipped: no server"}, "as expected in part"),
        (ROW, {"a": "skipped: no server"}, "not tested here"),
        (ROW, {}, "not tested here"),
        (Row(number="F1", fault="A", expected="B.", untested="C."), {"a": "passed"}, "as expected in part"),
        (Row(number="F1", fault="A", expected="B.", differs="C."), {"a": "passed"}, "otherwise on purpose"),
        (Row(number="F1", fault="A", expected="B.", differs="C."), {"a": "failed"}, "failed"),
    ],
)
def test_a_verdict_says_no_more_than_was_seen(row: Row, outcomes: dict[str, str], expected: str) -> None:
    assert verdict(row, outcomes) == expected


def test_a_test_observes_what_its_name_says() -> None:
    assert observed("tests/unit/test_x.py::TestThat::test_nothing_is_lost") == "nothing is lost"


def test_the_page_has_a_line_and_a_part_for_every_fault() -> None:
    rows = [ROW, Row(number="F2", fault="Another", expected="Retry.", differs="It halts.", untested="A real one.")]
    text = render(rows, {"F2": {"tests/unit/test_x.py::test_it_halts": "passed"}})
    assert "2 faults: 1 not tested here, 1 otherwise on purpose. 1 tests." in text
    assert (
        "| [F1](#f1) | A fault | not tested here | - |\n| [F2](#f2) | Another | otherwise on purpose | unit |" in text
    )
    assert text.partition("### F2\n")[2] == (
        "\n**Another.** Expected: Retry.\n\nOtherwise on purpose: It halts.\n\nNot tested here: A real one.\n\n"
        "- passed: it halts ([tests/unit/test_x.py](../tests/unit/test_x.py)`::test_it_halts`)\n"
    )


def test_the_page_is_written_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"F1": {"tests/unit/test_x.py::test_y": "passed"}}')
    program = [sys.executable, "-m", "fault_matrix", "r.json", "page.md"]
    subprocess.run(program, cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT / "tests"), "PATH": ""})
    assert "- passed: y (" in (tmp_path / "page.md").read_text()
