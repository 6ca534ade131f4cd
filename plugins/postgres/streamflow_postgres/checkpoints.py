"""The table of checkpoints: how far each shard is, and which owner may write.

`epoch` is the fence. Whoever takes a shard over puts its own there, and every statement of an older owner finds no row then,
also in a transaction that was under way: it holds the row, so the new owner waits and sees what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamflow.sdk import FencedError
from streamflow_postgres.statements import literal

if TYPE_CHECKING:
    from streamflow.sdk import Shard

# The epoch of the same owner again: its answer was lost.
FENCE = (
    "INSERT INTO {table} AS held (pipeline, stream, shard, seq, epoch) VALUES ($1, $2, $3, 0, $4) "
    "ON CONFLICT (pipeline, stream, shard) DO UPDATE SET epoch = excluded.epoch, updated_at = now() "
    "WHERE held.epoch <= excluded.epoch RETURNING seq::text"
)
# Reading it with a lock and writing it in one statement tells where the shard was.
RESERVE = (
    "UPDATE {table} AS held SET seq = $5::text::numeric, event_time = $6::timestamptz, updated_at = now() "
    "FROM (SELECT seq FROM {table} WHERE pipeline = $1 AND stream = $2 AND shard = $3 FOR UPDATE) AS was "
    "WHERE held.pipeline = $1 AND held.stream = $2 AND held.shard = $3 AND held.epoch = $4 "
    "AND was.seq < $5::text::numeric RETURNING was.seq::text"
)
ADVANCE = (
    "UPDATE {table} SET seq = greatest(seq, $5::text::numeric), updated_at = now() "
    "WHERE pipeline = $1 AND stream = $2 AND shard = $3 AND epoch = $4"
)
_SET = (
    "UPDATE {table} SET seq = $5::text::numeric, event_time = $6::timestamptz, updated_at = now() "
    "WHERE pipeline = $1 AND stream = $2 AND shard = $3 AND epoch = $4"
)
_LOOK = "SELECT seq::text, epoch FROM {table} WHERE pipeline = $1 AND stream = $2 AND shard = $3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a shard is: a sequence number, and when that change was made."""

    sequence_number: str
    created_at_s: float

    @property
    def arguments(self) -> tuple[str, datetime]:
        return self.sequence_number, datetime.fromtimestamp(self.created_at_s, UTC)


class Checkpoints:
    """`table` is quoted. Each method runs one or two statements on the connection that it is given."""

    def __init__(self, table: str, pipeline: str) -> None:
        self._table = table
        self._pipeline = pipeline

    async def fence(self, connection: Any, shard: Shard, epoch: int) -> str:
        """Put the epoch there; the answer is the sequence number that the shard is at, "0" for none.

        Raises:
            FencedError: a newer one is there.
        """
        found = await connection.fetchval(self._of(FENCE), *self._row(shard), epoch)
        if found is None:
            raise await self._fenced(connection, shard, epoch)
        return str(found)

    async def reserve(self, connection: Any, shard: Shard, epoch: int, mark: Mark) -> int | None:
        """Move to `mark`; the answer is where the shard was, None if it is that far already. Holds the row from then on.

        Raises:
            FencedError: the row is not ours.
        """
        found = await connection.fetchval(self._of(RESERVE), *self._row(shard), epoch, *mark.arguments)
        if found is not None:
            return int(found)
        row = await connection.fetchrow(self._of(_LOOK), *self._row(shard))
        if row is None or row["epoch"] != epoch:
            raise await self._fenced(connection, shard, epoch)
        return None

    async def put_back(self, connection: Any, shard: Shard, epoch: int, mark: Mark) -> None:
        """Move to a `mark` before the one that was reserved in the same transaction."""
        await connection.execute(self._of(_SET), *self._row(shard), epoch, *mark.arguments)

    async def advance(self, connection: Any, shard: Shard, epoch: int, sequence_number: str) -> None:
        """Move to `sequence_number`, never back.

        Raises:
            FencedError: the row is not ours.
        """
        changed = await connection.execute(self._of(ADVANCE), *self._row(shard), epoch, sequence_number)
        if changed == "UPDATE 0":
            raise await self._fenced(connection, shard, epoch)

    async def _fenced(self, connection: Any, shard: Shard, epoch: int) -> FencedError:
        row = await connection.fetchrow(self._of(_LOOK), *self._row(shard))
        names = zip(("pipeline", "stream", "shard"), self._row(shard), strict=True)
        where = " AND ".join(f"{name} = {literal(value)}" for name, value in names)
        if row is None:
            return FencedError(
                f"{self._table} has no row any more where {where}: somebody deleted it while this worker (epoch {epoch}) "
                "owned the shard; it is made anew when the shard is taken again"
            )
        place = f"{self._table} where {where}"
        return FencedError.behind(shard.shard_id, epoch=epoch, newest=row["epoch"], where=place)

    def _of(self, statement: str) -> str:
        return statement.format(table=self._table)

    def _row(self, shard: Shard) -> tuple[str, str, str]:
        return self._pipeline, shard.stream_arn, shard.shard_id
