"""One stream: its shards, their lineage, and the records in them. Pure: no I/O, and every time is passed in.

Invariants: the open shards divide the hash space without gap or overlap while the stream is enabled; sequence numbers
grow over all shards of a table; a shard's records are a contiguous suffix of what was written to it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

from streamflow.testing.refusals import RefusedError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.records import StreamViewType
    from streamflow.testing.changes import Change, RecordEncoder
    from streamflow.testing.items import ItemKey, KeySchema

HASH_SPACE = 2**32

ShardEvent: TypeAlias = Literal["made", "written", "closed", "trimmed", "gone"]
"""What happened to a shard just now: its newest record, its ending number, `trimmed_through` say the rest."""


def partition_hash(key: ItemKey) -> int:
    """Where the partition key falls in the hash space."""
    return int.from_bytes(blake2b(key[0].encode(), digest_size=4).digest(), "big")


@dataclass(slots=True, kw_only=True, eq=False)
class LocalShard:
    """A shard and its records; `low` (included) to `high` (excluded) is its part of the hash space."""

    shard_id: str
    parent_id: str | None
    low: int
    high: int
    starting_number: int
    listed_at_s: float
    """DescribeStream shows it from this time on."""
    ending_number: int | None = None
    closed_at_s: float = math.inf
    trimmed_through: int = 0
    """Sequence number up to which records are gone; 0 while none is."""
    numbers: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    created_s: list[float] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)  # bytes of the shard up to and including each record
    _bytes_trimmed: int = 0

    def append(self, number: int, body: bytes, created_at_s: float) -> None:
        self._ends.append((self._ends[-1] if self._ends else self._bytes_trimmed) + len(body))
        self.numbers.append(number)
        self.bodies.append(body)
        self.created_s.append(created_at_s)

    @property
    def horizon(self) -> int:
        """The lowest number that a reader may ask for."""
        return max(self.starting_number, self.trimmed_through + 1)

    def read(self, number: int, *, records_max: int, bytes_max: int) -> tuple[Sequence[bytes], int | None]:
        """Records from `number` on, and the number to go on from; None when the shard is closed and read to its end.

        Stops before passing `bytes_max`, but one record always fits.

        Raises:
            RefusedError: TrimmedDataAccessException, a record from `number` on is gone.
        """
        if number <= self.trimmed_through:
            raise RefusedError(
                "TrimmedDataAccessException",
                "The operation attempted to read past the oldest stream record in a shard",
            )
        start = bisect_left(self.numbers, number)
        before = self._ends[start - 1] if start else self._bytes_trimmed
        fitting = bisect_right(self._ends, before + bytes_max, lo=start)
        stop = min(start + records_max, max(fitting, start + 1), len(self.numbers))
        if stop == len(self.numbers) and self.ending_number is not None:
            return self.bodies[start:stop], None
        return self.bodies[start:stop], self.numbers[stop - 1] + 1 if stop > start else number

    def trim(self, *, before: int | None = None) -> int:
        """Let the records below the number `before` go (all of them by default); returns how many went."""
        count = len(self.numbers) if before is None else bisect_left(self.numbers, before)
        if count:
            self.trimmed_through = self.numbers[count - 1]
            self._bytes_trimmed = self._ends[count - 1]
            for column in (self.numbers, self.bodies, self.created_s, self._ends):
                del column[:count]
        return count


@dataclass(slots=True, kw_only=True, eq=False)
class LocalStream:
    """A stream of one table. `next_number` takes the table's next sequence number."""

    stream_arn: str
    label: str
    table_name: str
    key_schema: KeySchema
    view_type: StreamViewType
    created_at_s: float
    next_number: Callable[[], int]
    encoder: RecordEncoder
    tell: Callable[[ShardEvent, LocalShard], None]
    """Hears of everything that happens to a shard, as it happens."""
    disabled_at_s: float = math.inf
    shards: dict[str, LocalShard] = field(default_factory=dict)
    _open: list[LocalShard] = field(default_factory=list)  # by `low`
    _shards_made: int = 0

    @property
    def enabled(self) -> bool:
        return self.disabled_at_s == math.inf

    @property
    def open_shards(self) -> tuple[LocalShard, ...]:
        return tuple(self._open)

    def shard(self, shard_id: str) -> LocalShard:
        """Look a shard up.

        Raises:
            RefusedError: ResourceNotFoundException, there is none, or none any more.
        """
        try:
            return self.shards[shard_id]
        except KeyError:
            raise not_found(
                f"Requested resource not found: Shard: {shard_id} in Stream: {self.stream_arn} not found"
            ) from None

    def write(self, key: ItemKey, change: Change, now_s: float) -> int:
        """Append the record of a change to the open shard of its key; returns the sequence number."""
        shard = self._open[bisect_right(self._open, partition_hash(key), key=_low) - 1]
        number = self.next_number()
        shard.append(number, self.encoder.encode(change, number=number, created_at_s=now_s), now_s)
        self.tell("written", shard)
        return number

    # -- lineage --------------------------------------------------------------------------------------------------------

    def divide(self, count: int, now_s: float) -> None:
        """Open the first `count` shards."""
        edges = [HASH_SPACE * index // count for index in range(count + 1)]
        self._open = [self._new_shard(None, low, high, now_s, 0.0) for low, high in pairwise(edges)]

    def roll_over(self, shard: LocalShard, now_s: float, children_delay_s: float) -> list[LocalShard]:
        """Close a shard; one child goes on in its place."""
        return self._replace(shard, [shard.low, shard.high], now_s, children_delay_s)

    def split(self, shard: LocalShard, now_s: float, children_delay_s: float) -> list[LocalShard]:
        """Close a shard; two children share its part of the hash space."""
        middle = (shard.low + shard.high) // 2
        if middle == shard.low:
            raise invalid(f"{shard.shard_id} holds a single hash and cannot be split")
        return self._replace(shard, [shard.low, middle, shard.high], now_s, children_delay_s)

    def close(self, now_s: float) -> None:
        """Disable the stream: every shard is closed and stays readable."""
        for shard in self._open:
            shard.ending_number, shard.closed_at_s = self.next_number(), now_s
            self.tell("closed", shard)
        self._open.clear()
        self.disabled_at_s = min(self.disabled_at_s, now_s)

    def forget(self, shard: LocalShard) -> None:
        """Drop a closed shard as retention does: it is not listed any more, and what it held is gone."""
        if shard.ending_number is None:
            raise invalid(f"{shard.shard_id} is open: only a closed shard can be forgotten")
        self._drop(shard)

    def _drop(self, shard: LocalShard) -> None:
        del self.shards[shard.shard_id]
        self.tell("gone", shard)

    def trim(self, shard: LocalShard, *, before: int | None = None) -> int:
        """As `LocalShard.trim`."""
        count = shard.trim(before=before)
        if count:
            self.tell("trimmed", shard)
        return count

    def retain(self, since_s: float) -> None:
        """Let go what is older than `since_s`: records, and closed shards with nothing left in them."""
        for shard in list(self.shards.values()):
            if shard.created_s and shard.created_s[0] < since_s:
                old = bisect_left(shard.created_s, since_s)
                self.trim(shard, before=shard.numbers[old] if old < len(shard.numbers) else None)
            if shard.closed_at_s < since_s and not shard.numbers:
                self._drop(shard)

    def _replace(self, shard: LocalShard, edges: list[int], now_s: float, delay_s: float) -> list[LocalShard]:
        if shard.ending_number is not None:
            raise invalid(f"{shard.shard_id} is closed already")
        shard.ending_number, shard.closed_at_s = self.next_number(), now_s
        self.tell("closed", shard)
        children = [self._new_shard(shard.shard_id, low, high, now_s, delay_s) for low, high in pairwise(edges)]
        index = self._open.index(shard)
        self._open[index : index + 1] = children
        return children

    def _new_shard(self, parent_id: str | None, low: int, high: int, now_s: float, delay_s: float) -> LocalShard:
        self._shards_made += 1
        suffix = blake2b(f"{self.stream_arn}/{self._shards_made}".encode(), digest_size=4).hexdigest()
        shard = LocalShard(
            shard_id=f"shardId-{int(now_s * 1000):020d}-{suffix}",
            parent_id=parent_id,
            low=low,
            high=high,
            starting_number=self.next_number(),
            listed_at_s=now_s + delay_s,
        )
        self.shards[shard.shard_id] = shard
        self.tell("made", shard)
        return shard

    # -- listing --------------------------------------------------------------------------------------------------------

    def listed(self, now_s: float) -> list[LocalShard]:
        """The shards that DescribeStream may show now, by id."""
        return [shard for _, shard in sorted(self.shards.items()) if shard.listed_at_s <= now_s]

    def list_children(self) -> None:
        """Show at once every child that was to be listed late."""
        for shard in self.shards.values():
            shard.listed_at_s = -math.inf


def _low(shard: LocalShard) -> int:
    return shard.low
