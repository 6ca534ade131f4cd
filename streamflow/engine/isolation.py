"""A shard whose last owner died: what is noted before its records are handed over, and which of them are not any more.

`rules/suspicion` says what that proves. A shard that is isolated has one lane, and batches of one record. Of all isolated
shards of a worker one has its turn at a time, so that no record is accused of what another did.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.dead_letters import name_of
from streamflow.errors import LeaseLostError, StoreError
from streamflow.rules import suspicion as rules
from streamflow.rules.pacing import STORE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.engine.buffer import ShardBuffer
    from streamflow.engine.checkpoints import Checkpoints
    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease
    from streamflow.records import Record
    from streamflow.rules.suspicion import Suspicion

TURN_PATIENCE_S = 60.0
"""A record that has been at work for so long kills nobody at once: others go on beside it, and are accused of nothing."""
HELD_S = 3_600.0
"""How often a shard that is held by a record says so again."""
_LAST_INVOCATION = "final"  # of a tumbling window: no record


class IsolationOver(Exception):  # noqa: N818 - no error: the shard is to be opened again, as any other
    """Everything that was read in isolation is settled."""


class Verdict(Enum):
    HAND_OVER = "hand over"
    CONVICTED = "convicted"
    STOPPED = "stopped"
    """The flow stopped before it could be noted."""


@dataclass(slots=True, eq=False)
class Isolation:
    """Of one shard in one worker's hands. `alone`: one record at a time."""

    flow: Flow
    held: HeldLease
    suspicion: Suspicion
    """As the last life has left it."""
    alone: bool = field(init=False)
    _began_at: float = field(init=False)
    handed_over: int = 0
    """Records, each by itself."""
    _noted: str = ""
    """What was noted last, in this life."""
    _noting: anyio.Lock = field(default_factory=anyio.Lock)

    def __post_init__(self) -> None:
        self.alone = self.suspicion.isolates
        self._began_at = self.flow.around.clock.monotonic()

    @classmethod
    def of(cls, flow: Flow, held: HeldLease) -> Isolation | None:
        """None where the last owner let the shard go."""
        if held.suspicion is None:
            return None
        isolation = cls(flow, held, held.suspicion)
        if isolation.alone:
            event = events.ShardIsolated(
                pipeline=flow.name,
                shard_id=held.shard_id,
                deaths=held.suspicion.deaths,
                checkpoint=held.lease.checkpoint,
            )
            flow.around.emit(event)
        return isolation

    def narrowed(self) -> Flow:
        """The flow as an isolated shard has it."""
        options = self.flow.options.model_copy(update={"batch_size": 1, "parallelization_factor": 1})
        return replace(self.flow, options=options)

    @property
    def over(self) -> bool:
        """Whether what may have killed would have come by now."""
        options = self.flow.options
        lasted_s = self.flow.around.clock.monotonic() - self._began_at
        return self.handed_over >= options.batch_size * options.parallelization_factor and lasted_s >= rules.ISOLATED_S

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Wait until no other isolated shard of this worker is at work; False: waited long enough."""
        turn, had = self.flow.around.isolated, False
        with anyio.move_on_after(TURN_PATIENCE_S):
            await turn.acquire()
            had = True
        try:
            yield had
        finally:
            if had:
                turn.release()

    async def note_first(self, checkpoints: Checkpoints) -> Verdict:
        """Note that something is about to be handed over, once, whichever lane is first; raises as `judge`."""
        async with self._noting:
            if self._noted:
                return Verdict.HAND_OVER
            # What filters left out before it must not move the checkpoint away from the note.
            await checkpoints.store()
            verdict = await self._store(replace(self.suspicion, at=self.held.lease.checkpoint))
            if verdict is Verdict.HAND_OVER:
                self._noted = "something"
            return verdict

    async def judge(self, records: Sequence[Record], checkpoints: Checkpoints) -> Verdict:
        """Whether the record, or the last invocation of a window, may be handed over alone; if so, that is noted, durably.

        Raises:
            LeaseLostError: it ran out meanwhile.
        """
        record = name_of(records[0]) if records else _LAST_INVOCATION
        if self.suspicion.convicts(record):
            return Verdict.CONVICTED
        if record == self._noted:
            return Verdict.HAND_OVER
        await checkpoints.store()
        noting = self.suspicion.handing_over(record, self.held.lease.checkpoint)
        verdict = await self._store(noting)
        if verdict is Verdict.HAND_OVER:
            self._noted = record
            self.handed_over += 1
        return verdict

    def hold(self) -> None:
        """Tell that the record of the last verdict holds its shard."""
        event = events.KillerHeld(
            pipeline=self.flow.name,
            shard_id=self.held.shard_id,
            sequence_number=self.suspicion.alone,
            times=self.suspicion.times,
        )
        self.flow.around.emit(event)

    def end_if_over(self, buffer: ShardBuffer) -> bool:
        """Whether the shard is let off: what is read is delivered in whole batches, and then it is opened again."""
        if not (self.alone and self.over):
            return False
        for batcher in buffer.batchers:
            batcher.limits = replace(batcher.limits, records_max=self.flow.options.batch_size)
        if not buffer.ended:
            buffer.end(IsolationOver())
        return True

    async def forget(self) -> None:
        """The shard is let go in good order: nothing is suspected any more, but for a record that was convicted."""
        if self.suspicion.times >= rules.TIMES_MAX and self.suspicion.at == self.held.lease.checkpoint:
            return
        store, key = self.flow.around.store, rules.row_key(self.held.lease.key)
        with suppress(StoreError):
            row = await store.get(key)
            if row is not None:
                await store.delete(key, expected_version=row.version)

    async def _store(self, noting: Suspicion) -> Verdict:
        """Whoever owns the lease owns the row: its version only tells what became of a write."""
        flow, held, failures = self.flow, self.held, 0
        row = rules.row_of(noting, held.lease.key, by=held.lease.owner or "")
        store = flow.around.store
        while held.valid:
            try:
                known = await store.get(row.key)
                if known is None:
                    stored = await store.create(row)
                else:
                    stored = await store.update(row, expected_version=known.version)
                if stored is not None:
                    return Verdict.HAND_OVER
            except StoreError as error:
                failures += 1
                delay_s = STORE_BACKOFF.delay_s(failures, flow.around.random)
                flow.around.emit(
                    events.CheckpointFailed(
                        pipeline=flow.name, shard_id=held.shard_id, error=error, retry_after_s=delay_s
                    )
                )
                if await flow.pause(delay_s):
                    return Verdict.STOPPED
        raise LeaseLostError(f"the lease of {held.shard_id} ran out before a record was noted")
