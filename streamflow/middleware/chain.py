"""Middleware composed into one handler, and the ledger's last word.

The innermost step delivers and enters it in the ledger; the outermost raises if a record is in neither of its columns.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING

from streamflow.errors import ConfigError, PartialFailure, UnaccountedRecordsError
from streamflow.failures import RecordsFailedError, first_failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from streamflow.batches import Batch
    from streamflow.protocols import Handler, Middleware
    from streamflow.records import Record


def compose(layers: Sequence[Middleware], handler: Handler) -> Handler:
    """Fold the layers, outermost first, around the handler. Every layer runs in the caller's task.

    Raises:
        ConfigError: a layer is not an async callable of a batch and `call_next`.
    """
    inner: Handler = partial(_deliver, handler)
    for layer in reversed(layers):
        _check(layer)
        inner = partial(_step, layer, inner)
    return partial(_account, inner)


def _check(layer: Middleware) -> None:
    name = _name(layer)
    if not (inspect.iscoroutinefunction(layer) or inspect.iscoroutinefunction(getattr(layer, "__call__", None))):  # noqa: B004
        raise ConfigError(f"middleware {name} is not async: write async def {name}(batch, call_next)")
    try:
        inspect.signature(layer).bind(None, None)
    except ValueError:
        return  # Python does not know its parameters: the first call will tell
    except TypeError:
        raise ConfigError(f"middleware {name} must take two arguments, a batch and call_next") from None


def _name(layer: object) -> str:
    while isinstance(layer, partial):
        layer = layer.func
    return str(getattr(layer, "__qualname__", type(layer).__qualname__))


def _step(layer: Middleware, call_next: Handler, batch: Batch) -> Awaitable[None]:
    # By position: what a layer calls its second parameter is its own business.
    return layer(batch, call_next)


async def _deliver(handler: Handler, batch: Batch) -> None:
    # The final invocation of a tumbling window has no records, and is one all the same.
    if batch.records or (batch.window is not None and batch.window.is_final):
        drops = batch.ledger.drops
        try:
            await handler(batch)
        except (PartialFailure, RecordsFailedError):
            # Those that failed are accounted for as well: the error says what becomes of them.
            _enter(batch, drops)
            raise
        _enter(batch, drops)
        return
    batch.ledger.deliver(batch.records)


def _enter(batch: Batch, drops: int) -> None:
    """What the handler had is accounted for; what it left out aloud, since there were so many drops, stays dropped."""
    records = batch.records
    if batch.ledger.drops > drops:
        left_out = batch.ledger.dropped_since(drops)
        records = [record for record in records if id(record) not in left_out]
    batch.ledger.deliver(records)


async def _account(inner: Handler, batch: Batch) -> None:
    try:
        await inner(batch)
    except RecordsFailedError as error:
        failed = {id(failure.record) for failure in error.failures}
        _raise_for([record for record in batch.ledger.unaccounted() if id(record) not in failed], error)
        raise
    except PartialFailure as error:
        # What stands behind the first failed record comes again, whether anybody accounts for it or not.
        done = set(map(id, batch.records[: first_failed(batch, error)]))
        _raise_for([record for record in batch.ledger.unaccounted() if id(record) in done], error)
        raise
    _raise_for(batch.ledger.unaccounted(), None)


def _raise_for(lost: Sequence[Record], error: Exception | None) -> None:
    if lost:
        raise UnaccountedRecordsError([record.sequence_number for record in lost]) from error
