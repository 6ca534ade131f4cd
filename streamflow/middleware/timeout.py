"""A limit on the time that the rest of the chain may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow.deadlines import TimeLimit
from streamflow.errors import ConfigError, HandlerTimeoutError

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware


def timeout(seconds: float) -> Middleware:
    """Cancel the rest of the chain after `seconds`; the batch has failed then, and comes again.

    A handler that is a plain function goes on in its thread, which cannot be stopped.

    Raises:
        ConfigError: `seconds` is not above 0.
    """
    if seconds <= 0:
        raise ConfigError(f"timeout({seconds:g}) fails every batch: the time is above 0")

    async def layer(batch: Batch, call_next: Handler) -> None:
        with TimeLimit(seconds) as limit:
            await call_next(batch)
        if limit.passed:
            raise HandlerTimeoutError(seconds)

    return layer
