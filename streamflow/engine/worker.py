"""The task tree and the shutdown order.

    worker
    ├─ watchdog                            is the event loop alive?
    └─ <pipeline>                          one flow each
       ├─ <pipeline>/renewals              the leases we hold
       ├─ <pipeline>/leases                the leases we could take
       ├─ <pipeline>/discovery             while the stream's row is ours
       └─ <pipeline>/<shard>/delivery      while the shard's row is ours
          ├─ <pipeline>/<shard>/reader
          ├─ <pipeline>/<shard>/checkpoint
          └─ <pipeline>/<shard>/lease

Shutdown: nothing is read or dispatched any more → batches in flight finish, until `drain_timeout_s` → each shard stores
its frontier and releases its lease → the stream's row is released → renewals stop.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.engine.discovery import Discovery, stream_row
from streamflow.engine.ownership import Ownership, side_by_side
from streamflow.engine.reader import error_code
from streamflow.engine.shard import ShardWork
from streamflow.errors import NotFoundError, SourceError, StoreError, StreamDisabledError, leading_error
from streamflow.leases import STREAM_ROW, LeaseState
from streamflow.rules import lineage
from streamflow.rules.pacing import STORE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import TaskGroup

    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease
    from streamflow.leases import Lease


@dataclass(slots=True, eq=False)
class Worker:
    """Runs flows side by side until they stop, end or fail."""

    flows: Sequence[Flow]
    _forced: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _started: anyio.Event = field(default_factory=anyio.Event)
    _waiting_for: int = 0

    async def run(self) -> None:
        """Run every flow; an error that nothing here can mend stops them all.

        Raises:
            StreamflowError: why a flow failed; other errors are bugs and come as they are.
        """
        self._waiting_for = len(self.flows)
        with self._forced:
            try:
                async with anyio.create_task_group() as tasks:
                    for flow in self.flows:
                        tasks.start_soon(self._run_flow, flow, name=flow.name)
            except BaseExceptionGroup as group:
                raise leading_error(group) from None

    def stop(self) -> None:
        """Begin the graceful shutdown; `run` returns when it is done."""
        for flow in self.flows:
            flow.stop()

    def stop_now(self) -> None:
        """Give up batches in flight; what a handler has seen of them will come again."""
        self.stop()
        self._forced.cancel()

    async def wait_started(self) -> None:
        """Wait until every flow delivers what is written from now on."""
        await self._started.wait()

    def repeating(self) -> dict[str, dict[str, str]]:
        """Pipeline to shard id to the position after which records that a handler has seen will come again."""
        return {
            flow.name: {shard_id: str(position) for shard_id, position in sorted(flow.repeating.items())}
            for flow in self.flows
            if flow.repeating
        }

    async def _run_flow(self, flow: Flow) -> None:
        drained = False
        try:
            drained = await FlowWork(flow, self._note_started).run()
        except Exception as error:  # noqa: BLE001 - told to the observers, unwrapped, and raised again
            cause = leading_error(error) if isinstance(error, BaseExceptionGroup) else error
            flow.around.emit(events.PipelineFailed(pipeline=flow.name, error=cause))
            raise cause from None
        finally:
            flow.around.emit(
                events.PipelineStopped(pipeline=flow.name, drained=drained, repeating=dict(flow.repeating))
            )

    def _note_started(self) -> None:
        self._waiting_for -= 1
        if self._waiting_for == 0:
            self._started.set()


@dataclass(slots=True, eq=False)
class FlowWork:
    """One flow from its first lease to its last."""

    flow: Flow
    note_started: Callable[[], None]
    ownership: Ownership = field(init=False)
    discovery: Discovery = field(init=False)
    _started: bool = False

    def __post_init__(self) -> None:
        self.ownership = Ownership(self.flow)
        self.discovery = Discovery(self.flow, self.ownership)

    async def run(self) -> bool:
        """Work until the flow stops or its stream ends; True if everything in flight was settled.

        Raises:
            StoreError: the store does not even take the stream's row.
        """
        flow = self.flow
        await flow.around.store.create(stream_row(flow))
        async with anyio.create_task_group() as keeping:
            keeping.start_soon(self._renew_leases, name=f"{flow.name}/renewals")
            try:
                await self._work_and_drain()
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(flow.around.options.store_deadline_s):
                    for held in list(self.ownership.held.values()):
                        await self.ownership.release(held)
            keeping.cancel_scope.cancel()
        return not flow.repeating

    async def _work_and_drain(self) -> None:
        flow = self.flow
        async with anyio.create_task_group() as shards:
            shards.start_soon(self._take_leases, shards, name=f"{flow.name}/leases")
            await flow.stopping.wait()
            # From here on every shard finishes what it has in flight; what does not end in time is cancelled.
            shards.cancel_scope.deadline = flow.around.clock.monotonic() + flow.around.options.drain_timeout_s

    async def _renew_leases(self) -> None:
        while True:
            await anyio.sleep(self.ownership.renew_interval_s)
            await self.ownership.renew()

    async def _take_leases(self, shards: TaskGroup) -> None:
        flow = self.flow
        failures = 0
        while not flow.stopping.is_set():
            try:
                await self._take(await self.ownership.rows(), shards)
            except StoreError as error:
                failures += 1
                delay_s = STORE_BACKOFF.delay_s(failures, flow.around.random)
                flow.around.emit(
                    events.DiscoveryFailed(
                        pipeline=flow.name, code=error_code(error), message=str(error), retry_after_s=delay_s
                    )
                )
                await flow.pause(delay_s)
                continue
            failures = 0
            await flow.wait_nudge(self.ownership.renew_interval_s)

    async def _take(self, rows: Sequence[Lease], shards: TaskGroup) -> None:
        """Take every lease that is free and may be worked on, and start the work."""
        flow, ownership = self.flow, self.ownership
        stream = next((row for row in rows if row.shard_id == STREAM_ROW), None)
        if stream is None:
            await self._restore_stream_row(rows)
            return
        if ownership.free(stream) and (held := await ownership.take(stream)) is not None:
            shards.start_soon(self._discover, held, name=f"{flow.name}/discovery")
        if stream.state is not LeaseState.ACTIVE:
            return

        async def take_one(row: Lease) -> None:
            if not flow.stopping.is_set() and (held := await ownership.take(row)) is not None:
                work = ShardWork(flow=flow, ownership=ownership, held=held)
                shards.start_soon(work.run, name=f"{flow.name}/{row.shard_id}/delivery")

        await side_by_side(take_one, [row for row in lineage.readable(rows) if ownership.free(row)])
        if not self._started:
            self._started = True
            flow.around.emit(
                events.PipelineStarted(
                    pipeline=flow.name, stream_arn=flow.info.stream_arn, shards=len(ownership.held) - 1
                )
            )
            self.note_started()
        if all(row.state is LeaseState.ENDED for row in rows if row.shard_id != STREAM_ROW) and await self._no_more():
            flow.around.emit(events.StreamEnded(pipeline=flow.name, stream_arn=flow.info.stream_arn))
            flow.stop()

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
        await flow.around.store.create(replace(stream_row(flow), state=LeaseState.ACTIVE))
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
