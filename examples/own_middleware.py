"""Two layers of one's own: one leaves records out aloud, the other looks at the time a batch takes.

A layer is a function of a batch and of the rest of the chain. To test one, call it:
`await skip_untouched(batch, call_next)` with a `call_next` that keeps what it is given.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio

import streamflow

if TYPE_CHECKING:
    from streamflow import Batch, Handler, Middleware, Record


def _untouched(record: Record) -> bool:
    """A change of nothing but the time of the change."""
    before, after = record.old_image, record.new_image
    if before is None or after is None:
        return False
    return {**before, "updated_at": None} == {**after, "updated_at": None}


async def skip_untouched(batch: Batch, call_next: Handler) -> None:
    await call_next(batch.without(_untouched, reason="untouched"))


def tell_slow_batches(*, threshold_s: float) -> Middleware:
    """A layer with a setting is made by a function."""

    async def layer(batch: Batch, call_next: Handler) -> None:
        started = anyio.current_time()
        await call_next(batch)
        took_s = anyio.current_time() - started
        if took_s > threshold_s:
            print(f"{batch.shard.shard_id}: {len(batch)} records took {took_s:.3f} s")

    return layer


async def deliver(batch: Batch) -> None:
    for record in batch:
        print(record.event_name, record.keys)


orders = streamflow.Pipeline(
    name="orders",
    source=streamflow.DynamoDBStream(table="orders"),
    handler=deliver,
    middleware=(tell_slow_batches(threshold_s=1.0), skip_untouched),
    starting_position="TRIM_HORIZON",
)

if __name__ == "__main__":
    asyncio.run(streamflow.run(orders))
