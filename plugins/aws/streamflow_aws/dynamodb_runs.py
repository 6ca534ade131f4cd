"""Records as transactions: which ones go together, and what a service that canceled one says of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from streamflow.sdk import SinkBusyError, StreamflowError, newest
from streamflow_aws.errors import PAUSE_S, THROTTLED_CODES, AwsCallError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.sdk import Record
    from streamflow_aws.dynamodb_items import ItemChange

ITEMS_MAX = 99
"""TransactWriteItems takes 100 actions; one of them is the checkpoint."""
BYTES_MAX = 3_500_000
"""It takes 4 MB of items. What is counted here is their JSON, which is more, without the attributes that are added."""

_BUSY_REASONS = THROTTLED_CODES | {"TransactionConflict"}
_REFUSED_REASONS = frozenset({"ItemCollectionSizeLimitExceeded", "ValidationError"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and what it makes of an item; None where it makes nothing."""

    record: Record
    change: ItemChange | None
    bytes: int

    @property
    def key(self) -> str:
        """The item, as a text; binary keys are told by their bytes."""
        assert self.change is not None
        return orjson.dumps(self.change.key, default=bytes.hex, option=orjson.OPT_SORT_KEYS).decode()


class CheckpointMovedError(StreamflowError):
    """The condition on the checkpoint failed, and nothing was stored: look at it."""


class EntryRefusedError(StreamflowError):
    """The entry at `place` of a run will never be taken, and nothing was stored; None where nobody says which it is."""

    def __init__(self, reason: str, *, place: int | None) -> None:
        self.reason = reason
        self.place = place
        super().__init__(reason)


def cut(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Runs of entries, in order, each within the limits of a transaction."""
    run: list[Entry] = []
    keys: set[str] = set()
    size = 0
    for entry in entries:
        key = {entry.key} if entry.change is not None else set()
        if run and (len(keys | key) > ITEMS_MAX or size + entry.bytes > BYTES_MAX):
            yield run
            run, keys, size = [], set(), 0
        run.append(entry)
        keys |= key
        size += entry.bytes
    if run:
        yield run


def final(run: Sequence[Entry]) -> list[int]:
    """The places of what is left of a run in the end: a transaction takes one action for each item."""
    places = [place for place, entry in enumerate(run) if entry.change is not None]
    return [places[place] for place in newest([run[place].key for place in places])]


def cancellation(error: AwsCallError, places: Sequence[int]) -> StreamflowError:
    """Why a transaction was canceled: of the checkpoint, which is its first action, and then of the entries at `places`."""
    reasons = [str((reason or {}).get("Code") or "None") for reason in error.response.get("CancellationReasons") or ()]
    if len(reasons) != len(places) + 1:
        return error
    if reasons[0] == "ConditionalCheckFailed":
        return CheckpointMovedError("the checkpoint is not where it was")
    if busy := next((reason for reason in reasons if reason in _BUSY_REASONS), None):
        return SinkBusyError(f"transact_write_items: {busy}", retry_after_s=PAUSE_S)
    for reason, place in zip(reasons[1:], places, strict=True):
        if reason in _REFUSED_REASONS:
            return EntryRefusedError(f"transact_write_items: {reason}", place=place)
    return error
