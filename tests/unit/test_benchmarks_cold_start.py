"""How the benchmark of starts times a process: to its end, or to its first mark."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.claims import Measurement
from benchmarks.cold_start import milliseconds_per_start, to_its_mark, whole

ROOT = Path(__file__).parents[2]
MARK = "from benchmarks.cold_programs.marking import mark\nmark()\n"


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets what is started find the programs, wherever the tests run."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_a_whole_process_is_timed_with_its_cpu_time() -> None:
    measured = whole(python("pass"))
    assert measured.count == 1
    assert measured.cpu_s > 0
    assert measured.wall_s > 0


def test_a_process_is_timed_to_its_first_mark_and_runs_to_its_end(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    told = "import os\nfor cpu_s in (0.5, 1.5):\n    os.write(int(os.environ['STREAMFLOW_BENCHMARK_MARK']), b'%g\\n' % cpu_s)\n"
    measured = to_its_mark(python(f"{told}open({str(ended)!r}, 'w').close()"))
    assert (measured.count, measured.cpu_s, ended.exists()) == (1, 0.5, True)


def test_a_mark_tells_the_cpu_time_so_far() -> None:
    assert to_its_mark(python(MARK)).cpu_s > 0


@pytest.mark.parametrize("program", ["", f"{MARK}raise SystemExit('no good')"])
def test_a_process_without_a_mark_or_a_good_end_is_an_error(program: str) -> None:
    with pytest.raises(ChildProcessError, match=r"ended with [01]:"):
        to_its_mark(python(program))


def test_the_figure_is_of_one_start() -> None:
    assert milliseconds_per_start(Measurement(count=4, wall_s=0.1, cpu_s=0.1)) == 25.0
