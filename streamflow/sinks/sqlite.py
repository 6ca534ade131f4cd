"""Changes or items in a table of a SQLite file; with `transactional`, the shard's checkpoint in the same commit."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints, field_validator

from streamflow.failpoints import reach
from streamflow.failures import RecordsFailedError
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.declarations import SinkPlugin
from streamflow.sdk.permissions import nothing_at_aws
from streamflow.sdk.settings import Settings
from streamflow.sinks.sqlite_checkpoints import CREATION, ShardCheckpoint
from streamflow.sinks.sqlite_file import open_file
from streamflow.sinks.sqlite_rows import OWN_COLUMNS, Mode, Table
from streamflow.sinks.sqlite_writes import prepare
from streamflow.sinks.writing_thread import open_writing_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.records import Shard
    from streamflow.sdk.context import SinkContext
    from streamflow.sinks.sqlite_file import Work
    from streamflow.sinks.sqlite_writes import Written
    from streamflow.sinks.writing_thread import WritingThread

_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,62}$"


class SqliteSettings(Settings):
    path: Annotated[Path, Field(examples=["orders.db"])]
    """The SQLite file; it is made where it is missing, its directory is not."""
    table: Annotated[str, Field(pattern=_NAME, examples=["orders"])]
    """The table; it is made where it is missing."""
    mode: Annotated[Mode, Field(examples=["append"])] = "upsert"
    """`upsert`: one row for each item, as it is now. `append`: one row for each change."""
    transactional: bool = False
    """Store the shard's checkpoint in the same commit as its data, and go on from that: each change once."""
    columns: Annotated[
        dict[Annotated[str, StringConstraints(pattern=_NAME)], str],
        Field(examples=[{"total": "total"}], default_factory=dict),
    ]
    """Columns of the table that hold attributes of the item, beside the whole image as JSON."""

    @field_validator("table")
    @classmethod
    def _table_is_the_users(cls, value: str) -> str:
        if value.lower().startswith(("sqlite_", "streamflow_")):
            raise ValueError("names that begin with sqlite_ or streamflow_ are taken")
        return value

    @field_validator("columns")
    @classmethod
    def _columns_are_the_users(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := sorted(OWN_COLUMNS & {name.lower() for name in value}):
            raise ValueError(f"columns of the sink's own: {', '.join(taken)}")
        if len({name.lower() for name in value}) < len(value):
            raise ValueError("two columns differ in upper and lower case only, which are the same in SQL")
        return value


@asynccontextmanager
async def open_sqlite(settings: SqliteSettings, context: SinkContext) -> AsyncIterator[SqliteWriter]:
    """Open the file on a thread of its own.

    Raises:
        ConfigError: it cannot be used as it is.
    """
    table = Table(name=settings.table, mode=settings.mode, attributes=settings.columns)
    creations = [CREATION] if settings.transactional else []
    async with open_writing_thread(
        partial(open_file, settings.path, table, creations), f"sink sqlite {settings.path.name}"
    ) as thread:
        yield SqliteWriter(
            thread,
            table=table,
            transactional=settings.transactional,
            pipeline=context.pipeline,
            path=str(settings.path),
            note_suppressed=context.note_suppressed,
        )


class SqliteWriter:
    """Keeps `streamflow.protocols.TransactionalWriter`; `fence` and `advance` are for the transactional sink."""

    def __init__(
        self,
        thread: WritingThread[Work],
        *,
        table: Table,
        transactional: bool,
        pipeline: str,
        path: str,
        note_suppressed: Callable[[int], None],
    ) -> None:
        self._thread = thread
        self._table = table
        self._transactional = transactional
        self._pipeline = pipeline
        self._path = path
        self._note_suppressed = note_suppressed

    async def write(self, batch: Batch, /) -> None:
        checkpoint = self._checkpoint(batch.shard) if self._transactional and batch.epoch else None
        written: Written = await self._thread.ask(partial(prepare, self._table, batch, checkpoint))
        await reach("sqlite_sink.committed")
        self._note_suppressed(written.suppressed)
        if written.failures:
            raise RecordsFailedError(written.failures)

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        checkpoint = self._checkpoint(shard)
        position: Position | None = await self._thread.ask(lambda: lambda at: checkpoint.fence(at, epoch))
        return position

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        checkpoint = self._checkpoint(shard)
        await self._thread.ask(lambda: lambda at: checkpoint.advance(at, epoch, position))

    def _checkpoint(self, shard: Shard) -> ShardCheckpoint:
        return ShardCheckpoint(path=self._path, pipeline=self._pipeline, shard=shard)


def _capabilities(settings: SqliteSettings) -> Capabilities:
    key = "event id" if settings.mode == "append" else "item key and sequence number"
    return Capabilities(
        order="key",
        idempotence="transactional" if settings.transactional else "versioned",
        idempotence_key="checkpoint of the shard, in the same commit" if settings.transactional else key,
        partial_failures=True,
        needs_images=settings.mode == "upsert",
        batch_size=1_000,
    )


sqlite = SinkPlugin(
    name="sqlite",
    api_version="1.0",
    summary="Items or changes in a table of a SQLite file, with the checkpoint in the same commit if you like.",
    settings=SqliteSettings,
    examples={
        "items as they are now": {"path": "orders.db", "table": "orders", "columns": {"total": "total"}},
        "every change, once": {"path": "orders.db", "table": "changes", "mode": "append", "transactional": True},
    },
    open=open_sqlite,
    capabilities=_capabilities,
    permissions=nothing_at_aws,
)
