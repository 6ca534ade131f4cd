"""The claim that keeps two redrives of the same letters apart: they would deliver them twice, and out of order.

A row of the lease store, taken by compare-and-set. It does not run out: whoever was killed holds it until somebody says
that it is to be taken over.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import LeaseLostError, StoreError, UnknownOutcomeError
from streamflow.leases import Lease, LeaseKey
from streamflow.rules import steps
from streamflow.rules.steps import PassedOn, Taken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.dead_letters import Drawer
    from streamflow.protocols import LeaseStore

CLAIM_STREAM = "redrive"
"""In the place of a stream's ARN, so that no listing of a stream's leases has these rows."""
_RELEASE_DEADLINE_S = 5.0


@dataclass(slots=True, eq=False)
class Claim:
    store: LeaseStore
    key: LeaseKey
    owner: str

    async def check(self) -> None:
        """Raises `LeaseLostError` if another redrive has taken over."""
        row = await self.store.get(self.key)
        if row is None or row.owner != self.owner:
            who = "nobody" if row is None or row.owner is None else row.owner
            raise LeaseLostError(f"the redrive of {self.key.pipeline} was taken over: its claim belongs to {who} now")


@asynccontextmanager
async def claimed(
    store: LeaseStore, *, pipeline: str, drawer: Drawer, owner: str, take_over: bool
) -> AsyncIterator[Claim]:
    """Hold the claim for the length of the block; `owner` names this redrive and no other.

    Raises:
        StoreError: another redrive holds it, and this one is not to `take_over`; or the store failed.
    """
    claim = Claim(store, LeaseKey(pipeline, CLAIM_STREAM, drawer), owner)
    try:
        while not await _taken(claim, take_over=take_over):
            pass  # somebody wrote the row between our look and our write: look again
        yield claim
    finally:
        # Also what was taken although whoever took it was cancelled before it heard. Where this fails the row stays, and
        # the next redrive says how to go on.
        with anyio.move_on_after(_RELEASE_DEADLINE_S, shield=True), suppress(StoreError):
            await _release(claim)


async def _taken(claim: Claim, *, take_over: bool) -> bool:
    """False: the row has changed in the meantime."""
    row = await claim.store.get(claim.key)
    if row is not None and row.owner not in (None, claim.owner) and not take_over:
        raise StoreError(
            f"another redrive of {claim.key.pipeline} is at work on the same letters: {row.owner} (wait for it, or if it "
            "was killed, say --take-over)"
        )
    try:
        return await _write(claim, row) is not None
    except UnknownOutcomeError:
        row = await claim.store.get(claim.key)
        return row is not None and row.owner == claim.owner


async def _write(claim: Claim, row: Lease | None) -> Lease | None:
    key = claim.key
    if row is None:
        new = Lease(pipeline=key.pipeline, stream_arn=key.stream_arn, shard_id=key.shard_id, owner=claim.owner, epoch=1)
        return await claim.store.create(new)
    return await claim.store.update(steps.after(row, Taken(claim.owner)), expected_version=row.version)


async def _release(claim: Claim) -> None:
    row = await claim.store.get(claim.key)
    if row is not None and row.owner == claim.owner:
        await claim.store.update(steps.after(row, PassedOn()), expected_version=row.version)
