"""The Lambda sink keeps the contract of sinks, with a function that MiniStack runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from aws_contract import AwsContract
from far_functions import Function
from streamflow.testing.sink_contract import Seen
from streamflow_aws.lambda_invoke import lambda_invoke

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from streamflow.sdk import SinkDeclaration

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

FUNCTION = """
import json, os

def handler(event, context):
    with open(os.environ["EVENTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps(event) + "\\n")
"""


class TestLambdaInvoke(AwsContract):
    kind = "log"

    @pytest.fixture
    def far(self, ministack: str, tmp_path: Path) -> Iterator[None]:
        self._events = tmp_path / "events.jsonl"
        function = Function(ministack, "orders", FUNCTION, EVENTS=str(self._events))
        yield
        function.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return lambda_invoke(function="orders")

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, function="none")

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        return await anyio.to_thread.run_sync(self._seen)

    def _seen(self) -> list[Seen]:
        lines = self._events.read_text(encoding="utf-8").splitlines() if self._events.exists() else []
        return [
            Seen.of_payload(json.dumps(record), "lambda") for line in lines for record in json.loads(line)["Records"]
        ]
