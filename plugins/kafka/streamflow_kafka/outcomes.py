"""What became of the messages of one write, told of its records. Pure but for the names of librdkafka's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

from streamflow.sdk import RecordFailure, Rejection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.sdk import Record

_BEHIND = "behind a change of the same item that was not written"

TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
"""Said of all messages of a request, though one of them may be the reason."""

_REFUSED = TOO_LARGE | {KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD, KafkaError._INVALID_ARG}
_PURGED = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


def ends_producer(error: KafkaError) -> bool:
    """Whether an idempotent producer can go on after it: one whose id or epoch a broker does not take never can.

    librdkafka calls that fatal in a transactional producer only.
    """
    return bool(error.fatal() or error.code() in FENCED)


def rejection(error: KafkaError, *, gave_up: bool) -> Rejection:
    """`gave_up` tells whether this write was given up, or was in the way of another that was."""
    if error.code() in _PURGED:
        return Rejection("failed", "not acknowledged in time") if gave_up else PURGED
    reason = f"{error.name()}: {error.str()}"
    return Rejection("refused", reason) if error.code() in _REFUSED else Rejection("failed", reason)


PURGED = Rejection("waiting", "the producer was emptied, because another write was given up")


def failures(
    records: Sequence[Record], keys: Sequence[bytes], outcomes: Sequence[Rejection | None]
) -> list[RecordFailure]:
    """The records that come again: those that were not written, and all later changes of their items.

    A later change may have been written, where only the broker refused the earlier one: it is written once more behind it.
    """
    found: list[RecordFailure] = []
    hindered: set[bytes] = set()
    for record, key, outcome in zip(records, keys, outcomes, strict=True):
        if key in hindered and (outcome is None or outcome.kind != "refused"):
            found.append(RecordFailure(record, "waiting", _BEHIND))
        elif outcome is not None:
            found.append(RecordFailure(record, outcome.kind, outcome.reason))
            hindered.add(key)
    return found
