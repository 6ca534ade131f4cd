"""A sink opened without an engine: what the engine would do for it is done here."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, cast

from streamflow.batches import record_overhead_bytes
from streamflow.clock import SystemClock
from streamflow.handlers.context import Context
from streamflow.pipeline import AwsOptions
from streamflow.rules.requests import packed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.protocols import AwsClients, TransactionalWriter, Writer
    from streamflow.records import Shard
    from streamflow.sdk.capabilities import Capabilities
    from streamflow.sdk.declarations import SinkDeclaration
    from streamflow.sdk.settings import AwsSettings


class OpenSink:
    """`writer` is what the sink yields."""

    def __init__(self, writer: Writer, capabilities: Capabilities) -> None:
        self.writer = writer
        self._capabilities = capabilities
        self._fenced: set[tuple[str, int]] = set()

    async def write(self, batch: Batch) -> None:
        """Write it in parts that the sink takes; its shard is fenced before it is written to for the first time."""
        transactional = self._capabilities.idempotence == "transactional"
        if transactional and (batch.shard.shard_id, batch.epoch) not in self._fenced:
            await self.fence(batch.shard, batch.epoch)
        parts = packed(
            batch.records,
            [len(record.json) + record_overhead_bytes(batch.shard) for record in batch],
            records_max=self._capabilities.records_max,
            bytes_max=self._capabilities.bytes_max,
        )
        for part in parts:
            await self.writer.write(batch if len(part) == len(batch) else batch.select(part))

    async def fence(self, shard: Shard, epoch: int) -> Position | None:
        """How far the shard is, for an owner that begins."""
        position = await self.transactional.fence(shard, epoch)
        self._fenced.add((shard.shard_id, epoch))
        return position

    @property
    def transactional(self) -> TransactionalWriter:
        """The same writer, where it is one."""
        return cast("TransactionalWriter", self.writer)


@asynccontextmanager
async def open_sink(sink: SinkDeclaration, *, pipeline: str, aws: AwsSettings) -> AsyncIterator[OpenSink]:
    """The sink for the length of the block; `aws` is how its pipeline would reach AWS. Raises what opening raises."""
    async with AsyncExitStack() as stack:

        async def clients(settings: AwsSettings | None) -> AwsClients:
            from streamflow.aws.session import open_aws

            return await stack.enter_async_context(open_aws(AwsOptions(**dict(settings or aws))))

        context = Context(pipeline=pipeline, clock=SystemClock(), aws=clients, suppressed=lambda _: None)
        async with sink.open(context) as writer:
            yield OpenSink(writer, sink.capabilities)
