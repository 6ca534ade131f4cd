"""Records of a batch into what a target takes, for sinks that hand a batch over as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio.lowlevel

from streamflow.errors import MalformedRecordError, RecordRefusedError
from streamflow.failures import RecordFailure
from streamflow.sdk.requests import BEHIND, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamflow.batches import Batch
    from streamflow.records import Record

T = TypeVar("T")

BEHIND_IN_SHARD = "behind a change of the shard that was not written"

_RECORDS_AT_ONCE = 250


@dataclass(slots=True, eq=False)
class Encoded(Generic[T]):
    """`entries` and `failures` together are the records, each in their order.

    What `encode` refuses, by an error, holds back the later changes of the same item; with `stops_at_first` all records
    behind it, for targets that store how far a shard is.
    """

    encode: Callable[[Record], T]
    stops_at_first: bool = False
    entries: list[T] = field(default_factory=list)
    failures: list[RecordFailure] = field(default_factory=list)
    _refused: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        # Keys are only read once something was refused, which is rare.
        if self._refused and (self.stops_at_first or key_of(record) in self._refused):
            reason = BEHIND_IN_SHARD if self.stops_at_first else BEHIND
            self.failures.append(RecordFailure(record, "waiting", reason))
            return
        try:
            self.entries.append(self.encode(record))
        except (RecordRefusedError, MalformedRecordError) as error:
            self.failures.append(RecordFailure(record, "refused", str(error)))
            self._refused.add(key_of(record))


def encoded(records: Iterable[Record], encode: Callable[[Record], T]) -> Encoded[T]:
    """What `encode` makes of each record, for a thread of the sink's own."""
    found = Encoded(encode)
    for record in records:
        found.add(record)
    return found


async def encode_in_order(batch: Batch, encode: Callable[[Record], T], *, stops_at_first: bool = False) -> Encoded[T]:
    """What `encode` makes of each record; the event loop is given to others in between."""
    found = Encoded(encode, stops_at_first)
    for number, record in enumerate(batch):
        if number % _RECORDS_AT_ONCE == _RECORDS_AT_ONCE - 1:
            await anyio.lowlevel.checkpoint()
        found.add(record)
    return found
