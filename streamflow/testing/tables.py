"""Tables with streams, as DynamoDB has them: a state machine without I/O, to which the time is passed in.

It answers in its own objects and in records encoded as JSON; `wire` puts the protocol around it, `MemorySource` the
`Source` contract. Not thread-safe: whoever shares it takes care (`Controls` does).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, get_args

from streamflow.records import StreamViewType
from streamflow.testing.changes import Change, RecordEncoder
from streamflow.testing.items import ItemKey, KeySchema, StoredItem, WireItem, key_of_item, key_of_key, store_item
from streamflow.testing.iterators import ShardIterator
from streamflow.testing.refusals import RefusedError, invalid, not_found
from streamflow.testing.streams import LocalShard, LocalStream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from streamflow.testing.streams import ShardEvent

IteratorType: TypeAlias = Literal["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"]

RECORDS_MAX = 1000  # GetRecords
LISTING_MAX = 100  # DescribeStream, ListStreams
# 21 digits that become 22 after a few records, so that code which compares sequence numbers as text fails early.
_FIRST_NUMBER = 10**21 - 100


@dataclass(slots=True, kw_only=True, eq=False)
class LocalTable:
    """One table. `stream` is its latest stream, enabled or not; `shards` is what a new stream of it starts with."""

    name: str
    key_schema: KeySchema
    created_at_s: float
    shards: int
    items: dict[ItemKey, StoredItem] = field(default_factory=dict)
    stream: LocalStream | None = None
    _last_number: int = _FIRST_NUMBER

    def next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    @property
    def last_number(self) -> int:
        """The sequence number given out last."""
        return self._last_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One page of DescribeStream; `last_evaluated` is the shard to go on after, None on the last page.

    `as_of_s` is the time from which whoever answers knows the stream: later ends are not seen.
    """

    stream: LocalStream
    shards: Sequence[LocalShard]
    last_evaluated: str | None
    as_of_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPage:
    """One page of GetRecords; `next_iterator` is None when the shard is closed and read to its end."""

    bodies: Sequence[bytes]
    next_iterator: str | None


class TablesOptions(TypedDict, total=False):
    """The options of `Tables`, for those who pass them on."""

    shards: int
    children_delay_s: float
    iterator_life_s: float
    retention_s: float
    page_size: int
    page_bytes_max: int
    shard_filter: bool
    region: str
    account_id: str


