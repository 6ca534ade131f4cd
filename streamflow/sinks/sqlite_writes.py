"""A batch into a table of SQLite, in a transaction of its thread; with a checkpoint, all or a prefix of it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from streamflow.errors import MalformedRecordError
from streamflow.failures import RecordFailure
from streamflow.sdk.encoding import encoded
from streamflow.sdk.requests import BEHIND, key_of
from streamflow.sinks.sqlite_file import refuses_row, undone_together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.records import Record
    from streamflow.sinks.sqlite_checkpoints import ShardCheckpoint
    from streamflow.sinks.sqlite_rows import Row, Table

_BEFORE = "behind a record that was not written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """`suppressed` changed nothing, because the table has them, or newer ones."""

    suppressed: int
    failures: Sequence[RecordFailure]


def prepare(table: Table, batch: Batch, checkpoint: ShardCheckpoint | None) -> Callable[[sqlite3.Connection], Written]:
    found = encoded(batch, table.row)
    rows, failures = found.entries, found.failures
    if checkpoint is None:
        return partial(_write, table, rows, failures)
    return partial(_write_with_checkpoint, table, batch, rows, failures, checkpoint)


def _write(
    table: Table, rows: Sequence[Row], failures: Sequence[RecordFailure], connection: sqlite3.Connection
) -> Written:
    try:
        with undone_together(connection):
            changed = connection.executemany(table.insertion, [row.values for row in rows]).rowcount if rows else 0
    except sqlite3.Error as error:
        if not refuses_row(error, connection):
            raise
        return _write_each(table, rows, failures, connection)
    return Written(suppressed=len(rows) - changed, failures=failures)


def _write_each(
    table: Table, rows: Sequence[Row], failures: Sequence[RecordFailure], connection: sqlite3.Connection
) -> Written:
    """Row by row, to find those that the table refuses; later changes of their items wait."""
    changed = 0
    found: list[RecordFailure] = []
    held: set[str] = set()
    for row in rows:
        if held and key_of(row.record) in held:
            found.append(RecordFailure(row.record, "waiting", BEHIND))
            continue
        try:
            changed += connection.execute(table.insertion, row.values).rowcount
        except sqlite3.Error as error:
            if not refuses_row(error, connection):
                raise
            # The message of a constraint names columns; others may quote what could not be stored.
            reason = str(error) if isinstance(error, sqlite3.IntegrityError) else type(error).__name__
            found.append(RecordFailure(row.record, "refused", f"table {table.name} does not take it: {reason}"))
            held.add(key_of(row.record))
    return Written(suppressed=len(rows) - len(found) - changed, failures=[*failures, *found])


def _write_with_checkpoint(
    table: Table,
    batch: Batch,
    rows: Sequence[Row],
    failures: Sequence[RecordFailure],
    checkpoint: ShardCheckpoint,
    connection: sqlite3.Connection,
) -> Written:
    """What is behind the checkpoint, up to the first record that cannot be written; all others wait.

    Raises:
        FencedError: a newer owner has fenced the shard.
    """
    stored = checkpoint.fence(connection, batch.epoch)
    records = [record for record in batch if stored is None or not _is_within(record, stored)]
    refused = {id(failure.record): failure for failure in failures if failure.kind == "refused"}
    hindered = {id(failure.record) for failure in failures}
    behind = next((place for place, record in enumerate(records) if id(record) in hindered), len(records))
    wanted = set(map(id, records[:behind]))
    rows = [row for row in rows if id(row.record) in wanted]
    while True:
        connection.execute("SAVEPOINT attempt")
        written = _write(table, rows, (), connection)
        if written.failures:
            connection.execute("ROLLBACK TO attempt")
        connection.execute("RELEASE attempt")
        if not written.failures:
            break
        refused |= {id(failure.record): failure for failure in written.failures if failure.kind == "refused"}
        rows = rows[: next(place for place, row in enumerate(rows) if id(row.record) in refused)]
    if rows:
        checkpoint.advance(connection, batch.epoch, rows[-1].record.position)
    rest = [refused.get(id(record)) or RecordFailure(record, "waiting", _BEFORE) for record in records[len(rows) :]]
    return Written(suppressed=len(batch) - len(records) + written.suppressed, failures=rest)


def _is_within(record: Record, position: Position) -> bool:
    """Whether it is settled already; of a record that cannot be read nobody knows."""
    try:
        return record.position.order <= position.order
    except MalformedRecordError:
        return False
