"""The sink for any call keeps the contract of sinks, with a call of SQS, on MiniStack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from aws_contract import AwsContract
from far_messages import Queue
from streamflow.testing.sink_contract import Seen
from streamflow_aws.aws_call import aws_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.sdk import AwsSettings, SinkDeclaration

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class TestAwsCall(AwsContract):
    kind = "log"
    mode = "sqs SendMessage"
    settle_s = 5.0

    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._queue = Queue(ministack, "orders", MaximumMessageSize=str(1 << 20))
        yield
        self._queue.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return aws_call(
            service="sqs",
            operation="SendMessage",
            parameters={"QueueUrl": self._queue.url, "MessageBody": "${payload}"},
            payload="change",
        )

    @pytest.fixture
    def wrong_credentials(self, sink: SinkDeclaration, aws: AwsSettings) -> None:
        """It makes no call when it is opened."""

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, operation="SendMesage")

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        return await anyio.to_thread.run_sync(
            lambda: [Seen.of_payload(text, "change") for text in self._queue.receive()]
        )
