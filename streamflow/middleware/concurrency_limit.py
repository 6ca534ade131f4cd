"""A limit on batches in the rest of the chain at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware


def concurrency_limit(limit: int) -> Middleware:
    """Let at most `limit` batches through at a time, over all the shards that share this layer; the others wait.

    Raises:
        ConfigError: `limit` is below 1.
    """
    if limit < 1:
        raise ConfigError(f"concurrency_limit({limit}) lets no batch through: the limit is 1 or more")
    slots: list[anyio.CapacityLimiter] = []

    async def layer(batch: Batch, call_next: Handler) -> None:
        if not slots:
            # Made on first use: a limiter belongs to an event loop, a declaration to none.
            slots.append(anyio.CapacityLimiter(limit))
        # As the limiter would find out by itself, at three times the cost.
        limiter, borrower = slots[0], asyncio.current_task()
        try:
            # Without a turn of the event loop where there is room.
            limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            await limiter.acquire_on_behalf_of(borrower)
        try:
            await call_next(batch)
        finally:
            limiter.release_on_behalf_of(borrower)

    return layer
