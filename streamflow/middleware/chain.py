"""Middleware composed into one handler, and the ledger's last word.

The innermost step delivers and enters it in the ledger; the outermost raises if a record is in neither of its columns.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from streamflow.errors import UnaccountedRecordsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware


def compose(layers: Sequence[Middleware], handler: Handler) -> Handler:
    """Fold the layers, outermost first, around the handler. Every layer runs in the caller's task."""
    inner: Handler = partial(_deliver, handler)
    for layer in reversed(layers):
        inner = partial(layer, call_next=inner)
    return partial(_account, inner)


async def _deliver(handler: Handler, batch: Batch) -> None:
    if batch.records:
        await handler(batch)
    batch.ledger.deliver(batch.records)


async def _account(inner: Handler, batch: Batch) -> None:
    await inner(batch)
    if unaccounted := batch.ledger.unaccounted():
        raise UnaccountedRecordsError([record.sequence_number for record in unaccounted])
