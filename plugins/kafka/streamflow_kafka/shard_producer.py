"""The transactional producer of one shard: records and the checkpoint behind them, all or nothing. All of it blocks.

Whatever goes wrong in a transaction, the producer is thrown away. The next one begins by asking the brokers to end what
the last one has left, and then reads the checkpoint: so nobody has to know how far a transaction got.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from streamflow.sdk import FencedError
from streamflow_kafka.checkpoints import Checkpoint, open_reader
from streamflow_kafka.clients import make_producer
from streamflow_kafka.outcomes import FENCED, TOO_LARGE
from streamflow_kafka.settings import transacting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from confluent_kafka import KafkaError, Producer

    from streamflow.sdk import Position
    from streamflow_kafka.attempts import Attempt
    from streamflow_kafka.checkpoints import CheckpointReader, Place
    from streamflow_kafka.messages import Message
    from streamflow_kafka.settings import KafkaSettings

_LOOK_S = 0.05
_STEP_S = 0.5
_ABORT_S = 2.0
# A worker that is fenced and a newer owner may call each other off while they begin; the newer epoch wins in the end.
_OPENINGS_MAX = 3


class RequestTooLargeError(Exception):
    """The broker did not take a request: one of its messages is too large, nobody knows which."""


class ShardProducer:
    """Made by `open_shard_producer`; used by one caller at a time.

    Nothing but this object holds on to the client, which ends when it is dropped: its own `close` would wait without
    end for brokers that are away, to abort a transaction that its successor aborts anyway.
    """

    def __init__(self, producer: Producer, place: Place, epoch: int) -> None:
        self.epoch = epoch
        self.position: Position | None = None
        """How far the shard is."""
        self._producer = producer
        self._place = place

    def begin(self, reader: CheckpointReader, attempt: Attempt) -> Checkpoint | None:
        """Fence all earlier producers, and take the checkpoint up. Raises as `write`."""
        with self._closed_by_errors():
            with suppress(KafkaException):
                # Connect first: who asks for a coordinator before that asks again only after half a second. With the
                # first look librdkafka leaves the address that it was given; the second waits for a broker by its number.
                for _ in range(2):
                    attempt.check()
                    self._producer.list_topics(self._place.topic, timeout=_STEP_S)
            _repeated(lambda: self._producer.init_transactions(_STEP_S), attempt)
            stored = refuse_older(reader.newest(patiently=True), self.epoch)
        self.position = None if stored is None else stored.position
        return stored

    def write(self, topic: str, messages: Sequence[Message], position: Position | None, attempt: Attempt) -> None:
        """Commit the messages together with `position`. After an error the producer is closed.

        Raises:
            FencedError: a newer owner of the shard has begun.
            RequestTooLargeError: nothing was written.
            GaveUpError: nobody knows whether it was written; neither after a `KafkaException`.
        """
        with self._closed_by_errors():
            self._transact(topic, messages, Checkpoint(epoch=self.epoch, position=position), attempt)
        self.position = position

    def close(self) -> None:
        """For a producer without an open transaction."""
        del self._producer

    def _transact(self, topic: str, messages: Sequence[Message], checkpoint: Checkpoint, attempt: Attempt) -> None:
        place = self._place
        errors: list[KafkaError] = []

        def note(error: KafkaError | None, _: object) -> None:
            if error is not None:
                errors.append(error)

        def hand_over(produce: Callable[[], None]) -> None:
            while True:
                attempt.check()
                try:
                    produce()
                except BufferError:
                    self._producer.flush(_LOOK_S)
                else:
                    return

        def hand_over_message(message: Message) -> None:
            key, value, headers = message
            hand_over(lambda: self._producer.produce(topic, value, key, headers=headers, on_delivery=note))

        self._producer.begin_transaction()
        for message in messages:
            hand_over_message(message)
        hand_over(
            lambda: self._producer.produce(
                place.topic, checkpoint.to_json(), place.key, partition=place.partition, on_delivery=note
            )
        )
        while self._producer.flush(_LOOK_S) and not errors:
            attempt.check()
        if errors:
            raise _leading(errors)
        attempt.check()
        _repeated(lambda: self._producer.commit_transaction(_STEP_S), attempt)

    @contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        """What was not committed is aborted, now or when the successor begins."""
        try:
            yield
        except BaseException as exception:
            self._producer.purge()
            with suppress(KafkaException):
                self._producer.abort_transaction(_ABORT_S)
            del self._producer
            if isinstance(exception, KafkaException) and exception.args[0].code() in FENCED:
                name = exception.args[0].name()
                raise FencedError(f"kafka: a newer producer of this shard has begun ({name})") from exception
            raise


def open_shard_producer(
    settings: KafkaSettings, place: Place, transactional_id: str, epoch: int, attempt: Attempt
) -> ShardProducer:
    """Fence all earlier producers of the shard, and find out how far it is.

    Raises:
        FencedError: the checkpoint is of a newer epoch.
    """
    with open_reader(settings, place, attempt) as reader:
        openings = 0
        while True:
            openings += 1
            refuse_older(reader.newest(patiently=False), epoch)
            opened = ShardProducer(make_producer(settings, transacting(settings, transactional_id)), place, epoch)
            try:
                stored = opened.begin(reader, attempt)
                if stored is None or stored.epoch < epoch:
                    opened.write("", [], opened.position, attempt)
            except FencedError:
                if openings == _OPENINGS_MAX:
                    raise
            else:
                return opened


def refuse_older(stored: Checkpoint | None, epoch: int) -> Checkpoint | None:
    """The same checkpoint; raises `FencedError` if it is of a newer epoch."""
    if stored is not None and stored.epoch > epoch:
        newest = stored.epoch
        raise FencedError(f"kafka: the checkpoint is of epoch {newest}, and this worker has {epoch}", epoch=newest)
    return stored


def _repeated(call: Callable[[], None], attempt: Attempt) -> None:
    """Calls that change a transaction may be repeated when they run out of time."""
    while True:
        try:
            call()
        except KafkaException as exception:
            if not exception.args[0].retriable():
                raise
            attempt.check()
        else:
            return


def _leading(errors: Sequence[KafkaError]) -> Exception:
    """Messages that were purged because of another's error do not count."""
    fenced = next((error for error in errors if error.code() in FENCED), None)
    if fenced is None and any(error.code() in TOO_LARGE for error in errors):
        return RequestTooLargeError()
    return KafkaException(fenced or errors[0])
