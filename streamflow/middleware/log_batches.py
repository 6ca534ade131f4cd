"""A log line for each batch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from streamflow.clock import SystemClock

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware


def log_batches(logger: logging.Logger | None = None, *, level: int = logging.DEBUG) -> Middleware:
    """Log pipeline, shard, records, bytes of the event, attempt, seconds and outcome of each batch; never what is in it."""
    log = logger or logging.getLogger("streamflow.batches")
    clock = SystemClock()

    async def layer(batch: Batch, call_next: Handler) -> None:
        if not log.isEnabledFor(level):
            await call_next(batch)
            return
        started = clock.monotonic()
        outcome = "cancelled"
        try:
            await call_next(batch)
            outcome = "delivered"
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            log.log(
                level,
                "batch pipeline=%s shard=%s records=%d bytes=%d attempt=%d seconds=%.3f outcome=%s",
                batch.pipeline,
                batch.shard.shard_id,
                len(batch),
                batch.lambda_event_bytes,
                batch.attempt,
                clock.monotonic() - started,
                outcome,
            )

    return layer
