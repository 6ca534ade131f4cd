"""The sink in its transactional mode: each batch is committed together with the checkpoint of its shard."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from streamflow.sdk import (
    FencedError,
    MalformedRecordError,
    RecordFailure,
    RecordRefusedError,
    RecordsFailedError,
    table_of,
)
from streamflow_kafka.attempts import run_attempt
from streamflow_kafka.checkpoints import Place
from streamflow_kafka.messages import encode
from streamflow_kafka.shard_producer import RequestTooLargeError, open_shard_producer
from streamflow_kafka.sink import open_idempotent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.sdk import Batch, Position, Record, Shard, SinkContext
    from streamflow_kafka.messages import Message
    from streamflow_kafka.settings import KafkaSettings
    from streamflow_kafka.shard_producer import ShardProducer
    from streamflow_kafka.sink import IdempotentWriter

_BEHIND = "behind a record that was refused: the checkpoint must not pass it yet"
_TOO_LARGE = "the topic takes no message as large: its max.message.bytes is below record_bytes_max"
# Opening may have to wait for transactions that a crashed worker has left open: until they run out of time.
_OPENING_MARGIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of a batch is to be written: `stored` records are at the target already, those of `records` come next, and the
    one behind them cannot be written because of `refusal`, if that is set."""

    stored: int
    records: Sequence[Record]
    messages: Sequence[Message]
    refusal: str | None


def select(batch: Sequence[Record], position: Position | None, settings: KafkaSettings) -> Selection:
    """The records of `batch` that are behind `position`, encoded, up to the first that cannot be."""
    stored = 0
    records: list[Record] = []
    messages: list[Message] = []
    refusal = None
    for record in batch:
        try:
            if position is not None and record.position.order <= position.order:
                stored += 1
                continue
            messages.append(encode(record, settings))
        except (RecordRefusedError, MalformedRecordError) as error:
            refusal = str(error)
            break
        records.append(record)
    return Selection(stored=stored, records=records, messages=messages, refusal=refusal)


class _Slot:
    """One shard. `producer` is its open one, if there is any; whoever holds `lock` may use and replace it."""

    def __init__(self, place: Place, transactional_id: str) -> None:
        self.place = place
        self.transactional_id = transactional_id
        self.lock = anyio.Lock()
        self.producer: ShardProducer | None = None


