"""What the benchmarks compute from samples."""

from __future__ import annotations

import pytest

from benchmarks.latency import percentiles
from benchmarks.samples import Thirds, peaks_of_thirds, percentile

HUNDRED = [float(sample) for sample in range(100, 0, -1)]


@pytest.mark.parametrize(("share", "found"), [(0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0), (0.001, 1.0)])
def test_a_percentile_is_the_smallest_sample_that_covers_the_share(share: float, found: float) -> None:
    assert percentile(HUNDRED, share) == found


def test_one_sample_is_every_percentile() -> None:
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0


def test_latency_counts_from_the_visible_record_and_overhead_from_the_answer() -> None:
    # Visible at 0, and answered a millisecond before it was called, but for one that was called late.
    moments = [(0, number * 1_000_000 - 1_000_000, number * 1_000_000) for number in range(1, 100)]
    moments.append((0, 100_000_000, 300_000_000))
    assert percentiles(moments) == {"p50_ms": 50.0, "p99_ms": 99.0, "overhead_p99_ms": 1.0}
    assert percentiles(moments[-2:])["overhead_p99_ms"] == 200.0


def test_the_peaks_are_those_of_the_first_and_the_last_third() -> None:
    assert peaks_of_thirds([1, 5, 2, 90, 90, 90, 3, 7, 4], warm_up=0.0) == (5, 7)


def test_warming_up_belongs_to_no_third() -> None:
    assert peaks_of_thirds([50, 1, 5, 2, 90, 90, 90, 3, 7, 4], warm_up=0.1) == (5, 7)


def test_too_few_samples_for_thirds_are_refused() -> None:
    with pytest.raises(ValueError, match="3 samples are too few"):
        peaks_of_thirds([1, 2, 3], warm_up=0.1)


def test_each_third_has_its_own_rate() -> None:
    thirds = Thirds(300)
    for count, at in [(0, 10.0), (100, 11.0), (200, 13.0), (300, 14.0)]:
        assert thirds.due == count
        thirds.note(count, at)
    assert thirds.rates() == [100.0, 50.0, 100.0]
    assert thirds.due > 300


def test_a_third_that_ends_late_has_the_rate_of_all_that_it_counted() -> None:
    thirds = Thirds(300)
    for count, at in [(0, 0.0), (150, 1.0), (200, 2.0), (300, 3.0)]:
        thirds.note(count, at)
    assert thirds.rates() == [150.0, 50.0, 100.0]
