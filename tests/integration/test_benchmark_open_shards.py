"""Contenders that read open shards, and the one with a backlog: each does its whole work and measures what its claims name."""

from __future__ import annotations

from contextlib import ExitStack
from math import isfinite
from typing import TYPE_CHECKING

import pytest

from benchmarks import backlog, idle_shards, latency, shards_scale
from benchmarks.harness import Cores, environment, replay_server
from benchmarks.open_shards import by_aioboto3, by_aiohttp, by_streamflow, open_table
from benchmarks.replay_stream import Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.claims import Claim, Contender
    from benchmarks.open_shards import Polling

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CORE = Cores.available().server


@pytest.fixture(scope="module")
def replay() -> Iterator[str]:
    with replay_server(CORE) as url:
        yield url


@pytest.fixture(scope="module")
def servers() -> Iterator[Mapping[str, Mapping[str, str]]]:
    """What the servers of the claims put into the environment, by the claim's name."""
    with ExitStack() as stack:
        idle, dripping = (
            stack.enter_context(claim.serve(CORE)) for claim in (idle_shards.CPU, latency.CLAIM) if claim.serve
        )
        yield {"idle_poll_cpu": idle, "shards_memory": idle, "latency": dripping, "shards_scale": idle, "backlog": idle}


@pytest.fixture
def surroundings(
    replay: str, servers: Mapping[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, Mapping[str, str]]:
    """With short intervals, and the environment that a contender has but for the server of its claim."""
    for name, value in environment(replay).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(idle_shards, "_POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(idle_shards, "_POLL_INTERVAL_OF_MEMORY_S", 0.05)
    monkeypatch.setattr(latency, "_POLL_INTERVAL_S", 0.05)
    monkeypatch.setattr(backlog, "_SAMPLE_S", 0.001)
    return servers


def contenders(*claims: Claim) -> dict[str, tuple[Claim, Contender]]:
    return {contender.target: (claim, contender) for claim in claims for contender in claim.contenders}


def enter(claim: Claim, surroundings: Mapping[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in surroundings[claim.name].items():
        monkeypatch.setenv(name, value)


RUNS = contenders(idle_shards.CPU, idle_shards.MEMORY)


@pytest.mark.parametrize(("claim", "contender"), RUNS.values(), ids=RUNS)
async def test_idle_shards_are_polled_and_what_they_cost_is_measured(
    claim: Claim,
    contender: Contender,
    replay: str,
    surroundings: Mapping[str, Mapping[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enter(claim, surroundings, monkeypatch)
    measurement = await contender.work(replay, Shape(3, 1))
    # Each shard again and again, and none faster than the interval lets it.
    assert 3 < measurement.count <= 3 * 21
    assert isfinite(claim.figure(measurement))


RUNS_OF_LATENCY = contenders(latency.CLAIM)


@pytest.mark.parametrize(("claim", "contender"), RUNS_OF_LATENCY.values(), ids=RUNS_OF_LATENCY)
async def test_every_record_that_becomes_visible_is_measured(
    claim: Claim,
    contender: Contender,
    replay: str,
    surroundings: Mapping[str, Mapping[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enter(claim, surroundings, monkeypatch)
    shape = Shape(3, 1)
    measurement = await contender.work(replay, shape)
    assert measurement.count == latency.expected(shape)
    p50_ms, p99_ms, overhead_ms = (each.figure(measurement) for each in latency.CLAIMS)
    assert 0 < p50_ms <= p99_ms
    assert 0 < overhead_ms <= p99_ms


RUNS_OF_SCALE = contenders(shards_scale.CLAIM)


@pytest.mark.parametrize(("claim", "contender"), RUNS_OF_SCALE.values(), ids=RUNS_OF_SCALE)
async def test_the_same_records_are_read_from_one_shard_and_from_many(
    claim: Claim,
    contender: Contender,
    replay: str,
    surroundings: Mapping[str, Mapping[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    enter(claim, surroundings, monkeypatch)
    monkeypatch.setattr(shards_scale, "_SOME_SHARDS", 2)
    shape = Shape(1, 4)
    measurement = await contender.work(replay, shape)
    assert measurement.count == shape.records
    assert measurement.wall_s > 0


async def test_a_backlog_is_worked_off_and_its_memory_and_its_pace_are_measured(
    replay: str, surroundings: Mapping[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(backlog.CLAIM, surroundings, monkeypatch)
    shape = Shape(2, 20, "small")
    measurement = await backlog.CLAIM.ours.work(replay, shape)
    assert measurement.count == shape.records
    growth, memory_mb, slowdown = (claim.figure(measurement) for claim in backlog.CLAIMS[1:])
    assert growth > 0
    assert isfinite(memory_mb)  # the tests before have left memory that is used again
    assert slowdown > 0


@pytest.mark.parametrize("polling", [by_streamflow, by_aioboto3, by_aiohttp])
async def test_a_stream_that_is_not_released_has_nothing_to_take(
    polling: Polling, surroundings: Mapping[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(shards_scale.CLAIM, surroundings, monkeypatch)
    taken: list[Sequence[object]] = []
    with open_table(Shape(2, 2)) as live:
        async with polling(live, taken.append, interval_s=0.05):
            assert live.polls() >= live.shape.shards
    assert taken == []
