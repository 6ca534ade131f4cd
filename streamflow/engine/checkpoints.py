"""One shard's frontier, and the storing of it: at most once per interval, and always before the shard is let go."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.engine.fencing import asked_of_sink
from streamflow.errors import LeaseLostError, StoreError
from streamflow.failpoints import reach
from streamflow.positions import PositionKind
from streamflow.records import Shard
from streamflow.rules.frontier import Frontier
from streamflow.rules.pacing import STORE_BACKOFF
from streamflow.rules.steps import Checkpointed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease
    from streamflow.leases import WindowState
    from streamflow.positions import Position
    from streamflow.records import Record


@dataclass(slots=True, eq=False)
class Checkpoints:
    """The stored checkpoint never passes the frontier, and the frontier never passes an unsettled record."""

    flow: Flow
    held: HeldLease
    _rule: Frontier
    window: WindowState | None
    """The open tumbling window behind exactly the settled records: set just before they are settled."""
    _moved: anyio.Event = field(default_factory=anyio.Event)
    _stored_at: float = float("-inf")
    _noted: int = 0
    _storing: anyio.Lock = field(default_factory=anyio.Lock)

    @classmethod
    def of(cls, flow: Flow, held: HeldLease, start: Position) -> Checkpoints:
        """From `start` on, for as many lanes as the pipeline has; the window is what the lease says."""
        rule = Frontier(start, lanes=flow.options.parallelization_factor)
        return cls(flow, held, rule, held.lease.window)

    @property
    def frontier(self) -> Position:
        return self._rule.position

    @property
    def ahead(self) -> bool:
        """Whether records behind the frontier are settled already."""
        return self._rule.ahead

    def begin_at(self, records: Sequence[Record]) -> bool:
        """As `Frontier.begin_at`. True: the frontier is to be stored before a handler sees any of these records.

        From a pinned tip one reads exactly from there on; whoever reads from its time again begins up to two seconds before it,
        and would deliver changes from before the tip behind later ones of the same item.
        """
        return self._rule.begin_at(records)

    def admit(self, records: Sequence[Record], lanes: Sequence[Sequence[int]], *, weight: int) -> int:
        """Take note of a page and its way into the lanes; the answer is the weight of the pages that are settled now."""
        self._rule.admit(records, lanes, weight=weight)
        return self._advance()

    def settle(self, lane: int, count: int) -> int:
        """The lane is done with its oldest `count` records; as `admit`."""
        self._rule.settle(lane, count)
        return self._advance()

    def kept_at_stop(self, in_flight: Sequence[int], left: Iterable[int]) -> list[int]:
        """As `Frontier.kept_at_stop`."""
        return self._rule.kept_at_stop(in_flight, left)

    def _advance(self) -> int:
        if self._rule.unsettled_from != self._noted or self.window != self.held.lease.window:
            self._noted = self._rule.unsettled_from
            self._moved.set()
        return self._rule.pop_settled()

    async def run(self) -> None:
        """Store the frontier whenever it has moved, one interval apart; runs until cancelled.

        Raises:
            LeaseLostError: somebody else owns the shard.
        """
        while True:
            await self._moved.wait()
            await anyio.sleep_until(self._stored_at + self.flow.options.checkpoint_interval_s)
            self._moved = anyio.Event()
            await self.store()

    async def store(self) -> None:
        """Store the frontier as it is now, trying for as long as the store fails and the lease is valid.

        Whoever comes meanwhile waits: of two that write side by side the older frontier could be the later one.

        Raises:
            LeaseLostError: somebody else owns the shard, or the lease ran out while the store failed.
        """
        async with self._storing:
            await self._store()

    async def _store(self) -> None:
        clock = self.flow.around.clock
        failures = 0
        while (self.frontier, self.window) != (self.held.lease.checkpoint, self.held.lease.window):
            frontier, window = self.frontier, self.window
            started = clock.monotonic()
            await reach("checkpoint.before_write")
            try:
                await self._advance_sink(frontier)
                await self.held.write(Checkpointed(frontier, window))
            except StoreError as error:
                failures += 1
                delay_s = STORE_BACKOFF.delay_s(failures, self.flow.around.random)
                self._report_failure(error, delay_s)
                if not self.held.valid:
                    raise LeaseLostError(f"the store failed until the lease of {self.held.shard_id} ran out") from error
                await anyio.sleep(delay_s)
                continue
            await reach("checkpoint.stored")
            self._stored_at = clock.monotonic()
            self.flow.around.emit(
                events.CheckpointStored(
                    pipeline=self.flow.name,
                    shard_id=self.held.shard_id,
                    checkpoint=frontier,
                    duration_s=self._stored_at - started,
                )
            )
            return

    async def _advance_sink(self, frontier: Position) -> None:
        """A sink that keeps the checkpoint is told of records that are settled although nothing of them was written.

        Raises:
            LeaseLostError: it has seen a newer owner.
            StoreError: it did not take it.
        """
        fence = self.flow.fence
        if fence is not None and frontier.kind is PositionKind.AFTER_SEQUENCE_NUMBER and self.held.valid:
            await asked_of_sink(self._shard, fence.advance(self._shard, self.held.lease.epoch, frontier))
            await reach("fence.advanced")

    @property
    def _shard(self) -> Shard:
        lease = self.held.lease
        return Shard(stream_arn=lease.stream_arn, shard_id=lease.shard_id, parents=lease.parents)

    async def store_last(self) -> None:
        """Store the frontier before the shard is let go; a lost lease leaves nothing to store."""
        with suppress(LeaseLostError):
            await self.store()

    def _report_failure(self, error: StoreError, retry_after_s: float) -> None:
        self.flow.around.emit(
            events.CheckpointFailed(
                pipeline=self.flow.name, shard_id=self.held.shard_id, error=error, retry_after_s=retry_after_s
            )
        )
