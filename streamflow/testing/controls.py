"""What a test may do to the streams while somebody reads them: from any thread, or over HTTP."""

from __future__ import annotations

from collections import Counter
from threading import RLock
from typing import TYPE_CHECKING, Any, Unpack

from streamflow.clock import SystemClock
from streamflow.testing.faults import (
    CorruptBody,
    EmptyPage,
    FaultPlan,
    LeaveOut,
    LoseRequest,
    LoseResponse,
    Refuse,
    TruncateBody,
)
from streamflow.testing.refusals import invalid
from streamflow.testing.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.records import StreamViewType
    from streamflow.testing.faults import Fault
    from streamflow.testing.items import KeySchema, WireItem
    from streamflow.testing.streams import LocalShard, LocalStream
    from streamflow.testing.tables import TablesOptions

_THROTTLES = {"ListStreams", "DescribeStream", "GetShardIterator", "GetRecords"}


class Controls:
    """Tables, their faults and their clock, behind one lock.

    `options` are those of `Tables`. Shard ids default to the open shard with the most records. A fault counts down per
    request; `operation` is an operation's name, or `*` for any, and `shard_id` narrows it to one shard's reads.
    What the service would refuse raises `RefusedError`.
    """

    def __init__(self, *, now: Callable[[], float] | None = None, **options: Unpack[TablesOptions]) -> None:
        self._wall = now or SystemClock().wall
        self._ahead_s = 0.0
        self.lock = RLock()
        self.tables = Tables(self._now, **options)
        self.faults = FaultPlan()
        self.requests: Counter[str] = Counter()
        """Requests seen, by operation."""

    def _now(self) -> float:
        return self._wall() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Move the service's clock ahead: iterators expire after 900 s, records are trimmed after 24 h."""
        with self.lock:
            self._ahead_s += seconds

    # -- tables and items -----------------------------------------------------------------------------------------------

    def create_table(
        self,
        name: str,
        key_schema: KeySchema | None = None,
        *,
        view_type: StreamViewType = "NEW_AND_OLD_IMAGES",
        shards: int | None = None,
    ) -> str:
        """Make a table with a stream of `shards` shards; returns the stream's ARN. The key is `{"id": "S"}` by default."""
        with self.lock:
            self.tables.create_table(name, key_schema or {"id": "S"}, view_type=view_type, shards=shards)
            return self.tables.stream_of(name).stream_arn

    def put(self, table: str, item: WireItem) -> None:
        """Write an item, in wire form."""
        with self.lock:
            self.tables.put(table, item)

    def delete(self, table: str, key: WireItem) -> None:
        with self.lock:
            self.tables.delete(table, key)

    def expire(self, table: str, key: WireItem) -> bool:
        """Delete an item as time to live does: the record names the service; False if there was no such item."""
        with self.lock:
            return self.tables.delete(table, key, expired=True) is not None

    def disable_stream(self, table: str) -> None:
        with self.lock:
            self.tables.disable_stream(table)

    def enable_stream(self, table: str, view_type: StreamViewType = "NEW_AND_OLD_IMAGES") -> str:
        """Give a table a new stream; returns its ARN."""
        with self.lock:
            return self.tables.enable_stream(table, view_type).stream_arn

    def delete_table(self, table: str) -> None:
        """Drop a table; its stream stays readable for a day. Made again, it has another stream."""
        with self.lock:
            self.tables.delete_table(table)

    # -- shards ---------------------------------------------------------------------------------------------------------

    def shard_ids(self, table: str, *, open_only: bool = False) -> tuple[str, ...]:
        """The shards of a table's latest stream, by id, listed or not."""
        with self.lock:
            stream = self.tables.stream_of(table)
            shards = stream.open_shards if open_only else stream.shards.values()
            return tuple(sorted(shard.shard_id for shard in shards))

    def split(
        self, table: str, shard_id: str | None = None, *, children_delay_s: float | None = None
    ) -> tuple[str, ...]:
        """Close a shard and open two children; returns their ids. A delay of `math.inf` waits for `list_children`."""
        with self.lock:
            stream = self.tables.stream_of(table)
            children = stream.split(_chosen(stream, shard_id), self._now(), self._delay_s(children_delay_s))
            return tuple(child.shard_id for child in children)

    def rollover(
        self, table: str, shard_id: str | None = None, *, children_delay_s: float | None = None
    ) -> tuple[str, ...]:
        """Close a shard and open one child, or do so with all open shards, as AWS does about every 4 hours."""
        with self.lock:
            stream = self.tables.stream_of(table)
            shards = stream.open_shards if shard_id is None else (stream.shard(shard_id),)
            delay_s = self._delay_s(children_delay_s)
            return tuple(child.shard_id for shard in shards for child in stream.roll_over(shard, self._now(), delay_s))

    def list_children(self, table: str) -> None:
        """Show at once the children that were to be listed late."""
        with self.lock:
            self.tables.stream_of(table).list_children()

    def trim(self, table: str, shard_id: str | None = None, *, before: str | None = None) -> int:
        """Let records go: of one shard or of all, those below a sequence number or all; returns how many went."""
        with self.lock:
            stream = self.tables.stream_of(table)
            shards = stream.shards.values() if shard_id is None else (stream.shard(shard_id),)
            number = None if before is None else int(before)
            return sum(stream.trim(shard, before=number) for shard in shards)

    def forget(self, table: str, shard_id: str) -> None:
        """Drop a closed shard as retention does: its children are listed with a parent that is not."""
        with self.lock:
            stream = self.tables.stream_of(table)
            stream.forget(stream.shard(shard_id))

    def expire_iterators(self) -> None:
        """Let every iterator given out so far be too old."""
        with self.lock:
            self.tables.expire_iterators()

    def _delay_s(self, delay_s: float | None) -> float:
        return self.tables.children_delay_s if delay_s is None else delay_s

    # -- faults ---------------------------------------------------------------------------------------------------------

    def fail_next(
        self, operation: str, *, code: str, message: str | None = None, times: int = 1, shard_id: str | None = None
    ) -> None:
        """Answer with an error."""
        self._plan(Refuse(code=code, message=message or f"{code}, as planned"), operation, times, shard_id)

    def throttle(self, operation: str = "GetRecords", *, times: int = 1, shard_id: str | None = None) -> None:
        """Answer that the rate is too high, with the code that AWS uses for the operation."""
        streams = operation in _THROTTLES
        code = "LimitExceededException" if streams else "ProvisionedThroughputExceededException"
        self._plan(Refuse(code=code, message="Rate exceeded"), operation, times, shard_id)

    def slow(self, operation: str, latency_s: float) -> None:
        """Delay every answer from now on; 0 ends it."""
        with self.lock:
            self.faults.slow(operation, latency_s)

    def lose_request(self, operation: str, *, times: int = 1, shard_id: str | None = None) -> None:
        """Cut the connection before anything is done."""
        self._plan(LoseRequest(), operation, times, shard_id)

    def lose_response(self, operation: str, *, times: int = 1, shard_id: str | None = None) -> None:
        """Do what was asked, then cut the connection."""
        self._plan(LoseResponse(), operation, times, shard_id)

    def truncate_body(
        self, operation: str, *, keep_bytes: int | None = None, times: int = 1, shard_id: str | None = None
    ) -> None:
        """Answer 200 with the beginning of the body, by default half of it."""
        self._plan(TruncateBody(keep_bytes=keep_bytes), operation, times, shard_id)

    def corrupt_body(self, operation: str, *, times: int = 1, shard_id: str | None = None) -> None:
        """Answer 200 with bytes in the body that are no UTF-8."""
        self._plan(CorruptBody(), operation, times, shard_id)

    def empty_pages(self, *, times: int = 1, shard_id: str | None = None) -> None:
        """Let GetRecords return pages without records, and go on from the same place."""
        self._plan(EmptyPage(), "GetRecords", times, shard_id)

    def leave_out(self, *shard_ids: str, times: int = 1) -> None:
        """Do not show these shards in the next pages of DescribeStream: a listing that flaps."""
        self._plan(LeaveOut(shard_ids=frozenset(shard_ids)), "DescribeStream", times, None)

    def clear_faults(self) -> None:
        """Forget every planned fault and delay."""
        with self.lock:
            self.faults.clear()

    def _plan(self, fault: Fault, operation: str, times: int, shard_id: str | None) -> None:
        with self.lock:
            self.faults.add(fault, operation=operation, times=times, shard_id=shard_id)

    # -- state ----------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What there is, for people and scripts: tables, their latest streams, shards; requests by operation."""
        with self.lock:
            now_s = self._now()
            tables = [
                {
                    "table": table.name,
                    "items": len(table.items),
                    "stream_arn": table.stream.stream_arn if table.stream else None,
                    "enabled": table.stream is not None and table.stream.enabled,
                    "shards": [_shard_state(shard, now_s) for shard in table.stream.shards.values()]
                    if table.stream
                    else [],
                }
                for table in self.tables.tables.values()
            ]
            return {"tables": tables, "requests": dict(self.requests)}


def _chosen(stream: LocalStream, shard_id: str | None) -> LocalShard:
    if shard_id is not None:
        return stream.shard(shard_id)
    if not stream.open_shards:
        raise invalid(f"{stream.stream_arn} has no open shard")
    return max(stream.open_shards, key=lambda shard: len(shard.numbers))


def _shard_state(shard: LocalShard, now_s: float) -> dict[str, Any]:
    return {
        "shard_id": shard.shard_id,
        "parent": shard.parent_id,
        "open": shard.ending_number is None,
        "listed": shard.listed_at_s <= now_s,
        "records": len(shard.numbers),
        "records_trimmed": shard.trimmed_through > 0,
    }
