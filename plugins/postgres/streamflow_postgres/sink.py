"""The sink: batches into statements, and their outcome into what the engine is told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from streamflow.sdk import Position, RecordFailure, RecordsFailedError, encode_in_order
from streamflow_postgres.checkpoints import Checkpoints, Mark
from streamflow_postgres.database import open_database
from streamflow_postgres.errors import Failure, is_data_error, told
from streamflow_postgres.halves import write_halved
from streamflow_postgres.rows import columns, encode, latest
from streamflow_postgres.statements import CREATE_STAGING, STAGING, quoted
from streamflow_postgres.tables import prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.sdk import Batch, Shard, SinkContext, Writer
    from streamflow_postgres.database import Database
    from streamflow_postgres.rows import Row
    from streamflow_postgres.settings import PostgresSettings
    from streamflow_postgres.statements import Merge

ARRAYS_MAX = 2_000
"""Rows that go as arrays in the statement itself; more of them are copied first, which is faster then."""

_STAGED_COLUMNS = ("key", "image", "seq", "event_id")


@asynccontextmanager
async def open_postgres(settings: PostgresSettings, context: SinkContext) -> AsyncIterator[Writer]:
    """Connect and look at the tables.

    Raises:
        ConfigError: the database cannot be used as the settings say.
        SinkBusyError: it has no connection to spare.
    """
    async with open_database(settings, context.pipeline) as database:
        async with database.transaction() as connection:
            merge = await prepare(connection, settings)
        table = Table(merge, collapses=settings.mode == "upsert")
        if settings.transactional:
            checkpoints = Checkpoints(quoted(settings.checkpoint_table), context.pipeline)
            yield TransactionalWriter(database, table, checkpoints, context)
        else:
            yield VersionedWriter(database, table, context)


class Table:
    """Puts rows into the table on a connection that it is given. Each method answers how many rows changed nothing."""

    def __init__(self, merge: Merge, *, collapses: bool) -> None:
        self._merge = merge
        self._collapses = collapses

    def is_large(self, rows: Sequence[Row]) -> bool:
        return len(rows) > ARRAYS_MAX

    async def put(self, connection: Any, shard: Shard, rows: Sequence[Row]) -> int:
        """All rows in one statement."""
        final = latest(rows) if self._collapses else rows
        status = await connection.execute(self._merge.of_arrays, shard.shard_id, *columns(final))
        return _unchanged(status, rows, final)

    async def copy(self, connection: Any, shard: Shard, rows: Sequence[Row]) -> int:
        """The same by COPY, once in a transaction."""
        final = latest(rows) if self._collapses else rows
        await connection.execute(CREATE_STAGING)
        staged = zip(*columns(final), strict=True)
        await connection.copy_records_to_table(STAGING, records=staged, columns=_STAGED_COLUMNS, schema_name="pg_temp")
        status = await connection.execute(self._merge.of_staged, shard.shard_id)
        return _unchanged(status, rows, final)


def _unchanged(status: str, rows: Sequence[Row], final: Sequence[Row]) -> int:
    """Of the command's status, `INSERT 0 n`. Which rows of an item were collapsed is not known where only some are new."""
    changed = int(status.rpartition(" ")[2])
    return len(final) - changed if changed else len(rows)


class VersionedWriter:
    """Keeps `streamflow.sdk.Writer`: each statement is a transaction, and repeating it changes nothing."""

    def __init__(self, database: Database, table: Table, context: SinkContext) -> None:
        self._database = database
        self._table = table
        self._context = context

    async def write(self, batch: Batch, /) -> None:
        encoded = await encode_in_order(batch, encode)
        failures = encoded.failures
        try:
            if encoded.entries:
                failures = failures + await self._written(batch.shard, encoded.entries)
        except Failure as error:
            raise told(error) from None
        if failures:
            raise RecordsFailedError(failures)

    async def _written(self, shard: Shard, rows: Sequence[Row]) -> list[RecordFailure]:
        try:
            await self._put(shard, rows)
        except Failure as error:
            if not is_data_error(error):
                raise
            parted = await write_halved(rows, lambda run: self._put(shard, run), stops_at_first=False)
            return parted.failures
        return []

    async def _put(self, shard: Shard, rows: Sequence[Row]) -> None:
        if self._table.is_large(rows):
            async with self._database.transaction() as connection:
                unchanged = await self._table.copy(connection, shard, rows)
        else:
            async with self._database.connection() as connection:
                unchanged = await self._table.put(connection, shard, rows)
        self._context.note_suppressed(unchanged)


