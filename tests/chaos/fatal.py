"""Failpoints at which a worker kills itself: exactly between an effect and its record, where a signal falls by chance only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

# Those that a worker with a plain handler comes to again and again, with how often it lets one pass on average.
_PASSED: dict[str, float] = {
    "lease.listed": 2, "lease.before_take": 4, "lease.taken": 4, "lease.written": 8, "lease.before_release": 1,
    "lease.released": 1, "heartbeat.written": 3, "heartbeat.before_strike": 0, "handover.before_ask": 1, "handover.asked": 1,
    "handover.heard": 1, "handover.passed_on": 1, "handover.before_take": 1, "shard.before_open": 4, "page.read": 20,
    "batch.handled": 50, "checkpoint.before_write": 8, "checkpoint.stored": 8, "shard.ended": 1, "children.stored": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Failpoint:
    name: str
    at: int
    """The time at which it is reached and kills: 1 or more."""

    @property
    def rule(self) -> str:
        return f"{self.name}=kill@{self.at}"


def drawn(random: Random, share: float) -> Failpoint | None:
    """The point at which the next worker is to die; None for one that is not."""
    armed, name = random.random(), random.choice(sorted(_PASSED))
    passed = random.expovariate(1.0) * _PASSED[name]
    return Failpoint(name=name, at=1 + int(passed)) if armed < share else None
