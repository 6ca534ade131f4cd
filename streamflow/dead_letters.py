"""What was given up or set aside: a batch on its way to a destination, and the whole records that a store keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamflow.errors import MalformedRecordError, error_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.records import Record

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "RecordRefused", "SuspectedKiller"]
"""Why a record is given up: Lambda's two words, and ours for what a sink can never take, and for what seems to end every
process that handles it."""
Drawer = Literal["dead", "parked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardedBatch:
    """Records that are given up together, in stream order; none in a final invocation of a tumbling window.

    `batch.window` is set for tumbling windows. `invoke_count` is at least 1, also where age came before any invocation.
    """

    batch: Batch
    condition: Condition
    invoke_count: int
    discarded_at_s: float
    """Seconds since the Unix epoch."""
    error: BaseException | None = None
    """What the last attempt raised; None where there was no attempt."""
    responded: bool = False
    """The handler was invoked and the retries are used up: Lambda tells about the last response."""
    function_error: str | None = None
    """Lambda's word for the failure: "Unhandled", or None for a response that reported failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """One whole record in a store. `(pipeline, stream_arn, shard_id, sequence_number)` names it in its drawer.

    `sequence_number` of a record that has none that can be read is `sha256:` and the digest of the record. `item_key` is
    `Record.item_key`; empty where the keys cannot be read. `record` is the JSON as the service sent it.
    """

    pipeline: str
    stream_arn: str
    shard_id: str
    sequence_number: str
    item_key: str
    record: bytes
    reason: str
    """A `Condition`, or `KeyParked` for a record that only follows one."""
    error_type: str = ""
    error_text: str = ""
    """May quote the record: for `show`, never for logs."""
    invoke_count: int = 0
    kept_at_s: float = 0.0
    """Seconds since the Unix epoch."""
    id: int = 0
    """Given by the store, growing: letters of one item come in the order in which they were kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterQuery:
    """Which letters: all conditions hold together; None and the empty tuple do not restrict."""

    drawer: Drawer
    pipeline: str | None = None
    stream_arn: str | None = None
    shard_id: str | None = None
    item_key: str | None = None
    ids: tuple[int, ...] = ()
    after_id: int = 0
    limit: int = 1_000


def letters_of(
    records: Sequence[Record],
    *,
    pipeline: str,
    reason: str,
    kept_at_s: float,
    error: BaseException | None = None,
    invoke_count: int = 0,
) -> list[DeadLetter]:
    """One letter for each record, in order; a record that cannot be read is kept as it is."""
    return [
        DeadLetter(
            pipeline=pipeline,
            stream_arn=record.shard.stream_arn,
            shard_id=record.shard.shard_id,
            sequence_number=name_of(record),
            item_key=readable_item_key(record) or "",
            record=record.raw,
            reason=reason,
            error_type="" if error is None else type(error).__name__,
            error_text="" if error is None else error_text(error),
            invoke_count=invoke_count,
            kept_at_s=kept_at_s,
        )
        for record in records
    ]


def readable_item_key(record: Record) -> str | None:
    """`record.item_key`; None where the record cannot be read."""
    try:
        return record.item_key
    except MalformedRecordError:
        return None


def name_of(record: Record) -> str:
    """Its sequence number, by which it is known in its shard; of a record that has none that can be read, its digest."""
    try:
        return record.sequence_number
    except MalformedRecordError:
        return f"sha256:{hashlib.sha256(record.raw).hexdigest()}"
