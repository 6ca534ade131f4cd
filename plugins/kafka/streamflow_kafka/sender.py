"""The one thread that speaks to an idempotent producer.

Any number of writes are on their way at the same time. A write ends when each of its messages has a report. One that is
given up is purged from the producer, so that nothing of it is sent later; what else was in the producer then comes again
as "waiting". A request that is on the network cannot be called back: the brokers may still take it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread
from confluent_kafka import KafkaException

from streamflow.sdk import MalformedRecordError, RecordRefusedError, Rejection
from streamflow_kafka.messages import Message, encode, key_of
from streamflow_kafka.outcomes import TOO_LARGE, ends_producer, rejection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from confluent_kafka import KafkaError, Producer

    from streamflow.sdk import Record
    from streamflow_kafka.settings import KafkaSettings

# How long the thread stays in librdkafka before it looks for new writes, and for one that was given up.
_LOOK_S = 0.005


class Delivery:
    """One write on its way; but for `gave_up` and `done`, the thread's."""

    def __init__(self, topic: str, records: Sequence[Record]) -> None:
        self.topic = topic
        self.records = records
        self.keys: list[bytes] = []
        self.outcomes: list[Rejection | None] = []
        self.error: BaseException | None = None
        self.gave_up = False
        """Set by the task that waits, once; from then on nothing of it is sent."""
        self.done = anyio.Event()
        self.left = 0
        """Messages in the producer."""
        self.hindered: set[bytes] = set()
        """Items of which a change was not written."""
        self.suspects: deque[int] = deque()
        """Places of messages of a request that was too large: each is sent once more, with nothing else on its way."""
        self.purged = False


class Sender:
    """Use `open_sender`."""

    def __init__(self, make: Callable[[], Producer], settings: KafkaSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.producer = make()
        """For looks at the cluster; messages are for the thread to send."""
        self._make = make
        self._settings = settings
        self._loop = loop
        self._new: SimpleQueue[Delivery | None] = SimpleQueue()
        self._open: set[Delivery] = set()
        self._dead = False  # the producer had a fatal error, and is good for nothing any more

    async def deliver(self, topic: str, records: Sequence[Record]) -> Delivery:
        """Send the records; the answer has an outcome for each of them, within `delivery_timeout_s` or little more.

        Whoever is cancelled gives the write up, and waits until the producer is empty of it.
        """
        delivery = Delivery(topic, records)
        self._new.put(delivery)
        try:
            with anyio.move_on_after(self._settings.delivery_timeout_s):
                await delivery.done.wait()
        finally:
            if not delivery.done.is_set():
                delivery.gave_up = True
                with anyio.CancelScope(shield=True):
                    await delivery.done.wait()
        if delivery.error is not None:
            raise delivery.error
        return delivery

    def close(self) -> None:
        self._new.put(None)

    # -- on the thread ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            while self._take_new():
                if self._open:
                    self.producer.flush(_LOOK_S)  # unlike poll, it sends without lingering
                    self._try_suspects()
                    self._purge_given_up()
                if self._dead:
                    self._replace()
        finally:
            self.producer.purge()
            self.producer.flush(1)
            del self.producer  # it ends when it is dropped

    def _take_new(self) -> bool:
        """Begin what is asked for, waiting for it if there is nothing else to do; false at the end."""
        with suppress(Empty):
            while not self._dead and not any(delivery.suspects for delivery in self._open):
                delivery = self._new.get(block=not self._open)
                if delivery is None:
                    return False
                self._begin(delivery)
        return True

    def _begin(self, delivery: Delivery) -> None:
        self._open.add(delivery)
        try:
            for place, record in enumerate(delivery.records):
                self._begin_record(delivery, place, record)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            delivery.error = error
            delivery.gave_up = True
        self._end_if_done(delivery)

    def _begin_record(self, delivery: Delivery, place: int, record: Record) -> None:
        try:
            message = encode(record, self._settings)
        except (RecordRefusedError, MalformedRecordError) as error:
            delivery.keys.append(key_of(record) or b"unreadable %d" % place)
            delivery.outcomes.append(None)
            self._fail(delivery, place, Rejection("refused", str(error)))
            return
        delivery.keys.append(message.key)
        delivery.outcomes.append(None)
        if message.key not in delivery.hindered:
            self._produce(delivery, place, message, alone=False)

    def _produce(self, delivery: Delivery, place: int, message: Message, *, alone: bool) -> None:
        """Hand one message over; a full queue is waited for."""
        report = partial(self._report, delivery, place, alone)
        while not delivery.gave_up:
            try:
                self.producer.produce(
                    delivery.topic, message.value, message.key, headers=message.headers, on_delivery=report
                )
            except BufferError:
                self.producer.flush(_LOOK_S)
                self._purge_given_up()
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                self._dead = self._dead or ends_producer(error)
                self._fail(delivery, place, rejection(error, gave_up=False))
                return
            else:
                delivery.left += 1
                return
        self._fail(delivery, place, Rejection("failed", "not sent in time"))

    def _report(self, delivery: Delivery, place: int, alone: bool, error: KafkaError | None, _: object) -> None:
        delivery.left -= 1
        if error is not None:
            self._dead = self._dead or ends_producer(error)
            if error.code() in TOO_LARGE and not alone and len(delivery.records) > 1:
                delivery.suspects.append(place)
                delivery.outcomes[place] = Rejection("failed", f"{error.name()}: {error.str()}")
            else:
                self._fail(delivery, place, rejection(error, gave_up=delivery.gave_up))
        self._end_if_done(delivery)

    def _fail(self, delivery: Delivery, place: int, outcome: Rejection) -> None:
        delivery.outcomes[place] = outcome
        delivery.hindered.add(delivery.keys[place])

    def _end_if_done(self, delivery: Delivery) -> None:
        begun = len(delivery.outcomes) == len(delivery.records) or delivery.error is not None
        suspects = delivery.suspects and not delivery.gave_up
        if begun and delivery.left == 0 and not suspects and delivery in self._open:
            self._open.discard(delivery)
            # A loop that was closed without closing the sink has nobody left to tell.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(delivery.done.set)

    def _try_suspects(self) -> None:
        """Send one suspect, when nothing else is on its way."""
        for delivery in [each for each in self._open if each.suspects]:
            if any(each.left for each in self._open):
                return
            place = delivery.suspects.popleft()
            # One behind a failure, or of a write that was given up, stays a failure.
            if delivery.keys[place] not in delivery.hindered and not delivery.gave_up:
                delivery.outcomes[place] = None
                self._produce(delivery, place, encode(delivery.records[place], self._settings), alone=True)
            self._end_if_done(delivery)

    def _purge_given_up(self) -> None:
        given_up = [delivery for delivery in self._open if delivery.gave_up and not delivery.purged]
        for delivery in given_up:
            delivery.purged = True
            self._end_if_done(delivery)
        if given_up or self._dead:
            self.producer.purge()

    def _replace(self) -> None:
        """Another producer in place of the dead one, as soon as all that is told of it."""
        if not self._open:
            self.producer = self._make()
            self._dead = False


@asynccontextmanager
async def open_sender(make: Callable[[], Producer], settings: KafkaSettings) -> AsyncIterator[Sender]:
    """Run the thread for the length of the block; it closes the producer. `make` makes another after a fatal error.

    Raises what `make` raises.
    """
    sender = Sender(make, settings, asyncio.get_running_loop())
    thread = threading.Thread(target=sender.run, name="streamflow/kafka", daemon=True)  # noqa: TID251 - librdkafka's poll blocks
    thread.start()
    try:
        yield sender
    finally:
        sender.close()
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(thread.join)
