"""One invocation of a chain with a batch: what its failure means, and what the observers hear of it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.batches import lambda_event_bytes
from streamflow.deadlines import TimeLimit
from streamflow.errors import (
    EventTooLargeError,
    HandlerTimeoutError,
    PartialFailure,
    PluginError,
    RecordRefusedError,
    SinkBusyError,
)
from streamflow.failures import RecordsFailedError, first_failed
from streamflow.records import newest_outline
from streamflow.rules.attempts import Failed, NotDelivered, PartlyFailed, SomeFailed, Succeeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.protocols import Handler
    from streamflow.records import Record
    from streamflow.rules.attempts import Outcome


_BUSY_MIN_S = 0.05


async def invoke(chain: Handler, batch: Batch, *, timeout_s: float | None) -> Exception | None:
    """Call the chain; the answer is what it raised. None for `timeout_s` waits for ever."""
    if timeout_s is None:
        return await _call(chain, batch)
    failure: Exception | None = None
    with TimeLimit(timeout_s) as limit:
        failure = await _call(chain, batch)
    return HandlerTimeoutError(timeout_s) if limit.passed else failure


async def _call(chain: Handler, batch: Batch) -> Exception | None:
    try:
        await chain(batch)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is a failed attempt
        return error
    except BaseException as error:  # noqa: ASYNC103 - a cancellation that is ours is raised again
        if ends_this_task(error):
            raise
        return PluginError(f"the handler raised {type(error).__name__}, which fails its batch", plugin="handler")
    return None


def ends_this_task(error: BaseException) -> bool:
    """Whether what user code raised is for us: an interrupt, or the cancellation of the task that called it.

    A `CancelledError` of something that the user's code awaited, a `SystemExit` or a `GeneratorExit` is only its failure.
    """
    if isinstance(error, KeyboardInterrupt):
        return True
    task = asyncio.current_task()
    cancelled = anyio.current_effective_deadline() == -math.inf or (task is not None and task.cancelling() > 0)
    return isinstance(error, asyncio.CancelledError) and cancelled


def busy_for_s(error: SinkBusyError) -> float | None:
    """How long a busy sink wants to be left alone, at least 50 ms; None where it does not say so sensibly."""
    return _sensible(error.retry_after_s)


def _sensible(asked: object) -> float | None:
    return max(float(asked), _BUSY_MIN_S) if isinstance(asked, int | float) and math.isfinite(asked) else None


def too_large(batch: Batch, bytes_max: int | None) -> EventTooLargeError | None:
    """A record that is too large for an event never reaches the handler, but uses up its retries (esm.md 2.3)."""
    if bytes_max is None or len(batch) != 1 or (event_bytes := batch.lambda_event_bytes) <= bytes_max:
        return None
    return EventTooLargeError(event_bytes=event_bytes, bytes_max=bytes_max)


def outcome_of(batch: Batch, error: Exception | None) -> Outcome:
    """What the rules are told of an invocation that raised `error`."""
    match error:
        case None:
            return Succeeded()
        case SinkBusyError():
            return NotDelivered(busy_for_s(error))
        case PartialFailure():
            return PartlyFailed(first_failed(batch, error))
        case RecordsFailedError():
            return _some_failed(batch, error)
        case _:
            return Failed()


def _some_failed(batch: Batch, error: RecordsFailedError) -> Outcome:
    """The failures by place; the whole batch has failed where they do not name records of this batch only."""
    places = {id(record): place for place, record in enumerate(batch.records)}
    kinds: dict[str, list[int]] = {"failed": [], "refused": [], "waiting": []}
    try:
        for failure in error.failures:
            kinds[failure.kind].append(places[id(failure.record)])
    except (KeyError, TypeError, AttributeError):
        return Failed()
    if not any(kinds.values()):
        return Failed()
    return SomeFailed(
        failed=sorted(kinds["failed"]),
        refused=sorted(kinds["refused"]),
        waiting=sorted(kinds["waiting"]),
        retry_after_s=_sensible(error.retry_after_s),
    )


def reason_of(error: Exception | None, records: Sequence[Record]) -> Exception | None:
    """Why these records are given up: of an error that tells records apart, what it says of the first of them."""
    if not isinstance(error, RecordsFailedError) or not records:
        return error
    reasons = [failure for failure in error.failures if failure.record is records[0]]
    return RecordRefusedError(reasons[0].reason) if reasons and reasons[0].kind == "refused" else error


# --- what the observers hear -----------------------------------------------------------------------------------------


def batch_delivered(
    batch: Batch, records: Sequence[Record], *, handler_s: float, now_s: float, partial: bool
) -> events.BatchDelivered:
    """`records` of the batch are done: all of them, or those before the first failed one."""
    dropped = batch.ledger.dropped(records)
    newest = newest_outline(records)
    oldest = newest_outline(records[:1]) or newest
    return events.BatchDelivered(
        pipeline=batch.pipeline,
        shard_id=batch.shard.shard_id,
        records=len(records),
        bytes=lambda_event_bytes(records),
        delivered=len(records) - sum(dropped.values()),
        dropped=dropped,
        attempts=batch.attempt,
        handler_s=handler_s,
        first_created_at_s=oldest[1] if oldest else 0.0,
        last_created_at_s=newest[1] if newest else 0.0,
        now_s=now_s,
        partial=partial,
    )


def batch_failed(
    batch: Batch, error: Exception, *, handler_s: float, retry_after_s: float, now_s: float
) -> events.BatchFailed:
    newest = newest_outline(batch.records)
    return events.BatchFailed(
        pipeline=batch.pipeline,
        shard_id=batch.shard.shard_id,
        records=len(batch),
        attempt=batch.attempt,
        handler_s=handler_s,
        error=error,
        retry_after_s=retry_after_s,
        invoked=not isinstance(error, SinkBusyError | EventTooLargeError),
        last_created_at_s=newest[1] if newest else 0.0,
        now_s=now_s,
    )
