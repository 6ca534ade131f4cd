"""A sink of one's own: a copy of the orders table in SQLite.

It is idempotent by item key and sequence number: a record that comes again, or after a newer one, changes nothing. With
delivery at least once, that makes the copy equal to the table.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, move_on_after, to_thread

import streamflow

if TYPE_CHECKING:
    from streamflow import Batch, Record

# A deleted order stays as a row without an item: else an old record that comes again would bring it back.
_CREATE = "CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, sequence_number TEXT NOT NULL, item TEXT)"
_UPSERT = """
    INSERT INTO orders VALUES (?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET sequence_number = excluded.sequence_number, item = excluded.item
    WHERE excluded.sequence_number > orders.sequence_number
"""


class OrdersCopy:
    """Opened once per run. What `__aenter__` gives back is written to, one batch at a time for each shard."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __aenter__(self) -> OrdersWriter:
        self._writer = await to_thread.run_sync(OrdersWriter, self._path)
        return self._writer

    async def __aexit__(self, *exception: object) -> None:
        # Also where the run is cancelled, which ends every other wait at once.
        with move_on_after(5, shield=True):
            await to_thread.run_sync(self._writer.close)


class OrdersWriter:
    """One connection, used by one thread at a time: each batch is a transaction."""

    def __init__(self, path: str) -> None:
        self._one_at_a_time = CapacityLimiter(1)
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.execute(_CREATE)

    async def write(self, batch: Batch) -> None:
        """Returning says that the batch is on disk; whatever is raised has it come again."""
        await to_thread.run_sync(self._upsert, batch, limiter=self._one_at_a_time)

    def _upsert(self, batch: Batch) -> None:
        with self._connection:
            self._connection.executemany(_UPSERT, map(_row, batch))

    def close(self) -> None:
        self._connection.close()


def _row(record: Record) -> tuple[str, str, str | None]:
    item = record.new_image
    # Sequence numbers have 21 to 40 digits: filled up with zeros they are ordered as text too.
    return str(record.keys["id"]), record.sequence_number.zfill(40), None if item is None else repr(item)


orders = streamflow.Pipeline(
    name="orders-copy",
    source=streamflow.DynamoDBStream(table="orders"),
    handler=OrdersCopy("orders-copy.db"),
    starting_position="TRIM_HORIZON",
)

if __name__ == "__main__":
    asyncio.run(streamflow.run(orders))
