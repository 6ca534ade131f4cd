"""One flow's share of the leases: look at them, take some, ask for some, pass some on, and see each shard worked at."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.engine.discovery import Discovery, stream_row
from streamflow.engine.ownership import Ownership
from streamflow.engine.reader import error_code
from streamflow.engine.shard import ShardWork
from streamflow.errors import NotFoundError, SourceError, StoreError, StreamDisabledError
from streamflow.failpoints import reach
from streamflow.leases import STREAM_ROW, LeaseLayout, LeaseState
from streamflow.rules import balance, lineage, steps
from streamflow.rules.balance import View
from streamflow.rules.pacing import STORE_BACKOFF
from streamflow.rules.steps import Started

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from anyio.abc import TaskGroup

    from streamflow.engine.flow import Flow
    from streamflow.engine.liveness import Liveness
    from streamflow.engine.ownership import HeldLease
    from streamflow.leases import Lease

_TAKEN_TOGETHER = 500
# Leases whose owner is silent fall free one after the other: those that do so within this time are taken together.
_TAKEN_EVERY_S = 0.1
_START_PATIENCE_S = 15.0


@dataclass(slots=True, eq=False)
class FlowWork:
    """One flow from its first lease to its last."""

    flow: Flow
    liveness: Liveness
    note_started: Callable[[], None]
    company: FlowWork | None = None
    """The first branch of a fan-out, for the others: a shard's branches belong together."""
    ownership: Ownership = field(init=False)
    discovery: Discovery = field(init=False)
    works: dict[str, ShardWork] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)
    """Unfinished shard to its owner, as of the last look."""
    _started: bool = False
    _was_free: frozenset[str] = frozenset()
    _was_unequal: bool = False

    def __post_init__(self) -> None:
        self.ownership = Ownership(self.flow, self.liveness)
        self.discovery = Discovery(self.flow, self.ownership)

    async def run(self) -> bool:
        """Work until the flow stops or its stream ends; True if everything in flight was settled.

        Raises:
            StoreError: the store does not even take the stream's row.
        """
        flow = self.flow
        await patiently(lambda: self.ownership.create([stream_row(flow)]), flow, self._report)
        try:
            await self._work_and_drain()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(flow.around.options.store_deadline_s):
                for held in list(self.ownership.held.values()):
                    await self.ownership.release(held)
                with suppress(StoreError):
                    await self.ownership.withdraw()
        return not flow.at_risk

    async def _work_and_drain(self) -> None:
        flow = self.flow
        async with anyio.create_task_group() as shards:
            shards.start_soon(self._look_after_leases, shards, name=f"{flow.name}/leases")
            await flow.stopping.wait()
            # From here on every shard finishes what it has in flight; what does not end in time is cancelled.
            shards.cancel_scope.deadline = flow.around.clock.monotonic() + flow.around.options.drain_timeout_s
            self._name_heirs()
            await self.liveness.retire(flow.name)
            await reach("stop.retired")
            # What is on its way to us would be nobody's: the others should keep it, or hear soon that we let it go.
            with suppress(StoreError):
                await self.ownership.withdraw()

    def _name_heirs(self) -> None:
        """Say who is to have each shard: one look of an heir is all it takes then, and nobody reaches for the same one."""
        if self.flow.around.store.layout is LeaseLayout.KCL_SHARED:
            return  # workers of the KCL 2.x take what has no owner, or one that is silent
        # The branches of a shard stay together.
        first = self.company or self
        heirs = balance.heirs(first._view(lineage.readable(first.ownership.listed), left_over=frozenset()))
        for shard_id, work in self.works.items():
            work.heir = heirs.get(shard_id)

    async def _look_after_leases(self, shards: TaskGroup) -> None:
        flow, failures = self.flow, 0
        while not flow.stopping.is_set():
            try:
                await self._look(await self.ownership.rows(), shards)
                failures = 0
                await self._wait_for_look(shards)
            except StoreError as error:
                failures += 1
                delay_s = STORE_BACKOFF.delay_s(failures, flow.around.random)
                self._report(error, delay_s)
                await flow.pause(delay_s)

    def _report(self, error: StoreError, delay_s: float) -> None:
        self.flow.around.emit(
            events.DiscoveryFailed(
                pipeline=self.flow.name, code=error_code(error), message=str(error), retry_after_s=delay_s
            )
        )

    async def _wait_for_look(self, shards: TaskGroup) -> None:
        """Until the next look is due: sooner where an owner's time is up that must be struck before its leases are free.

        In the KCL's layout leases fall free by themselves, and are taken as they were listed.
        """
        flow, clock, rows = self.flow, self.flow.around.clock, lineage.readable(self.ownership.listed)
        struck_first = flow.around.store.layout is LeaseLayout.NATIVE
        look_at = clock.monotonic() + self._looking_interval_s()
        while not flow.stopping.is_set():
            left_s = look_at - clock.monotonic()
            due_s = max(_TAKEN_EVERY_S, self.liveness.due_in_s(rows))
            if await flow.wait_nudge(min(left_s, due_s)) or left_s <= due_s or struck_first:
                return
            view = self._view(rows, left_over=frozenset())
            await self._take(shards, balance.takes(view))
            self._was_free |= view.free
            look_at = min(look_at, clock.monotonic() + self._looking_interval_s())

    def _looking_interval_s(self) -> float:
        if self._was_free - self.ownership.held.keys():
            return balance.LISTING_MIN_S
        options, layout = self.flow.around.options, self.flow.around.store.layout
        interval_s = balance.listing_interval_s(len(self.ownership.listed), options.lease_duration_s, layout)
        return max(options.look_interval_s, interval_s)

    async def _look(self, rows: Sequence[Lease], shards: TaskGroup) -> None:
        """Take leases, ask for leases, pass leases on, and start the work on those that are ours now."""
        flow, ownership = self.flow, self.ownership
        stream = next((row for row in rows if row.shard_id == STREAM_ROW), None)
        if stream is None:
            await self._restore_stream_row(rows)
            return
        await self._notice_losses(rows)
        if not self.liveness.alive:
            return
        if ownership.free(stream) and (held := await ownership.take(stream)) is not None:
            shards.start_soon(self._discover, held, name=f"{flow.name}/discovery")
        if stream.state is not LeaseState.ACTIVE:
            return
        await self._pass_on(rows)
        view = self._view(lineage.readable(rows), left_over=self._was_free)
        self._was_free = view.free
        flow.shards = len(view.rows)
        await self._take(shards, balance.takes(view))
        await self._ask(view, shards)
        self._note_look(rows, view)
        if all(row.state is LeaseState.ENDED for row in rows if row.shard_id != STREAM_ROW) and await self._no_more():
            flow.around.emit(events.StreamEnded(pipeline=flow.name, stream_arn=flow.info.stream_arn))
            flow.stop()

    def _view(self, readable: Sequence[Lease], *, left_over: frozenset[str]) -> View:
        worker_id = self.liveness.worker_id
        free = frozenset(row.shard_id for row in readable if self.ownership.free(row))
        self.owners = {
            row.shard_id: worker_id if row.shard_id in self.ownership.held else row.owner
            for row in readable
            if row.owner is not None and row.shard_id not in free
        }
        return View(
            me=worker_id,
            workers=self.liveness.workers(self.flow.name) | {worker_id},
            rows=readable,
            free=free,
            left_over=free & left_over,
            avoided=self.ownership.avoided(),
            company={} if self.company is None else self.company.owners,
        )

    async def _take(self, shards: TaskGroup, rows: Sequence[Lease]) -> None:
        """Take leases, and only then begin to work: thousands of shards that are read would hold the taking up."""
        try:
            for start in range(0, len(rows), _TAKEN_TOGETHER):
                if not self.flow.stopping.is_set():
                    await self.ownership.take_all(rows[start : start + _TAKEN_TOGETHER])
        finally:
            # Also what was taken before the store failed.
            for shard_id in sorted(self.ownership.held.keys() - self.works.keys() - {STREAM_ROW}):
                work = ShardWork(flow=self.flow, ownership=self.ownership, held=self.ownership.held[shard_id])
                self.works[shard_id] = work
                shards.start_soon(self._run_shard, work, name=f"{self.flow.name}/{shard_id}/delivery")

    async def _run_shard(self, work: ShardWork) -> None:
        try:
            await work.run()
        finally:
            if self.works.get(work.held.shard_id) is work:
                del self.works[work.held.shard_id]

    async def _ask(self, view: View, shards: TaskGroup) -> None:
        """Ask for leases where the look before found them unequally shared out too."""
        wanted = balance.asks(view)
        if self._was_unequal and not self.flow.stopping.is_set():
            if self.flow.around.store.layout is LeaseLayout.KCL_SHARED:
                # Workers of the KCL 2.x cannot be asked, and take one lease at a time from each other.
                await self._take(shards, wanted[:1])
            else:
                await self.ownership.ask_for(wanted)
        self._was_unequal = bool(wanted)

    async def _pass_on(self, rows: Sequence[Lease]) -> None:
        """Begin to hand over what somebody alive has asked for."""
        workers = self.liveness.workers(self.flow.name)
        for row in rows:
            if row.claimant in workers and row.claimant != self.liveness.worker_id and row.shard_id in self.works:
                await reach("handover.heard")
                if row.shard_id in self.works:
                    self.works[row.shard_id].leave(to=row.claimant)

    async def _notice_losses(self, rows: Sequence[Lease]) -> None:
        """Lose what somebody else has written: no lease is renewed by itself in a native store, so nothing else may tell."""
        listed = {row.shard_id: row for row in rows}
        for shard_id, held in list(self.ownership.held.items()):
            row = listed.get(shard_id) or await self.flow.around.store.get(held.lease.key)
            if steps.was_lost(held.lease, row):
                held.lose()

    def _note_look(self, rows: Sequence[Lease], view: View) -> None:
        flow, held = self.flow, self.ownership.held
        if not self._started:
            self._started = True
            flow.around.emit(
                events.PipelineStarted(
                    pipeline=flow.name,
                    stream_arn=flow.info.stream_arn,
                    shards=len(held.keys() - {STREAM_ROW}),
                )
            )
            self.note_started()
        unowned = len(view.free - held.keys())
        flow.around.emit(
            events.LeasesListed(pipeline=flow.name, leases=len(rows) - 1, unowned=unowned, workers=len(view.workers))
        )

    async def _restore_stream_row(self, rows: Sequence[Lease]) -> None:
        """Somebody removed the row. With the shards' rows still there, the first start is known to be done.

        Raises:
            StoreError: they are gone as well, and with them how far we were; starting anew by ourselves could lose records.
        """
        flow = self.flow
        if not rows:
            raise StoreError(
                f"every lease of pipeline {flow.name!r} is gone from the store: restore them, or start the worker again to "
                "begin at the starting position"
            )
        await self.ownership.create([steps.after(stream_row(flow), Started())])
        flow.nudge()

    async def _no_more(self) -> bool:
        """Whether the stream will never have another shard."""
        try:
            return not (await self.flow.source.describe()).enabled
        except (NotFoundError, StreamDisabledError):
            return True
        except SourceError:
            return False

    async def _discover(self, held: HeldLease) -> None:
        await self.discovery.run(held)
        if not self.flow.stopping.is_set():
            self.ownership.forget(held, "the stream's row was not renewed in time")


async def patiently(
    step: Callable[[], Awaitable[object]], flow: Flow, report: Callable[[StoreError, float], None]
) -> None:
    """Take a step of a start again and again: a store may be away for a moment, or busy with all who start with us.

    Raises:
        StoreError: it stays so, or the flow stops.
    """
    clock, failures = flow.around.clock, 0
    gives_up_at = clock.monotonic() + _START_PATIENCE_S
    while True:
        try:
            await step()
        except StoreError as error:
            failures += 1
            delay_s = STORE_BACKOFF.delay_s(failures, flow.around.random)
            if clock.monotonic() + delay_s >= gives_up_at:
                raise
            report(error, delay_s)
            if await flow.pause(delay_s):
                raise
        else:
            return
