"""Points between an effect and its record: which there are, what may be armed there, and who refuses to run with them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow.cli.run_options import RunOptions
from streamflow.cli.supervision.process import command
from streamflow.errors import ConfigError
from streamflow.failpoints import NAMES, VARIABLE, check_environment, reach
from streamflow.failpoints import armed as anything_armed
from streamflow.testing import failpoints
from streamflow.testing.failpoints import FailpointError, Rule, Rules, armed, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "streamflow"


def reached_in(source: str) -> Iterator[str]:
    """What is given to `reach` in a module; a condition may choose between two names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
            (name,) = node.args
            for each in (name.body, name.orelse) if isinstance(name, ast.IfExp) else (name,):
                assert isinstance(each, ast.Constant), ast.unparse(node)
                yield str(each.value)


def test_every_point_in_the_source_is_registered_and_stands_there_once() -> None:
    found = Counter(name for path in PACKAGE.rglob("*.py") for name in reached_in(path.read_text("utf-8")))
    assert found == Counter(NAMES.keys())


def test_names_in_the_source_are_found() -> None:
    assert list(reached_in('async def f():\n    await reach("a" if x else "b")\n    await reach("c")')) == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_window_is_one_sentence(name: str) -> None:
    assert NAMES[name].endswith(".")
    assert NAMES[name].count(". ") == 0


def test_the_page_lists_the_points_as_they_are() -> None:
    page = (ROOT / "docs" / "failpoints.md").read_text(encoding="utf-8").partition("\n## The points\n")[2]
    assert re.findall(r"^\| `(\S+)` \| (.+) \|$", page, flags=re.MULTILINE) == list(NAMES.items())


def test_the_command_lists_the_points_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["failpoints"])
    failpoints.main()
    assert [tuple(line.split(None, 1)) for line in capsys.readouterr().out.splitlines()] == list(NAMES.items())


# --- arming ------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_point_that_is_not_armed_does_not_even_wait() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await reach("batch.handled")  # would be cancelled here
    assert not scope.cancelled_caught


@pytest.mark.anyio
async def test_the_action_armed_last_is_awaited_until_its_block_ends() -> None:
    outer: list[str] = []
    inner: list[str] = []

    async def note_outside(name: str) -> None:
        outer.append(name)

    async def note_inside(name: str) -> None:
        inner.append(name)

    with armed(note_outside):
        await reach("page.read")
        with armed(note_inside):
            await reach("batch.handled")
        await reach("checkpoint.stored")
    await reach("lease.taken")
    assert (outer, inner) == (["page.read", "checkpoint.stored"], ["batch.handled"])
    assert not anything_armed()


# --- rules -------------------------------------------------------------------------------------------------------------


def test_rules_are_read() -> None:
    assert parse(
        " batch.handled=kill ;page.read=raise:0.5; lease.taken = sleep:5:0.25@3;;checkpoint.stored=kill@2"
    ) == [
        Rule(name="batch.handled", what="kill"),
        Rule(name="page.read", what="raise", probability=0.5),
        Rule(name="lease.taken", what="sleep", seconds=5.0, probability=0.25, at=3),
        Rule(name="checkpoint.stored", what="kill", at=2),
    ]
    assert parse("") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batch.handled", "'batch.handled' is no failpoint: write NAME=ACTION, for instance batch.handled=kill@3"),
        ("batch.handed=kill", "there is no failpoint 'batch.handed', did you mean batch.handled?"),
        ("x=kill", "there is no failpoint 'x': `python -m streamflow.testing.failpoints` lists them"),
        ("batch.handled=kil", "batch.handled: a failpoint cannot 'kil', did you mean kill?"),
        ("batch.handled=", "batch.handled: a failpoint cannot '': it may kill, raise, sleep"),
        ("batch.handled=sleep", "batch.handled: sleep how long? Write sleep:SECONDS"),
        ("batch.handled=sleep:-1", "batch.handled: seconds should be 0 or more"),
        ("batch.handled=sleep:inf", "batch.handled: seconds should be 0 or more"),
        ("batch.handled=sleep:soon", "batch.handled: seconds should be a number, not 'soon'"),
        ("batch.handled=kill:2", "batch.handled: probability should be from 0 to 1"),
        ("batch.handled=kill:nan", "batch.handled: probability should be from 0 to 1"),
        ("batch.handled=kill:1:1", "batch.handled: 'kill:1:1' has more than a probability behind the colon"),
        ("batch.handled=kill@0", "batch.handled: @ is followed by the number of the time it is reached, 1 or more"),
        ("batch.handled=kill@", "batch.handled: @ is followed by the number of the time it is reached, 1 or more"),
    ],
)
def test_a_mistake_says_what_was_probably_meant(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert str(refused.value).startswith(f"{VARIABLE}: {says}")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse("page.read=kill;one;two")
    assert [line.split("'")[1] for line in str(refused.value).splitlines()] == ["one", "two"]


@pytest.mark.anyio
async def test_a_rule_with_a_time_strikes_that_time_only() -> None:
    rules = Rules(parse("page.read=raise@2"))
    await rules("page.read")
    await rules("batch.handled")
    with pytest.raises(FailpointError, match=r"the failpoint page\.read is armed to raise this"):
        await rules("page.read")
    await rules("page.read")


@pytest.mark.anyio
async def test_a_rule_with_a_probability_strikes_about_that_often() -> None:
    rules = Rules(parse("page.read=raise:0.25"), Random(3))
    struck = 0
    for _ in range(400):
        try:
            await rules("page.read")
        except FailpointError:
            struck += 1
    assert 60 < struck < 140  # 100 on average; six standard deviations are 52


@pytest.mark.anyio
async def test_all_rules_of_a_point_apply_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    with pytest.raises(FailpointError):
        await Rules(parse("page.read=sleep:7;page.read=raise"))("page.read")
    assert slept == [7.0]


# --- production --------------------------------------------------------------------------------------------------------


def test_a_process_that_would_ignore_the_variable_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    check_environment()
    monkeypatch.setenv(VARIABLE, "batch.handled=kill")
    with pytest.raises(ConfigError, match="STREAMFLOW_FAILPOINTS is set, and this process would ignore it: unset it"):
        check_environment()
    with armed(Rules(())):
        check_environment()


def test_the_workers_of_a_supervisor_are_armed_as_it_is() -> None:
    given: dict[str, Any] = dict.fromkeys((field.name for field in fields(RunOptions)), None)
    chosen = RunOptions(**{**given, "target": "orders.toml"})

    def module() -> str:
        words = command(chosen, number=0, workers=2, name="w", channel=3, debug=False)
        return words[words.index("-m") + 1]

    assert module() == "streamflow.cli.main"
    with armed(Rules(())):
        assert module() == "streamflow.testing.failpoints"
