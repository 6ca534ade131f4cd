"""Changes of items, made for one scenario: as records to write, or as a stream to read."""

from __future__ import annotations

import random
import secrets  # noqa: TID251 - changes that no earlier run has left in the target
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from streamflow.batches import Batch
from streamflow.records import Record, Shard
from streamflow.testing.controls import Controls
from streamflow.testing.memory_source import MemorySource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.streams import LocalStream

TABLE = "contract"
"""Name of the table that every record comes from. Its key is `id`, a text."""

_LAST_OF_21_DIGITS = 10**21 - 1


class Changes:
    """One table with a stream of its own: no item, event id or stream ARN of it is used by another scenario.

    Its first record has a sequence number of 21 digits and the next ones have 22: who compares them as text fails.
    """

    def __init__(self, *, shards: int = 1) -> None:
        self.token = secrets.token_hex(4)
        self.pipeline = f"contract-{self.token}"
        self.records: list[Record] = []
        """All changes so far, in stream order."""
        self.by_event_id: dict[str, Record] = {}
        self.by_item: dict[str, list[Record]] = defaultdict(list)
        """Item to its changes, in order."""
        account_id = str(random.randrange(10**11, 10**12))  # noqa: S311, TID251 - to be another stream than all others
        self._controls = Controls(shards=shards, account_id=account_id)
        self.stream_arn = self._controls.create_table(TABLE)
        self._versions: dict[str, int] = defaultdict(int)
        table = self._controls.tables.table(TABLE)
        while table.last_number < _LAST_OF_21_DIGITS - 1:
            table.next_number()

    def item(self, name: str) -> str:
        """The value of the key attribute `id`."""
        return f"{self.token}-{name}"

    def put(self, name: str, **attributes: dict[str, Any]) -> Record:
        """The item's next version; `attributes` are in DynamoDB's form. Each image has an attribute `version`, from 1 on."""
        self._versions[name] += 1
        item = {"id": {"S": self.item(name)}, "version": {"N": str(self._versions[name])}, **attributes}
        self._controls.put(TABLE, item)
        return self._take_note(name)

    def delete(self, name: str) -> Record:
        self._controls.delete(TABLE, {"id": {"S": self.item(name)}})
        return self._take_note(name)

    def put_many(self, count: int, *, items: int | None = None, name: str = "item") -> list[Record]:
        """`count` changes that go round `items` items; by default each is of an item of its own."""
        return [self.put(f"{name}{number % (items or count)}") for number in range(count)]

    def _take_note(self, name: str) -> Record:
        shard = max(self._stream.shards.values(), key=lambda each: each.numbers[-1] if each.numbers else 0)
        of = Shard(stream_arn=self.stream_arn, shard_id=shard.shard_id)
        record = Record(msgspec.Raw(shard.bodies[-1]), of)
        self.records.append(record)
        self.by_event_id[record.event_id] = record
        self.by_item[self.item(name)].append(record)
        return record

    @property
    def _stream(self) -> LocalStream:
        return self._controls.tables.stream(self.stream_arn)

    # -- as batches -----------------------------------------------------------------------------------------------------

    def batch(self, *records: Record, epoch: int = 1, attempt: int = 1) -> Batch:
        """Records of one shard, as the engine hands them to a sink; the same records again are another attempt."""
        return Batch(pipeline=self.pipeline, shard=records[0].shard, records=records, epoch=epoch, attempt=attempt)

    def batches(self, records: Sequence[Record], *, size: int | None = None, epoch: int = 1) -> list[Batch]:
        """The records by shard, in stream order within each, `size` at most in a batch."""
        by_shard: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_shard[record.shard.shard_id].append(record)
        return [
            self.batch(*part[start : start + (size or len(part))], epoch=epoch)
            for part in by_shard.values()
            for start in range(0, len(part), size or len(part))
        ]

    # -- as a stream ----------------------------------------------------------------------------------------------------

    def source(self) -> MemorySource:
        """The stream, for a pipeline."""
        return MemorySource(self._controls.tables, self.stream_arn)

    def end(self) -> None:
        """No more changes: a pipeline that has delivered all of them ends."""
        self._controls.disable_stream(TABLE)