class TransactionalWriter:
    """Keeps `streamflow.sdk.TransactionalWriter`: a batch and how far its shard is are committed together."""

    def __init__(self, database: Database, table: Table, checkpoints: Checkpoints, context: SinkContext) -> None:
        self._database = database
        self._table = table
        self._checkpoints = checkpoints
        self._context = context
        self._letters = VersionedWriter(database, table, context)

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        """See `TransactionalWriter.fence`. Waits for a transaction of the owner before, if there is one."""
        try:
            async with self._database.connection() as connection:
                sequence_number = await self._checkpoints.fence(connection, shard, epoch)
        except Failure as error:
            raise told(error) from None
        return None if sequence_number == "0" else Position.after(sequence_number)

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        """See `TransactionalWriter.advance`. A position that is not behind a record is not stored: nothing is lost by it."""
        sequence_number = position.sequence_number if position == Position.after(position.sequence_number) else "0"
        try:
            async with self._database.connection() as connection:
                await self._checkpoints.advance(connection, shard, epoch, sequence_number)
        except Failure as error:
            raise told(error) from None

    async def write(self, batch: Batch, /) -> None:
        if batch.epoch == 0:
            await self._letters.write(batch)
            return
        encoded = await encode_in_order(batch, encode, stops_at_first=True)
        failures = encoded.failures
        try:
            if encoded.entries:
                failures = await self._written(batch, encoded.entries) + failures
        except Failure as error:
            raise told(error) from None
        if failures:
            raise RecordsFailedError(failures)

    async def _written(self, batch: Batch, rows: Sequence[Row]) -> list[RecordFailure]:
        try:
            await self._commit(batch, rows)
        except Failure as error:
            if not is_data_error(error):
                raise
            return await self._commit_prefix(batch, rows)
        return []

    async def _commit(self, batch: Batch, rows: Sequence[Row]) -> None:
        """All rows and the checkpoint behind them."""
        async with self._database.transaction() as connection:
            fresh = await self._reserved(connection, batch, rows)
            unchanged = len(rows) - len(fresh)
            if fresh:
                put = self._table.copy if self._table.is_large(fresh) else self._table.put
                unchanged += await put(connection, batch.shard, fresh)
        self._context.note_suppressed(unchanged)

    async def _commit_prefix(self, batch: Batch, rows: Sequence[Row]) -> list[RecordFailure]:
        """The rows before the first that PostgreSQL cannot take, and the checkpoint behind those."""
        async with self._database.transaction() as connection:
            fresh = await self._reserved(connection, batch, rows)

            async def store(run: Sequence[Row]) -> None:
                await connection.execute("SAVEPOINT run")
                try:
                    await self._table.put(connection, batch.shard, run)
                except Exception as error:
                    if is_data_error(error):
                        await connection.execute("ROLLBACK TO SAVEPOINT run")
                    raise
                await connection.execute("RELEASE SAVEPOINT run")

            parted = await write_halved(fresh, store, stops_at_first=True)
            if not parted.written:
                # Nothing to keep, so the checkpoint stays where it was: that is a rollback.
                raise RecordsFailedError(parted.failures)
            if parted.failures:
                await self._checkpoints.put_back(connection, batch.shard, batch.epoch, _mark(parted.written[-1]))
        return parted.failures

    async def _reserved(self, connection: Any, batch: Batch, rows: Sequence[Row]) -> Sequence[Row]:
        """Move the checkpoint behind the last row; the answer is the rows that are not stored already."""
        before = await self._checkpoints.reserve(connection, batch.shard, batch.epoch, _mark(rows[-1]))
        if before is None:
            return []
        return [row for row in rows if int(row.sequence_number) > before]


def _mark(row: Row) -> Mark:
    return Mark(sequence_number=row.sequence_number, created_at_s=row.record.created_at_s)
