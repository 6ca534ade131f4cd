"""The progress of several workers as that of one. Pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from streamflow.observe.progress import ERRORS_KEPT, SHARDS_SHOWN, PipelineProgress, ProgressSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamflow.observe.progress import StateName

# What the whole is, if any of its parts is that. What is over for one worker goes on with another.
_STATES: tuple[StateName, ...] = ("running", "starting", "failed", "ended", "stopped")
_SUMS = (
    "shards_open", "shards_blocked", "shards_opened", "shards_closed", "records_in_flight", "polled_per_s",
    "delivered_per_s", "records_polled", "bytes_polled", "records_filtered", "records_delivered", "records_dropped",
    "records_dead_lettered", "records_lost", "records_parked", "records_abandoned", "records_unaccounted",
    "batches_delivered", "attempts_failed", "polls_failed", "trimmed_gaps",
)  # fmt: skip


def past(snapshot: ProgressSnapshot, *, succeeded: bool = False) -> ProgressSnapshot:
    """What stays of a worker's last report when its process is gone; `succeeded`: another process took its place.

    Its totals count on, so that sums never go backwards. What it had in hand is read again by others: it is abandoned.
    """
    return replace(snapshot, pipelines=tuple(_past(each, succeeded) for each in snapshot.pipelines))


def _past(progress: PipelineProgress, succeeded: bool) -> PipelineProgress:
    return replace(
        progress,
        state="stopped" if succeeded or progress.state in {"starting", "running"} else progress.state,
        shards_open=0,
        shards_blocked=0,
        shards_closed=progress.shards_closed + progress.shards_open,
        lag_s=None,
        records_in_flight=0,
        records_abandoned=progress.records_abandoned + progress.records_in_flight,
        failed_attempts=0,
        polled_per_s=0.0,
        delivered_per_s=0.0,
        shards=(),
    )


def summed(snapshots: Sequence[ProgressSnapshot], *, at_s: float, uptime_s: float) -> ProgressSnapshot:
    """All of them as one, the pipelines in the order they are first met."""
    parts: dict[str, list[PipelineProgress]] = {}
    for each in chain.from_iterable(snapshot.pipelines for snapshot in snapshots):
        parts.setdefault(each.pipeline, []).append(each)
    return ProgressSnapshot(
        at_s=at_s,
        uptime_s=uptime_s,
        pipelines=tuple(_summed(name, each) for name, each in parts.items()),
        errors=_newest([snapshot.errors for snapshot in snapshots]),
    )


def _summed(name: str, parts: list[PipelineProgress]) -> PipelineProgress:
    states = {each.state for each in parts}
    shards = sorted(chain.from_iterable(each.shards for each in parts), key=lambda s: (-s.lag_s, s.shard_id))
    sums = {field: sum(getattr(each, field) for each in parts) for field in _SUMS}
    return PipelineProgress(
        pipeline=name,
        state=next(state for state in _STATES if state in states),
        last_processing_result=max((each.last_processing_result for each in parts), key=_gravity),
        lag_s=max((each.lag_s for each in parts if each.lag_s is not None), default=None),
        failed_attempts=max(each.failed_attempts for each in parts),
        # Each worker says how many items of the whole stream are parked, as far as it knows.
        parked_keys=max((each.parked_keys for each in parts if each.parked_keys is not None), default=None),
        shards=tuple(shards[:SHARDS_SHOWN]),
        **sums,
    )


def _gravity(result: str) -> int:
    return 2 if result.startswith("PROBLEM") else int(result == "OK")


def _newest(errors: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The last of each worker before the last but one of any, oldest first."""
    turns = zip_longest(*(reversed(each) for each in errors))
    newest = dict.fromkeys(error for turn in turns for error in turn if error is not None)
    return tuple(reversed(list(newest)[:ERRORS_KEPT]))