class Tables:
    """Everything that one region of one account has.

    `now` returns seconds since the Unix epoch. `shards` is how many a new stream starts with. A child is listed
    `children_delay_s` after its parent closed. Iterators live for `iterator_life_s` (AWS: 15 min), records and disabled
    streams for `retention_s` (AWS: 24 h). DescribeStream shows `page_size` shards at most, GetRecords `page_bytes_max`
    bytes of records (AWS: 1 MB). Without `shard_filter`, DescribeStream ignores ShardFilter, as many emulators do.

    Every method may raise `RefusedError`.
    """

    def __init__(
        self,
        now: Callable[[], float],
        *,
        shards: int = 4,
        children_delay_s: float = 0.0,
        iterator_life_s: float = 900.0,
        retention_s: float = 86_400.0,
        page_size: int = LISTING_MAX,
        page_bytes_max: int = 1_048_576,
        shard_filter: bool = True,
        region: str = "us-east-1",
        account_id: str = "123456789012",
    ) -> None:
        self.now = now
        self.tables: dict[str, LocalTable] = {}
        self.streams: dict[str, LocalStream] = {}
        self.shards = shards
        self.children_delay_s = children_delay_s
        self.iterator_life_s = iterator_life_s
        self.retention_s = retention_s
        self.page_size = page_size
        self.page_bytes_max = page_bytes_max
        self.shard_filter = shard_filter
        self.region = region
        self.account_id = account_id
        self.told: Callable[[ShardEvent, LocalShard], None] | None = None
        """Hears of everything that happens to a shard."""
        self._generation = 0
        self._retained_at_s = now()

    # -- tables ---------------------------------------------------------------------------------------------------------

    def create_table(
        self, name: str, key_schema: KeySchema, *, view_type: StreamViewType | None, shards: int | None = None
    ) -> LocalTable:
        """Make a table, with a stream unless `view_type` is None. `key_schema` is name to type, `{"id": "S"}`."""
        if name in self.tables:
            raise RefusedError("ResourceInUseException", f"Table already exists: {name}")
        table = LocalTable(
            name=name, key_schema=dict(key_schema), created_at_s=self.now(), shards=shards or self.shards
        )
        if view_type is not None:
            self._open_stream(table, view_type)
        self.tables[name] = table
        return table

    def table(self, name: str) -> LocalTable:
        try:
            return self.tables[name]
        except KeyError:
            raise not_found(f"Requested resource not found: Table: {name} not found") from None

    def table_arn(self, name: str) -> str:
        return f"arn:aws:dynamodb:{self.region}:{self.account_id}:table/{name}"

    def delete_table(self, name: str) -> LocalTable:
        """Drop a table; its stream stays readable until retention takes it."""
        table = self.table(name)
        if table.stream is not None:
            table.stream.close(self.now())
        return self.tables.pop(name)

    def enable_stream(self, name: str, view_type: StreamViewType) -> LocalStream:
        """Give a table a new stream, under a new label."""
        table = self.table(name)
        if table.stream is not None and table.stream.enabled:
            raise invalid(f"Table already has an enabled stream: TableName: {name}")
        return self._open_stream(table, view_type)

    def disable_stream(self, name: str) -> LocalStream:
        """Close every shard of a table's stream; it stays readable until retention takes it."""
        table = self.table(name)
        if table.stream is None or not table.stream.enabled:
            raise invalid(f"Table already has a disabled stream: TableName: {name}")
        table.stream.close(self.now())
        return table.stream

    def _open_stream(self, table: LocalTable, view_type: StreamViewType) -> LocalStream:
        if view_type not in get_args(StreamViewType):
            raise invalid("StreamViewType is none of KEYS_ONLY, NEW_IMAGE, OLD_IMAGE, NEW_AND_OLD_IMAGES")
        now_s = self.now()
        stream_arn = self._new_stream_arn(table.name, now_s)
        encoder = RecordEncoder(
            stream_arn=stream_arn, region=self.region, view_type=view_type, key_schema=table.key_schema
        )
        stream = LocalStream(
            stream_arn=stream_arn,
            label=stream_arn.rpartition("/")[2],
            table_name=table.name,
            key_schema=table.key_schema,
            view_type=view_type,
            created_at_s=now_s,
            next_number=table.next_number,
            encoder=encoder,
            tell=self._tell,
        )
        stream.divide(table.shards, now_s)
        table.stream = self.streams[stream_arn] = stream
        return stream

    def _tell(self, event: ShardEvent, shard: LocalShard) -> None:
        if self.told is not None:
            self.told(event, shard)

    def _new_stream_arn(self, name: str, now_s: float) -> str:
        milliseconds = int(now_s * 1000)
        while True:
            label = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            stream_arn = f"{self.table_arn(name)}/stream/{label}.{milliseconds % 1000:03d}"
            if stream_arn not in self.streams:
                return stream_arn
            milliseconds += 1

    # -- items ----------------------------------------------------------------------------------------------------------

    def get(self, name: str, key: WireItem) -> WireItem | None:
        table = self.table(name)
        item = table.items.get(key_of_key(store_item(key), table.key_schema))
        return None if item is None else item.attributes

    def put(self, name: str, item: WireItem) -> WireItem | None:
        """Write an item, in wire form; returns the one it replaced. The same item again makes no record."""
        table = self.table(name)
        new = store_item(item)
        key = key_of_item(new, table.key_schema)
        old = table.items.get(key)
        table.items[key] = new
        if old is None or old.attributes != new.attributes:
            self._record(table, key, Change(old=old, new=new))
        return None if old is None else old.attributes

    def delete(self, name: str, key: WireItem, *, expired: bool = False) -> WireItem | None:
        """Delete an item; returns it. `expired` makes it a delete by time to live. No item, no record."""
        table = self.table(name)
        found = key_of_key(store_item(key), table.key_schema)
        old = table.items.pop(found, None)
        if old is None:
            return None
        self._record(table, found, Change(old=old, new=None, expired=expired))
        return old.attributes

    def _record(self, table: LocalTable, key: ItemKey, change: Change) -> None:
        if table.stream is not None and table.stream.enabled:
            table.stream.write(key, change, self.now())

    # -- reading --------------------------------------------------------------------------------------------------------

    def stream(self, stream_arn: str) -> LocalStream:
        self._retain()
        try:
            return self.streams[stream_arn]
        except KeyError:
            raise not_found(f"Requested resource not found: Stream: {stream_arn} not found") from None

    def stream_of(self, name: str) -> LocalStream:
        """The latest stream of a table."""
        stream = self.table(name).stream
        if stream is None:
            raise not_found(f"Requested resource not found: Table: {name} has no stream")
        return self.stream(stream.stream_arn)

    def list_streams(
        self, name: str | None, *, limit: int = LISTING_MAX, after: str | None = None
    ) -> list[LocalStream]:
        """Streams by ARN, of one table or of all, beginning behind the ARN `after`."""
        _between(limit, 1, LISTING_MAX, "limit")
        self._retain()
        found = [
            stream
            for stream_arn, stream in sorted(self.streams.items())
            if name in {None, stream.table_name} and (after is None or stream_arn > after)
        ]
        return found[:limit]

    def describe_stream(
        self,
        stream_arn: str,
        *,
        limit: int = LISTING_MAX,
        after: str | None = None,
        children_of: str | None = None,
        leave_out: Collection[str] = (),
        age_s: float = 0.0,
    ) -> Listing:
        """One page of shards by id, beginning behind the id `after`; `leave_out` are not shown this time.

        `age_s` is how far behind the truth the host is that answers.
        """
        _between(limit, 1, LISTING_MAX, "limit")
        stream = self.stream(stream_arn)
        as_of_s = self.now() - age_s
        shards = [shard for shard in stream.listed(as_of_s) if after is None or shard.shard_id > after]
        if children_of is not None and self.shard_filter:
            shards = [shard for shard in shards if shard.parent_id == children_of]
        page = shards[: min(limit, self.page_size)]
        return Listing(
            stream=stream,
            shards=[shard for shard in page if shard.shard_id not in leave_out],
            last_evaluated=page[-1].shard_id if len(page) < len(shards) else None,
            as_of_s=as_of_s,
        )

    def shard_iterator(
        self, stream_arn: str, shard_id: str, kind: IteratorType, sequence_number: str | None = None
    ) -> str:
        """An iterator; `sequence_number` goes with the two types that need one, and with no other."""
        shard = self.stream(stream_arn).shard(shard_id)
        number = self._start(shard, kind, sequence_number)
        return self.iterator_at(stream_arn, shard_id, number)

    def get_records(self, iterator: str, *, limit: int = RECORDS_MAX, empty: bool = False) -> RecordPage:
        """The page at an iterator. `empty` returns none of the records this time and stays where it is."""
        _between(limit, 1, RECORDS_MAX, "limit")
        place = ShardIterator.parse(iterator)
        shard = self.stream(place.stream_arn).shard(place.shard_id)
        if place.generation < self._generation or self.now() - place.issued_at_s > self.iterator_life_s:
            raise RefusedError(
                "ExpiredIteratorException",
                "The shard iterator has expired and can no longer be used to retrieve records",
            )
        bodies, number = shard.read(place.number, records_max=limit, bytes_max=self.page_bytes_max)
        if empty:
            bodies, number = (), place.number
        following = None if number is None else self.iterator_at(place.stream_arn, place.shard_id, number)
        return RecordPage(bodies=bodies, next_iterator=following)

    def expire_iterators(self) -> None:
        """Let every iterator given out so far be too old."""
        self._generation += 1

    def iterator_at(self, stream_arn: str, shard_id: str, number: int, *, age_s: float = 0.0) -> str:
        """An iterator at the first record with a sequence number of at least `number`, as if given out `age_s` ago."""
        iterator = ShardIterator(
            stream_arn=stream_arn,
            shard_id=shard_id,
            number=number,
            issued_at_s=self.now() - age_s,
            generation=self._generation,
        )
        return str(iterator)

    def _start(self, shard: LocalShard, kind: IteratorType, sequence_number: str | None) -> int:
        match kind:
            case "TRIM_HORIZON":
                return shard.horizon
            case "LATEST":
                return max(shard.numbers[-1] + 1 if shard.numbers else 0, shard.horizon)
            case "AT_SEQUENCE_NUMBER":
                return _known_number(shard, sequence_number)
            case "AFTER_SEQUENCE_NUMBER":
                return _known_number(shard, sequence_number) + 1
        raise invalid(f"ShardIteratorType is none of {', '.join(get_args(IteratorType))}")

    # -- retention ------------------------------------------------------------------------------------------------------

    def _retain(self) -> None:
        """Let go what is past retention; a sweep looks at every shard, so it runs once in a thousandth of retention."""
        now_s = self.now()
        if now_s - self._retained_at_s < self.retention_s / 1000:
            return
        self._retained_at_s = now_s
        since_s = now_s - self.retention_s
        for stream in list(self.streams.values()):
            stream.retain(since_s)
            if stream.disabled_at_s < since_s:
                del self.streams[stream.stream_arn]


def _known_number(shard: LocalShard, text: str | None) -> int:
    """Check a sequence number against its shard; a number of the shard that is no record's is good, too."""
    if text is None or not (text.isascii() and text.isdigit()) or not 21 <= len(text) <= 40:
        raise invalid("Invalid SequenceNumber: 21 to 40 digits are needed with this ShardIteratorType")
    number = int(text)
    if number <= shard.trimmed_through:
        raise RefusedError(
            "TrimmedDataAccessException", "The requested sequence number is older than the oldest record of the shard"
        )
    last = shard.ending_number or (shard.numbers[-1] if shard.numbers else shard.starting_number)
    if not shard.starting_number <= number <= last:
        raise invalid("Invalid SequenceNumber: it did not come from this shard")
    return number


def _between(value: int, low: int, high: int, name: str) -> None:
    if not low <= value <= high:
        bound = f"less than or equal to {high}" if value > high else f"greater than or equal to {low}"
        raise invalid(
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
            f"Member must have value {bound}"
        )
