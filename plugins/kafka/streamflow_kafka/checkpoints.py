"""How far each shard is, as records of a compacted topic: made, and found again. All of it blocks.

A reader that sees only what is committed stops where the oldest open transaction of anybody begins. A checkpoint that was
committed behind that place is not to be seen yet, so reading goes on until the end that the partition had when it began.
"""

from __future__ import annotations

import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamflow.sdk import Position
from streamflow_kafka.clients import make_reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import Consumer

    from streamflow.sdk import Shard
    from streamflow_kafka.attempts import Attempt
    from streamflow_kafka.settings import KafkaSettings

# A checkpoint that is written often is near the end of its partition: so many offsets are read first, then ten times more.
_TAIL = 1_000
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """`position` is None where nothing was written yet; `epoch` is that of the shard's newest owner."""

    epoch: int
    position: Position | None

    def to_json(self) -> bytes:
        return orjson.dumps({"epoch": self.epoch, "position": self.position and str(self.position)})

    @classmethod
    def from_json(cls, text: bytes) -> Checkpoint:
        found = orjson.loads(text)
        position = found["position"]
        return cls(epoch=found["epoch"], position=None if position is None else Position.parse(position))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the checkpoints of one shard are."""

    topic: str
    partition: int
    key: bytes

    @classmethod
    def of(cls, pipeline: str, shard: Shard, topic: str, partitions: Sequence[int]) -> Place:
        key = orjson.dumps([pipeline, shard.stream_arn, shard.shard_id])
        return cls(topic=topic, partition=partitions[zlib.crc32(key) % len(partitions)], key=key)


class CheckpointReader:
    """Use `open_reader`. One shard's checkpoint, as often as it is asked for."""

    def __init__(self, committed: Consumer, uncommitted: Consumer, place: Place, attempt: Attempt) -> None:
        self._committed = committed
        self._uncommitted = uncommitted
        self._place = place
        self._attempt = attempt

    def newest(self, *, patiently: bool) -> Checkpoint | None:
        """The newest committed checkpoint of the shard.

        `patiently` waits for transactions of other shards that are open; otherwise what is behind them is not seen.
        """
        start, end = self._offsets(self._uncommitted if patiently else self._committed)
        span = _TAIL
        while end > start:
            begin = max(start, end - span)
            found = self._newest_in(begin, end)
            if found is not None:
                return found
            end, span = begin, span * 10
        return None

    def _offsets(self, reader: Consumer) -> tuple[int, int]:
        """The first offset and the one behind the last, as far as `reader` may see."""
        while True:
            self._attempt.check()
            partition = TopicPartition(self._place.topic, self._place.partition)
            try:
                start, end = reader.get_watermark_offsets(partition, timeout=5 * _LOOK_S)
            except KafkaException as exception:
                if exception.args[0].code() not in _PASSING:
                    raise
            else:
                return start, end

    def _newest_in(self, begin: int, end: int) -> Checkpoint | None:
        """The last one in [`begin`, `end`)."""
        self._committed.assign([TopicPartition(self._place.topic, self._place.partition, begin)])
        newest: Checkpoint | None = None
        while True:
            self._attempt.check()
            message = self._committed.poll(_LOOK_S)
            if message is None:
                continue
            error, offset = message.error(), message.offset()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                if not (error.retriable() or error.code() in _PASSING):
                    raise KafkaException(error)
            elif offset is not None and offset >= end:
                # Where the partition ends, the offset counts the markers of transactions too.
                return newest
            elif error is None and message.key() == self._place.key:
                newest = Checkpoint.from_json(bytes(message.value() or b""))


@contextmanager
def open_reader(settings: KafkaSettings, place: Place, attempt: Attempt) -> Iterator[CheckpointReader]:
    """Two consumers for the length of the block."""
    committed, uncommitted = (make_reader(settings, committed=committed) for committed in (True, False))
    try:
        yield CheckpointReader(committed, uncommitted, place, attempt)
    finally:
        committed.close()
        uncommitted.close()


_PASSING = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._DESTROY_BROKER,
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._UNKNOWN_PARTITION,
    }
)
"""What librdkafka says while it looks for brokers: it goes on looking."""
