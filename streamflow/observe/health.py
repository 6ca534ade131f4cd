"""Is this worker alive, and is it ready? Answers for an orchestrator, with the reasons for a person."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamflow.clock import SystemClock
from streamflow.events import (
    CheckpointFailed,
    CheckpointStored,
    PageRead,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReadFailed,
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


class Health:
    """An observer that judges. `pipelines` are those that must start; others join when they are first heard of."""

    def __init__(self, clock: Clock | None = None, *, pipelines: Collection[str] = ()) -> None:
        self._clock = clock or SystemClock()
        self._states: dict[str, _PipelineState] = dict.fromkeys(pipelines, "starting")
        self._read_failures: dict[tuple[str, str], _Streak] = {}
        self._store_failures: dict[tuple[str, str], _Streak] = {}

    def live(self) -> Verdict:
        """Alive means that somebody answers at all, and that no pipeline has failed: a restart may help."""
        return _verdict([f"{name}: failed, see the log" for name, state in self._states.items() if state == "failed"])

    def ready(self) -> Verdict:
        """Ready means that every pipeline has started, and that neither polls nor checkpoints fail for over 60 s.

        A stream that has ended counts as ready: its pipeline has nothing left to do.
        """
        reasons = [f"{name}: {state}" for name, state in self._states.items() if state not in {"running", "ended"}]
        if not self._states:
            reasons.append("no pipeline has started yet")
        now = self._clock.monotonic()
        polls = {key: now - streak.since for key, streak in self._read_failures.items()}
        reasons += self._failing("polls fail", polls, self._read_failures)
        # A store that works is not reported while nothing is to be stored, so failures count only up to the last one,
        # and only while the next is not overdue.
        stores = {
            key: streak.last - streak.since
            for key, streak in self._store_failures.items()
            if now <= streak.retry_at + FAILING_S
        }
        reasons += self._failing("the lease store fails", stores, self._store_failures)
        return _verdict(reasons)

    def _failing(
        self, what: str, lasting_s: dict[tuple[str, str], float], streaks: dict[tuple[str, str], _Streak]
    ) -> list[str]:
        """One sentence per pipeline, about the shard that is worst off."""
        worst: dict[str, tuple[float, str]] = {}
        counts: dict[str, int] = {}
        for (pipeline, shard_id), duration_s in lasting_s.items():
            if duration_s > FAILING_S:
                counts[pipeline] = counts.get(pipeline, 0) + 1
                worst[pipeline] = max(worst.get(pipeline, (0.0, "")), (duration_s, shard_id))
        return [
            f"{pipeline}: {what} for {counts[pipeline]} shards, longest for {shard_id}: "
            f"{duration_s:.0f} s, {streaks[pipeline, shard_id].cause}"
            for pipeline, (duration_s, shard_id) in worst.items()
        ]

    # -- taking note --------------------------------------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        match event:
            case PageRead():
                self._read_failures.pop((event.pipeline, event.shard_id), None)
            case CheckpointStored():
                self._store_failures.pop((event.pipeline, event.shard_id), None)
            case ReadFailed():
                self._note(self._read_failures, event, event.code)
            case CheckpointFailed():
                self._note(self._store_failures, event, type(event.error).__name__)
            case ShardClosed():
                self._read_failures.pop((event.pipeline, event.shard_id), None)
                self._store_failures.pop((event.pipeline, event.shard_id), None)
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

    def _note(
        self,
        streaks: dict[tuple[str, str], _Streak],
        event: ReadFailed | CheckpointFailed,
        cause: str,
    ) -> None:
        key, now = (event.pipeline, event.shard_id), self._clock.monotonic()
        retry_at = now + event.retry_after_s
        streak = streaks.get(key)
        is_new = streak is None or (streaks is self._store_failures and now > streak.retry_at + FAILING_S)
        if streak is None or is_new:
            streaks[key] = _Streak(since=now, last=now, retry_at=retry_at, cause=cause)
        else:
            streaks[key] = replace(streak, last=now, retry_at=retry_at, cause=cause)
        self._states.setdefault(event.pipeline, "starting")

    def _finish(self, pipeline: str, state: _PipelineState) -> None:
        self._states[pipeline] = state
        for streaks in (self._read_failures, self._store_failures):
            for key in [key for key in streaks if key[0] == pipeline]:
                del streaks[key]


def _verdict(reasons: list[str]) -> Verdict:
    return Verdict(ok=not reasons, reasons=tuple(reasons))
