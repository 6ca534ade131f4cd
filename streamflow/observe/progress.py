"""How it is going, for somebody who watches: rates, lag, shards, totals and the last errors.

Written and read on the event loop; a snapshot is immutable and may go anywhere.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from streamflow.clock import SystemClock
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    PageRead,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReadFailed,
    RecordsParked,
    RecordsTrimmed,
    ShardClosed,
    ShardOpened,
    StreamEnded,
)
from streamflow.observe.balance import Balances
from streamflow.observe.lines import line_of
from streamflow.observe.results import NOTHING_PROCESSED, ProcessingResult, processing_result
from streamflow.observe.shards import OpenShards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from streamflow.clock import Clock
    from streamflow.events import Event
    from streamflow.observe.balance import Balance
    from streamflow.observe.lines import Line
    from streamflow.observe.shards import ShardFacts

RATE_WINDOW_S = 5.0
"""Rates are means over this long, or over the time since the start where that is shorter."""

_SLOT_S = 0.25
ERRORS_KEPT = 5
# What a person can take in at a glance; the metrics have the rest.
SHARDS_SHOWN = 20

StateName = Literal["starting", "running", "ended", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardProgress:
    shard_id: str
    state: str
    lag_s: float
    checkpoint_age_s: float
    records_in_flight: int
    """Read and not yet settled: buffered, in the handler, or waiting for the next attempt."""
    failed_attempts: int
    buffered_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineProgress:
    """Totals count since this process started; `lag_s` is that of the laggiest shard, None without one.

    Polled = filtered + delivered + dropped + dead-lettered + lost + parked + abandoned + in flight. `parked_keys` is None
    until this worker has parked something. `shards` has the 20 laggiest.
    """

    pipeline: str
    state: StateName
    last_processing_result: str
    """In the words of an event source mapping: `OK`, `No records processed`, or `PROBLEM: …`."""
    shards_open: int
    shards_blocked: int
    shards_opened: int
    shards_closed: int
    lag_s: float | None
    records_in_flight: int
    failed_attempts: int
    polled_per_s: float
    delivered_per_s: float
    records_polled: int
    bytes_polled: int
    records_filtered: int
    records_delivered: int
    records_dropped: int
    records_dead_lettered: int
    records_lost: int
    records_parked: int
    records_abandoned: int
    records_unaccounted: int
    parked_keys: int | None
    batches_delivered: int
    attempts_failed: int
    polls_failed: int
    trimmed_gaps: int
    shards: tuple[ShardProgress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressSnapshot:
    """`errors` has the newest line of each kind of trouble, the last five kinds, oldest first; without item data."""

    at_s: float
    uptime_s: float
    pipelines: tuple[PipelineProgress, ...]
    errors: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Rate:
    """Amounts in slots of a quarter of a second, as many as the window holds. Times are monotonic."""

    since: float
    slots: deque[tuple[int, int]] = field(default_factory=deque)
    """Those that are over."""
    _slot: int = 0
    _amount: int = 0

    def add(self, now: float, amount: int) -> None:
        slot = int(now / _SLOT_S)
        if slot == self._slot:
            self._amount += amount
            return
        self.slots.append((self._slot, self._amount))
        self._slot, self._amount = slot, amount
        self._forget(now)

    def per_second(self, now: float) -> float:
        self.add(now, 0)
        span_s = max(now - max(self.since, self._forget(now)), _SLOT_S)
        return (self._amount + sum(amount for _, amount in self.slots)) / span_s

    def _forget(self, now: float) -> float:
        """Drop the slots that are not wholly inside the window; the answer is where those inside begin."""
        oldest = int((now - RATE_WINDOW_S) / _SLOT_S)
        while self.slots and self.slots[0][0] <= oldest:
            self.slots.popleft()
        return (oldest + 1) * _SLOT_S


@dataclass(slots=True, eq=False)
class _Tally:
    """State of one pipeline."""

    polled: _Rate
    delivered: _Rate
    state: StateName = "starting"
    result: ProcessingResult = NOTHING_PROCESSED
    shards_opened: int = 0
    shards_closed: int = 0
    bytes_polled: int = 0
    parked_keys: int | None = None
    batches_delivered: int = 0
    attempts_failed: int = 0
    polls_failed: int = 0
    trimmed_gaps: int = 0


class Progress:
    """An observer that keeps what `snapshot` shows; `balances` are those of an observer that is told before this one is."""

    def __init__(self, clock: Clock | None = None, *, balances: Balances | None = None) -> None:
        self._clock = clock or SystemClock()
        self._keeps_balances = balances is None
        self._balances = Balances(OpenShards(self._clock)) if balances is None else balances
        self._shards = self._balances.shards
        self._tallies: dict[str, _Tally] = {}
        self._errors: dict[tuple[object, str], str] = {}
        self._started_at: float | None = None

    def __call__(self, event: Event) -> None:
        if self._keeps_balances:
            self._balances(event)
        line = line_of(event)
        if line is not None and line.level >= logging.WARNING:
            self._keep_error(line)
        if (pipeline := getattr(event, "pipeline", None)) is not None:
            self._note(self._tally(pipeline), event)

    def _keep_error(self, line: Line) -> None:
        """The newest of its kind, so that a storm of throttles does not push a failing handler out of sight."""
        kind = line.fields.get("pipeline"), line.fact
        self._errors.pop(kind, None)
        self._errors[kind] = str(line)
        if len(self._errors) > ERRORS_KEPT:
            del self._errors[next(iter(self._errors))]

    def _tally(self, pipeline: str) -> _Tally:
        tally = self._tallies.get(pipeline)
        if tally is None:
            now = self._clock.monotonic()
            self._started_at = now if self._started_at is None else self._started_at
            tally = self._tallies[pipeline] = _Tally(polled=_Rate(now), delivered=_Rate(now))
        return tally

    def _note(self, tally: _Tally, event: Event) -> None:
        tally.result = processing_result(event) or tally.result
        match event:
            case PageRead():
                tally.bytes_polled += event.bytes
                tally.polled.add(self._clock.monotonic(), event.records)
            case BatchDelivered():
                tally.batches_delivered += int(not event.partial)
                tally.delivered.add(self._clock.monotonic(), event.delivered)
            case BatchFailed():
                tally.attempts_failed += 1
            case ReadFailed():
                tally.polls_failed += 1
            case RecordsParked():
                tally.parked_keys = event.parked_keys
            case RecordsTrimmed():
                tally.trimmed_gaps += 1
            case ShardOpened():
                tally.shards_opened += 1
            case ShardClosed():
                tally.shards_closed += 1
            case PipelineStarted():
                tally.state = "running"
            case StreamEnded():
                tally.state = "ended"
            case PipelineFailed():
                tally.state = "failed"
            case PipelineStopped() if tally.state not in {"ended", "failed"}:
                tally.state = "stopped"
            case _:
                pass

    def snapshot(self) -> ProgressSnapshot:
        """The state of all pipelines, in the order they were first heard of."""
        now, now_s = self._clock.monotonic(), self._clock.wall()
        by_pipeline: dict[str, list[ShardFacts]] = {}
        for shard in self._shards.snapshot():
            by_pipeline.setdefault(shard.pipeline, []).append(shard)
        return ProgressSnapshot(
            at_s=now_s,
            uptime_s=0.0 if self._started_at is None else now - self._started_at,
            pipelines=tuple(
                _pipeline_progress(
                    name, tally, self._balances.of(name), by_pipeline.get(name, ()), now=now, now_s=now_s
                )
                for name, tally in self._tallies.items()
            ),
            errors=tuple(self._errors.values()),
        )


def _pipeline_progress(
    name: str, tally: _Tally, balance: Balance, shards: Sequence[ShardFacts], *, now: float, now_s: float
) -> PipelineProgress:
    laggiest = sorted((_shard_progress(shard, now_s) for shard in shards), key=lambda s: (-s.lag_s, s.shard_id))
    return PipelineProgress(
        pipeline=name,
        state=tally.state,
        last_processing_result=tally.result.text,
        shards_open=len(shards),
        shards_blocked=sum(shard.state == "blocked" for shard in shards),
        shards_opened=tally.shards_opened,
        shards_closed=tally.shards_closed,
        lag_s=laggiest[0].lag_s if laggiest else None,
        records_in_flight=balance.in_flight,
        failed_attempts=max((shard.failed_attempts for shard in shards), default=0),
        polled_per_s=tally.polled.per_second(now),
        delivered_per_s=tally.delivered.per_second(now),
        records_polled=balance.polled,
        bytes_polled=tally.bytes_polled,
        records_filtered=balance.filtered,
        records_delivered=balance.delivered,
        records_dropped=balance.dropped,
        records_dead_lettered=balance.dead_lettered,
        records_lost=balance.lost,
        records_parked=balance.parked,
        records_abandoned=balance.abandoned,
        records_unaccounted=balance.unaccounted,
        parked_keys=tally.parked_keys,
        batches_delivered=tally.batches_delivered,
        attempts_failed=tally.attempts_failed,
        polls_failed=tally.polls_failed,
        trimmed_gaps=tally.trimmed_gaps,
        shards=tuple(laggiest[:SHARDS_SHOWN]),
    )


def _shard_progress(shard: ShardFacts, now_s: float) -> ShardProgress:
    return ShardProgress(
        shard_id=shard.shard_id,
        state=shard.state,
        lag_s=shard.iterator_age_s(now_s),
        checkpoint_age_s=shard.checkpoint_age_s(now_s),
        records_in_flight=shard.records_in_hand,
        failed_attempts=shard.failed_attempts,
        buffered_bytes=shard.buffered_bytes,
    )


# --- shown -----------------------------------------------------------------------------------------------------------

_STYLES = {"running": "green", "starting": "yellow", "ended": "cyan", "stopped": "dim", "failed": "bold red"}


def as_json(snapshot: ProgressSnapshot) -> dict[str, Any]:
    """The snapshot as JSON has it; the names are those of the fields."""
    return asdict(snapshot)


def line(snapshot: ProgressSnapshot) -> str:
    """One line without a line end, for logs and pipes; pipelines are parted by ` | `."""
    return " | ".join(_pipeline_line(pipeline) for pipeline in snapshot.pipelines) or "starting"


def _pipeline_line(progress: PipelineProgress) -> str:
    words = [
        f"{progress.pipeline} {progress.state}",
        f"shards={progress.shards_open}",
        f"lag={duration(progress.lag_s)}",
        f"rate={progress.delivered_per_s:.0f}/s",
        f"delivered={progress.records_delivered}",
        f"in_flight={progress.records_in_flight}",
    ]
    seldom = {
        "filtered": progress.records_filtered,
        "dropped": progress.records_dropped,
        "dead_lettered": progress.records_dead_lettered,
        "lost": progress.records_lost,
        "parked": progress.records_parked,
    }
    words += [f"{name}={records}" for name, records in seldom.items() if records]
    if progress.shards_blocked:
        words.append(f"blocked={progress.shards_blocked} attempt={progress.failed_attempts}")
    return " ".join(words)


def render(snapshot: ProgressSnapshot) -> RenderableType:
    """A table for a terminal, one pipeline a row, and the last errors below it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("pipeline", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for heading in ("shards", "lag", "polled/s", "delivered/s", "delivered", "dropped", "in flight", "attempt"):
        table.add_column(heading, justify="right", no_wrap=True)
    for progress in snapshot.pipelines:
        table.add_row(Text(progress.pipeline), Text(progress.state, _STYLES[progress.state]), *_numbers(progress))
    errors = [Text(error, "yellow", no_wrap=True, overflow="ellipsis") for error in snapshot.errors]
    return Group(table, *errors)


def _numbers(progress: PipelineProgress) -> tuple[str, ...]:
    """The cells after the state; a red attempt says that some shard stands still."""
    attempt = f"[bold red]{progress.failed_attempts}[/]" if progress.failed_attempts else "-"
    return (
        str(progress.shards_open),
        duration(progress.lag_s),
        f"{progress.polled_per_s:,.0f}",
        f"{progress.delivered_per_s:,.0f}",
        f"{progress.records_delivered:,}",
        f"{progress.records_dropped:,}",
        f"{progress.records_in_flight:,}",
        attempt,
    )


def duration(seconds: float | None) -> str:
    """As a person says it: `0.3s`, `42s`, `17m`, `5.2h`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7_200 else f"{seconds / 3_600:.1f}h"
