"""Which leases this worker holds: taken, renewed and written by compare-and-set, never by the clock of anything else.

A worker's own validity counts from before it sent its last acknowledged write and ends before any observer's patience
does; past it the worker dispatches nothing and stores nothing. A take continues from the row that the store returned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from streamflow import events
from streamflow.errors import LeaseLostError, StoreError, UnknownOutcomeError, leading_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from streamflow.engine.flow import Flow, Surroundings
    from streamflow.leases import Lease

# The owner believes for 4/5 of the lease duration, observers wait for all of it: the rest is the margin between them.
_OWN_SHARE = 0.8
_RENEWALS_PER_LEASE = 3
# Calls to a store or a stream at the same time, at a start with thousands of shards.
_SIDE_BY_SIDE_MAX = 128

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class HeldLease:
    """One lease of ours. All its writes go through here, one after the other."""

    lease: Lease
    around: Surroundings
    sent_at: float
    """Monotonic time just before the last acknowledged write was sent."""
    lost: anyio.Event = field(default_factory=anyio.Event)
    _writing: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def shard_id(self) -> str:
        return self.lease.shard_id

    @property
    def valid(self) -> bool:
        """Nobody else can own the lease yet."""
        return not self.lost.is_set() and self.around.clock.monotonic() < self.valid_until

    @property
    def valid_until(self) -> float:
        return self.sent_at + self.around.options.lease_duration_s * _OWN_SHARE

    async def write(self, **changes: Any) -> None:
        """Store the lease with these fields changed; without any, renew it.

        Raises:
            LeaseLostError: the row is not ours any more, or our validity ran out before the write.
            StoreError: nothing was stored; the caller may try again.
        """
        async with self._writing:
            if not self.valid:
                self.lose()
                raise LeaseLostError(f"the lease of {self.shard_id} was not renewed in time")
            sent_at = self.around.clock.monotonic()
            stored = await self._update(replace(self.lease, **changes))
            if stored is None:
                self.lose()
                raise LeaseLostError(
                    f"somebody else wrote the lease of {self.shard_id}, or the store gave no answer in time"
                )
            self.lease, self.sent_at = stored, sent_at

    async def _update(self, wanted: Lease) -> Lease | None:
        """The row as stored; None on conflict, and where no answer came while the lease was valid.

        Not to be cancelled: a write that was given up half-way may have happened, and then every later one would conflict.
        """
        patience_s = self.valid_until - self.around.clock.monotonic()
        with anyio.CancelScope(shield=True), anyio.move_on_after(patience_s):
            try:
                return await self.around.store.update(wanted, expected_version=self.lease.version)
            except UnknownOutcomeError:
                return await self._read_back(wanted)
        return None

    async def _read_back(self, wanted: Lease) -> Lease | None:
        """Decide what became of a write whose answer was lost: ours if it is there, void if the old row is."""
        current = await self.around.store.get(wanted.key)
        if current == self.lease:
            raise StoreError(f"the write of the lease of {self.shard_id} did not happen")
        expected = replace(wanted, version=self.lease.version + 1)
        return current if current == expected else None

    def lose(self) -> None:
        """Give up belief in the lease; whoever works on it stops."""
        self.lost.set()


@dataclass(slots=True, eq=False)
class Ownership:
    """The leases of one flow that this worker holds, and what it has seen of the others."""

    flow: Flow
    held: dict[str, HeldLease] = field(default_factory=dict)
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Shard id to the version last seen and since when, by our monotonic clock."""

    @property
    def renew_interval_s(self) -> float:
        return self.flow.around.options.lease_duration_s / _RENEWALS_PER_LEASE

    async def rows(self) -> list[Lease]:
        """All rows of the stream as the store lists them now; also notes which of them have changed."""
        rows = list(await self.flow.around.store.list(self.flow.name, self.flow.info.stream_arn))
        now = self.flow.around.clock.monotonic()
        seen = self._seen
        self._seen = {
            row.shard_id: known
            if (known := seen.get(row.shard_id)) is not None and known[0] == row.version
            else (row.version, now)
            for row in rows
        }
        return rows

    def free(self, row: Lease) -> bool:
        """Whether the row may be taken: unowned, ours from an earlier life, or silent for a whole lease duration."""
        if row.shard_id in self.held:
            return False
        options = self.flow.around.options
        if row.owner is None or row.owner == options.worker_id:
            return True
        version, since = self._seen.get(row.shard_id, (row.version, self.flow.around.clock.monotonic()))
        return version == row.version and self.flow.around.clock.monotonic() - since >= options.lease_duration_s

    async def take(self, row: Lease) -> HeldLease | None:
        """Try to become the owner of a row that was listed; None if somebody was faster.

        What is taken is the row as it is now, not the listing's idea of it.

        Raises:
            StoreError: the store failed; if it stored our ownership all the same, the next round finds it.
        """
        around = self.flow.around
        current = await around.store.get(row.key)
        if current is None or current.version != row.version:
            return None
        sent_at = around.clock.monotonic()
        wanted = replace(current, owner=around.options.worker_id, epoch=current.epoch + 1)
        taken = None
        # Not to be cancelled half-way: a lease of ours that we do not know of would stay idle until it ran out.
        with anyio.CancelScope(shield=True), anyio.move_on_after(around.options.store_deadline_s):
            taken = await around.store.update(wanted, expected_version=row.version)
        if taken is None:
            return None
        held = HeldLease(taken, around, sent_at)
        self.held[row.shard_id] = held
        around.emit(
            events.LeaseTaken(
                pipeline=self.flow.name, shard_id=row.shard_id, epoch=taken.epoch, previous_owner=row.owner
            )
        )
        return held

    async def renew(self) -> None:
        """Renew what was not written for a renewal interval; a failing store is tried again next round."""
        due = self.flow.around.clock.monotonic() - self.renew_interval_s * 0.9
        async with anyio.create_task_group() as renewals:
            for held in [held for held in self.held.values() if held.sent_at <= due]:
                renewals.start_soon(self._renew, held, name=f"{self.flow.name}/{held.shard_id}/renew")

    async def _renew(self, held: HeldLease) -> None:
        try:
            await held.write()
        except LeaseLostError:
            pass
        except StoreError as error:
            self.flow.around.emit(
                events.CheckpointFailed(
                    pipeline=self.flow.name,
                    shard_id=held.shard_id,
                    error=error,
                    retry_after_s=self.renew_interval_s,
                )
            )

    async def release(self, held: HeldLease) -> None:
        """Let a lease go so that another worker may have it at once; where that fails, it runs out by itself."""
        self.held.pop(held.shard_id, None)
        if not held.valid:
            return
        try:
            await held.write(owner=None)
        except (LeaseLostError, StoreError):
            return
        self.flow.around.emit(events.LeaseReleased(pipeline=self.flow.name, shard_id=held.shard_id))

    def forget(self, held: HeldLease, reason: str) -> None:
        """Strike a lease that somebody else has from the list."""
        self.held.pop(held.shard_id, None)
        held.lose()
        self.flow.around.emit(events.LeaseLost(pipeline=self.flow.name, shard_id=held.shard_id, reason=reason))

    async def create(self, rows: Iterable[Lease]) -> list[str]:
        """Store rows that do not exist yet; the answer names those that were new.

        Side by side, so that a store may write many at once; in no order, because a child waits for its parents' rows.

        Raises:
            StoreError: some may not be stored; a repetition is harmless.
        """
        created: list[str] = []

        async def create_one(row: Lease) -> None:
            if await self.flow.around.store.create(row) is not None:
                created.append(row.shard_id)

        await side_by_side(create_one, rows)
        return sorted(created)


async def side_by_side(function: Callable[[Item], Awaitable[None]], items: Iterable[Item]) -> None:
    """Await the function for each item, many at a time; the first error ends it, unwrapped."""
    limiter = anyio.CapacityLimiter(_SIDE_BY_SIDE_MAX)

    async def call(item: Item) -> None:
        async with limiter:
            await function(item)

    try:
        async with anyio.create_task_group() as tasks:
            for item in items:
                tasks.start_soon(call, item)
    except BaseExceptionGroup as group:
        raise leading_error(group) from None
