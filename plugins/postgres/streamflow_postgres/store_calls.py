"""Calls to the database: one statement or one transaction each, with a limit of time, and never repeated.

A call waits for one of its connections only as long as others get answers meanwhile. A connection on which a call broke off
is not used again; the next call makes another.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow_postgres.connecting import drop
from streamflow_postgres.store_errors import StoreFailure, explained, is_refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

T = TypeVar("T")

# How long the server may take to hear that a statement is not wanted any more. One that waits for a lock would stay, and
# with it a connection of the server's, for each call that gave up.
_CANCEL_S = 1.0


@dataclass(slots=True)
class _Effect:
    begun: bool = False
    """What may change something for good was sent."""


class Calls:
    """At most `connections` of the pool are used at the same time; `shown` is the database, for people."""

    def __init__(self, pool: Any, shown: str, *, connections: int, timeout_s: float) -> None:
        self.shown = shown
        self._pool = pool
        self._timeout_s = timeout_s
        self._free = anyio.CapacityLimiter(connections)
        self._answers = 0
        # Less than our own patience, so that the server says what it was waiting for.
        milliseconds = int(timeout_s * 900)
        # A snapshot for each statement, also where the role prefers another isolation. A client that vanished in
        # mid-transaction holds its locks no longer than we would wait for them.
        self._begin = "BEGIN ISOLATION LEVEL READ COMMITTED" + "".join(
            f"; SET LOCAL {limit} = {milliseconds}"
            for limit in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        )

    async def fetch(self, statement: str, *values: Any) -> Sequence[Any]:
        """The rows. Raises `StoreError`."""

        async def work(connection: Any, _: _Effect) -> Sequence[Any]:
            rows: Sequence[Any] = await connection.fetch(statement, *values)
            return rows

        return await self._ask(work)

    async def change(self, statement: str, *values: Any) -> int:
        """How many rows it changed.

        Raises:
            StoreError: none.
            UnknownOutcomeError: nobody knows.
        """

        async def work(connection: Any, effect: _Effect) -> int:
            effect.begun = True
            status: str = await connection.execute(statement, *values)
            return int(status.rpartition(" ")[2])  # `UPDATE 1`, `INSERT 0 1`

        return await self._ask(work)

    async def change_all(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run the statement with the values of each row, in order, all or none. Raises as `change`."""

        async def work(connection: Any, effect: _Effect) -> None:
            effect.begun = True
            await connection.executemany(statement, rows)

        await self._ask(work)

    async def transact(self, steps: Callable[[Any], Awaitable[T]], *, locks: Iterable[int] = ()) -> T:
        """Run `steps` on a connection in a transaction that holds these advisory locks; commit what they did.

        Each of their statements sees what was committed before it began, by whoever held the locks before. Raises as
        `change`, and what the steps raise: nothing happened then.
        """
        begin = self._begin + "".join(f"; SELECT pg_advisory_xact_lock({lock})" for lock in locks)

        async def work(connection: Any, effect: _Effect) -> T:
            try:
                await connection.execute(begin)
                result = await steps(connection)
                effect.begun = True
                await connection.execute("COMMIT")
            except BaseException:
                drop(connection)  # the server rolls back, if it has not committed
                raise
            return result

        return await self._ask(work)

    async def _ask(self, work: Callable[[Any, _Effect], Awaitable[T]]) -> T:
        effect = _Effect()
        async with self._turn():
            try:
                with anyio.fail_after(self._timeout_s):
                    async with self._connection() as connection:
                        result = await work(connection, effect)
            except StoreFailure as error:
                refused = is_refusal(error)
                self._answers += refused
                kind = UnknownOutcomeError if effect.begun and not refused else StoreError
                raise kind(explained(error, self.shown, timeout_s=self._timeout_s)) from None
        self._answers += 1
        return result

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await self._pool.acquire()
        try:
            yield connection
        finally:
            with anyio.CancelScope(shield=True), suppress(*StoreFailure):
                await self._pool.release(connection, timeout=_CANCEL_S)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        while True:
            answers = self._answers
            with anyio.move_on_after(self._timeout_s):
                await self._free.acquire()
                break
            if self._answers == answers:
                raise StoreError(
                    f"lease store {self.shown}: all connections were waiting for answers for {self._timeout_s:g} s (look at "
                    "the server, and at the network between)"
                )
        try:
            yield
        finally:
            self._free.release()
