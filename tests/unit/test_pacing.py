"""Pauses between polls and between attempts."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.rules.pacing import HANDLER_BACKOFF, TICK_S, Backoff, PollPace, phase_of

LATENCY, COST = PollPace(interval_s=0.25), PollPace(interval_s=0.25, polling="cost")


def delay_s(
    pace: PollPace,
    *,
    records: int = 0,
    page_bytes: int = 0,
    age_s: float = 0.0,
    silence_s: float = 0.0,
    shards: int = 1,
    phase: float = 0.0,
    now_s: float | None = None,
) -> float:
    """Where no time is given, that of the shard's own place: a whole interval is before it."""
    return pace.delay_s(
        records=records,
        page_bytes=page_bytes,
        newest_age_s=age_s,
        silence_s=silence_s,
        shards=shards,
        phase=phase,
        now_s=phase * pace.interval_s if now_s is None else now_s,
    )


def test_a_shard_that_is_behind_is_polled_again_at_once() -> None:
    assert delay_s(COST, records=1_000) == 0
    assert delay_s(COST, records=3, page_bytes=1_000_000) == 0
    assert delay_s(COST, records=3, age_s=60.0) == 0


def test_a_shard_that_has_caught_up_is_polled_at_the_interval() -> None:
    assert delay_s(LATENCY, records=3, age_s=1.2) == 0.25
    assert delay_s(COST, records=3, age_s=1.2) == 0.25


def test_a_shard_is_polled_in_its_own_place_of_the_interval() -> None:
    # Polled at 100.0 and answered at 100.03 s, and its place is at three quarters of each interval.
    assert delay_s(LATENCY, phase=0.75, now_s=100.03) == pytest.approx(0.1575)
    # Answered later than its next place was: the one behind it.
    assert delay_s(LATENCY, phase=0.75, now_s=100.2) == pytest.approx(0.2375)
    # The next place is too near: no second question at once.
    assert delay_s(LATENCY, phase=0.75, now_s=100.187) == 0.25
    # Also where it is idle, and polled no less often than before.
    assert delay_s(replace(LATENCY, idle_interval_s=0.25), silence_s=3_600.0, phase=0.75, now_s=100.03) < 0.25


def test_shards_whose_places_are_nearly_the_same_wake_the_loop_together() -> None:
    near = [100.03 + delay_s(LATENCY, phase=phase, now_s=100.03) for phase in (0.5, 0.503, 0.515, 0.516)]
    assert near == pytest.approx([100.125, 100.125, 100.125, 100.125 + TICK_S])
    idle = [100.03 + delay_s(LATENCY, silence_s=3_600.0, phase=phase, now_s=100.03) for phase in (0.0, 0.01, 0.02)]
    assert idle == pytest.approx([101.03125, 101.03125, 101.03125 + TICK_S])


def test_for_latency_a_shard_is_idle_after_a_minute_and_polled_once_a_second() -> None:
    assert delay_s(LATENCY, silence_s=60.0, phase=1.0) == 0.25
    assert delay_s(LATENCY, silence_s=60.75, phase=1.0) == 0.75
    assert delay_s(LATENCY, silence_s=3_600.0) == 1.0


def test_for_cost_a_shard_is_idle_after_two_seconds_and_polled_every_ten() -> None:
    assert delay_s(COST, silence_s=2.0, phase=1.0) == 0.25
    assert delay_s(COST, silence_s=6.0, phase=1.0) == 4.0
    assert delay_s(COST, silence_s=3_600.0) == 10.0


def test_an_interval_that_is_given_goes_before_that_of_the_polling() -> None:
    assert delay_s(replace(COST, idle_interval_s=20.0), silence_s=3_600.0) == 20.0
    assert delay_s(replace(LATENCY, idle_interval_s=0.25), silence_s=3_600.0, phase=0.75) == 0.25
    # No shard is polled more often because it is idle.
    assert delay_s(replace(LATENCY, idle_interval_s=0.1), silence_s=3_600.0, phase=0.75) == 0.25


def test_shards_of_a_fleet_share_the_polls_that_there_may_be() -> None:
    pace = replace(COST, idle_polls_per_s_max=50.0)
    assert delay_s(pace, silence_s=3_600.0, shards=1_000) == 20.0
    assert delay_s(pace, silence_s=3_600.0, shards=100) == 10.0
    assert delay_s(pace, silence_s=3_600.0, shards=100_000) == 300.0


def test_shards_that_fell_silent_together_come_apart() -> None:
    assert delay_s(COST, silence_s=6.0, phase=0.0) == 2.0
    assert [delay_s(COST, silence_s=3_600.0, phase=phase) for phase in (0.0, 0.5, 1.0)] == pytest.approx([10, 10.5, 11])


def test_a_shard_has_a_phase_of_its_own() -> None:
    phases = sorted(phase_of(f"shardId-{number:020}-{number:08x}") for number in range(1_000))
    assert all(abs(phase - place / 1_000) < 0.05 for place, phase in enumerate(phases))


@given(st.integers(1, 100_000), st.integers(0, 2**32))
def test_backoff_doubles_within_its_jitter_up_to_its_cap(attempt: int, seed: int) -> None:
    backoff = Backoff(first_s=0.2, max_s=60.0)
    whole = min(60.0, 0.2 * 2.0 ** min(attempt - 1, 64))
    assert whole / 2 <= backoff.delay_s(attempt, Random(seed)) <= whole


def test_the_first_pause_of_a_failed_batch_is_that_of_lambda() -> None:
    assert HANDLER_BACKOFF.delay_s(1, Random(0)) == pytest.approx(0.15, abs=0.05)