class KafkaTransactions:
    """Keeps `streamflow.sdk.TransactionalWriter`. Shards write side by side, `producers_max` at most.

    A batch of epoch 0 is no owner's: letters that are delivered again. It passes the checkpoint by, through `letters`.
    """

    def __init__(
        self, settings: KafkaSettings, context: SinkContext, letters: IdempotentWriter, partitions: Sequence[int]
    ) -> None:
        self._settings = settings
        self._context = context
        self._letters = letters
        self._partitions = partitions  # of the topic of checkpoints
        self._slots: OrderedDict[tuple[str, str], _Slot] = OrderedDict()  # the one used last is at the end
        self._busy = anyio.CapacityLimiter(settings.producers_max)

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        async with self._slot(shard) as slot:
            return (await self._opened(slot, epoch, anew=True)).position

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        async with self._slot(shard) as slot:
            producer = await self._opened(slot, epoch)
            if producer.position is None or producer.position.order < position.order:
                await self._commit(slot, producer, "", [], position)

    async def write(self, batch: Batch, /) -> None:
        if batch.epoch == 0:
            await self._letters.write(batch)
            return
        topic = await self._letters.topic_of(batch.shard)
        async with self._slot(batch.shard) as slot:
            position = (await self._opened(slot, batch.epoch)).position
            selection = await to_thread.run_sync(select, batch.records, position, self._settings)
            self._context.note_suppressed(selection.stored)
            written = await self._write(slot, batch.epoch, topic, selection.records, selection.messages)
        refusal = selection.refusal if written == len(selection.records) else _TOO_LARGE
        if refusal is not None:
            refused, *rest = batch.records[selection.stored + written :]
            raise RecordsFailedError(
                [
                    RecordFailure(refused, "refused", refusal),
                    *(RecordFailure(each, "waiting", _BEHIND) for each in rest),
                ]
            )

    async def aclose(self) -> None:
        for slot in self._slots.values():
            if slot.producer is not None:
                await to_thread.run_sync(slot.producer.close)

    async def _write(
        self, slot: _Slot, epoch: int, topic: str, records: Sequence[Record], messages: Sequence[Message]
    ) -> int:
        """Commit the records; if a request is too large, in halves. The answer is how many were, from the first on."""
        if not records:
            return 0
        try:
            await self._commit(slot, await self._opened(slot, epoch), topic, messages, records[-1].position)
        except RequestTooLargeError:
            middle = len(records) // 2
            if middle == 0:
                return 0
            written = await self._write(slot, epoch, topic, records[:middle], messages[:middle])
            if written == middle:
                written += await self._write(slot, epoch, topic, records[middle:], messages[middle:])
            return written
        return len(records)

    async def _commit(
        self, slot: _Slot, producer: ShardProducer, topic: str, messages: Sequence[Message], position: Position
    ) -> None:
        try:
            await run_attempt(
                partial(producer.write, topic, messages, position),
                timeout_s=self._settings.delivery_timeout_s,
                what="a transaction",
            )
        except BaseException:
            slot.producer = None
            raise

    # -- the producers ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _slot(self, shard: Shard) -> AsyncIterator[_Slot]:
        key = (shard.stream_arn, shard.shard_id)
        async with self._busy:
            if key not in self._slots:
                self._slots[key] = _Slot(
                    Place.of(self._context.pipeline, shard, self._settings.checkpoint_topic, self._partitions),
                    f"{self._context.pipeline}.{table_of(shard.stream_arn)}.{shard.shard_id}",
                )
            self._slots.move_to_end(key)
            slot = self._slots[key]
            async with slot.lock:
                yield slot

    async def _opened(self, slot: _Slot, epoch: int, *, anew: bool = False) -> ShardProducer:
        """The producer of a shard, opened if need be: that fences all others."""
        if slot.producer is not None and slot.producer.epoch > epoch:
            newest = slot.producer.epoch
            raise FencedError(f"kafka: the shard was fenced with epoch {newest}, and this is {epoch}", epoch=newest)
        if slot.producer is not None and (anew or slot.producer.epoch < epoch):
            await self._close(slot)
        if slot.producer is None:
            await self._make_room()
            slot.producer = await run_attempt(
                partial(open_shard_producer, self._settings, slot.place, slot.transactional_id, epoch),
                timeout_s=self._settings.delivery_timeout_s + _OPENING_MARGIN_S,
                what="fencing a shard",
            )
        return slot.producer

    async def _make_room(self) -> None:
        """Close the producer that was idle longest, if there are as many as there may be.

        One is idle: whoever holds a lock is one of `_busy`, and so are we, who have no producer yet.
        """
        opened = [(key, slot) for key, slot in self._slots.items() if slot.producer is not None]
        if len(opened) >= self._settings.producers_max:
            key, idle = next((key, slot) for key, slot in opened if not slot.lock.locked())
            async with idle.lock:
                await self._close(idle)
                if not idle.lock.statistics().tasks_waiting:
                    del self._slots[key]

    async def _close(self, slot: _Slot) -> None:
        producer, slot.producer = slot.producer, None
        if producer is not None:
            await to_thread.run_sync(producer.close)


@asynccontextmanager
async def open_transactional(settings: KafkaSettings, context: SinkContext) -> AsyncIterator[KafkaTransactions]:
    """Raises `ConfigError`: no broker answers, or the topic or that of the checkpoints is not there."""
    async with open_idempotent(settings) as letters:
        partitions = await letters.partitions(settings.checkpoint_topic, compacted=True)
        writer = KafkaTransactions(settings, context, letters, partitions)
        try:
            yield writer
        finally:
            with anyio.CancelScope(shield=True):
                await writer.aclose()
