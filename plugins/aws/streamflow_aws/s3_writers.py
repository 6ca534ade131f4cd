"""Batches as objects: put where there is none of that key, or, for a transactional sink, one after the other as announced."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread

from streamflow.sdk import FencedError, RecordFailure, RecordsFailedError, SinkBusyError
from streamflow_aws.errors import PAUSE_S, AwsCallError
from streamflow_aws.s3_bucket import OvertakenError
from streamflow_aws.s3_checkpoints import Checkpoint
from streamflow_aws.s3_objects import metadata, object_key, rows, shard_name
from streamflow_aws.shards import Shards

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.sdk import Batch, Position, Record, Shard
    from streamflow_aws.s3_bucket import Bucket
    from streamflow_aws.s3_objects import ObjectForm, Partition, Row
    from streamflow_aws.shards import Kept

_BEFORE = "behind a record that was not written"
_LOOKS_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the objects are, and where."""

    prefix: str
    partition: Partition
    form: ObjectForm

    def key(self, content: Sequence[Row], *, serial: int | None = None) -> str:
        return object_key(self.prefix, content, self.form, partition=self.partition, serial=serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectWriter:
    """Keeps `streamflow.sdk.Writer`. The same records make the same object, and that is put once."""

    bucket: Bucket
    layout: Layout
    threads: anyio.CapacityLimiter
    note_suppressed: Callable[[int], None]

    async def write(self, batch: Batch, /) -> None:
        content, failures = await self.encoded(batch.records)
        if content:
            try:
                await self.put(self.layout.key(content), content)
            except OvertakenError:
                self.note_suppressed(len(content))
        if failures:
            raise RecordsFailedError(failures)

    async def encoded(self, records: Sequence[Record]) -> tuple[list[Row], list[RecordFailure]]:
        return await anyio.to_thread.run_sync(partial(rows, records, self.layout.form), limiter=self.threads)

    async def put(self, key: str, content: Sequence[Row]) -> None:
        """Raises `OvertakenError`: there is an object of this key."""
        form = self.layout.form
        body = await anyio.to_thread.run_sync(form.body, [row.content for row in content], limiter=self.threads)
        await self.bucket.create(key, body, content_type=form.content_type, metadata=metadata(content))


@dataclass(frozen=True, slots=True)
class _Known:
    """The checkpoint as far as this worker knows it, and the version of the object that it would replace."""

    checkpoint: Checkpoint
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionalObjectWriter:
    """Keeps `streamflow.sdk.TransactionalWriter`.

    A batch without an epoch, of letters that are delivered again, has no place in the shard's order: it is left to `outside`.
    What goes wrong half-way leaves nothing known of the shard, and the next call looks at its checkpoint again.
    """

    pipeline: str
    outside: ObjectWriter
    _shards: Shards[_Known] = field(default_factory=Shards)

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        async with self._shards.hold(shard) as kept:
            kept.state = None
            kept.state = await self._fence(shard, epoch)
            return kept.state.checkpoint.place

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        async with self._shards.hold(shard) as kept:
            known = await self._known(kept, shard, epoch)
            while (place := known.checkpoint.place) is None or place.order < position.order:
                kept.state = None
                try:
                    known = await self._stored(
                        shard, known, replace(known.checkpoint, position=position.sequence_number)
                    )
                except OvertakenError:
                    known = await self._fence(shard, epoch)
            kept.state = known

    async def write(self, batch: Batch, /) -> None:
        """See `TransactionalWriter`.

        Raises:
            FencedError: a newer owner has fenced the shard.
            RecordsFailedError: a record was refused; what is behind it waits.
        """
        if not batch.epoch:
            await self.outside.write(batch)
            return
        async with self._shards.hold(batch.shard) as kept:
            known = await self._known(kept, batch.shard, batch.epoch)
            records = [record for record in batch if not known.checkpoint.reached(record)]
            content, failures = await self.outside.encoded(records)
            content, rest = _before_failure(records, content, failures)
            while content := [row for row in content if not known.checkpoint.reached(row.record)]:
                kept.state = None
                try:
                    known = await self._put(batch.shard, known, content)
                except OvertakenError:
                    known = await self._fence(batch.shard, batch.epoch)
                kept.state = known
        self.outside.note_suppressed(len(batch) - len(records))
        if rest:
            raise RecordsFailedError(rest)

    async def _put(self, shard: Shard, known: _Known, content: Sequence[Row]) -> _Known:
        """Announce an object and put it."""
        key = self.outside.layout.key(content, serial=known.checkpoint.serial + 1)
        announced = known.checkpoint.announcing(key, content[-1].sequence_number)
        stored = await self._stored(shard, known, announced)
        await self.outside.put(key, content)
        return replace(stored, checkpoint=announced.settled(there=True))

    async def _stored(self, shard: Shard, known: _Known, checkpoint: Checkpoint) -> _Known:
        version = await self.outside.bucket.replace(self._key(shard), checkpoint.json(), version=known.version)
        return _Known(checkpoint, version)

    async def _known(self, kept: Kept[_Known], shard: Shard, epoch: int) -> _Known:
        known = kept.state
        if known is None or known.checkpoint.epoch != epoch:
            known = kept.state = await self._fence(shard, epoch)
        return known

    # -- taking a shard over ------------------------------------------------------------------------------------------

    async def _fence(self, shard: Shard, epoch: int) -> _Known:
        """The checkpoint, in the name of this epoch and with nothing on its way.

        Raises:
            FencedError: there is a newer epoch.
            SinkBusyError: somebody replaces it again and again.
        """
        bucket, key = self.outside.bucket, self._key(shard)
        for _ in range(_LOOKS_MAX):
            found = await bucket.get(key)
            checkpoint, version = (Checkpoint(), None) if found is None else (self._parsed(found[0], key), found[1])
            if checkpoint.epoch > epoch:
                raise self._fenced(shard, epoch, checkpoint.epoch)
            mine = replace(await self._settled(checkpoint), epoch=epoch)
            if mine == checkpoint and version is not None:
                return _Known(mine, version)
            try:
                return _Known(mine, await bucket.replace(key, mine.json(), version=version))
            except OvertakenError:
                continue
        raise SinkBusyError(
            f"s3: the checkpoint of {shard.shard_id} is being replaced all the time", retry_after_s=PAUSE_S
        )

    async def _settled(self, checkpoint: Checkpoint) -> Checkpoint:
        """Find the object that was announced, or keep it from ever coming."""
        if checkpoint.pending is None:
            return checkpoint
        bucket, key = self.outside.bucket, checkpoint.pending.key
        found = await bucket.metadata(key)
        if found is None:
            try:
                await self.outside.put(key, ())
                return checkpoint.settled(there=False)
            except OvertakenError:
                found = await bucket.metadata(key)
        return checkpoint.settled(there=found is not None and found.get("sf-records") != "0")

    def _parsed(self, text: bytes, key: str) -> Checkpoint:
        try:
            return Checkpoint.parse(text)
        except ValueError:
            where = f"s3://{self.outside.bucket.name}/{key}"
            raise AwsCallError(f"get_object: {where} is no checkpoint", kind="failed", code="CorruptAnswer") from None

    def _fenced(self, shard: Shard, epoch: int, stored_epoch: int) -> FencedError:
        where = f"s3://{self.outside.bucket.name}/{self._key(shard)}"
        return FencedError.behind(shard.shard_id, epoch=epoch, newest=stored_epoch, where=where)

    def _key(self, shard: Shard) -> str:
        """Query engines leave out what begins with an underscore."""
        return f"{self.outside.layout.prefix}/_streamflow/{self.pipeline}/{shard_name(shard)}.json"


def _before_failure(
    records: Sequence[Record], content: Sequence[Row], failures: Sequence[RecordFailure]
) -> tuple[list[Row], list[RecordFailure]]:
    """What is before the first record that cannot be written, and of that one and all behind it what is to be told."""
    if not failures:
        return list(content), []
    refused = {id(failure.record): failure for failure in failures if failure.kind == "refused"}
    place = next(place for place, record in enumerate(records) if id(record) in refused)
    rest = records[place:]
    behind = set(map(id, rest))
    return (
        [row for row in content if id(row.record) not in behind],
        [refused.get(id(record)) or RecordFailure(record, "waiting", _BEFORE) for record in rest],
    )
