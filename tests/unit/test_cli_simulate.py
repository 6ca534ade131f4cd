"""`streamflow simulate` runs seeds, tells what failed and how to see it again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamflow.cli.main import invoke
from streamflow.cli.simulate import Rehearsals
from streamflow.testing.simulation.faults import KINDS
from streamflow.testing.simulation.invariants import all_invariants
from streamflow.testing.simulation.oracle import Bounds
from streamflow.testing.simulation.rehearsal import ABSENT, Extent

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.testing.simulation.running import Outcome
    from streamflow.testing.simulation.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")
SHORT = ("--hours", "0.01", "--shards", "1")

MODULE = """
import time
import streamflow
from streamflow.testing.simulation import Scenario

def pipeline(handler, name="orders"):
    source = streamflow.DynamoDBStream(table="orders")
    return streamflow.Pipeline(name=name, source=source, handler=handler, starting_position="TRIM_HORIZON")

async def deliver(batch):
    print("delivered")

def on_time(batch):
    time.time()

def good(): return pipeline(deliver)
def leaky(): return pipeline(on_time)
def wrong():
    def check(ending): assert False, "never right"
    return Scenario(app=good, check=check)
def two(): return streamflow.App(pipelines=(pipeline(deliver), pipeline(on_time, "others")))
def with_argument(size): ...
def raising(): raise LookupError("no table")
def nothing(): ...
async def waiting(): ...
class Orders: ...
"""


class Told:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def simulate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Told]:
    """Calls the command where `simulated.py` is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "simulated.py").write_text(MODULE)
    (tmp_path / "orders.toml").write_text(
        '[pipelines.orders]\ntable = "orders"\nhandler = "simulated.py:deliver"\nstarting_position = "TRIM_HORIZON"\n'
    )
    (tmp_path / "console.toml").write_text(
        '[pipelines.orders]\ntable = "orders"\n[pipelines.orders.sink]\ntype = "console"\n'
    )

    def call(*arguments: str) -> Told:
        code = invoke(["simulate", *arguments])
        told = capsys.readouterr()
        return Told(code, told.out, told.err)

    return call


def test_seeds_that_pass_are_summed_up(simulate: Callable[..., Told]) -> None:
    told = simulate("simulated.py:good", *SHORT, "--seeds", "2")
    lines = told.out.splitlines()
    assert told.code == 0
    assert re.fullmatch(r"2 runs, 0\.\d simulated hours, \d+ records, \d+ delivered again, \d+ faults", lines[0])
    assert lines[-1] == "no promise was broken"
    assert "delivered" not in told.out.replace("delivered again", "")
    assert "delivered" in told.err


def test_a_seed_that_fails_is_told_with_the_command_that_does_it_again(simulate: Callable[..., Told]) -> None:
    told = simulate("simulated.py:wrong", *SHORT, "--seed", "2", "--without", "node", "--without", "network.twice")
    lines = told.out.splitlines()
    assert told.code == 1
    assert lines[0] == "seed 2 fails"
    assert re.fullmatch(r"  check at \d+\.\d{3} s: simulated\.py:\d+: AssertionError: never right", lines[1])
    assert "1 of 1 failed: check 1" in lines
    again = lines[-1].removeprefix("again: ")
    assert again == (
        "streamflow simulate simulated.py:wrong --seed 2 --hours 0.01 --shards 1 --without node --without network.twice"
    )
    trace = re.findall("trace (.+)", told.out)
    repeated = simulate(*shlex.split(again)[2:])
    assert repeated.code == 1
    assert re.findall("trace (.+)", repeated.out) == trace != []


