"""Items and the shard's checkpoint in one transaction: what is written is written once, and by the newest owner.

A batch is written in runs, in order. Each run is stored with the position behind it, so the checkpoint never tells of a
record that is not there, nor keeps silent about one that is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from streamflow.sdk import (
    FencedError,
    MalformedRecordError,
    Position,
    RecordFailure,
    RecordRefusedError,
    RecordsFailedError,
)
from streamflow_aws.dynamodb_checkpoints import row, stored
from streamflow_aws.dynamodb_items import encode
from streamflow_aws.dynamodb_runs import CheckpointMovedError, Entry, EntryRefusedError, cancellation, cut, final
from streamflow_aws.dynamodb_versioned import is_refusal
from streamflow_aws.errors import AwsCallError
from streamflow_aws.shards import Shards

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.sdk import Batch, Record, Shard, Writer
    from streamflow_aws.clients import Client
    from streamflow_aws.dynamodb_checkpoints import Row
    from streamflow_aws.dynamodb_items import Form
    from streamflow_aws.shards import Kept

_BEFORE = "behind a record that was not written"


@dataclass(frozen=True, slots=True)
class _Known:
    """The checkpoint as it was when it was last seen: the shard was fenced with this epoch by then."""

    epoch: int
    position: Position | None

    def reached(self, record: Record) -> bool:
        """Whether the record is settled already; of one that cannot be read nobody knows."""
        try:
            return self.position is not None and record.position.order <= self.position.order
        except MalformedRecordError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionalDynamoDBWriter:
    """Keeps `streamflow.sdk.TransactionalWriter`.

    A batch without an epoch, of letters that are delivered again, has no place in the shard's order: it is left to `outside`.
    `salt` tells settings apart, with which the same records make different transactions.
    """

    client: Client
    form: Form
    checkpoints: str
    key_name: str
    pipeline: str
    salt: bytes
    note_suppressed: Callable[[int], None]
    outside: Writer
    _shards: Shards[_Known] = field(default_factory=Shards)

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        async with self._shards.hold(shard) as kept:
            kept.state = await self._fence(shard, epoch)
            return kept.state.position

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        async with self._shards.hold(shard) as kept:
            known = await self._known(kept, shard, epoch)
            while known.position is None or known.position.order < position.order:
                try:
                    await self.client.call("update_item", **self._row(shard).advancing(epoch, position))
                    known = _Known(epoch, position)
                except AwsCallError as error:
                    if error.code != "ConditionalCheckFailedException":
                        raise
                    known = await self._fence(shard, epoch)
            kept.state = known

    async def write(self, batch: Batch, /) -> None:
        """See `TransactionalWriter`.

        Raises:
            FencedError: a newer owner has fenced the shard.
            RecordsFailedError: a record was refused; what is behind it waits.
            SinkBusyError: the service asks for a pause.
        """
        if not batch.epoch:
            await self.outside.write(batch)
            return
        async with self._shards.hold(batch.shard) as kept:
            known = await self._known(kept, batch.shard, batch.epoch)
            records = [record for record in batch if not known.reached(record)]
            self.note_suppressed(len(batch) - len(records))
            entries, refusal = _encoded(records, self.form)
            for run in cut(entries):
                if refused := await self._write(kept, batch, run):
                    refusal = refused
                    break
        if refusal is not None:
            place = next(place for place, record in enumerate(records) if record is refusal.record)
            waiting = [RecordFailure(record, "waiting", _BEFORE) for record in records[place + 1 :]]
            raise RecordsFailedError([refusal, *waiting])

    async def _write(self, kept: Kept[_Known], batch: Batch, run: Sequence[Entry]) -> RecordFailure | None:
        """Store a run. The answer is the first record that is refused: what is before it is stored, and nothing else."""
        known = await self._known(kept, batch.shard, batch.epoch)
        while remaining := [entry for entry in run if not known.reached(entry.record)]:
            try:
                await self._transact(batch, known.position, remaining)
                known = kept.state = _Known(batch.epoch, remaining[-1].record.position)
            except CheckpointMovedError:
                known = kept.state = await self._fence(batch.shard, batch.epoch)
                self.note_suppressed(sum(known.reached(entry.record) for entry in remaining))
            except EntryRefusedError as error:
                if error.place is None and len(remaining) > 1:
                    middle = len(remaining) // 2
                    first_half = await self._write(kept, batch, remaining[:middle])
                    return first_half or await self._write(kept, batch, remaining[middle:])
                place = error.place or 0
                refused = RecordFailure(remaining[place].record, "refused", error.reason)
                return await self._write(kept, batch, remaining[:place]) or refused
        return None

    async def _known(self, kept: Kept[_Known], shard: Shard, epoch: int) -> _Known:
        if kept.state is None or kept.state.epoch != epoch:
            kept.state = await self._fence(shard, epoch)
        return kept.state

    async def _fence(self, shard: Shard, epoch: int) -> _Known:
        checkpoint = self._row(shard)
        try:
            answer = await self.client.call("update_item", **checkpoint.fencing(epoch))
        except AwsCallError as error:
            if error.code != "ConditionalCheckFailedException":
                raise
            there = stored(error.response.get("Item") or {})
            where = f"the item {checkpoint.id!r} of table {self.checkpoints}"
            if there is None:
                raise FencedError(
                    f"sink dynamodb: a newer owner of {shard.shard_id} has written to {where}; the endpoint does not tell with "
                    f"which epoch, as DynamoDB does, and this worker's is {epoch}"
                ) from None
            raise FencedError.behind(shard.shard_id, epoch=epoch, newest=there[0], where=where) from None
        found = stored(answer.get("Attributes") or {})
        if found is None:
            raise AwsCallError("update_item: the answer does not tell the row", kind="failed", code="CorruptAnswer")
        return _Known(*found)

    async def _transact(self, batch: Batch, before: Position | None, run: Sequence[Entry]) -> None:
        """Store all of a run, which begins behind `before`, and the position behind it.

        Raises:
            CheckpointMovedError, EntryRefusedError: nothing was stored.
        """
        places = final(run)
        moving = self._row(batch.shard).moving(batch.epoch, before, run[-1].record.position)
        actions = [_action(run[place], self.form.table.name) for place in places]
        try:
            await self.client.call(
                "transact_write_items",
                TransactItems=[{"Update": moving}, *actions],
                ClientRequestToken=self._token(batch, before, run),
            )
        except AwsCallError as error:
            if error.code == "TransactionCanceledException":
                raise cancellation(error, places) from None
            if is_refusal(error):
                raise EntryRefusedError(str(error), place=None) from None
            raise

    def _token(self, batch: Batch, before: Position | None, run: Sequence[Entry]) -> str:
        """The same for the same request: one that is repeated within ten minutes is answered as it was the first time."""
        told = (self._row(batch.shard).id, str(batch.epoch), str(before))
        parts = (*told, *(entry.record.sequence_number for entry in run))
        return blake2b("\n".join(parts).encode(), key=self.salt, digest_size=18).hexdigest()

    def _row(self, shard: Shard) -> Row:
        return row(self.checkpoints, self.key_name, self.pipeline, shard)


def _encoded(records: Sequence[Record], form: Form) -> tuple[list[Entry], RecordFailure | None]:
    """Those before the first record that cannot be written at all, and that one."""
    entries: list[Entry] = []
    for record in records:
        try:
            entries.append(Entry(record, *encode(record, form)))
        except (RecordRefusedError, MalformedRecordError) as error:
            return entries, RecordFailure(record, "refused", str(error))
    return entries, None


def _action(entry: Entry, table: str) -> dict[str, Any]:
    """Without a condition of its own: that of the checkpoint decides for all."""
    assert entry.change is not None
    if entry.change.item is None:
        return {"Delete": {"TableName": table, "Key": entry.change.key}}
    return {"Put": {"TableName": table, "Item": entry.change.item}}
