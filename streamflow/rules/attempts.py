"""What to do with a batch until each of its records is settled: retry, bisect, partial failure, record age.

The rules are Lambda's (esm.md 3), seen from one lane, in which one invocation runs at a time:
- a batch that failed comes again after a pause, `retries_max` times;
- or in halves, the older one first and to its end, each with retries of its own; the split costs none, and no pause;
- a partial failure settles what is before the first failed record; the rest is a new batch, without a pause;
- records beyond the age leave before each invocation, and only they;
- an invocation that never reached the handler does not count.

A sink may say more than Lambda's handlers can, record by record (`SomeFailed`): what it has written is settled, what it
refuses is given up without a retry, and the rest comes again after a pause.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.dead_letters import Condition

R = TypeVar("R")

# --- what to do ------------------------------------------------------------------------------------------------------


class Invoke(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Hand these records to the handler, then tell `invoked` what came of it.

    `attempt` counts the invocations of the batch from 1. `unchanged`: they are the records of the last invocation.
    """

    records: Sequence[R]
    attempt: int
    unchanged: bool


class Settle(msgspec.Struct, Generic[R], frozen=True):
    """The handler is done with these records."""

    records: Sequence[R]


class Discard(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """Give these records up; they are settled once a destination has them."""

    records: Sequence[R]
    condition: Condition
    invoke_count: int
    """At least 1, also where age came before any invocation (esm.md 3.5)."""


class Pause(msgspec.Struct, frozen=True):
    delay_s: float


Action: TypeAlias = "Invoke[R] | Settle[R] | Discard[R] | Pause"

# --- what came of it -------------------------------------------------------------------------------------------------


class Succeeded(msgspec.Struct, frozen=True):
    """The handler accepted all records."""


class Failed(msgspec.Struct, frozen=True):
    """The batch failed as a whole."""


class PartlyFailed(msgspec.Struct, frozen=True):
    """The records before index `first` of the invoked ones are done; 0 is a failure of the whole batch."""

    first: int


class SomeFailed(msgspec.Struct, frozen=True, kw_only=True):
    """Single records of the invoked ones are not done, by ascending index; all others are.

    `failed` were tried, `refused` never will be taken, and `waiting` were not tried.
    """

    failed: Sequence[int] = ()
    refused: Sequence[int] = ()
    waiting: Sequence[int] = ()
    retry_after_s: float | None = None
    """The pause that was asked for."""


class NotDelivered(msgspec.Struct, frozen=True):
    """The records did not reach the handler: come again after `retry_after_s`, or after a backoff where it is None."""

    retry_after_s: float | None = None


Outcome: TypeAlias = Succeeded | Failed | PartlyFailed | SomeFailed | NotDelivered

# --- the rules -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRules(Generic[R]):
    """`retries_max` -1 never gives up, `age_max_s` None knows no age. `created_at_s` is only asked where there is one.

    Without `refusals`, a record that is refused is tried again like one that failed.
    """

    retries_max: int = -1
    bisect: bool = False
    refusals: bool = True
    age_max_s: float | None = None
    created_at_s: Callable[[R], float]


class _Job(msgspec.Struct, Generic[R], eq=False):
    """Records that are invoked together; `invoked` counts how often they were."""

    records: Sequence[R]
    invoked: int = 0
    undelivered: int = 0
    unchanged: bool = False


class Attempts(Generic[R]):
    """One batch from its first invocation to its last settled record; owned by the task that delivers it.

    `backoff` gives the pause after the n-th failure in a row. `final_of_s`: an invocation without records, which ages
    from that time on.
    """

    __slots__ = ("_actions", "_backoff", "_final_of_s", "_jobs", "_rules")

    def __init__(
        self,
        records: Sequence[R],
        rules: AttemptRules[R],
        backoff: Callable[[int], float],
        *,
        final_of_s: float | None = None,
    ) -> None:
        self._rules = rules
        self._backoff = backoff
        self._final_of_s = final_of_s
        self._jobs = [_Job(records)]  # the last one is next
        self._actions: deque[Action[R]] = deque()

    def next(self, now_s: float) -> Action[R] | None:
        """What to do now, at this wall time; None when everything is settled."""
        while True:
            if self._actions:
                action = self._actions.popleft()
                return Pause(self._until_age(action.delay_s, now_s)) if isinstance(action, Pause) else action
            if not self._jobs:
                return None
            job = self._jobs[-1]
            if self._rules.age_max_s is not None:
                self._expire(job, now_s - self._rules.age_max_s)
            if self._jobs and not self._actions:
                return Invoke(records=job.records, attempt=job.invoked + 1, unchanged=job.unchanged)

    def invoked(self, outcome: Outcome) -> None:
        """Take note of what came of the invocation that `next` asked for."""
        job = self._jobs[-1]
        if isinstance(outcome, Succeeded):
            self._jobs.pop()
            self._actions.append(Settle(job.records))
            return
        if isinstance(outcome, NotDelivered):
            job.undelivered += 1
            job.unchanged = True
            delay_s = outcome.retry_after_s
            self._actions.append(Pause(self._backoff(job.undelivered) if delay_s is None else delay_s))
            return
        job.invoked += 1
        if isinstance(outcome, SomeFailed):
            self._some_failed(job, outcome)
            return
        job.undelivered = 0
        match outcome:
            case PartlyFailed(first=first) if first > 0:
                self._jobs[-1] = _Job(job.records[first:])
                self._actions.append(Settle(job.records[:first]))
            case _:
                self._failed(job)

    def set_aside(self, predicate: Callable[[R], bool]) -> list[R]:
        """Take the records for which `predicate` is true out of all that is still to be invoked, oldest first."""
        taken: list[R] = []
        kept: list[_Job[R]] = []
        for job in reversed(self._jobs):
            matching = [record for record in job.records if predicate(record)]
            if matching:
                taken += matching
                job.records = [record for record in job.records if not predicate(record)]
                job.unchanged = False
            if job.records:
                kept.append(job)
        self._jobs = kept[::-1]
        return taken

    def give_up(self, condition: Condition, *, invoke_count: int) -> None:
        """Give the records of the next invocation up without it; they were invoked so often in lives that have ended."""
        job = self._jobs.pop()
        self._actions.append(Discard(records=job.records, condition=condition, invoke_count=invoke_count))

    def resume(self, discard: Discard[R]) -> None:
        """Do not give these records up after all: they come again after a pause, and as the next ones."""
        self._jobs.append(_Job(discard.records, invoked=discard.invoke_count))
        self._actions.append(Pause(self._backoff(discard.invoke_count)))

    def _failed(self, job: _Job[R]) -> None:
        job.unchanged = True
        if self._rules.bisect and len(job.records) > 1:
            middle = len(job.records) // 2
            self._jobs[-1:] = [_Job(job.records[middle:]), _Job(job.records[:middle])]
        elif self._exhausted(job):
            self._jobs.pop()
            self._actions.append(self._discard(job.records, "RetryAttemptsExhausted", job))
        else:
            self._actions.append(Pause(self._backoff(job.invoked)))

    def _some_failed(self, job: _Job[R], outcome: SomeFailed) -> None:
        """Settle what is done, give up what is refused or out of retries, and keep the rest as the next job, in order."""
        records = job.records
        failed, refused, waiting = set(outcome.failed), set(outcome.refused), set(outcome.waiting)
        if not self._rules.refusals:
            failed, refused = failed | refused, set()
        exhausted: set[int] = set()
        if self._exhausted(job):
            exhausted, failed = failed, exhausted
        self._jobs.pop()
        left = failed | refused | waiting | exhausted
        if len(left) < len(records):
            self._actions.append(Settle([record for place, record in enumerate(records) if place not in left]))
        for place in sorted(refused):
            self._actions.append(self._discard([records[place]], "RecordRefused", job))
        # Who bisects wants to know of each record by itself.
        for group in [{place} for place in sorted(exhausted)] if self._rules.bisect else [exhausted]:
            if group:
                self._actions.append(self._discard(_at(records, group), "RetryAttemptsExhausted", job))
        if again := failed | waiting:
            self._keep(job, again, tried=bool(failed), anew=bool(exhausted))
            if failed or not refused or outcome.retry_after_s is not None:
                delay_s = outcome.retry_after_s
                failures = job.invoked if failed else self._jobs[-1].undelivered
                self._actions.append(Pause(self._backoff(failures) if delay_s is None else delay_s))

    def _keep(self, job: _Job[R], again: set[int], *, tried: bool, anew: bool) -> None:
        """These records come again. An invocation in which they only waited does not count for them."""
        unchanged = len(again) == len(job.records)
        kept = _Job(_at(job.records, again), invoked=0 if anew else job.invoked, unchanged=unchanged)
        if not tried:
            kept.invoked = max(0, kept.invoked - 1)
            kept.undelivered = job.undelivered + 1
        self._jobs.append(kept)

    def _exhausted(self, job: _Job[R]) -> bool:
        return self._rules.retries_max != -1 and job.invoked > self._rules.retries_max

    def _until_age(self, delay_s: float, now_s: float) -> float:
        """No pause lasts longer than the oldest record may, by more than a millisecond, which absorbs rounding."""
        age_max_s = self._rules.age_max_s
        if age_max_s is None or not self._jobs:
            return delay_s
        born_s = [self._rules.created_at_s(record) for record in self._jobs[-1].records]
        oldest_s = min(born_s) if born_s else self._final_of_s
        return delay_s if oldest_s is None else min(delay_s, max(0.0, oldest_s + age_max_s - now_s) + 0.001)

    def _expire(self, job: _Job[R], born_until_s: float) -> None:
        """Discard what is too old, in runs: records of another age between them stay."""
        if self._final_of_s is not None:
            if self._final_of_s <= born_until_s:
                self._jobs.pop()
                self._actions.append(self._discard((), "RecordAgeExceeded", job))
            return
        created_at_s = self._rules.created_at_s
        expired = [record for record in job.records if created_at_s(record) <= born_until_s]
        if not expired:
            return
        self._actions.append(self._discard(expired, "RecordAgeExceeded", job))
        job.records = [record for record in job.records if created_at_s(record) > born_until_s]
        job.unchanged = False
        if not job.records:
            self._jobs.pop()

    @staticmethod
    def _discard(records: Sequence[R], condition: Condition, job: _Job[R]) -> Discard[R]:
        return Discard(records=records, condition=condition, invoke_count=max(1, job.invoked))


def _at(records: Sequence[R], places: set[int]) -> list[R]:
    return [records[place] for place in sorted(places)]