def test_a_sweep_that_is_interrupted_tells_what_it_found(
    simulate: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Rehearsals.run

    def run_two(several: Rehearsals, seed: int) -> Outcome:
        if seed == 3:
            raise KeyboardInterrupt
        return run(several, seed)

    monkeypatch.setattr(Rehearsals, "run", run_two)
    told = simulate("simulated.py:wrong", *SHORT, "--seeds", "1000")
    assert told.code == 130
    assert "interrupted after 2 of 1000 seeds" in told.err
    assert "2 of 2 failed: check 2" in told.out
    assert told.out.splitlines()[-1].startswith("again: streamflow simulate simulated.py:wrong --seed 1 ")


def test_shrinking_says_which_faults_a_failure_needs(simulate: Callable[..., Told]) -> None:
    others = [kind for kind in KINDS if kind not in {"network.refused", "network.request_lost"}]
    without = [part for kind in others for part in ("--without", kind)]
    told = simulate("simulated.py:wrong", *SHORT, "--seed", "1", "--shrink", "--json", *without)
    found = json.loads(told.out)
    assert told.code == 1
    assert found["faults"] != {}
    assert found["needs"] == []
    assert all(f"--without {kind}" in found["again"] for kind in found["faults"])
    assert [each["seed"] for each in found["failed"]] == [1]
    assert [violation["invariant"] for violation in found["failed"][0]["violations"]] == ["check"]


def test_a_pipeline_file_is_simulated(simulate: Callable[..., Told]) -> None:
    told = simulate("orders.toml", *SHORT, "--seed", "1")
    assert (told.code, told.out.splitlines()[0]) == (0, "seed 1 passes")


def test_what_differs_from_run_to_run_is_told(simulate: Callable[..., Told]) -> None:
    told = simulate("simulated.py:two", *SHORT, "--seed", "1", "--pipeline", "others")
    assert told.code == 0
    assert "a seed may not repeat its run, because this differs from run to run: time.time in simulated.py:" in told.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("nonsense", "'nonsense' is neither a .toml file nor a target: write file.toml, module:name or path/file.py:name"),
        ("none.toml", "none.toml: cannot be read: No such file or directory"),
        ("simulated.py:goood", "simulated.py has no 'goood', did you mean good?"),
        ("simulated.py:Orders", "Orders is a class: name a Scenario, an App, a Pipeline, or a function that makes one"),
        ("simulated.py:waiting", "waiting is an async function: name a Scenario"),
        ("simulated.py:with_argument", "with_argument is called without arguments, and takes some"),
        ("simulated.py:raising", "LookupError: no table"),
        ("simulated.py:nothing", "nothing makes a NoneType: it is to make a Scenario, an App or a Pipeline"),
        ("simulated.py:two", "one is simulated at a time: name one of orders, others"),
        ("simulated.py:two --pipeline other", "there is no pipeline 'other', did you mean others?; there is orders, others"),
        ("console.toml", "the sink console of pipeline 'orders' would write to its real target"),
        ("orders.toml --without network.twise", "network.twise: there is no such kind of fault, did you mean network.twice?"),
        ("orders.toml --without netwerk", "did you mean network?; docs/simulation.md lists them"),
        ("orders.toml --hours 0", "Invalid value for '--hours'"),
        ("orders.toml --seeds 0", "Invalid value for '--seeds'"),
    ],
)  # fmt: skip
def test_wrong_use_is_told_with_the_next_step(simulate: Callable[..., Told], arguments: str, says: str) -> None:
    told = simulate(*arguments.split())
    assert told.code == 2
    assert says in told.err
    assert told.out == ""


def test_the_command_has_all_that_is_not_by_default() -> None:
    def never() -> Scenario:
        raise AssertionError("nothing is run")

    extent = Extent(hours=2.5, workers=3, writes_per_s=1.0)
    runs = Rehearsals(target="my file.toml", make=never, extent=extent, pipeline="orders/a", without=())
    assert runs.command(7, ["node"]) == (
        "streamflow simulate 'my file.toml' --seed 7 --pipeline orders/a --hours 2.5 --workers 3 --writes-per-s 1.0 "
        "--without node"
    )


def test_the_guide_lists_the_faults_that_strike() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| ([a-z]+) \| (.+) \|$", GUIDE, flags=re.MULTILINE)
    assert rows == [(name, kind.site, kind.says) for name, kind in KINDS.items() if name not in ABSENT]


def test_the_guide_lists_the_promises_that_are_checked() -> None:
    checked = {invariant.name for invariant in all_invariants(Bounds())}
    listed = re.findall(r"^\| (V\d+) \|", GUIDE, flags=re.MULTILINE)
    assert set(listed) == checked - {"V16"}
    assert sorted(listed, key=lambda name: int(name[1:])) == listed
