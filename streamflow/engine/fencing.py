"""Sinks that keep the checkpoint themselves: fenced before a shard is read, and asked where it goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from streamflow import events
from streamflow.engine.invocation import ends_this_task
from streamflow.errors import FencedError, LeaseLostError, StoreError, error_text
from streamflow.failpoints import reach
from streamflow.rules.pacing import STORE_BACKOFF
from streamflow.rules.steps import Outrun

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease
    from streamflow.positions import Position
    from streamflow.records import Shard

T = TypeVar("T")


class FencedOffError(LeaseLostError):
    """A sink has refused this owner: it has seen a newer one, of this `epoch` where it can tell."""

    def __init__(self, shard_id: str, error: FencedError) -> None:
        self.epoch = error.epoch
        super().__init__(f"the sink has seen a newer owner of {shard_id}: {error_text(error)}")


async def start_of(flow: Flow, held: HeldLease, shard: Shard) -> Position | None:
    """Where the shard goes on: what the sink says, or the lease where there is no such sink or it knows nothing.

    Asks for as long as it takes; None if the flow stopped before.

    Raises:
        LeaseLostError: the sink has seen a newer owner, or the lease ran out while it did not answer.
    """
    if flow.fence is None:
        return held.lease.checkpoint
    failures = 0
    while True:
        try:
            committed = await asked_of_sink(shard, flow.fence.fence(shard, held.lease.epoch))
        except StoreError as error:
            failures += 1
            delay_s = STORE_BACKOFF.delay_s(failures, flow.around.random)
            flow.around.emit(
                events.CheckpointFailed(pipeline=flow.name, shard_id=shard.shard_id, error=error, retry_after_s=delay_s)
            )
            if await flow.pause(delay_s):
                return None
            if not held.valid:
                raise LeaseLostError(f"the sink gave no answer until the lease of {shard.shard_id} ran out") from error
        else:
            await reach("fence.raised")
            return held.lease.checkpoint if committed is None else committed


async def asked_of_sink(shard: Shard, answer: Awaitable[T]) -> T:
    """What the sink answers, with its failures as those of a store.

    Raises:
        FencedOffError: it has seen a newer owner.
        StoreError: any other failure.
    """
    try:
        return await answer
    except FencedError as error:
        raise FencedOffError(shard.shard_id, error) from error
    except BaseException as error:
        if ends_this_task(error):
            raise
        raise StoreError(f"the sink's checkpoint: {type(error).__name__}: {error_text(error)}") from error


async def outrun(flow: Flow, held: HeldLease, seen: int | None) -> None:
    """Once a shard's work is over that a sink has refused: if its row is still ours, there is no newer owner.

    The row was made anew then, with a lower epoch than the sink has seen. It moves beyond that, so that whoever takes it next
    is let in; but once, because two fleets over two stores, which both write to the sink, would take turns for ever.
    """
    if seen is not None and seen > held.lease.epoch and held.shard_id not in flow.outrun:
        with suppress(LeaseLostError, StoreError):
            await held.write(Outrun(seen))
            flow.outrun.add(held.shard_id)
