"""Several sinks as one: what each of them said of its part of a batch, and what that means for the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamflow.errors import FencedError, SinkBusyError, error_text
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.sdk.capabilities import Capabilities, Idempotence, Order
from streamflow.sdk.declarations import SinkDeclaration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.protocols import Writer

_ORDERS: tuple[Order, ...] = ("none", "key", "shard")
_IDEMPOTENCE: tuple[Idempotence, ...] = ("none", "window", "versioned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`failures` are the records that were not written; `error` is what was raised where the batch failed as a whole."""

    failures: tuple[RecordFailure, ...] = ()
    retry_after_s: float | None = None
    error: Exception | None = None


async def outcome_of(writer: Writer, batch: Batch) -> Outcome:
    """Write, and say what came of it. Raises `FencedError`, after which nothing may be written any more."""
    try:
        await writer.write(batch)
    except FencedError:
        raise
    except RecordsFailedError as error:
        return Outcome(failures=error.failures, retry_after_s=error.retry_after_s)
    except SinkBusyError as error:
        failures = tuple(RecordFailure(record, "waiting", error_text(error)) for record in batch)
        return Outcome(failures=failures, retry_after_s=error.retry_after_s, error=error)
    except Exception as error:  # noqa: BLE001 - told for each record, or raised again as it is
        failures = tuple(RecordFailure(record, "failed", type(error).__name__) for record in batch)
        return Outcome(failures=failures, error=error)
    return Outcome()


def raise_for(outcomes: Sequence[Outcome], batch: Batch) -> None:
    """Raise what the parts mean for the batch; a reason why nothing of it was written is raised as it is."""
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    if not failures:
        return
    errors = [outcome.error for outcome in outcomes if outcome.failures]
    if len(failures) == len(batch) and len(errors) == 1 and errors[0] is not None:
        raise errors[0]
    pauses = [outcome.retry_after_s for outcome in outcomes if outcome.retry_after_s is not None]
    raise RecordsFailedError(failures, retry_after_s=max(pauses, default=None))


def combined(sinks: Sequence[Any]) -> Capabilities:
    """What all of the sinks can do. A handler that is no declared sink promises nothing but order.

    A transactional sink is versioned here: its checkpoint is not that of the others.
    """
    each = [_capabilities(sink) for sink in sinks]
    order = _ORDERS[min(_ORDERS.index(one.order) for one in each)]
    idempotence = _IDEMPOTENCE[min(_IDEMPOTENCE.index(_without_checkpoint(one.idempotence)) for one in each)]
    windows_s = [one.idempotence_window_s for one in each if one.idempotence_window_s is not None]
    return Capabilities(
        order=order,
        idempotence=idempotence,
        idempotence_key=None if idempotence == "none" else "that of each sink",
        idempotence_window_s=min(windows_s) if idempotence == "window" else None,
        partial_failures=all(one.partial_failures for one in each),
        deletes=all(one.deletes for one in each),
        needs_images=any(one.needs_images for one in each),
        batch_size=max(one.batch_size for one in each),
        records_max=min((one.records_max for one in each if one.records_max is not None), default=None),
        bytes_max=min((one.bytes_max for one in each if one.bytes_max is not None), default=None),
    )


def _capabilities(sink: object) -> Capabilities:
    return sink.capabilities if isinstance(sink, SinkDeclaration) else Capabilities(order="key", idempotence="none")


def _without_checkpoint(idempotence: Idempotence) -> Idempotence:
    return "versioned" if idempotence == "transactional" else idempotence
