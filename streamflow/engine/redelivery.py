"""Letters through the chain again, a batch at a time: what is done leaves the store, what fails is kept again.

Nothing is retried, and nothing waits but for the rate and a busy sink.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

import anyio

from streamflow.batches import Batch
from streamflow.engine.invocation import invoke, outcome_of, too_large
from streamflow.errors import SinkBusyError, StoreError, error_text
from streamflow.failpoints import reach
from streamflow.rules.attempts import (
    AttemptRules,
    Attempts,
    Discard,
    Invoke,
    Pause,
    Settle,
)
from streamflow.rules.letter_order import item_of
from streamflow.rules.pacing import STORE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow.clock import Clock
    from streamflow.dead_letters import DeadLetter, Drawer
    from streamflow.engine.redrive_claim import Claim
    from streamflow.pipeline import PipelineOptions
    from streamflow.protocols import Handler, StateStore
    from streamflow.records import Record
    from streamflow.rules.letter_order import Item

# A sink that is busy this often in a row, for the same records, has failed.
BUSY_MAX = 10
_STORE_FAILURES_MAX = 5
_RULES: AttemptRules[Record] = AttemptRules(retries_max=0, bisect=True, created_at_s=lambda _: 0.0)


@dataclass(slots=True, kw_only=True, eq=False)
class Redelivery:
    """The fields are those of the `Redrive` that it works for, while that holds its claim."""

    store: StateStore
    chain: Handler
    pipeline: str
    drawer: Drawer
    options: PipelineOptions
    clock: Clock
    claim: Claim
    rate_max: float | None
    event_bytes_max: int | None
    stopping: anyio.Event
    counts: Counter[str] = field(default_factory=Counter)
    failed: set[Item] = field(default_factory=set)
    """Items whose later letters stay."""
    _free_at_s: float = 0.0
    _random: Random = field(default_factory=Random)

    async def send(self, gathered: Sequence[tuple[DeadLetter, Record]]) -> None:
        """Invocation after invocation, until each letter is removed, or kept again, or somebody says stop."""
        letters = {id(record): letter for letter, record in gathered}
        attempts = Attempts([record for _, record in gathered], _RULES, lambda _: 0.0)
        batch: Batch | None = None
        error: Exception | None = None
        busy = 0
        while (action := attempts.next(0.0)) is not None:
            match action:
                case Invoke(records=invoked):
                    if await self._pause(self._reserve(len(invoked))):
                        return
                    await self.claim.check()
                    batch = self._batch(invoked, batch if action.unchanged else None)
                    error = await self._attempt(batch)
                    busy = busy + 1 if isinstance(error, SinkBusyError) else 0
                    if busy == BUSY_MAX:
                        rest = attempts.set_aside(lambda _: True)
                        await self._keep_again([letters[id(record)] for record in rest], error, invoke_count=0)
                        return
                    attempts.invoked(outcome_of(batch, error))
                case Settle(records=done):
                    await self._settle(done, batch, [letters[id(record)].id for record in done])
                case Discard(records=failed, invoke_count=invoke_count):
                    await self._keep_again([letters[id(record)] for record in failed], error, invoke_count=invoke_count)
                    behind = attempts.set_aside(lambda record: item_of(letters[id(record)]) in self.failed)
                    self.counts["held_back"] += len(behind)
                case Pause(delay_s=delay_s):
                    if await self._pause(delay_s):
                        return

    def _batch(self, records: Sequence[Record], last: Batch | None) -> Batch:
        if last is not None:
            return last.again()
        return Batch(pipeline=self.pipeline, shard=records[0].shard, records=records)

    async def _attempt(self, batch: Batch) -> Exception | None:
        """One invocation of the chain; the answer is what it raised."""
        if (error := too_large(batch, self.event_bytes_max)) is not None:
            return error
        return await invoke(self.chain, batch, timeout_s=self.options.handler_timeout_s)

    async def _settle(self, records: Sequence[Record], batch: Batch | None, ids: Sequence[int]) -> None:
        await reach("redrive.delivered")
        await self._until_stored(lambda: self.store.remove(self.drawer, ids))
        dropped = 0 if batch is None else sum(batch.ledger.dropped(records).values())
        self.counts["dropped"] += dropped
        self.counts["delivered"] += len(records) - dropped

    async def _keep_again(self, letters: Sequence[DeadLetter], error: Exception | None, *, invoke_count: int) -> None:
        """Under the same ids. Their items are not tried any more."""
        now_s = self.clock.wall()
        kept = [
            replace(
                letter,
                reason="RetryAttemptsExhausted",
                error_type=type(error).__name__,
                error_text="" if error is None else error_text(error),
                invoke_count=letter.invoke_count + invoke_count,
                kept_at_s=now_s,
            )
            for letter in letters
        ]
        store = self.store
        await self._until_stored(
            lambda: store.park(kept, opening=True) if self.drawer == "parked" else store.keep(kept)
        )
        self.failed.update(item for letter in letters if (item := item_of(letter)) is not None)
        self.counts["failed"] += len(letters)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _reserve(self, records: int) -> float:
        """How long to wait before so many records, at the rate asked for; their time is taken then."""
        if self.rate_max is None:
            return 0.0
        now = self.clock.monotonic()
        start = max(now, self._free_at_s)
        self._free_at_s = start + records / self.rate_max
        return start - now

    async def _pause(self, delay_s: float) -> bool:
        """Wait, or less when somebody says stop: then the answer is True."""
        if delay_s > 0:
            with anyio.move_on_after(delay_s):
                await self.stopping.wait()
        return self.stopping.is_set()

    async def _until_stored(self, write: Callable[[], Awaitable[object]]) -> None:
        """Repeat the write a few times: a letter that was delivered should not be delivered again for a short fault."""
        for failures in range(1, _STORE_FAILURES_MAX):
            try:
                await write()
            except StoreError:
                await anyio.sleep(STORE_BACKOFF.delay_s(failures, self._random))
            else:
                return
        await write()
