"""A context whose AWS clients say what a test wants: no server at hand yields partial failures, throttles or expired keys."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from streamflow.sdk import AwsSettings, Writer


def refusal(code: str, message: str = "no", *, status: int = 400, **headers: str) -> ClientError:
    """What botocore raises for an answer that is no success."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": named, "RetryAttempts": 0},
        },
        "Operation",
    )


class ScriptedContext:
    """Keeps `SinkContext`. `answer` gives, or raises, from generation of the client, operation and arguments."""

    def __init__(self, answer: Callable[[int, str, dict[str, Any]], Any]) -> None:
        self.pipeline = "orders"
        self.clock = ManualClock()
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.opened = 0
        self.closed: list[int] = []
        self.suppressed = 0
        self._answer = answer

    @asynccontextmanager
    async def aws_client(
        self,
        service: str,
        *,
        aws: AwsSettings | None = None,
        read_timeout_s: float | None = None,
        renewed: bool = False,
    ) -> AsyncIterator[Any]:
        assert renewed == (self.opened > 0), "a client is opened anew only for other credentials"
        self.opened += 1
        generation = self.opened
        await anyio.lowlevel.checkpoint()
        yield _ScriptedClient(self, generation)
        self.closed.append(generation)

    def open_sink(self, sink: Any) -> AbstractAsyncContextManager[Writer]:
        raise NotImplementedError

    def note_suppressed(self, records: int) -> None:
        self.suppressed += records

    async def call(self, generation: int, operation: str, arguments: dict[str, Any]) -> Any:
        await anyio.lowlevel.checkpoint()
        self.calls.append((operation, arguments))
        answer = self._answer(generation, operation, arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


class _ScriptedClient:
    def __init__(self, context: ScriptedContext, generation: int) -> None:
        self._context = context
        self._generation = generation

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        async def call(**arguments: Any) -> Any:
            return await self._context.call(self._generation, operation, arguments)

        return call
