"""What a sink of a plugin is given when it is opened: see `streamflow.sdk.SinkContext`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamflow.handlers.adapt import open_handler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streamflow.clock import Clock
    from streamflow.protocols import AwsClients, Writer
    from streamflow.sdk.settings import AwsSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`aws` opens the session for a way to reach AWS, None for the pipeline's own; `suppressed` takes counts of records."""

    pipeline: str
    clock: Clock
    aws: Callable[[AwsSettings | None], Awaitable[AwsClients]]
    suppressed: Callable[[int], None]

    @asynccontextmanager
    async def aws_client(
        self,
        service: str,
        *,
        aws: AwsSettings | None = None,
        read_timeout_s: float | None = None,
        renewed: bool = False,
    ) -> AsyncIterator[Any]:
        clients = await self.aws(aws)
        if renewed:
            await clients.renew()
        async with clients.client(service, attempts_max=1, read_timeout_s=read_timeout_s) as client:
            yield client

    @asynccontextmanager
    async def open_sink(self, sink: Any) -> AsyncIterator[Writer]:
        async with open_handler(sink, pipeline=self.pipeline, context=self) as opened:
            yield opened

    def note_suppressed(self, records: int) -> None:
        if records:
            self.suppressed(records)
