"""One shard's batches, through the chain to the handler, until each is settled.

One batch of a shard is in flight at a time. A batch that fails comes again after a pause, whole, or from its first
failed record on where the handler said which (`PartialFailure`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.batches import Batch, lambda_event_bytes
from streamflow.engine.buffer import json_bytes
from streamflow.errors import HandlerTimeoutError, LeaseLostError, PartialFailure, SinkBusyError
from streamflow.records import newest_outline
from streamflow.rules.pacing import HANDLER_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.engine.buffer import ShardBuffer
    from streamflow.engine.checkpoints import Checkpoints
    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease
    from streamflow.positions import Position
    from streamflow.records import Record, Shard
    from streamflow.rules.frontier import Ticket


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """`run` returns when the shard is delivered to its end, or when the flow stops between two batches."""

    flow: Flow
    shard: Shard
    held: HeldLease
    buffer: ShardBuffer
    checkpoints: Checkpoints
    in_flight: bool = False
    """True from the start of an attempt to its end, and for good if it was cancelled in between."""

    async def run(self) -> bool:
        """Deliver batch after batch. True: everything to the end of the shard is settled; False: stopped before."""
        while (records := await self._next_records()) is not None:
            if not await self._settle(records):
                return False
            self.buffer.batcher.restart_window(self._now())
        return self.buffer.ended and not self.flow.stopping.is_set()

    def _now(self) -> float:
        return self.flow.around.clock.monotonic()

    async def _next_records(self) -> Sequence[Record] | None:
        """The next batch; None at the end of the shard and when the flow stops."""
        buffer = self.buffer
        while not self.flow.stopping.is_set():
            now = self._now()
            records = buffer.batcher.take(now, ended=buffer.ended)
            if records is not None:
                return records
            if buffer.ended:
                return None
            await buffer.wait_change(until=buffer.batcher.due_at, now=now)
        return None

    async def _settle(self, records: Sequence[Record]) -> bool:
        """Attempt after attempt until the records are settled (True) or the flow stops before that (False)."""
        flow = self.flow
        batch = self._batch(records)
        ticket = self.checkpoints.admit(last_position(records))
        while True:
            if not self.held.valid:
                raise LeaseLostError(f"the lease of {self.shard.shard_id} ran out before the batch was dispatched")
            started = self._now()
            error = await self._attempt(batch)
            handler_s = self._now() - started
            if error is None:
                self._settled(batch, ticket, handler_s)
                return True
            if (failed := first_failed(batch, error)) > 0:
                # Progress was made: what remains is a new batch, with attempts of its own and no pause (esm.md 3.4).
                self._report_failed(batch, error, handler_s, retry_after_s=0.0)
                done = batch.select(batch.records[:failed])
                rest = self.checkpoints.split(ticket, last_position(done.records))
                self._settled(done, ticket, handler_s)
                batch, ticket = self._batch(batch.records[failed:]), rest
                continue
            delay_s = HANDLER_BACKOFF.delay_s(batch.attempt, flow.around.random)
            if isinstance(error, SinkBusyError):
                delay_s = error.retry_after_s
            self._report_failed(batch, error, handler_s, retry_after_s=delay_s)
            if await flow.pause(delay_s):
                flow.repeating[self.shard.shard_id] = self.checkpoints.frontier
                return False
            batch = batch.again()

    def _settled(self, batch: Batch, ticket: Ticket, handler_s: float) -> None:
        self._report_delivered(batch, handler_s)
        self.buffer.settle(json_bytes(batch.records))
        self.checkpoints.settle(ticket)

    def _batch(self, records: Sequence[Record]) -> Batch:
        return Batch(pipeline=self.flow.name, shard=self.shard, records=records, epoch=self.held.lease.epoch)

    async def _attempt(self, batch: Batch) -> Exception | None:
        """One invocation of the chain; the answer is what it raised."""
        timeout_s = self.flow.options.handler_timeout_s
        repeating = self.flow.repeating
        failure: Exception | None = None
        # Until the attempt has ended, its records count as seen and unsettled: a forced stop names them.
        repeating[self.shard.shard_id] = self.checkpoints.frontier
        self.in_flight = True
        with anyio.move_on_after(timeout_s) as scope:
            try:
                await self.flow.chain(batch)
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is a failed attempt
                failure = error
        self.in_flight = False
        repeating.pop(self.shard.shard_id, None)
        if scope.cancelled_caught:
            return HandlerTimeoutError(timeout_s or 0.0)
        return failure

    def _report_delivered(self, batch: Batch, handler_s: float) -> None:
        clock = self.flow.around.clock
        dropped = batch.ledger.dropped(batch.records)
        newest = newest_outline(batch.records)
        oldest = newest_outline(batch.records[:1]) or newest
        self.flow.around.emit(
            events.BatchDelivered(
                pipeline=batch.pipeline,
                shard_id=batch.shard.shard_id,
                records=len(batch),
                bytes=lambda_event_bytes(batch.records),
                delivered=len(batch) - sum(dropped.values()),
                dropped=dropped,
                attempts=batch.attempt,
                handler_s=handler_s,
                first_created_at_s=oldest[1] if oldest else 0.0,
                last_created_at_s=newest[1] if newest else 0.0,
                now_s=clock.wall(),
            )
        )

    def _report_failed(self, batch: Batch, error: Exception, handler_s: float, *, retry_after_s: float) -> None:
        self.flow.around.emit(
            events.BatchFailed(
                pipeline=batch.pipeline,
                shard_id=batch.shard.shard_id,
                records=len(batch),
                attempt=batch.attempt,
                handler_s=handler_s,
                error=error,
                retry_after_s=retry_after_s,
            )
        )


def last_position(records: Sequence[Record]) -> Position | None:
    """The position that settling all the records reaches."""
    outline = newest_outline(records)
    return None if outline is None else outline[0]


def first_failed(batch: Batch, error: Exception) -> int:
    """Index of the first record to retry: 0 unless a partial failure names records of this batch."""
    if not isinstance(error, PartialFailure):
        return 0
    index = {record.sequence_number: place for place, record in enumerate(batch.records)}
    try:
        return min((index[number] for number in error.sequence_numbers), default=0)
    except KeyError:
        return 0
