"""Which leases this worker holds: taken, written and passed on by compare-and-set, never by the clock of anything else.

A worker's own validity counts from before it sent its last acknowledged sign of life and ends before any observer's
patience does; past it the worker dispatches nothing and stores nothing. A take continues from the row that the store
returned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

import anyio

from streamflow import events
from streamflow.errors import LeaseLostError, StoreError, StreamflowError, UnknownOutcomeError, leading_error
from streamflow.failpoints import reach
from streamflow.leases import STREAM_ROW, SUSPECTS, LeaseState
from streamflow.rules import steps
from streamflow.rules.steps import Outcome, PassedOn, Renewed, Taken, Withdrawn
from streamflow.rules.suspicion import has_died, row_key, suspicion_after_death

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from streamflow.engine.flow import Flow, Surroundings
    from streamflow.engine.liveness import Liveness
    from streamflow.leases import Lease, LeaseKey
    from streamflow.rules.steps import Step
    from streamflow.rules.suspicion import Suspicion

# Calls to a store or a stream at the same time, at a start with thousands of shards.
_SIDE_BY_SIDE_MAX = 128

_EPOCH, _VERSION = attrgetter("epoch"), attrgetter("version")

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class HeldLease:
    """One lease of ours. All its writes go through here, one after the other, in the loop of the leases."""

    lease: Lease
    around: Surroundings
    liveness: Liveness
    sent_at: float
    """Lifetime of the clock just before the last acknowledged write was sent."""
    suspicion: Suspicion | None = None
    """Where the owner before us has died: whether something that it was handed did that."""
    lost: anyio.Event = field(default_factory=anyio.Event)
    _looked_up: bool = False
    """The last write got no answer, and was found in the store."""
    _writing: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def shard_id(self) -> str:
        return self.lease.shard_id

    @property
    def valid(self) -> bool:
        """Nobody else can own the lease yet."""
        return not self.lost.is_set() and self.around.clock.lifetime() < self.valid_until

    @property
    def valid_for_s(self) -> float:
        """How much longer it is valid, if nothing is heard; below 0 where it is not."""
        return self.valid_until - self.around.clock.lifetime()

    @property
    def valid_until(self) -> float:
        """By the lifetime of the clock."""
        # Passed on, or of a life that others have ended: not ours any more.
        if self.lease.owner != self.liveness.worker_id:
            return float("-inf")
        return self.liveness.valid_until(self)

    async def write(self, step: Step) -> None:
        """Store the lease as it is after the step.

        Raises:
            LeaseLostError: the row is not ours any more, or our validity ran out before the write.
            StoreError: nothing was stored; the caller may try again.
        """
        try:
            await self.around.lease_loop.call(self._write_here, step)
        except LeaseLostError:
            self.lose()
            raise

    async def renew_here(self) -> None:
        """In the loop of the leases: renew the lease; raises as `write`."""
        await self._write_here(Renewed())

    async def _write_here(self, step: Step) -> None:
        async with self._writing:
            if not self.valid:
                raise LeaseLostError(f"the lease of {self.shard_id} was not renewed in time")
            sent_at, self._looked_up = self.around.clock.lifetime(), False
            stored = await self._update(step)
            if stored is None:
                raise LeaseLostError(
                    f"somebody else wrote the lease of {self.shard_id}, or the store gave no answer in time"
                )
            self.lease = stored
            # What was found may be an earlier attempt, and others wait since that one: it is no sign of life of now.
            self.sent_at = self.sent_at if self._looked_up else sent_at

    async def _update(self, step: Step) -> Lease | None:
        """The row as stored; None on conflict, and where no answer came while the lease was valid.

        Not to be cancelled: a write that was given up half-way may have happened, and then every later one would conflict.
        """
        with anyio.CancelScope(shield=True), anyio.move_on_after(self.valid_for_s):
            stored = await self._compare_and_set(steps.after(self.lease, step))
            if stored is None and await self._was_asked():
                stored = await self._compare_and_set(steps.after(self.lease, step))
            if stored is not None:
                await reach("lease.written")
            return stored
        return None

    async def _compare_and_set(self, wanted: Lease) -> Lease | None:
        store = self.around.lease_loop.store
        try:
            return await store.update(wanted, expected_version=self.lease.version)
        except UnknownOutcomeError:
            current = await store.get(wanted.key)
        outcome, self._looked_up = steps.resolved(self.lease, wanted, current), True
        if outcome is Outcome.NOT_STORED:
            raise StoreError(f"the write of the lease of {self.shard_id} did not happen")
        return current if outcome is Outcome.STORED else None

    async def _was_asked(self) -> bool:
        """Whether the conflict is but a request for the lease, or its withdrawal: it is still ours then, as it is now."""
        current = await self.around.lease_loop.store.get(self.lease.key)
        if current is None or not steps.was_asked(self.lease, current):
            return False
        self.lease = current
        return True

    def lose(self) -> None:
        """Give up belief in the lease; whoever works on it stops."""
        self.lost.set()


@dataclass(slots=True, eq=False)
class Ownership:
    """The leases of one flow that this worker holds, and what it has seen of the others."""

    flow: Flow
    liveness: Liveness
    held: dict[str, HeldLease] = field(default_factory=dict)
    listed: Sequence[Lease] = ()
    """All rows of the stream, as of the last look."""
    _had: set[str] = field(default_factory=set)
    """Shards that were ours at any time in this life."""
    _newest: int = 0
    """The greatest epoch or version of a row that was ever listed."""
    _abandoned: set[str] = field(default_factory=set)
    _avoided: dict[str, float] = field(default_factory=dict)
    """Shards that we gave up, to the monotonic time until which others may have them."""

    async def rows(self) -> Sequence[Lease]:
        """All rows of the stream as the store lists them now; also finds out whose owners live."""
        rows = await self.flow.around.store.list(self.flow.name, self.flow.info.stream_arn)
        self._newest = max([self._newest, *map(_EPOCH, rows), *map(_VERSION, rows)])
        await self.liveness.look(rows)
        self.listed = rows
        return rows

    def free(self, row: Lease) -> bool:
        """Whether the row may be taken: unowned, ours from an earlier life, or of an owner that was silent for too long."""
        return row.shard_id not in self.held and row.shard_id not in self.avoided() and self.liveness.unowned(row)

    async def take(self, row: Lease) -> HeldLease | None:
        """As `take_all`, for one row; None if somebody was faster."""
        return next(iter(await self.take_all([row])), None)

    async def take_all(self, rows: Sequence[Lease]) -> list[HeldLease]:
        """Try to become the owner of rows that were listed; the answer is without those where somebody was faster.

        What is taken is a row as it is now, not the listing's idea of it.

        Raises:
            StoreError: the store failed; what it stored of our ownership all the same, the next round finds.
        """
        before = {row.key: row.owner for row in rows}
        taken: list[HeldLease] = []
        suspicions = await self._suspicions([row for row in rows if self._has_died(row)])
        await reach("lease.listed")
        try:
            # Not to be cancelled half-way: a lease of ours that we do not know of would stay idle until it ran out.
            with anyio.CancelScope(shield=True):
                await self.flow.around.lease_loop.call(side_by_side, partial(self._take_here, taken), rows)
        finally:
            for held in taken:
                lease = held.lease
                held.suspicion = suspicions.get(lease.key)
                self._had.add(held.shard_id)
                self.held[held.shard_id] = self.liveness.held[lease.key] = held
                event = events.LeaseTaken(
                    pipeline=lease.pipeline,
                    shard_id=held.shard_id,
                    epoch=lease.epoch,
                    previous_owner=before[lease.key],
                )
                self.flow.around.emit(event)
        return taken

    def _has_died(self, row: Lease) -> bool:
        """Whether the owner of a row did not let it go; the owner of one that is taken from the living has not died."""
        if row.shard_id == STREAM_ROW or not self.liveness.unowned(row):
            return False
        return has_died(row, me=self.liveness.worker_id, is_ours=row.shard_id in self._had)

    async def _suspicions(self, orphans: Sequence[Lease]) -> dict[LeaseKey, Suspicion]:
        """What there is to believe of rows whose owners have died."""
        if not orphans:
            return {}
        noted = {row.key: row for row in await self.flow.around.store.list(*SUSPECTS)}
        return {row.key: suspicion_after_death(noted.get(row_key(row.key)), row.checkpoint) for row in orphans}

    async def _take_here(self, taken: list[HeldLease], row: Lease) -> None:
        """In the loop of the leases."""
        around = self.flow.around
        with anyio.move_on_after(around.options.store_deadline_s):
            current = await around.lease_loop.store.get(row.key)
            if current is None or current.version != row.version:
                return
            passed_on = current.claimant == self.liveness.worker_id
            await reach("handover.before_take" if passed_on else "lease.before_take")
            sent_at = around.clock.lifetime()
            wanted = steps.after(current, Taken(self.liveness.worker_id))
            stored = await around.lease_loop.store.update(wanted, expected_version=current.version)
            if stored is not None:
                await reach("lease.taken")
                taken.append(HeldLease(stored, around, self.liveness, sent_at))

    async def ask_for(self, rows: Sequence[Lease]) -> None:
        """Have the owners of rows that were listed pass them on to us, in their own time. Raises `StoreError`."""
        await reach("handover.before_ask")
        await self.flow.around.lease_loop.call(side_by_side, self.liveness.ask, rows)
        await reach("handover.asked")
        for row in rows:
            self.flow.around.emit(
                events.LeaseAskedFor(pipeline=row.pipeline, shard_id=row.shard_id, owner=row.owner or "")
            )

    async def release(self, held: HeldLease, *, to: str | None = None, heir: str | None = None) -> None:
        """Let a lease go so that another worker, or just the one it is passed on to, may have it at once; see `PassedOn`.

        Where that fails, it stays ours in the store, and is free for us and, when we are gone, for all.
        """
        self.drop(held)
        await reach("lease.before_release")
        if not held.valid:
            return
        try:
            await held.write(PassedOn(to, heir))
        except (LeaseLostError, StoreError):
            return
        pipeline, shard_id, owner = self.flow.name, held.shard_id, held.lease.owner
        await reach("lease.released" if owner is None else "handover.passed_on")
        if owner is None:
            self.flow.around.emit(events.LeaseReleased(pipeline=pipeline, shard_id=shard_id))
        else:
            self.flow.around.emit(events.LeaseHandedOver(pipeline=pipeline, shard_id=shard_id, to=owner))

    async def withdraw(self) -> None:
        """Ask for nothing any more, and let go what was passed on to us and not taken. Raises `StoreError`."""
        me = self.liveness.worker_id

        async def withdraw_one(row: Lease) -> None:
            store = self.flow.around.lease_loop.store
            current = await store.get(row.key)
            if current is not None and me in (current.owner, current.claimant):
                await store.update(steps.after(current, Withdrawn(me)), expected_version=current.version)

        rows = await self.flow.around.store.list(self.flow.name, self.flow.info.stream_arn)
        kept = self.held.keys() | self._abandoned
        ours = [row for row in rows if me in (row.owner, row.claimant) and row.shard_id not in kept]
        await self.flow.around.lease_loop.call(side_by_side, withdraw_one, ours)

    def forget(self, held: HeldLease, reason: str) -> None:
        """Strike a lease that somebody else has from the list."""
        self.drop(held)
        held.lose()
        self.flow.around.emit(events.LeaseLost(pipeline=self.flow.name, shard_id=held.shard_id, reason=reason))

    def drop(self, held: HeldLease) -> None:
        """Strike a lease from the list, whatever the store says of it."""
        if held.lease.state is not LeaseState.ACTIVE:
            self._had.discard(held.shard_id)
        if self.held.get(held.shard_id) is held:
            del self.held[held.shard_id]
        if self.liveness.held.get(held.lease.key) is held:
            del self.liveness.held[held.lease.key]

    def abandon(self, held: HeldLease) -> None:
        """Strike a lease from the list that nobody may have yet: it has to run out in the store."""
        self.drop(held)
        self._abandoned.add(held.shard_id)
        self.liveness.abandon()

    def avoid(self, shard_id: str) -> None:
        """Leave a shard that we gave up to others for a while."""
        self._avoided[shard_id] = self.flow.around.clock.monotonic() + self.flow.around.options.stall_s

    def avoided(self) -> frozenset[str]:
        """The shards that others may have before us, for now."""
        now = self.flow.around.clock.monotonic()
        return frozenset(shard_id for shard_id, until in self._avoided.items() if until > now)

    async def create(self, rows: Iterable[Lease]) -> list[str]:
        """Store rows that do not exist yet; the answer names those that were new.

        Side by side, so that a store may write many at once; in no order, because a child waits for its parents' rows.

        Raises:
            StoreError: some may not be stored; a repetition is harmless.
        """
        created: list[str] = []
        store = self.flow.around.lease_loop.store
        born_at_ms = steps.made_at_ms(int(self.flow.around.clock.wall() * 1_000), self._newest)

        async def create_one(row: Lease) -> None:
            if await store.create(steps.born(row, born_at_ms)) is not None:
                created.append(row.shard_id)

        await self.flow.around.lease_loop.call(side_by_side, create_one, rows)
        return sorted(created)


async def side_by_side(function: Callable[[Item], Awaitable[None]], items: Iterable[Item]) -> None:
    """Await the function for each item, many at a time. After the first error nothing is begun any more, and it is raised.

    What is on its way is waited for: a store that takes a hundred writes in a second and refuses the others gets on with
    thousands by a hundred at a time, where giving all of them up would never come to an end.
    """
    limiter = anyio.CapacityLimiter(_SIDE_BY_SIDE_MAX)
    failures: list[StreamflowError] = []

    async def call(item: Item) -> None:
        async with limiter:
            if failures:
                return
            try:
                await function(item)
            except StreamflowError as error:
                failures.append(error)

    try:
        async with anyio.create_task_group() as tasks:
            for item in items:
                tasks.start_soon(call, item)
    except BaseExceptionGroup as group:
        raise leading_error(group) from None
    if failures:
        raise leading_error(ExceptionGroup("side by side", failures)) from None
