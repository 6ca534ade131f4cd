"""A batch that is given up: into every destination, for as long as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow import events
from streamflow.engine.invocation import ends_this_task
from streamflow.errors import LambdaFunctionError, PartialFailure
from streamflow.failpoints import reach
from streamflow.records import newest_outline
from streamflow.rules.pacing import DESTINATION_BACKOFF

if TYPE_CHECKING:
    from streamflow.dead_letters import DiscardedBatch
    from streamflow.engine.flow import Flow
    from streamflow.protocols import Destination


async def send(flow: Flow, discarded: DiscardedBatch) -> bool:
    """Hand the batch to each destination of the flow; False if the flow stopped before all had it.

    Then those that had it get it again, when the batch is given up again.
    """
    for destination in flow.destinations:
        if not await _send(flow, destination, discarded):
            return False
        await reach("dead_letter.sent")
    batch = discarded.batch
    newest, oldest = newest_outline(batch.records), newest_outline(batch.records[:1])
    flow.around.emit(
        events.RecordsDiscarded(
            pipeline=flow.name,
            shard_id=batch.shard.shard_id,
            records=len(batch),
            condition=discarded.condition,
            invoke_count=discarded.invoke_count,
            destinations=tuple(destination.name for destination in flow.destinations),
            first=oldest[0] if oldest else None,
            last=newest[0] if newest else None,
        )
    )
    return True


async def _send(flow: Flow, destination: Destination, discarded: DiscardedBatch) -> bool:
    failures = 0
    while True:
        try:
            await destination.send(discarded)
        except BaseException as error:  # noqa: ASYNC103 - a cancellation that is ours is raised again
            # A destination may be a plugin, and no error of it may lose a record.
            if ends_this_task(error):
                raise
            failures += 1
            delay_s = DESTINATION_BACKOFF.delay_s(failures, flow.around.random)
            flow.around.emit(
                events.DestinationFailed(
                    pipeline=flow.name,
                    shard_id=discarded.batch.shard.shard_id,
                    destination=destination.name,
                    records=len(discarded.batch),
                    attempt=failures,
                    error=error,
                    retry_after_s=delay_s,
                )
            )
            if await flow.pause(delay_s):  # noqa: ASYNC102 - nobody cancels us where we come to it
                return False
        else:
            return True


def function_error(error: BaseException | None) -> str | None:
    """Lambda's word for the failure: nothing where the function returned a response that means failure."""
    if isinstance(error, LambdaFunctionError):
        return error.function_error
    return None if isinstance(error, PartialFailure) else "Unhandled"
