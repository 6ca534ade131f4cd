"""What becomes of a worker whose process has ended: started again after a pause, over, or refused. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from random import Random

WRONG = 2
"""The exit code of a wrong configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One process of a worker, when it has ended.

    `status` is its exit code, or the negative number of the signal that ended it. `opened`: it had opened all that it needs,
    before which nothing can be in flight. `ended`: its streams were read to their end. `ran_s` counts from the opening.
    """

    status: int
    opened: bool = False
    ended: bool = False
    ran_s: float = 0.0

    @property
    def clean(self) -> bool:
        """Nothing that was in flight was given up."""
        return self.status == 0 or not self.opened

    @property
    def ending(self) -> str:
        """In a word: `status-1`, `SIGKILL`."""
        if self.status >= 0:
            return f"status-{self.status}"
        try:
            return signal.Signals(-self.status).name
        except ValueError:
            return f"signal-{-self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Start it again. `failures` counts those in a row, this one included."""

    after_s: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """Nothing is left to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The configuration is wrong for every worker: stop them all."""


Decision: TypeAlias = Again | Over | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """Exponential with full jitter: the n-th pause is between 0 and `first_s · 2^(n-1)`, at most `max_s`.

    A process that ran for `steady_s` has made good for all failures before it.
    """

    first_s: float = 0.5
    max_s: float = 30.0
    steady_s: float = 60.0

    def decide(self, life: Life, *, failures: int, proven: bool, stopping: bool, random: Random) -> Decision:
        """`failures` are those in a row before this life; `proven`: some worker was ready once, with this configuration.

        A worker that drained though nobody here told it to was told by somebody else, for instance to restart the
        workers one by one: it is started again. Only streams that have ended, or a stop of all, end it for good.
        """
        if stopping or (life.status == 0 and life.ended):
            return Over()
        if life.status == WRONG and not proven:
            return Refused()
        failures = 1 if life.status == 0 or life.ran_s >= self.steady_s else failures + 1
        return Again(after_s=self._pause_s(failures, random), failures=failures)

    def _pause_s(self, failures: int, random: Random) -> float:
        return random.random() * min(self.max_s, self.first_s * 2.0 ** min(failures - 1, 32))
