"""What a sink says of a batch that it could not write whole: record by record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamflow.errors import MalformedRecordError, PartialFailure, StreamflowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.records import Record


@dataclass(frozen=True, slots=True)
class RecordFailure:
    """One record of a batch that was not written. `reason` is for people, and holds nothing of the item.

    `kind` says what to do about it:
    - "failed": try again, within the retries of the pipeline;
    - "refused": never try again, because the target cannot take this record;
    - "waiting": try again at no cost. It was not tried, because it stands behind a change of the same item that was not
      written, or the target asked for a pause.
    """

    record: Record
    kind: Literal["failed", "refused", "waiting"]
    reason: str


class RecordsFailedError(StreamflowError):
    """Raised by a sink: these records were not written, and all others of the batch were.

    `retry_after_s` is the pause that the target asked for; None leaves it to the engine. A failure of a record that is
    not in the batch, and an empty collection, count as failure of the whole batch.
    """

    def __init__(self, failures: Sequence[RecordFailure], *, retry_after_s: float | None = None) -> None:
        self.failures = tuple(failures)
        self.retry_after_s = retry_after_s
        first = next((each for each in self.failures if each.kind != "waiting"), None) or next(
            iter(self.failures), None
        )
        reason = "" if first is None else f", the first: {first.reason}"
        super().__init__(f"{len(self.failures)} records were not written{reason}")


def first_failed(batch: Batch, error: PartialFailure) -> int:
    """Index of the first record to retry; 0 where the failure does not name records of this batch only."""
    index: dict[str, int] = {}
    for place, record in enumerate(batch.records):
        try:
            index[record.sequence_number] = place
        except MalformedRecordError:
            continue
    try:
        return min((index[number] for number in error.sequence_numbers), default=0)
    except (KeyError, TypeError):
        return 0
