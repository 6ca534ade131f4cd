"""Liveness by renewing each lease, as the Kinesis Client Library does: for its tables, and beside its workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import anyio

from streamflow import events
from streamflow.engine.patience import Patience
from streamflow.errors import LeaseLostError, StoreError
from streamflow.leases import LeaseLayout, LeaseState
from streamflow.rules import belief

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.engine.flow import Surroundings
    from streamflow.engine.liveness import Held
    from streamflow.leases import Lease, LeaseKey
    from streamflow.protocols import CountedLeaseStore

_SIDE_BY_SIDE_MAX = 32


@dataclass(slots=True, eq=False)
class Renewals:
    """Keeps `Liveness`, in a store of `LeaseLayout.KCL` or `KCL_SHARED`."""

    around: Surroundings
    held: dict[LeaseKey, Held] = field(default_factory=dict)
    _stirred_at: float = float("-inf")
    _retired: set[str] = field(default_factory=set)
    _patience: Patience = field(init=False)
    _rows: dict[str, Sequence[Lease]] = field(default_factory=dict)
    """Pipeline to what the last look saw."""
    _owners: dict[str, dict[str, str]] = field(default_factory=dict)
    _leaving: dict[str, float] = field(default_factory=dict)
    """Owners that let leases go, to the monotonic time until which that means something."""

    def __post_init__(self) -> None:
        # Large tables are listed every other lease duration.
        self._patience = Patience(self.around.clock, 3 * self.around.options.lease_duration_s)

    @property
    def worker_id(self) -> str:
        return self.around.options.worker_id

    @property
    def alive(self) -> bool:
        return True

    def valid_until(self, held: Held) -> float:
        return belief.valid_until(held.sent_at, self.around.options.lease_duration_s)

    async def start(self) -> None:
        """Whoever has no lease is not known: there is nothing to show."""
        self._stirred_at = self.around.clock.monotonic()

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stir, name="worker/stir")
            await self.around.lease_loop.call(self._renew_on)

    async def leave(self) -> None:
        """Nothing to do: what is not let go runs out by itself."""

    async def retire(self, pipeline: str) -> None:
        self._retired.add(pipeline)

    def abandon(self) -> None:
        """Nothing to do: what is not renewed runs out by itself."""

    async def _stir(self) -> None:
        while True:
            self._stirred_at = self.around.clock.monotonic()
            await anyio.sleep(self._interval_s / 4)

    @property
    def _interval_s(self) -> float:
        return belief.beat_interval_s(self.around.options.lease_duration_s)

    # -- in the loop of the leases --------------------------------------------------------------------------------------

    async def _renew_on(self) -> None:
        while True:
            if self.around.clock.monotonic() - self._stirred_at < self.around.options.stall_s:
                # A checkpoint is a renewal too.
                due = self.around.clock.lifetime() - self._interval_s * 0.9
                await self._renew([held for held in list(self.held.values()) if held.sent_at <= due])
            await anyio.sleep(self._interval_s / 4)

    async def _renew(self, leases: Sequence[Held]) -> None:
        limiter = anyio.CapacityLimiter(_SIDE_BY_SIDE_MAX)

        async def renew(held: Held) -> None:
            async with limiter:
                await self._renew_one(held)

        async with anyio.create_task_group() as tasks:
            for held in leases:
                tasks.start_soon(renew, held, name=f"{held.lease.pipeline}/{held.lease.shard_id}/renew")

    async def _renew_one(self, held: Held) -> None:
        try:
            await held.renew_here()
        except LeaseLostError:
            self.around.lease_loop.tell(held.lose)
        except StoreError as error:
            event = events.CheckpointFailed(
                pipeline=held.lease.pipeline,
                shard_id=held.lease.shard_id,
                error=error,
                retry_after_s=self._interval_s / 4,
            )
            self.around.lease_loop.tell(lambda: self.around.emit(event))

    # -- in the handlers' loop ------------------------------------------------------------------------------------------

    async def look(self, rows: Sequence[Lease]) -> None:
        for pipeline in dict.fromkeys(row.pipeline for row in rows):
            self._patience.look(pipeline, {row.shard_id: row.version for row in rows})
            self._note_leaving(pipeline, rows)
            self._rows[pipeline] = rows

    def _note_leaving(self, pipeline: str, rows: Sequence[Lease]) -> None:
        """Who lets an unfinished shard go is about to stop, and is not reckoned with for a while."""
        before = self._owners.get(pipeline, {})
        until = self.around.clock.monotonic() + self.around.options.lease_duration_s
        for row in rows:
            owner = before.get(row.shard_id)
            if row.owner is None and owner is not None and row.state is LeaseState.ACTIVE:
                self._leaving[owner] = until
        self._owners[pipeline] = {row.shard_id: row.owner for row in rows if row.owner is not None}

    def _asking(self, rows: Sequence[Lease]) -> set[str]:
        """Who asks for a lease is known by that alone while it has none, and else by having written one not long ago."""
        latest_s: dict[str, float] = {}
        for row in rows:
            if row.owner is not None:
                silent_s = self._patience.silent_s(row.pipeline, row.shard_id, row.version)
                latest_s[row.owner] = min(silent_s, latest_s.get(row.owner, silent_s))
        asking = {row.claimant for row in rows if row.claimant is not None}
        return {claimant for claimant in asking if latest_s.get(claimant, 0.0) < self._interval_s * 1.5}

    def workers(self, pipeline: str) -> frozenset[str]:
        """The owners whose leases move, and who asks for one, but for those that are about to stop."""
        rows = self._rows.get(pipeline, ())
        leaving = {owner for owner, until in self._leaving.items() if until > self.around.clock.monotonic()}
        living = {row.owner for row in rows if row.owner is not None and not self._is_silent(row)}
        others = frozenset(living | self._asking(rows)) - leaving
        return others - {self.worker_id} if pipeline in self._retired else others | {self.worker_id}

    def unowned(self, row: Lease) -> bool:
        return row.owner is None or row.owner == self.worker_id or self._is_silent(row)

    def due_in_s(self, rows: Sequence[Lease]) -> float:
        left_s = (self._patience_left_s(row) for row in rows if not self.unowned(row))
        return min(left_s, default=float("inf"))

    def _is_silent(self, row: Lease) -> bool:
        return self._patience_left_s(row) <= 0

    def _patience_left_s(self, row: Lease) -> float:
        patience_s = belief.patience_s(row, self.around.options.lease_duration_s)
        return patience_s - self._patience.silent_s(row.pipeline, row.shard_id, row.version)

    async def ask(self, row: Lease) -> None:
        if self.around.store.layout is LeaseLayout.KCL:
            await cast("CountedLeaseStore", self.around.lease_loop.store).ask(row, self.worker_id)
