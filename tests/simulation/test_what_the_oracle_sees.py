"""The product with one thing broken, in whole worlds: the invariant that is there for it says so."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow import failpoints
from streamflow.engine import reader
from streamflow.engine.worker import Worker
from streamflow.observe.shards import ShardFacts
from streamflow.rules.pacing import Backoff, PollPace
from streamflow.testing.simulation import interrupted
from streamflow.testing.simulation.history import History
from streamflow.testing.simulation.interrupted import INTERRUPTED, play
from streamflow.testing.simulation.running import simulate
from streamflow.testing.simulation.sinks import SimulatedSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.records import Record

pytestmark = pytest.mark.timeout(180)
"""Each is a whole world, some of them two."""


def broken(seed: int, world: str = "small") -> dict[str, str]:
    """Each invariant that breaks in the world of a seed, with what it says first."""
    says: dict[str, str] = {}
    for violation in play(seed, world).violations:
        says.setdefault(violation.invariant, violation.says)
    return says


def test_that_one_shard_in_two_is_polled_seldom_is_unfair(monkeypatch: pytest.MonkeyPatch) -> None:
    paced = PollPace.delay_s

    def unfair(self: PollPace, *, phase: float, **more: Any) -> float:
        return paced(self, phase=phase, **more) * (8 if int(1_000 * phase) % 2 else 1)

    monkeypatch.setattr(PollPace, "delay_s", unfair)
    assert "times a second" in broken(36)["V8"]


def test_that_a_lag_is_not_told_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShardFacts, "iterator_age_s", lambda _self, _now_s: 0.0)
    assert "0.0 s old" in broken(4)["V13"]


def test_that_an_outage_is_answered_by_a_storm_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "READ_BACKOFF", Backoff(first_s=0.1, max_s=0.1))
    assert "and it failed" in broken(34)["V15"]


# What was abandoned in the middle complains when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_that_does_not_even_end_when_it_breaks_off_leaves_no_point_armed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []

    async def wait_on(_self: History) -> None:
        kept.append(asyncio.current_task())
        with suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        await anyio.sleep_forever()

    monkeypatch.setattr(History, "run", wait_on)
    simulate(1)
    assert not failpoints.armed()
    kept.clear()
    gc.collect()


async def _thread() -> None:
    asyncio.get_running_loop().run_in_executor(None, int)


async def _task() -> None:
    task = asyncio.get_running_loop().create_task(anyio.sleep(3_600), name="forgotten")
    task.add_done_callback(lambda _: None)


async def _timer() -> None:
    asyncio.get_running_loop().call_later(3_600, int)


@pytest.mark.parametrize(("leave", "left"), [(_task, "forgotten"), (_timer, "a timer"), (_thread, "run_in_executor")])
def test_what_a_worker_leaves_behind_is_seen(
    monkeypatch: pytest.MonkeyPatch, leave: Callable[[], Any], left: str
) -> None:
    run = Worker.run

    async def and_leave(self: Worker) -> None:
        await run(self)
        await leave()

    monkeypatch.setattr(Worker, "run", and_leave)
    assert left in broken(2)["V17"]


def test_what_a_worker_that_is_killed_leaves_behind_is_seen_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Worker.run

    async def beside(self: Worker) -> None:
        await _timer()
        await run(self)

    monkeypatch.setattr(Worker, "run", beside)
    # A world in which somebody is killed comes soon.
    worlds = (play(seed, "small") for seed in range(3, 20))
    assert any("at the end" in violation.says for world in worlds for violation in world.violations)


def test_that_the_first_record_of_each_life_is_lost_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    accept = SimulatedSink.accept
    begun: set[str] = set()

    def all_but_one(self: SimulatedSink, node: str, invocation: int, batch: Batch, records: Sequence[Record]) -> None:
        accept(self, node, invocation, batch, records if node in begun else records[1:])
        begun.add(node)

    monkeypatch.setattr(SimulatedSink, "accept", all_but_one)
    assert "differs" in broken(12, INTERRUPTED)["V18"]


@pytest.mark.parametrize("seed", [3, 12])
def test_a_run_that_is_interrupted_leaves_what_a_whole_one_leaves(seed: int) -> None:
    outcome = play(seed, INTERRUPTED)
    assert outcome.violations == (), f"{outcome.violations[0]}\n{outcome.command}"
    assert outcome.injected["node.stop"]
    assert outcome.command.endswith(f"--seed {seed} --world {INTERRUPTED}")


def test_nothing_but_stops_is_new_in_a_run_that_is_interrupted() -> None:
    kinds = set(play(3, INTERRUPTED, without=["lineage.split"]).injected)
    assert "lineage.split" not in kinds
    assert kinds <= {*interrupted.STOPS, *interrupted.RESHAPING}
