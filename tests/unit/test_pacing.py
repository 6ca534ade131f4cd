"""Pauses between polls and between attempts."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.rules.pacing import HANDLER_BACKOFF, Backoff, PollPace


def delay_s(pace: PollPace, *, records: int = 0, page_bytes: int = 0, age_s: float = 0.0, empty: int = 0) -> float:
    return pace.delay_s(records=records, page_bytes=page_bytes, newest_age_s=age_s, empty_polls=empty)


def test_a_shard_that_is_behind_is_polled_again_at_once() -> None:
    pace = PollPace(interval_s=0.25)
    assert delay_s(pace, records=1_000) == 0
    assert delay_s(pace, records=3, page_bytes=1_000_000) == 0
    assert delay_s(pace, records=3, age_s=60.0) == 0


def test_a_shard_that_has_caught_up_is_polled_at_the_interval() -> None:
    pace = PollPace(interval_s=0.25)
    assert delay_s(pace, records=3, age_s=1.2) == 0.25
    assert delay_s(pace, empty=10_000) == 0.25


@given(st.integers(0, 100_000))
def test_an_idle_shard_slows_down_to_its_idle_interval_and_no_further(empty: int) -> None:
    pace = PollPace(interval_s=0.25, idle_interval_s=10.0)
    assert 0.25 <= delay_s(pace, empty=empty) <= delay_s(pace, empty=empty + 1) <= 10.0


def test_the_first_record_after_a_lull_brings_the_pace_back() -> None:
    pace = PollPace(interval_s=0.25, idle_interval_s=10.0)
    assert delay_s(pace, empty=500) == 10.0
    assert delay_s(pace, records=1, empty=0) == 0.25


@given(st.integers(1, 100_000), st.integers(0, 2**32))
def test_backoff_doubles_within_its_jitter_up_to_its_cap(attempt: int, seed: int) -> None:
    backoff = Backoff(first_s=0.2, max_s=60.0)
    whole = min(60.0, 0.2 * 2.0 ** min(attempt - 1, 64))
    assert whole / 2 <= backoff.delay_s(attempt, Random(seed)) <= whole


def test_the_first_pause_of_a_failed_batch_is_that_of_lambda() -> None:
    assert HANDLER_BACKOFF.delay_s(1, Random(0)) == pytest.approx(0.15, abs=0.05)
