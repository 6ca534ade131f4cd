"""The guard's own rules: what it counts, what it says of growth, and that it notices when it measures something else."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING

import orjson
import pytest
from click.testing import CliRunner

from guard import __main__ as commands
from guard import budgets
from guard.budgets import Budgets
from guard.costs import Cost, Figure, ShapeError, cost
from guard.counting import Counting, Counts
from guard.figures import FIGURES, SCALES, scene

if TYPE_CHECKING:
    from pathlib import Path

BUDGETS = Budgets(margin=0.1, amounts={"record": {"instructions": 50.0, "calls": 0.0}, "idle_shard": {"bytes": 30_000}})


def append(times: int, values: list[int]) -> None:
    for value in range(times):
        values.append(value)  # noqa: PERF402 - a call is what is counted


def standing_in(file: str) -> FunctionType:
    """`append`, as if it stood in that file."""
    assert isinstance(append, FunctionType)
    return FunctionType(append.__code__.replace(co_filename=file), {"range": range})


def counted(function: FunctionType, times: int) -> tuple[int, dict[str, int]]:
    counts = Counts(apart="apart/")
    counting = Counting(counts)
    counting.start()
    try:
        function(times, [])
    finally:
        counting.stop()
    for tally in counts.tallies.values():
        if tally.code is function.__code__:
            return tally.instructions, dict(tally.calls)
    return 0, {}


# --- counting --------------------------------------------------------------------------------------------------------


def test_instructions_and_calls_grow_with_the_work_and_with_nothing_else() -> None:
    work = standing_in("somewhere.py")
    counted(work, 1)
    (one, one_called), (two, two_called), (three, three_called) = (counted(work, times) for times in (10, 20, 30))
    assert two - one == three - two > 0
    assert (two - one) % 10 == 0
    assert [called["list.append"] for called in (one_called, two_called, three_called)] == [10, 20, 30]


def test_code_of_those_who_count_is_left_out() -> None:
    assert counted(standing_in("apart/scenes.py"), 10) == (0, {})


def test_nothing_is_counted_after_the_end() -> None:
    counts = Counts(apart="apart/")
    counting = Counting(counts)
    counting.start()
    counting.stop()
    before = sum(tally.instructions for tally in counts.tallies.values())
    standing_in("somewhere.py")(10, [])
    assert sum(tally.instructions for tally in counts.tallies.values()) == before


# --- figures ---------------------------------------------------------------------------------------------------------


def test_a_figure_is_the_difference_for_each_unit() -> None:
    figure = Figure(
        name="page",
        words="a page",
        unit="pages",
        along=frozenset({"batches", "records"}),
        less=scene(pages=1, records=5),
        more=scene(pages=3, records=5),
    )
    cost(figure)
    found = cost(figure)
    assert found.instructions > 1_000
    assert found.calls > 50
    assert sum(line.instructions for line in found.by_place()) == pytest.approx(found.instructions)
    assert sum(times for _, times in found.by_call()) == pytest.approx(found.calls)
    assert any(line.place.startswith("streamflow/engine/reader.py:") for line in found.by_place())
    assert not any("guard/" in line.place for line in found.by_place())


def test_scenes_that_differ_in_something_else_are_no_figure() -> None:
    less, more = scene(pages=1, records=10), scene(pages=2, records=10)
    with pytest.raises(ShapeError, match=r"differ by 10 of these and \{'pages': 1, 'batches': 1\}"):
        cost(Figure(name="record", words="", unit="records", less=less, more=more))


def test_scenes_that_do_not_differ_are_no_figure() -> None:
    same = scene(pages=1, records=10)
    with pytest.raises(ShapeError, match=r"differ by 0 of these and \{\}"):
        cost(Figure(name="record", words="", unit="records", less=same, more=same))


def test_every_figure_has_a_name_of_its_own() -> None:
    names = [figure.name for figure in (*FIGURES, *(each for scale in SCALES for each in (scale.few, scale.many)))]
    assert len(set(names)) == len(names)


def test_the_functions_with_the_most_come_first() -> None:
    found = Cost({("a.py:1 a", ""): 10.0, ("b.py:1 b", ""): 8.0, ("b.py:1 b", "len"): 1.0, ("c.py:1 c", "len"): 1.0})
    assert [(line.place, line.instructions, line.calls) for line in found.by_place()] == [
        ("b.py:1 b", 8.0, 1.0),
        ("a.py:1 a", 10.0, 0.0),
        ("c.py:1 c", 0.0, 1.0),
    ]
    assert found.by_call() == [("len", 2.0)]


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_growth_within_the_margin_and_savings_are_fine() -> None:
    assert BUDGETS.grown({"record": {"instructions": 55.0, "calls": 0.0}, "idle_shard": {"bytes": 100.0}}) == []


def test_growth_says_what_by_how_much_where_to_look_and_how_to_accept_it() -> None:
    (text,) = BUDGETS.grown({"record": {"instructions": 56.0}})
    assert text.splitlines() == [
        "record: bytecode instructions have grown from 50 to 56, by 12.0%; 10% is allowed",
        "  where it goes: PYTHONPATH=tests .venv/bin/python -m guard breakdown record",
        "  if it is worth that: PYTHONPATH=tests .venv/bin/python -m guard accept",
    ]


def test_something_where_nothing_was_has_grown() -> None:
    (text,) = BUDGETS.grown({"record": {"calls": 1.0}})
    assert text.startswith("record: calls of C functions have grown from 0 to 1; 10% is allowed")


def test_memory_has_a_budget_too() -> None:
    (text,) = BUDGETS.grown({"idle_shard": {"bytes": 40_000.0}})
    assert text.startswith("idle_shard: bytes held have grown from 30000 to 40000, by 33.3%")


def test_a_figure_without_a_budget_is_not_passed_over() -> None:
    (text,) = BUDGETS.grown({"window": {"instructions": 7.0}})
    assert text.startswith("window: there is no budget for its bytecode instructions (7)")


def test_what_is_accepted_replaces_that_of_one_version_of_python() -> None:
    before = orjson.dumps({"margin": 0.2, "python": {"3.9": {"record": {"calls": 1.0}}, "3.11": {"record": {}}}})
    after = budgets.accepted(before, {"record": {"calls": 2.0}}, "3.11")
    assert list(orjson.loads(after)["python"]) == ["3.9", "3.11"]
    assert budgets.load(after, "3.11") == Budgets(margin=0.2, amounts={"record": {"calls": 2.0}})
    assert budgets.load(after, "3.9") == Budgets(margin=0.2, amounts={"record": {"calls": 1.0}})
    assert budgets.load(after, "3.12") is None


def test_the_file_has_a_budget_for_every_figure_of_every_version() -> None:
    content = orjson.loads(budgets.FILE.read_bytes())
    names = {*(figure.name for figure in FIGURES), "idle_shard", "record_in_hand"}
    assert {version: set(amounts) for version, amounts in content["python"].items()} == dict.fromkeys(
        content["python"], names
    )


# --- commands --------------------------------------------------------------------------------------------------------


def test_a_breakdown_shows_functions_and_what_they_call() -> None:
    done = CliRunner().invoke(commands.main, ["breakdown", "record", "--top", "3"], catch_exceptions=False)
    lines = done.stdout.splitlines()
    assert lines[0] == "record: a record, whose handler looks at nothing"
    assert sum(".py:" in line for line in lines) == 3
    assert done.exit_code == 0


def test_accepting_writes_the_figures_and_the_comparison_with_them_finds_no_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "budgets.json"
    file.write_text('{"margin": 0.1, "python": {"3.9": {"record": {"calls": 1.0}}}}', "utf-8")
    monkeypatch.setattr(budgets, "FILE", file)
    monkeypatch.setattr(commands, "FIGURES", FIGURES[:1])
    monkeypatch.setattr(commands, "_MEMORY", ())
    unknown = CliRunner().invoke(commands.main, [], catch_exceptions=False)
    assert "nobody has measured" in unknown.stdout
    accepted = CliRunner().invoke(commands.main, ["accept"], catch_exceptions=False)
    assert accepted.exit_code == 0
    content = orjson.loads(file.read_bytes())
    assert set(content["python"]) == {"3.9", budgets.VERSION}
    same = CliRunner().invoke(commands.main, [], catch_exceptions=False)
    assert (same.exit_code, same.stdout.count("+0.0%")) == (0, 2)
    content["python"][budgets.VERSION]["record"]["instructions"] /= 2
    file.write_bytes(orjson.dumps(content))
    grown = CliRunner().invoke(commands.main, [], catch_exceptions=False)
    assert grown.exit_code == 1
    assert "have grown from" in grown.stdout
