"""Kept letters through the chain of their pipeline again, in order per item; what fails again stays in the store.

A letter is removed after the chain has returned: a crash in between delivers it again. Filters are not asked: what is
kept has passed them.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio
import msgspec

from streamflow.batches import EVENT_ENVELOPE_BYTES, record_overhead_bytes
from streamflow.dead_letters import LetterQuery
from streamflow.engine.letters import chosen_items, item_outlines, letters_by_id, letters_in_order
from streamflow.engine.redelivery import Redelivery
from streamflow.engine.redrive_claim import claimed
from streamflow.failpoints import reach
from streamflow.records import Record, Shard
from streamflow.rules.letter_order import in_order, item_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from streamflow.clock import Clock
    from streamflow.dead_letters import DeadLetter, Drawer
    from streamflow.engine.redrive_claim import Claim
    from streamflow.pipeline import PipelineOptions
    from streamflow.protocols import Handler, StateStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveReport:
    """What became of the letters; all but `delivered` and `dropped` are in the store as before."""

    delivered: int
    dropped: int
    """Left out by a middleware, which settles them."""
    failed: int
    held_back: int
    """Not delivered, because an earlier letter of the same item failed."""
    skipped: int
    """Not among the ones that were to be redriven."""
    stopped: bool
    """Somebody stopped it, or its limit was reached: there may be more."""


@dataclass(slots=True, kw_only=True, eq=False)
class Redrive:
    """One redrive of one drawer of one pipeline. Letters that are not the pipeline's own are never touched."""

    store: StateStore
    chain: Handler
    pipeline: str
    drawer: Drawer
    options: PipelineOptions
    clock: Clock
    owner: str
    """Names this redrive, and no other, while it holds the claim."""
    take_over: bool = False
    rate_max: float | None = None
    """Most records per second, on average; None is as fast as the chain takes them."""
    event_bytes_max: int | None = None
    """Where the handler takes an encoded event: the most it may have, also for a single record."""
    _left: float = float("inf")
    """How many letters may still be tried."""
    _stopping: anyio.Event = field(default_factory=anyio.Event)

    async def run(
        self, query: LetterQuery, *, accepts: Callable[[Record], bool] | None = None, limit: int | None = None
    ) -> RedriveReport:
        """Redrive what `query` selects and `accepts` lets through, `limit` letters at most.

        Of the drawer "parked", whole items: each one that has such a letter, with what is parked behind it meanwhile.

        Raises:
            StoreError: another redrive is at work, or the store failed; what was delivered before may come again.
            LeaseLostError: another redrive has taken over.
        """
        query = replace(query, drawer=self.drawer, pipeline=self.pipeline)
        self._left = float("inf") if limit is None else limit
        async with claimed(
            self.store, pipeline=self.pipeline, drawer=self.drawer, owner=self.owner, take_over=self.take_over
        ) as claim:
            await reach("redrive.claimed")
            redelivery = self._redelivery(claim)
            if self.drawer == "parked":
                await self._heal(redelivery, query, accepts)
            else:
                await self._deliver(redelivery, letters_in_order(self.store, query), accepts)
        counts = redelivery.counts
        return RedriveReport(
            delivered=counts["delivered"],
            dropped=counts["dropped"],
            failed=counts["failed"],
            held_back=counts["held_back"],
            skipped=counts["skipped"],
            stopped=self._over,
        )

    def _redelivery(self, claim: Claim) -> Redelivery:
        return Redelivery(
            store=self.store,
            chain=self.chain,
            pipeline=self.pipeline,
            drawer=self.drawer,
            options=self.options,
            clock=self.clock,
            claim=claim,
            rate_max=self.rate_max,
            event_bytes_max=self.event_bytes_max,
            stopping=self._stopping,
        )

    def stop(self) -> None:
        """End after the invocation that runs."""
        self._stopping.set()

    @property
    def _over(self) -> bool:
        return self._stopping.is_set() or self._left <= 0

    # -- which letters ------------------------------------------------------------------------------------------------

    async def _heal(self, redelivery: Redelivery, query: LetterQuery, accepts: Callable[[Record], bool] | None) -> None:
        """Item by item, until nothing is left of it: a worker parks its changes for as long as there are letters."""
        chosen = await chosen_items(
            self.store, query, None if accepts is None else lambda letter: accepts(self._record(letter))
        )
        redelivery.counts["skipped"] += chosen.left_out
        whole = LetterQuery(drawer=self.drawer, pipeline=self.pipeline)
        for item in chosen.items:
            while not self._over and item not in redelivery.failed:
                outlines = await item_outlines(self.store, whole, item)
                if not outlines:
                    break
                ids = [each.id for each in in_order(outlines)]
                await self._deliver(redelivery, letters_by_id(self.store, whole, ids), None)

    async def _deliver(
        self,
        redelivery: Redelivery,
        letters: AsyncGenerator[DeadLetter, None],
        accepts: Callable[[Record], bool] | None,
    ) -> None:
        """Consecutive letters of a shard together, as many as the pipeline's batches have."""
        gathered: list[tuple[DeadLetter, Record]] = []
        gathered_bytes = EVENT_ENVELOPE_BYTES
        async with aclosing(letters):
            async for letter in letters:
                if self._over or len(gathered) >= self._left:
                    break
                record = self._record(letter)
                if accepts is not None and not accepts(record):
                    redelivery.counts["skipped"] += 1
                    continue
                record_bytes = len(record.json) + record_overhead_bytes(record.shard)
                full = len(gathered) >= self._count_max or gathered_bytes + record_bytes > self.options.batch_bytes_max
                if gathered and (full or record.shard != gathered[0][1].shard):
                    await self._send(redelivery, gathered)
                    gathered, gathered_bytes = [], EVENT_ENVELOPE_BYTES
                if item_of(letter) in redelivery.failed:
                    redelivery.counts["held_back"] += 1
                    continue
                gathered.append((letter, record))
                gathered_bytes += record_bytes
        if gathered and not self._stopping.is_set():
            await self._send(redelivery, gathered)

    async def _send(self, redelivery: Redelivery, gathered: Sequence[tuple[DeadLetter, Record]]) -> None:
        self._left -= len(gathered)
        await redelivery.send(gathered)

    @property
    def _count_max(self) -> int:
        """A batch takes no more than the rate allows in a second."""
        size = self.options.batch_size
        return size if self.rate_max is None else max(1, min(size, int(self.rate_max)))

    def _record(self, letter: DeadLetter) -> Record:
        shard = Shard(stream_arn=letter.stream_arn, shard_id=letter.shard_id)
        return Record(msgspec.Raw(letter.record), shard, self.options.numbers)
