"""A look at leases and workers, or two of them, and what they say about who lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import ConfigError
from streamflow.leases import WORKERS, Lease, LeaseLayout
from streamflow.observe.fleet import LEASE_DURATION_S, signs_of_life

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.cli.leased import PlacedStream
    from streamflow.protocols import StateStore

_NAMED_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The rows of some pipelines as they were at one moment; `silent` are the owners that showed no life in between."""

    layout: LeaseLayout
    rows: Sequence[Lease]
    workers: Mapping[str, Lease]
    silent: frozenset[str] | None = None
    """None where only one look was taken, which cannot tell."""
    watched_s: float = 0.0

    @property
    def owners(self) -> set[str]:
        return {row.owner for row in self.rows if row.owner is not None}

    def working_on(self, pipeline: str) -> set[str]:
        """Workers that could be given a lease: in the native layout their rows say so, in that of the KCL their leases."""
        if self.layout is LeaseLayout.NATIVE:
            return {worker_id for worker_id, row in self.workers.items() if pipeline in row.children}
        return {row.owner for row in self.rows if row.owner is not None and row.pipeline == pipeline}

    def seems_alive(self, owner: str) -> bool:
        """Not known to be gone: without a row of its own, or silent for longer than it may be.

        In the layout of the KCL no worker has a row, and one look says nothing.
        """
        if self.layout is LeaseLayout.NATIVE and owner not in self.workers:
            return False
        worker = self.workers.get(owner)
        patience_s = (worker.duration_s if worker is not None else None) or LEASE_DURATION_S
        return not (self.silent is not None and owner in self.silent and self.watched_s >= patience_s)


async def look(store: StateStore, streams: Sequence[PlacedStream], *, watch_s: float | None = None) -> Look:
    """One look, or two, so many seconds apart."""
    first = await _look(store, streams)
    if watch_s is None:
        return first
    await anyio.sleep(watch_s)
    second = await _look(store, streams)
    return Look(
        layout=second.layout,
        rows=second.rows,
        workers=second.workers,
        silent=silent(first, second),
        watched_s=watch_s,
    )


async def _look(store: StateStore, streams: Sequence[PlacedStream]) -> Look:
    rows = [row for each in streams for row in await store.list(each.pipeline, each.stream_arn)]
    native = store.layout is LeaseLayout.NATIVE
    workers = {row.shard_id: row for row in await store.list(*WORKERS)} if native else {}
    return Look(layout=store.layout, rows=rows, workers=workers)


def silent(first: Look, second: Look) -> frozenset[str]:
    """Owners of which nothing was written between two looks: neither their own row nor a lease of theirs."""
    before = signs_of_life(first.rows, first.workers)
    after = signs_of_life(second.rows, second.workers)
    return frozenset(owner for owner in after if after[owner] <= before.get(owner, set()))


def refuse_living(look: Look, rows: Sequence[Lease]) -> None:
    """Raises `ConfigError` where an owner seems to be alive."""
    held: dict[str, list[str]] = {}
    for row in rows:
        if row.owner is not None and look.seems_alive(row.owner):
            held.setdefault(row.owner, []).append(row.shard_id)
    if held:
        advice = (
            f"stop {', '.join(sorted(held))} with SIGTERM: that delivers what is in flight and lets the leases go; if it was "
            "killed, --watch SECONDS, longer than its lease duration, sees that it is silent; --force takes the leases "
            "from it all the same, and what it has in flight is delivered again"
        )
        raise ConfigError(
            [*(f"{owner} seems to be alive, and has {_some(of)}" for owner, of in sorted(held.items())), advice]
        )


def _some(shard_ids: Sequence[str]) -> str:
    more = len(shard_ids) - _NAMED_MAX
    return ", ".join(shard_ids[:_NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")
