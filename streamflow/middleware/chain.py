"""Middleware composed into one handler, and the ledger's last word.

The innermost step delivers and enters it in the ledger; the outermost raises if a record is in neither of its columns.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING

from streamflow.errors import ConfigError, UnaccountedRecordsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware


def compose(layers: Sequence[Middleware], handler: Handler) -> Handler:
    """Fold the layers, outermost first, around the handler. Every layer runs in the caller's task.

    Raises:
        ConfigError: a layer is not an async callable of a batch and `call_next`.
    """
    inner: Handler = partial(_deliver, handler)
    for layer in reversed(layers):
        _check(layer)
        inner = partial(layer, call_next=inner)
    return partial(_account, inner)


def _check(layer: Middleware) -> None:
    name = getattr(layer, "__qualname__", type(layer).__qualname__)
    if not (inspect.iscoroutinefunction(layer) or inspect.iscoroutinefunction(getattr(layer, "__call__", None))):  # noqa: B004
        raise ConfigError(f"middleware {name} is not async: write async def {name}(batch, call_next)")
    try:
        inspect.signature(layer).bind(None, call_next=None)
    except TypeError:
        raise ConfigError(f"middleware {name} must take two arguments, a batch and call_next") from None


async def _deliver(handler: Handler, batch: Batch) -> None:
    if batch.records:
        await handler(batch)
    batch.ledger.deliver(batch.records)


async def _account(inner: Handler, batch: Batch) -> None:
    await inner(batch)
    if unaccounted := batch.ledger.unaccounted():
        raise UnaccountedRecordsError([record.sequence_number for record in unaccounted])
