"""Is this worker alive, and is it ready? Answers for an orchestrator, with the reasons for a person."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from streamflow.clock import SystemClock
from streamflow.errors import DestinationError
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CancellationIgnored,
    CheckpointFailed,
    CheckpointStored,
    DestinationFailed,
    PageRead,
    ParkingFailed,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReadFailed,
    RecordsDiscarded,
    RecordsParked,
    ShardClosed,
    StreamEnded,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from streamflow.clock import Clock
    from streamflow.events import Event

FAILING_S = 60.0
"""Failures that last longer than this are not a hiccup: the worker is not ready."""

_PipelineState = Literal["starting", "running", "ended", "stopped", "failed"]
_Failure: TypeAlias = ReadFailed | CheckpointFailed | DestinationFailed | ParkingFailed
_Key: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reasons` says why not, one sentence each; it is empty exactly when `ok`."""

    ok: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streak:
    """Failures in a row. Times are monotonic; the next attempt is due at `retry_at`."""

    since: float
    last: float
    retry_at: float
    cause: str


@dataclass(slots=True, eq=False)
class _Trouble:
    """One kind of it: the streaks by pipeline and shard.

    `silent`: success is not always told, so failures count only up to the last one, and only while the next is not
    overdue. Else they count until success is told: whoever hangs is failing, too.
    """

    what: str
    silent: bool = False
    streaks: dict[_Key, _Streak] = field(default_factory=dict)

    def note(self, key: _Key, cause: str, *, now: float, retry_at: float) -> None:
        streak = self.streaks.get(key)
        if streak is None or (self.silent and now > streak.retry_at + FAILING_S):
            self.streaks[key] = _Streak(since=now, last=now, retry_at=retry_at, cause=cause)
        else:
            self.streaks[key] = replace(streak, last=now, retry_at=retry_at, cause=cause)

    def end(self, key: _Key) -> None:
        self.streaks.pop(key, None)

    def reasons(self, now: float) -> list[str]:
        """One sentence per pipeline, about the shard that is worst off."""
        worst: dict[str, tuple[float, str]] = {}
        counts: dict[str, int] = {}
        for (pipeline, shard_id), streak in self.streaks.items():
            duration_s = self._lasting_s(streak, now)
            if duration_s > FAILING_S:
                counts[pipeline] = counts.get(pipeline, 0) + 1
                worst[pipeline] = max(worst.get(pipeline, (0.0, "")), (duration_s, shard_id))
        return [
            f"{pipeline}: {self.what} for {counts[pipeline]} shards, longest for {shard_id}: "
            f"{duration_s:.0f} s, {self.streaks[pipeline, shard_id].cause}"
            for pipeline, (duration_s, shard_id) in worst.items()
        ]

    def _lasting_s(self, streak: _Streak, now: float) -> float:
        if not self.silent:
            return now - streak.since
        return streak.last - streak.since if now <= streak.retry_at + FAILING_S else 0.0


class Health:
    """An observer that judges. `pipelines` are those that must start; others join when they are first heard of."""

    def __init__(self, clock: Clock | None = None, *, pipelines: Collection[str] = ()) -> None:
        self._clock = clock or SystemClock()
        self._states: dict[str, _PipelineState] = dict.fromkeys(pipelines, "starting")
        self._polls = _Trouble("polls fail")
        # A store that works is not reported while nothing is to be stored, nor when a parked item was released meanwhile.
        self._store = _Trouble("the lease store fails", silent=True)
        self._parking = _Trouble("parking fails", silent=True)
        self._destinations = _Trouble("an on-failure destination fails")
        self._stubborn: dict[_Key, str] = {}
        """Where handlers are that go on although they were cancelled."""
        self._troubles = (self._polls, self._store, self._destinations, self._parking)

    def live(self) -> Verdict:
        """Alive means that somebody answers at all, and that no pipeline is in a state which only a restart may mend.

        It has failed; or a handler was cancelled and goes on all the same.
        """
        reasons = [f"{name}: failed, see the log" for name, state in self._states.items() if state == "failed"]
        for (pipeline, shard_id), where in list(self._stubborn.items()):
            reasons.append(f"{pipeline}: the handler of {shard_id} goes on although it was cancelled: {where}")
        return _verdict(reasons)

    def ready(self) -> Verdict:
        """Ready means that every pipeline has started, and that nothing we depend on has failed for over 60 s.

        That is polls, the store, and on-failure destinations; not the handler, whose failures are retried by the rules.
        A stream that has ended counts as ready: its pipeline has nothing left to do.
        """
        reasons = [f"{name}: {state}" for name, state in self._states.items() if state not in {"running", "ended"}]
        if not self._states:
            reasons.append("no pipeline has started yet")
        now = self._clock.monotonic()
        for trouble in self._troubles:
            reasons += trouble.reasons(now)
        return _verdict(reasons)

    # -- taking note --------------------------------------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        match event:
            case BatchDelivered():
                pass  # what happens most of all says nothing new
            case PageRead():
                self._polls.end((event.pipeline, event.shard_id))
            case CheckpointStored():
                self._store.end((event.pipeline, event.shard_id))
            case RecordsDiscarded():
                self._destinations.end((event.pipeline, event.shard_id))
            case RecordsParked():
                self._parking.end((event.pipeline, event.shard_id))
            case ReadFailed() | CheckpointFailed() | DestinationFailed() | ParkingFailed():
                self._note_failure(event)
            case CancellationIgnored():
                self._stubborn[event.pipeline, event.shard_id] = event.where
            case BatchFailed():
                self._stubborn.pop((event.pipeline, event.shard_id), None)
            case ShardClosed():
                self._stubborn.pop((event.pipeline, event.shard_id), None)
                for trouble in self._troubles:
                    trouble.end((event.pipeline, event.shard_id))
            case PipelineStarted():
                self._states[event.pipeline] = "running"
            case StreamEnded():
                self._states[event.pipeline] = "ended"
            case PipelineStopped() if self._states.get(event.pipeline) not in {"ended", "failed"}:
                self._finish(event.pipeline, "stopped")
            case PipelineFailed():
                self._finish(event.pipeline, "failed")
            case _:
                if (pipeline := getattr(event, "pipeline", None)) is not None:
                    self._states.setdefault(pipeline, "starting")

    def _note_failure(self, event: _Failure) -> None:
        match event:
            case ReadFailed():
                trouble, cause = self._polls, event.code
            case CheckpointFailed():
                trouble, cause = self._store, type(event.error).__name__
            case DestinationFailed():
                trouble, cause = self._destinations, f"{event.destination}: {_code(event.error)}"
            case ParkingFailed():
                trouble, cause = self._parking, type(event.error).__name__
        now = self._clock.monotonic()
        trouble.note((event.pipeline, event.shard_id), cause, now=now, retry_at=now + event.retry_after_s)
        self._states.setdefault(event.pipeline, "starting")

    def _finish(self, pipeline: str, state: _PipelineState) -> None:
        self._states[pipeline] = state
        for trouble in self._troubles:
            for key in [key for key in trouble.streaks if key[0] == pipeline]:
                trouble.end(key)


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, DestinationError) else type(error).__name__


def _verdict(reasons: list[str]) -> Verdict:
    return Verdict(ok=not reasons, reasons=tuple(reasons))
