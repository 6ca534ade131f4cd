"""Leaving records out, aloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware
    from streamflow.records import Record


def drop(predicate: Callable[[Record], bool], *, reason: str) -> Middleware:
    """Leave out the records for which `predicate` is true; they count as dropped for `reason`, a metric's label."""

    async def layer(batch: Batch, call_next: Handler) -> None:
        await call_next(batch.without(predicate, reason=reason))

    return layer
