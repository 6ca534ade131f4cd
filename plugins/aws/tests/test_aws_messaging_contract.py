"""The messaging sinks keep the contract of sinks, each in each of its modes, on MiniStack."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from aws_contract import AwsContract
from far_messages import ACCOUNT, REGION, Bus, Delivery, Queue, Stream, Topic
from streamflow.testing.sink_contract import Seen
from streamflow_aws.eventbridge import eventbridge
from streamflow_aws.firehose import firehose
from streamflow_aws.kinesis import kinesis
from streamflow_aws.sns import sns
from streamflow_aws.sqs import sqs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.sdk import Record, SinkDeclaration
    from streamflow.testing.sink_contract import Changes

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class MessagingContract(AwsContract):
    kind = "log"
    settle_s = 5.0

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        return await anyio.to_thread.run_sync(lambda: [Seen.of_payload(text, "lambda") for text in self.texts()])

    def texts(self) -> Sequence[str | bytes]:
        """Every message so far."""
        raise NotImplementedError


class QueueContract(MessagingContract):
    name = ""

    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._queue = Queue(ministack, self.name, MaximumMessageSize=str(1 << 20))
        yield
        self._queue.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return sqs(queue_url=self._queue.url)

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, queue_url=self._queue.url.replace("/orders", "/none"))

    def texts(self) -> Sequence[str | bytes]:
        return self._queue.receive()


class TestSqsStandard(QueueContract):
    mode, name = "standard", "orders"


class TestSqsFifo(QueueContract):
    mode, name = "fifo", "orders.fifo"


class TopicContract(MessagingContract):
    name = ""

    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._topic = Topic(ministack, self.name)
        yield
        self._topic.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return sns(topic_arn=self._topic.arn)

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, topic_arn=f"arn:aws:sns:{REGION}:{ACCOUNT}:none{self.name.removeprefix('orders')}")

    def texts(self) -> Sequence[str | bytes]:
        return [notification["Message"] for notification in self._topic.notifications()]


class TestSnsStandard(TopicContract):
    mode, name = "standard", "orders"


class TestSnsFifo(TopicContract):
    mode, name = "fifo", "orders.fifo"


class TestEventBridge(MessagingContract):
    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._bus = Bus(ministack, "orders", source="shop.orders")
        yield
        self._bus.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return eventbridge(bus="orders", source="shop.orders")

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, bus="none")

    def texts(self) -> Sequence[str | bytes]:
        return [json.dumps(event["detail"]) for event in self._bus.events()]


class TestKinesis(MessagingContract):
    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._stream = Stream(ministack, "orders")
        yield
        self._stream.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return kinesis(stream="orders")

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, stream="none")

    def untakeable(self, changes: Changes) -> Sequence[Record]:
        """The sink takes 10 MiB, the stream 1 MiB: six bytes of JSON for each of these."""
        return [changes.put("untakeable", blob={"S": "\x01" * 180_000})]

    def texts(self) -> Sequence[str | bytes]:
        return [record["Data"] for record in self._stream.records()]


class TestFirehose(MessagingContract):
    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._delivery = Delivery(ministack, "orders")
        yield
        self._delivery.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return firehose(stream="orders")

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, stream="none")

    def texts(self) -> Sequence[str | bytes]:
        return self._delivery.lines()
