"""How far each shard is, in the database that holds its data: so both are in one commit, and one epoch fences both.

For a connection inside an immediate transaction: nobody else writes between what is read here and what is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.errors import FencedError
from streamflow.positions import Position

if TYPE_CHECKING:
    import sqlite3

    from streamflow.records import Shard

CREATION = """
CREATE TABLE IF NOT EXISTS streamflow_checkpoint (
    pipeline TEXT NOT NULL, stream_arn TEXT NOT NULL, shard TEXT NOT NULL,
    epoch INTEGER NOT NULL, position TEXT,
    PRIMARY KEY (pipeline, stream_arn, shard)
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCheckpoint:
    """The row of one shard of a pipeline. `path` is for messages."""

    path: str
    pipeline: str
    shard: Shard

    def fence(self, connection: sqlite3.Connection, epoch: int) -> Position | None:
        """Refuse older epochs from now on; the answer is how far the shard is, None for nowhere.

        Raises:
            FencedError: the row has seen a newer one.
        """
        stored_epoch, position = self._read(connection)
        if epoch < stored_epoch:
            raise self._fenced(epoch, stored_epoch)
        self._store(connection, epoch, position)
        return position

    def advance(self, connection: sqlite3.Connection, epoch: int, position: Position) -> None:
        """Store that everything up to `position` is settled; it never moves back. Raises as `fence`."""
        stored = self.fence(connection, epoch)
        if stored is None or stored.order < position.order:
            self._store(connection, epoch, position)

    def _read(self, connection: sqlite3.Connection) -> tuple[int, Position | None]:
        row = connection.execute(
            "SELECT epoch, position FROM streamflow_checkpoint WHERE pipeline = ? AND stream_arn = ? AND shard = ?",
            self._key,
        ).fetchone()
        if row is None:
            return 0, None
        epoch, position = row
        return epoch, None if position is None else Position.parse(position)

    def _store(self, connection: sqlite3.Connection, epoch: int, position: Position | None) -> None:
        connection.execute(
            "INSERT INTO streamflow_checkpoint (pipeline, stream_arn, shard, epoch, position) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (pipeline, stream_arn, shard) DO UPDATE SET epoch = excluded.epoch, position = excluded.position",
            (*self._key, epoch, None if position is None else str(position)),
        )

    @property
    def _key(self) -> tuple[str, str, str]:
        return self.pipeline, self.shard.stream_arn, self.shard.shard_id

    def _fenced(self, epoch: int, stored_epoch: int) -> FencedError:
        where = f"the table streamflow_checkpoint of {self.path}, pipeline {self.pipeline!r}"
        return FencedError.behind(self.shard.shard_id, epoch=epoch, newest=stored_epoch, where=where)
