"""How often shards are polled, for all options: within what the service and the user allow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.rules.pacing import IDLE_INTERVAL_MAX_S, TICK_S, PollPace, phase_of

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERVALS = st.floats(0.01, 60)
PACES = st.builds(
    PollPace,
    interval_s=INTERVALS,
    polling=st.sampled_from(["latency", "cost"]),
    idle_interval_s=st.none() | st.floats(0.01, IDLE_INTERVAL_MAX_S),
    idle_polls_per_s_max=st.none() | st.floats(0.01, 1_000),
)
SHARDS = st.integers(1, 100_000)
PHASES = st.floats(0, 1, exclude_max=True)
SILENCES = st.floats(0, 1_000)
MOMENTS = st.floats(0, 1e6)
# An iterator lives for 15 minutes.
HALF_A_LIFE_S = 450.0


def empty_delay_s(pace: PollPace, silence_s: float, shards: int, phase: float, now_s: float) -> float:
    return pace.delay_s(
        records=0, page_bytes=100, newest_age_s=0.0, silence_s=silence_s, shards=shards, phase=phase, now_s=now_s
    )


@given(PACES, SILENCES, SHARDS, PHASES, MOMENTS)
def test_a_pause_is_never_none_and_never_near_the_life_of_an_iterator(
    pace: PollPace, silence_s: float, shards: int, phase: float, now_s: float
) -> None:
    delay_s = empty_delay_s(pace, silence_s, shards, phase, now_s)
    assert pace.interval_s / 10 <= delay_s <= pace.idle_pause_s(shards=shards, phase=phase) + TICK_S < HALF_A_LIFE_S


@given(PACES, SILENCES, SILENCES, SHARDS, PHASES, MOMENTS)
def test_the_longer_it_is_silent_the_longer_the_pause(
    pace: PollPace, one_s: float, other_s: float, shards: int, phase: float, now_s: float
) -> None:
    shorter, longer = sorted([one_s, other_s])
    assert empty_delay_s(pace, shorter, shards, phase, now_s) <= empty_delay_s(pace, longer, shards, phase, now_s)


@given(PACES, SILENCES, SHARDS, PHASES, MOMENTS)
def test_no_record_waits_longer_than_the_shard_was_idle(
    pace: PollPace, silence_s: float, shards: int, phase: float, now_s: float
) -> None:
    delay_s = empty_delay_s(pace, silence_s, shards, phase, now_s)
    assert delay_s <= max(pace.interval_s, silence_s - pace.patience_s) + TICK_S


@given(PACES, SILENCES, SHARDS, PHASES, MOMENTS)
def test_an_idle_shard_is_polled_on_a_tick_and_never_sooner_for_it(
    pace: PollPace, silence_s: float, shards: int, phase: float, now_s: float
) -> None:
    delay_s = empty_delay_s(pace, silence_s, shards, phase, now_s)
    if delay_s > pace.interval_s:
        pause_s = min((silence_s - pace.patience_s) * (1 + phase) / 2, pace.idle_pause_s(shards=shards, phase=phase))
        assert pause_s - 1e-9 <= delay_s
        assert (now_s + delay_s) / TICK_S == pytest.approx(round((now_s + delay_s) / TICK_S), abs=1e-6)


@given(PACES, st.floats(0, 1), SHARDS, PHASES, MOMENTS, st.floats(0, 0.8))
def test_a_shard_that_had_records_lately_is_polled_once_in_each_interval_whatever_the_answers_take(
    pace: PollPace, share: float, shards: int, phase: float, now_s: float, answer_share: float
) -> None:
    at_s = now_s + empty_delay_s(pace, share * pace.patience_s, shards, phase, now_s)
    answered_s = at_s + answer_share * pace.interval_s
    next_s = answered_s + empty_delay_s(pace, share * pace.patience_s, shards, phase, answered_s)
    # Where the first place was too near, the first poll is a little before the second one.
    assert next_s - at_s == pytest.approx(pace.interval_s, rel=0.1 + 1e-3)


@pytest.mark.fault("F53")
@given(PACES, st.integers(1, 2_000))
def test_idle_shards_of_a_fleet_are_polled_no_more_often_than_they_may_be(pace: PollPace, shards: int) -> None:
    most = math.inf if pace.idle_polls_per_s_max is None else pace.idle_polls_per_s_max
    polls_per_s = sum(
        1 / pace.idle_pause_s(shards=shards, phase=phase_of(f"shard-{number}")) for number in range(shards)
    )
    # With more shards than that each of them is polled as seldom as it may be.
    assert polls_per_s <= max(most, shards / IDLE_INTERVAL_MAX_S) * (1 + 1e-9)


def polls_s(pace: PollPace, shard_id: str, *, shards: int, until_s: float) -> Iterator[float]:
    """When a shard is polled that had its last record at 0."""
    at_s = 0.0
    while at_s < until_s:
        yield at_s
        at_s += empty_delay_s(pace, at_s, shards, phase_of(shard_id), at_s)


@given(st.sampled_from(["latency", "cost"]), st.integers(100, 300), st.integers(0, 2**32))
def test_shards_that_fell_silent_in_one_moment_are_polled_apart(polling: str, shards: int, seed: int) -> None:
    pace = PollPace(interval_s=0.25, polling=polling)  # type: ignore[arg-type]
    pause_s = pace.idle_pause_s(shards=shards, phase=0.0)
    from_s = pace.patience_s + 10 * pause_s
    at_s = [
        each
        for number in range(shards)
        for each in polls_s(pace, f"shardId-{seed}-{number}", shards=shards, until_s=from_s + pause_s)
        if each >= from_s
    ]
    # No tenth of the interval has more than a quarter of the polls.
    tenths = [0] * 11
    for each in at_s:
        tenths[int((each - from_s) / pause_s * 10)] += 1
    assert max(tenths) <= shards / 4
