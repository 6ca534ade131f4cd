"""One shard's frontier, and the storing of it: at most once per interval, and always before the shard is let go."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.errors import LeaseLostError, StoreError
from streamflow.rules.pacing import STORE_BACKOFF

if TYPE_CHECKING:
    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease
    from streamflow.positions import Position
    from streamflow.rules.frontier import Frontier, Ticket


@dataclass(slots=True, eq=False)
class Checkpoints:
    """The stored checkpoint never passes the frontier, and the frontier never passes an unsettled record."""

    flow: Flow
    held: HeldLease
    _rule: Frontier
    _moved: anyio.Event = field(default_factory=anyio.Event)
    _stored_at: float = float("-inf")

    @property
    def frontier(self) -> Position:
        return self._rule.frontier

    def admit(self, last: Position | None) -> Ticket:
        """Take note of a batch on its way; without a readable sequence number it moves the frontier nowhere."""
        return self._rule.admit(self._rule.frontier if last is None else last)

    def split(self, ticket: Ticket, done: Position | None) -> Ticket:
        """Part a batch whose records up to `done` are done; the answer stands for the rest."""
        return self._rule.split(ticket, self._rule.frontier if done is None else done)

    def settle(self, ticket: Ticket) -> None:
        if self._rule.settle(ticket):
            self._moved.set()

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

        Raises:
            LeaseLostError: somebody else owns the shard, or the lease ran out while the store failed.
        """
        clock = self.flow.around.clock
        failures = 0
        while (frontier := self.frontier) != self.held.lease.checkpoint:
            started = clock.monotonic()
            try:
                await self.held.write(checkpoint=frontier)
            except StoreError as error:
                failures += 1
                delay_s = STORE_BACKOFF.delay_s(failures, self.flow.around.random)
                self._report_failure(error, delay_s)
                if not self.held.valid:
                    raise LeaseLostError(f"the store failed until the lease of {self.held.shard_id} ran out") from error
                await anyio.sleep(delay_s)
                continue
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
