"""One shard in one worker's hands: opened, read, delivered, checkpointed, and let go or ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.batches import record_overhead_bytes
from streamflow.engine.assignment import Assignment
from streamflow.engine.buffer import ShardBuffer
from streamflow.engine.checkpoints import Checkpoints
from streamflow.engine.delivery import Delivery
from streamflow.engine.discovery import look_up_children
from streamflow.engine.fencing import FencedOffError, outrun, start_of
from streamflow.engine.insistence import Overdue, insist
from streamflow.engine.isolation import Isolation, IsolationOver
from streamflow.engine.parking import ParkedItems
from streamflow.engine.reader import read_shard
from streamflow.errors import LeaseLostError, NotFoundError, SourceError, StoreError, TrimmedError, leading_error
from streamflow.events import ShardClosing
from streamflow.failpoints import reach
from streamflow.leases import Gap
from streamflow.positions import TRIM_HORIZON
from streamflow.records import Shard
from streamflow.rules.batching import Batcher, BatchLimits
from streamflow.rules.pacing import STORE_BACKOFF
from streamflow.rules.steps import Ended, GapFound, PassedOn
from streamflow.rules.windows import state_bytes_max

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease, Ownership
    from streamflow.positions import Position
    from streamflow.protocols import ShardReader
    from streamflow.rules.steps import Step


@dataclass(slots=True, kw_only=True, eq=False)
class ShardWork:
    """Runs until the shard ended, the lease was lost, or the flow stopped; never longer than the lease is valid."""

    flow: Flow
    ownership: Ownership
    held: HeldLease
    _cut_off: bool = False
    """A batch was given up while the handler had it: the lease is left to run out instead of being released."""
    _abandoned: int = 0
    _behind_gap: bool = False
    """Records were lost, and the lease says where to go on: not a sink that waits for them."""
    _isolation: Isolation | None = None
    heir: str | None = None
    """The worker that is to have the lease when this one stops."""
    _claimant: str | None = None
    """The worker that asked for the lease."""
    _stop_work: Callable[[], None] | None = None
    """Ends reading and dispatching; what is in flight is finished."""

    def __post_init__(self) -> None:
        self.flow = self.flow.for_shard()

    def leave(self, *, to: str | None = None) -> None:
        """Begin to let the shard go: what is in flight is finished, the frontier stored, and the lease passed on."""
        if not self.flow.stopping.is_set():
            self._claimant = to
            self._stop()

    def _stop(self) -> None:
        self.flow.stopping.set()
        if self._stop_work is not None:
            self._stop_work()

    async def run(self) -> None:
        """Work on the shard.

        Raises:
            TrimmedError: records were lost and `on_trimmed` is "fail".
            SourceError: the service will never answer.
        """
        flow, held = self.flow, self.held
        reason = ShardClosing.STOPPED
        children: tuple[str, ...] = ()
        flow.around.emit(
            events.ShardOpened(
                pipeline=flow.name, shard_id=held.shard_id, start=held.lease.checkpoint, epoch=held.lease.epoch
            )
        )
        self._isolation = Isolation.of(flow, held)
        if self._isolation is not None and self._isolation.alone:
            self.flow = self._isolation.narrowed()
        flow.at_stop[self._stop] = None
        try:
            reason, children = await self._work()
        except LeaseLostError as error:
            reason = ShardClosing.LOST
            if isinstance(error, FencedOffError) and not self._cut_off:
                await outrun(flow, held, error.epoch)
            self.ownership.forget(held, str(error))
        except Exception:
            reason = ShardClosing.FAILED
            raise
        finally:
            flow.at_stop.pop(self._stop, None)
            if reason.left_to_others:
                flow.at_risk.pop(held.shard_id, None)
            if self._cut_off:
                # What the handler still does in a thread of its own, nobody knows: nobody else may have the shard yet.
                self.ownership.abandon(held)
            elif reason is not ShardClosing.LOST:
                with anyio.CancelScope(shield=True), anyio.move_on_after(flow.around.options.store_deadline_s):
                    if reason is not ShardClosing.ENDED:
                        await self.ownership.release(held, to=self._claimant, heir=self.heir)
                    if self._isolation is not None:
                        await self._isolation.forget()
            flow.around.emit(
                events.ShardClosed(
                    pipeline=flow.name,
                    shard_id=held.shard_id,
                    reason=reason,
                    children=children,
                    abandoned=self._abandoned,
                )
            )

    async def _work(self) -> tuple[ShardClosing, tuple[str, ...]]:
        while True:
            try:
                if not await self._deliver_all():
                    # Where all of it stops by now, there is nobody here to go on.
                    stops = self.flow.whole.stopping.is_set()
                    return ShardClosing.STOPPED if stops else ShardClosing.HANDED_OVER, ()
                break
            except TrimmedError as error:
                await self._record_gap(str(error), resume=TRIM_HORIZON)
            except NotFoundError as error:
                # The service forgot the shard before we had read it: all that it still held is lost.
                await self._record_gap(str(error), resume=None)
                break
            except IsolationOver:
                await self._end_isolation()
        return ShardClosing.ENDED, await self._end()

    async def _end_isolation(self) -> None:
        """Go on as with any other shard."""
        assert self._isolation is not None
        flow, isolation = self.flow, self._isolation
        await isolation.forget()
        self.flow, self._isolation = isolation.flow, None
        flow.around.emit(
            events.IsolationEnded(pipeline=flow.name, shard_id=self.held.shard_id, records=isolation.handed_over)
        )

    async def _deliver_all(self) -> bool:
        """Read and deliver from the checkpoint; True once everything to the end of the shard is settled.

        Raises:
            TrimmedError, NotFoundError: what comes next is gone; everything before it is settled.
        """
        flow, held = self.flow, self.held
        shard = Shard(stream_arn=held.lease.stream_arn, shard_id=held.shard_id, parents=held.lease.parents)
        start = held.lease.checkpoint if self._behind_gap else await start_of(flow, held, shard)
        if start is None or (parked := await ParkedItems.load(flow, held.shard_id)) is None:
            return False
        checkpoints = Checkpoints.of(flow, held, start)
        buffer = self._buffer(shard, checkpoints)
        delivery = Delivery(
            Assignment(
                flow=flow,
                shard=shard,
                held=held,
                buffer=buffer,
                checkpoints=checkpoints,
                parked=parked,
                isolation=self._isolation,
            )
        )
        # The lease may have moved on since, in other hands, or have been stored by an earlier look at the tip.
        pinned = flow.pins.pop(held.shard_id, None)
        cursor = pinned.cursor if pinned is not None and pinned.position == start else None
        try:
            await reach("shard.before_open")
            async with flow.source.open(shard, start, cursor=cursor) as reader:
                finished = await self._tend(reader, buffer, delivery, checkpoints)
        finally:
            self._cut_off = delivery.in_flight
            self._abandoned += buffer.unsettled
            buffer.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(flow.around.options.store_deadline_s):
                await checkpoints.store_last()
            if checkpoints.frontier != held.lease.checkpoint:
                # The store did not take it: what was delivered behind the stored one comes again.
                stored = held.lease.checkpoint
                flow.at_risk[held.shard_id] = lambda: stored
        if finished and buffer.failure is not None:
            raise buffer.failure
        return finished

    def _buffer(self, shard: Shard, checkpoints: Checkpoints) -> ShardBuffer:
        options = self.flow.options
        # In a window the event carries the state too.
        state_bytes = state_bytes_max(options.batch_bytes_max) if options.tumbling_window_s else 0
        limits = BatchLimits(
            records_max=options.batch_size,
            bytes_max=options.batch_bytes_max - state_bytes,
            window_s=options.maximum_batching_window_s,
            overhead_bytes=record_overhead_bytes(shard),
        )
        return ShardBuffer(
            batchers=[Batcher(limits) for _ in range(options.parallelization_factor)],
            checkpoints=checkpoints,
            read_ahead=self.flow.around.read_ahead,
            bytes_max=options.buffer_bytes_max,
            accepts=self.flow.accepts,
            windowed=bool(options.tumbling_window_s),
        )

    async def _tend(
        self, reader: ShardReader, buffer: ShardBuffer, delivery: Delivery, checkpoints: Checkpoints
    ) -> bool:
        """Reader, delivery and checkpoints side by side; over when the delivery is, or by the first error."""
        name = f"{self.flow.name}/{self.held.shard_id}"
        reading = anyio.CancelScope()

        async def read() -> None:
            with reading:
                await read_shard(self.flow, self.held.shard_id, reader, buffer)

        def stop() -> None:
            reading.cancel()
            delivery.stop()

        self._stop_work = stop
        if self.flow.stopping.is_set():
            stop()
        finished = False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, name=f"{name}/reader")
                tasks.start_soon(checkpoints.run, name=f"{name}/checkpoint")
                tasks.start_soon(self._watch_over, buffer, delivery, tasks.cancel_scope, name=f"{name}/lease")
                finished = await delivery.run()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise leading_error(group) from None
        finally:
            self._stop_work = None
        return finished

    async def _watch_over(self, buffer: ShardBuffer, delivery: Delivery, tended: anyio.CancelScope) -> None:
        try:
            await self._watch(buffer, delivery)
        finally:
            # Whatever ended it: handlers are cancelled now, if they were not before.
            tended.cancel()
            await insist(self.flow, self.held, delivery)  # noqa: ASYNC102 - it shields, and for how long is its own affair

    async def _watch(self, buffer: ShardBuffer, delivery: Delivery) -> None:
        """Stop everything as soon as the lease is lost: a handler in flight is cancelled, not waited for.

        A reader that is stuck has the shard let go, in good order as long as that takes no longer than a drain may.
        """
        clock, options = self.flow.around.clock, self.flow.around.options
        give_up_at = float("inf")
        timeout_s = self.flow.options.handler_timeout_s
        overdue = None if timeout_s is None else Overdue(self.flow, self.held.shard_id, timeout_s)
        while self.held.valid:
            now = clock.monotonic()
            if now >= give_up_at:
                await self._write(PassedOn())
                break
            stuck_s = 0.0 if buffer.asked_at is None else now - buffer.asked_at
            if stuck_s >= options.stall_s and not self.flow.stopping.is_set():
                event = events.ReaderStuck(pipeline=self.flow.name, shard_id=self.held.shard_id, stuck_s=stuck_s)
                self.flow.around.emit(event)
                self.ownership.avoid(self.held.shard_id)
                self.leave()
                give_up_at = now + options.drain_timeout_s
            stuck_at = options.stall_s / 4 + now if buffer.asked_at is None else options.stall_s + buffer.asked_at
            until = min(
                now + self.held.valid_for_s, give_up_at, stuck_at if stuck_at > now else now + options.stall_s / 4
            )
            if overdue is not None:
                until = min(until, overdue.look(delivery, now))
            with anyio.move_on_after(max(0.0, until - now)):
                await self.held.lost.wait()
        raise LeaseLostError(f"the lease of {self.held.shard_id} is not ours any more")

    async def _record_gap(self, cause: str, *, resume: Position | None) -> None:
        """Make the loss of records visible: an event, a durable note in the lease, and by default the end of the run.

        Raises:
            TrimmedError: `on_trimmed` is "fail": nothing is stored, so a restart meets the same gap.
        """
        flow, held = self.flow, self.held
        lost_from = held.lease.checkpoint
        flow.around.emit(
            events.RecordsTrimmed(pipeline=flow.name, shard_id=held.shard_id, lost_from=lost_from, cause=cause)
        )
        if flow.options.on_trimmed == "fail":
            raise TrimmedError(
                f"records of pipeline {flow.name!r} in {held.shard_id} after {lost_from} are lost: {cause}. "
                'Set on_trimmed = "continue" to record the gap and go on with what is left.'
            )
        gap = Gap(lost_from=lost_from, found_at_s=flow.around.clock.wall(), cause=cause)
        await self._write(GapFound(gap, resume))
        self._behind_gap = True

    async def _end(self) -> tuple[str, ...]:
        """Store that the shard is done, with its children where the service shows them already."""
        flow, held = self.flow, self.held
        await reach("shard.ended")
        try:
            children = await look_up_children(flow, self.ownership, held.lease)
        except (SourceError, StoreError):
            children = None
        await self._write(Ended(children))
        if children is None:
            flow.around.emit(events.ShardAwaitingChildren(pipeline=flow.name, shard_id=held.shard_id))
        self.ownership.drop(held)
        flow.nudge()
        return children or ()

    async def _write(self, step: Step) -> None:
        """Write the lease, trying for as long as it is valid."""
        failures = 0
        while True:
            try:
                await self.held.write(step)
            except StoreError as error:
                failures += 1
                delay_s = STORE_BACKOFF.delay_s(failures, self.flow.around.random)
                self.flow.around.emit(
                    events.CheckpointFailed(
                        pipeline=self.flow.name, shard_id=self.held.shard_id, error=error, retry_after_s=delay_s
                    )
                )
                await anyio.sleep(delay_s)
            else:
                return
