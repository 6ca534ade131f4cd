"""A fleet as its rows show it, look after look: who has what, who is silent, how far the shards are behind. Pure.

All that is known of a worker is what it writes. How long it was silent counts from the look that first saw its newest
row, by the monotonic clock of the observer; no clock of another machine is asked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow.leases import STREAM_ROW, LeaseLayout, LeaseState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamflow.leases import Lease, LeaseKey
    from streamflow.positions import Position

LEASE_DURATION_S = 10.0
"""Of workers that do not say theirs."""

_Signs: TypeAlias = "set[tuple[LeaseKey, int]]"


# --- who lives -------------------------------------------------------------------------------------------------------


def signs_of_life(rows: Iterable[Lease], workers: Mapping[str, Lease]) -> dict[str, _Signs]:
    """What each owner and each worker has written: its own row, and the leases that are its own, as versions of them."""
    found: dict[str, _Signs] = {worker_id: {(row.key, row.version)} for worker_id, row in workers.items()}
    for row in rows:
        if row.owner is not None:
            found.setdefault(row.owner, set()).add((row.key, row.version))
    return found


class Sightings:
    """When each owner was last seen to have written something. Who has neither a row nor a lease is forgotten."""

    def __init__(self) -> None:
        self._signs: dict[str, _Signs] = {}
        self._seen: dict[str, float] = {}

    def note(self, rows: Iterable[Lease], workers: Mapping[str, Lease], *, now: float) -> dict[str, float]:
        """Take note of a look at `now`, monotonic; the answer is how long each owner was silent, 0 at first sight."""
        signs = signs_of_life(rows, workers)
        self._seen = {
            owner: self._seen[owner] if owner in self._seen and found <= self._signs[owner] else now
            for owner, found in signs.items()
        }
        self._signs = signs
        return {owner: now - seen for owner, seen in self._seen.items()}


# --- how far a shard is ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the stream said of a shard: the age of the first record behind its checkpoint. Times are of the wall clock.

    `made_at_s` is when that record was made: None where there was none, minus infinity where retention took it.
    """

    checkpoint: Position
    at_s: float
    made_at_s: float | None

    def lag_s(self, checkpoint: Position, *, now_s: float, retention_s: float) -> float:
        """It grows while the checkpoint stays where it was measured, and is of that moment once it has moved."""
        if self.made_at_s is None:
            return 0.0
        until_s = now_s if checkpoint == self.checkpoint else self.at_s
        return min(max(0.0, until_s - self.made_at_s), retention_s)

    def holds(self, checkpoint: Position) -> bool:
        """Whether another look at the stream would say the same."""
        return self.made_at_s is not None and checkpoint == self.checkpoint


def unfinished(rows: Iterable[Lease]) -> list[Lease]:
    """Rows of shards that are not read to their end."""
    return [row for row in rows if row.state is LeaseState.ACTIVE and row.shard_id != STREAM_ROW]


def to_measure(
    rows: Iterable[Lease], measured: Mapping[LeaseKey, Measured], tried_at: Mapping[LeaseKey, float], *, most: int
) -> list[Lease]:
    """Up to `most` unfinished shards whose lag is not known: never tried ones first, then those of the longest ago.

    One whose first record behind the checkpoint is known needs no look as long as the checkpoint stays.
    """
    unknown = [
        row for row in unfinished(rows) if row.key not in measured or not measured[row.key].holds(row.checkpoint)
    ]
    unknown.sort(key=lambda row: (tried_at.get(row.key, float("-inf")), row.pipeline, row.shard_id))
    return unknown[:most]


