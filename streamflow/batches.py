"""Batches and the ledger that accounts for each of their records."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from msgspec.structs import force_setattr, replace

from streamflow.records import (
    Record,
    Shard,
    event_source_tail,
    lambda_event_records,
    splice_lambda_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamflow.positions import Position

# {"Records":[ ]} around the records of a Lambda event.
_EVENT_OPEN, _EVENT_CLOSE = b'{"Records":[', b"]}"


class Ledger:
    """What became of the records of one attempt: delivered, or left out aloud with a reason. Owned by one attempt."""

    __slots__ = ("_delivered", "_dropped", "records")

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self._delivered: set[int] | None = set()  # identities; None means all of them
        self._dropped: dict[int, str] = {}

    def deliver(self, records: Sequence[Record]) -> None:
        if records is self.records:
            self._delivered = None
        elif self._delivered is not None:
            self._delivered.update(map(id, records))

    def drop(self, records: Iterable[Record], reason: str) -> None:
        for record in records:
            self._dropped.setdefault(id(record), reason)

    @property
    def drops(self) -> int:
        """How many records were left out so far."""
        return len(self._dropped)

    def dropped_since(self, drops: int) -> frozenset[int]:
        """Identities of the records that were left out after there were so many `drops`."""
        return frozenset(list(self._dropped)[drops:])

    def unaccounted(self) -> list[Record]:
        """Records that were neither delivered nor dropped, in order."""
        if self._delivered is None:
            return []
        known = self._delivered | self._dropped.keys()
        return [record for record in self.records if id(record) not in known]

    def dropped(self, among: Sequence[Record]) -> dict[str, int]:
        """Reason to number of those of `among` left out for it; one that was delivered all the same does not count."""
        counts: dict[str, int] = {}
        if not self._dropped or self._delivered is None:
            return counts
        for record in among:
            if id(record) in self._dropped and id(record) not in self._delivered:
                reason = self._dropped[id(record)]
                counts[reason] = counts.get(reason, 0) + 1
        return counts


@dataclass(slots=True, kw_only=True, eq=False)
class Window:
    """The tumbling window that a batch belongs to: [`start_s`, `end_s`), seconds since the Unix epoch.

    `state` is what the window's earlier invocations left, `{}` at its first. A handler changes it in place or assigns
    another JSON object; it is kept when the invocation succeeds, and every retry begins with the one before.
    """

    start_s: int
    end_s: int
    state: dict[str, Any]
    is_final: bool = False
    """The window is over: the batch has no records, and the state is not kept any more."""
    is_terminated_early: bool = False
    """Final because the state passed 1 MB; the same window goes on with an empty one."""

    def lambda_members(self, shard: Shard) -> dict[str, object]:
        """What a Lambda event carries beside `Records`."""
        start, end = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}" for at in (self.start_s, self.end_s))
        return {
            "window": {"start": start, "end": end},
            "state": self.state,
            "shardId": shard.shard_id,
            "eventSourceARN": shard.stream_arn,
            "isFinalInvokeForWindow": self.is_final,
            "isWindowTerminatedEarly": self.is_terminated_early,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Who wrote what, for a sink that refuses what an earlier owner of the shard writes late.

    Keep the highest `epoch` seen for (`pipeline`, `shard_id`) beside the data, and refuse what comes with a lower one: its
    writer has lost the shard, whatever it believes. `first` and `last` are the positions of the batch's ends, None for a
    batch without records; within one epoch they grow, except where a batch is repeated.
    """

    pipeline: str
    shard_id: str
    epoch: int
    first: Position | None
    last: Position | None


class RequestIds:
    """As random UUIDs: the front is this process's own, the end counts. A tenth of the time that `uuid4` takes."""

    def __init__(self) -> None:
        self.restart()

    def restart(self, front: str = "") -> None:
        """Begin again with this front, or a new one: 24 characters."""
        self._front, self._numbers = front or str(uuid.uuid4())[:24], count()  # noqa: TID251 - this is the port

    def new(self) -> str:
        return f"{self._front}{next(self._numbers):012x}"


request_ids = RequestIds()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=request_ids.restart)


