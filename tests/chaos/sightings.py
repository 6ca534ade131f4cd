"""Checkpoints as they were seen in the store: each a lower bound for all that is stored later. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamflow.positions import PositionKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease


@dataclass(slots=True, eq=False)
class Sightings:
    """By shard: times of looks, and the sequence number up to which everything was settled by then, both growing."""

    regressions: list[str] = field(default_factory=list)
    """Checkpoints that were seen to move back."""
    _seen: dict[str, tuple[list[float], list[int]]] = field(default_factory=dict)

    def look(self, rows: Sequence[Lease], at_s: float) -> None:
        """Take in a listing that was complete at `at_s`."""
        for row in rows:
            if row.checkpoint.kind is not PositionKind.AFTER_SEQUENCE_NUMBER:
                continue
            times, numbers = self._seen.setdefault(row.shard_id, ([], []))
            number = int(row.checkpoint.sequence_number)
            if not numbers or number > numbers[-1]:
                times.append(at_s)
                numbers.append(number)
            elif number < numbers[-1]:
                self.regressions.append(f"{row.shard_id} from {numbers[-1]} to {number}, epoch {row.epoch}")

    def checkpoint_before(self, shard_id: str, at_s: float) -> int:
        """The highest that was seen before that time, 0 for none."""
        times, numbers = self._seen.get(shard_id, ([], []))
        place = bisect_left(times, at_s)
        return numbers[place - 1] if place else 0