# --- all of it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFigures:
    """A pipeline at one look. `held` has the unfinished shards of each owner; `workers` are those that seem to be alive.

    `unowned` are shards that may be read and that nobody alive owns. `lag_s` has the shards that were measured, and
    `headroom_s` is what retention leaves for the worst of them: None where none was.
    """

    pipeline: str
    shards: Mapping[LeaseState, int]
    held: Mapping[str, int]
    unowned: int
    workers: int
    lag_s: Mapping[str, float]
    headroom_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A fleet at one look, `at_s` since the Unix epoch. `silent` are owners that others may take for dead."""

    at_s: float
    pipelines: tuple[PipelineFigures, ...]
    silence_s: Mapping[str, float]
    silent: frozenset[str]


def figures(
    rows: Sequence[Lease],
    workers: Mapping[str, Lease],
    *,
    pipelines: Sequence[str],
    layout: LeaseLayout,
    silence_s: Mapping[str, float],
    patience_s: float,
    measured: Mapping[LeaseKey, Measured],
    at_s: float,
    retention_s: float,
) -> Figures:
    """`patience_s` is for workers without a row, or whose row does not say how long they may be silent."""

    def is_silent(owner: str) -> bool:
        worker = workers.get(owner)
        if worker is None and layout is LeaseLayout.NATIVE:
            return True
        return silence_s[owner] >= ((worker.duration_s if worker is not None else None) or patience_s)

    silent = frozenset(owner for owner in silence_s if is_silent(owner))

    def lag_s(row: Lease) -> float:
        return measured[row.key].lag_s(row.checkpoint, now_s=at_s, retention_s=retention_s)

    def of(pipeline: str) -> PipelineFigures:
        own = [row for row in rows if row.pipeline == pipeline]
        lags = {row.shard_id: lag_s(row) for row in unfinished(own) if row.key in measured}
        at_work = {row.owner for row in own if row.owner is not None}
        at_work |= {worker_id for worker_id, row in workers.items() if pipeline in row.children}
        return PipelineFigures(
            pipeline=pipeline,
            shards=Counter(row.state for row in own if row.shard_id != STREAM_ROW),
            held=Counter(row.owner for row in unfinished(own) if row.owner is not None),
            unowned=sum(row.owner is None or row.owner in silent for row in _may_be_read(own)),
            workers=len(at_work - silent),
            lag_s=lags,
            headroom_s=retention_s - max(lags.values()) if lags else None,
        )

    return Figures(at_s=at_s, pipelines=tuple(map(of, pipelines)), silence_s=silence_s, silent=silent)


def _may_be_read(rows: Sequence[Lease]) -> list[Lease]:
    """Unfinished, and behind no shard that is. A parent without a row is trimmed: in a table of the KCL nobody says so."""
    open_rows = unfinished(rows)
    unread = {row.shard_id for row in open_rows}
    return [row for row in open_rows if unread.isdisjoint(row.parents)]


def entry(found: Figures) -> dict[str, Any]:
    """Figures, ready for JSON."""
    return {
        "pipelines": [
            {
                "pipeline": each.pipeline,
                "shards": {state.value: each.shards.get(state, 0) for state in LeaseState},
                "leases": dict(sorted(each.held.items())),
                "unowned": each.unowned,
                "workers": each.workers,
                "lag_s": {shard_id: round(lag_s, 3) for shard_id, lag_s in sorted(each.lag_s.items())},
                "headroom_s": None if each.headroom_s is None else round(each.headroom_s, 3),
            }
            for each in found.pipelines
        ],
        "owners": [
            {"owner": owner, "silence_s": round(silence_s, 3), "silent": owner in found.silent}
            for owner, silence_s in sorted(found.silence_s.items())
        ],
    }


def folded(
    values: Iterable[tuple[str, float]], *, most: int, into: str, fold: Callable[[Iterable[float]], float]
) -> dict[str, float]:
    """The `most` highest values, and one more that all others are folded into. What has the same label is folded, too."""
    ranked = sorted(values, key=lambda each: (-each[1], each[0]))
    together: dict[str, list[float]] = {}
    for place, (label, value) in enumerate(ranked):
        together.setdefault(label if place < most else into, []).append(value)
    return {label: fold(values) for label, values in together.items()}