class Batch(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Records of one shard in stream order, for one invocation of the handler.

    `epoch` grows with each change of owner of the shard, so a sink may refuse a batch of an older one: see `fence`.
    `attempt` counts invocations of the same records from 1; `request_id` stays the same over them.
    """

    pipeline: str
    shard: Shard
    records: Sequence[Record]
    epoch: int = 0
    attempt: int = 1
    request_id: str = msgspec.field(default_factory=request_ids.new)
    window: Window | None = None
    _ledger: Ledger | None = None

    def __post_init__(self) -> None:
        if self._ledger is None:
            force_setattr(self, "_ledger", Ledger(self.records))

    @property
    def ledger(self) -> Ledger:
        """What becomes of the records of this attempt, whichever layer has how many of them in hand."""
        return self._ledger  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __repr__(self) -> str:
        return f"<Batch {self.pipeline}/{self.shard.shard_id}: {len(self.records)} records, attempt {self.attempt}>"

    @property
    def first(self) -> Position:
        """Of the first record; `IndexError` where a layer has left out all of them, as for `last`."""
        return self.records[0].position

    @property
    def last(self) -> Position:
        return self.records[-1].position

    @property
    def fence(self) -> Fence:
        """What a sink compares, to refuse what an earlier owner of the shard writes late."""
        ends = (self.first, self.last) if self.records else (None, None)
        return Fence(
            pipeline=self.pipeline, shard_id=self.shard.shard_id, epoch=self.epoch, first=ends[0], last=ends[1]
        )

    def select(self, records: Sequence[Record]) -> Batch:
        """The same batch with fewer records; the ones left out are unaccounted until somebody accounts for them."""
        return replace(self, records=records)

    def without(self, predicate: Callable[[Record], bool], *, reason: str) -> Batch:
        """Leave out, aloud, the records for which `predicate` is true: they count as dropped for `reason`."""
        dropped = [record for record in self.records if predicate(record)]
        if not dropped:
            return self
        self.ledger.drop(dropped, reason)
        left_out = set(map(id, dropped))
        return self.select([record for record in self.records if id(record) not in left_out])

    def again(self, *, attempt: int | None = None, window: Window | None = None) -> Batch:
        """The same records for another attempt, by default the next one, with a ledger and a `window` of its own."""
        return replace(self, attempt=self.attempt + 1 if attempt is None else attempt, window=window, _ledger=None)

    @property
    def lambda_event_bytes(self) -> int:
        """Length of `lambda_event_json()`, without making it; exact but for deletes by time to live (an upper bound)."""
        members = 0 if self.window is None else len(orjson.dumps(self.window.lambda_members(self.shard)))
        return lambda_event_bytes(self.records) + members

    def lambda_event_json(self) -> bytes:
        """The event that AWS Lambda would send for this batch, spliced from the raw records."""
        close = _EVENT_CLOSE
        if self.window is not None:
            close = b"]," + orjson.dumps(self.window.lambda_members(self.shard))[1:]
        return splice_lambda_records(self.records, self.shard.stream_arn, before=_EVENT_OPEN, behind=close)

    def lambda_event(self) -> dict[str, object]:
        """The same event as Python objects."""
        records = lambda_event_records(self.records, self.shard.stream_arn)
        return {"Records": records} | ({} if self.window is None else self.window.lambda_members(self.shard))


def lambda_event_bytes(records: Sequence[Record]) -> int:
    """Bytes of the Lambda event for `records`, all of one shard: what the 6 MB limit of an invocation is measured on."""
    if not records:
        return len(_EVENT_OPEN) + len(_EVENT_CLOSE)
    each = record_overhead_bytes(records[0].shard)
    return sum([len(record.json) for record in records]) + each * len(records) + EVENT_ENVELOPE_BYTES


def record_overhead_bytes(shard: Shard) -> int:
    """What one record of this shard takes in an event beyond its own JSON: `eventSourceARN` and the comma."""
    return len(event_source_tail(shard.stream_arn))  # the comma takes the place of the closing brace


EVENT_ENVELOPE_BYTES = len(_EVENT_OPEN) + len(_EVENT_CLOSE) - 1
