"""Leaving out records that this process has delivered before."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware
    from streamflow.records import Record


def dedupe(capacity: int = 100_000) -> Middleware:
    """Drop records whose event id was delivered before, for the reason `duplicate`.

    A record without an id is never a duplicate, and pipelines that share the layer do not see each other's records.
    Remembers the newest `capacity` ids, in memory and only once the rest of the chain has succeeded: it catches what a
    lost lease or a retry repeats within one process, not what a restart does.
    """
    delivered: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def layer(batch: Batch, call_next: Handler) -> None:
        passing: dict[str, Record] = {}

        def repeated(record: Record) -> bool:
            event_id = record.event_id
            if not event_id:
                return False
            return (batch.pipeline, event_id) in delivered or passing.setdefault(event_id, record) is not record

        await call_next(batch.without(repeated, reason="duplicate"))
        for event_id in passing:
            delivered[batch.pipeline, event_id] = None
        while len(delivered) > capacity:
            delivered.popitem(last=False)

    return layer
