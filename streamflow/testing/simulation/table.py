"""A table whose items change while its stream is cut, closed, trimmed and made anew; every change is told as a fact."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from streamflow.records import Record, Shard
from streamflow.testing.items import key_of_item, store_item
from streamflow.testing.simulation.facts import RecordMade, RecordsGone, ShardFinished, ShardGone, ShardMade
from streamflow.testing.streams import partition_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.records import StreamViewType
    from streamflow.testing.controls import Controls
    from streamflow.testing.items import KeySchema, WireItem
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.streams import LocalShard, LocalStream, ShardEvent

CHILDREN_DELAY_S_MAX = 300.0


def _every(_record: Record) -> bool:
    return True


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedTable:
    """One table of `controls`, which is to have no other.

    `passes` says whether the filters of the pipelines let a record through. What the service would refuse raises
    `RefusedError`.
    """

    controls: Controls
    faults: Faults
    tell: Callable[[Fact], None]
    name: str = "orders"
    key_schema: KeySchema = field(default_factory=lambda: {"id": "S"})
    view_type: StreamViewType = "NEW_AND_OLD_IMAGES"
    shards: int = 4
    passes: Callable[[Record], bool] = _every

    def __post_init__(self) -> None:
        self.controls.tables.told = self._heard
        self._create()

    def _create(self) -> None:
        self.controls.create_table(self.name, self.key_schema, view_type=self.view_type, shards=self.shards)

    @property
    def stream(self) -> LocalStream:
        """The latest stream of the table."""
        return self.controls.tables.stream_of(self.name)

    # -- items ----------------------------------------------------------------------------------------------------------

    def put(self, item: WireItem) -> None:
        """Write an item, in wire form."""
        self.controls.put(self.name, item)

    def delete(self, key: WireItem, *, expired: bool = False) -> None:
        """Delete an item, or have time to live do it."""
        if expired:
            self.controls.expire(self.name, key)
        else:
            self.controls.delete(self.name, key)

    def key_in(self, shard: LocalShard) -> str:
        """The value of a key, which is of one text, that falls in this shard."""
        (name,) = self.key_schema
        for key in map("even{}".format, count()):
            item = store_item({name: {"S": key}})
            if shard.low <= partition_hash(key_of_item(item, self.key_schema)) < shard.high:
                return key
        raise AssertionError("no shard is so small")

    # -- shards ---------------------------------------------------------------------------------------------------------

    def split(self, shard_id: str) -> tuple[str, ...]:
        """Close an open shard; two children go on. The answer names them."""
        children = self.controls.split(self.name, shard_id, children_delay_s=self._children_delay_s(shard_id))
        return self._perhaps_without_a_record(children)

    def roll_over(self, shard_id: str) -> tuple[str, ...]:
        """Close an open shard; one child goes on, as about every 4 hours. The answer names it."""
        children = self.controls.rollover(self.name, shard_id, children_delay_s=self._children_delay_s(shard_id))
        return self._perhaps_without_a_record(children)

    def roll_over_all(self) -> tuple[str, ...]:
        """Every open shard in the same moment, each with a child that shows when it will."""
        return tuple(
            child
            for shard_id in self.controls.shard_ids(self.name, open_only=True)
            for child in self.roll_over(shard_id)
        )

    def _children_delay_s(self, parent_id: str) -> float:
        """Until when the children stay unlisted: never longer than their parent, of which the service learns first."""
        tables = self.controls.tables
        delay_s = tables.children_delay_s
        if self.faults.strikes("lineage.children_late", parent_id):
            delay_s = self.faults.rng("lineage.children_late", parent_id).uniform(1.0, CHILDREN_DELAY_S_MAX)
        return max(delay_s, self.stream.shard(parent_id).listed_at_s - tables.now())

    def _perhaps_without_a_record(self, children: tuple[str, ...]) -> tuple[str, ...]:
        """Children may be closed before anything is written to them."""
        if not self.faults.strikes("lineage.empty_shard", *children):
            return children
        return tuple(
            child
            for parent in children
            for child in self.controls.rollover(self.name, parent, children_delay_s=self._children_delay_s(parent))
        )

    # -- what is lost ---------------------------------------------------------------------------------------------------

    def trim(self, shard_id: str, count: int) -> int:
        """Let the oldest records of a shard go, as retention does; returns how many went."""
        numbers = self.stream.shard(shard_id).numbers
        before = str(numbers[count]) if count < len(numbers) else None
        return self.controls.trim(self.name, shard_id, before=before)

    def forget(self, shard_id: str) -> None:
        """Let a closed shard go with all it holds: its children are listed with a parent that is not."""
        self.controls.forget(self.name, shard_id)

    # -- the stream as a whole ------------------------------------------------------------------------------------------

    def disable(self) -> None:
        """Turn the stream off: every shard is closed, and stays readable for a day."""
        self.controls.disable_stream(self.name)

    def enable(self, view_type: StreamViewType | None = None) -> str:
        """Turn a stream on again, perhaps with another view; another stream, whose ARN is the answer."""
        return self.controls.enable_stream(self.name, view_type or self.stream.view_type)

    def recreate(self) -> str:
        """Delete the table and make it anew, empty; the answer is the new stream's ARN."""
        self.controls.delete_table(self.name)
        self._create()
        return self.stream.stream_arn

    # -- facts ----------------------------------------------------------------------------------------------------------

    def _heard(self, event: ShardEvent, shard: LocalShard) -> None:
        shard_id = shard.shard_id
        match event:
            case "made":
                parents = () if shard.parent_id is None else (shard.parent_id,)
                self.tell(ShardMade(shard_id=shard_id, parents=parents))
            case "written":
                self.tell(self._record_made(shard))
            case "closed":
                self.tell(ShardFinished(shard_id=shard_id))
            case "trimmed":
                self.tell(RecordsGone(shard_id=shard_id, through=shard.trimmed_through))
            case "gone":
                self.tell(ShardGone(shard_id=shard_id))

    def _record_made(self, shard: LocalShard) -> RecordMade:
        body = shard.bodies[-1]
        record = Record(msgspec.Raw(body), Shard(stream_arn="", shard_id=shard.shard_id))
        return RecordMade(
            shard_id=shard.shard_id,
            number=shard.numbers[-1],
            key=record.item_key,
            passes=self.passes(record),
            body=body,
        )
