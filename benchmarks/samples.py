"""What is computed from samples: percentiles, and the last third of a run beside its first. Pure."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0 < `share` <= 1) of all do not exceed. There is at least one sample."""
    return sorted(samples)[ceil(len(samples) * share) - 1]


def peaks_of_thirds(samples: Sequence[float], *, warm_up: float) -> tuple[float, float]:
    """The largest of the first third and of the last third of what follows the warm-up, a share of all samples.

    Raises:
        ValueError: fewer than three samples follow it.
    """
    steady = samples[ceil(len(samples) * warm_up) :]
    third = len(steady) // 3
    if not third:
        raise ValueError(f"{len(samples)} samples are too few for thirds")
    return max(steady[:third]), max(steady[-third:])


class Thirds:
    """Rates within a run of a known length. Note a count of 0 at its start, and then each count that is `due`.

    A third ends with the count that reaches its end, wherever that is beyond it: counts that come in large steps do not
    make the rates wrong.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._marks: list[tuple[int, float]] = []

    @property
    def due(self) -> int:
        """From this count on there is something to note; beyond the total when nothing is."""
        return ceil(self._total * len(self._marks) / 3)

    def note(self, count: int, at: float) -> None:
        """`at` is in seconds of one clock; both grow from note to note."""
        self._marks.append((count, at))

    def rates(self) -> list[float]:
        """Of each third that was noted, per second."""
        return [(count - before) / (at - since) for (before, since), (count, at) in pairwise(self._marks)]
