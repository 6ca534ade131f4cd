"""The one thread that owns the connection to a SQLite file, and commits in groups.

Whatever is asked while a transaction runs goes into the next one, so a thousand shards cost a few syncs. The queue holds
at most one request per waiting caller. A caller hears of its request only after the commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.stores.sqlite_file import explained, open_file, primary_code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

_GROUP_MAX = 1_000
# Failures of a statement that leave the transaction around it sound; after all others SQLite asks for a rollback.
_LOCAL = frozenset({"", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG"})


@dataclass(slots=True, eq=False)
class Request:
    """Work, and what came of it: `result` if `error` is None.

    `work` runs on the writer's thread inside a transaction that other requests share. It changes something by one
    statement, or by several inside `undone_together`.
    """

    work: Callable[[sqlite3.Connection], Any]
    writes: bool
    done: anyio.Event
    result: Any = None
    error: StoreError | None = None


class Writer:
    """Use `open_writer`."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self._loop = loop
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._closed = False
        self._refused: StoreError | None = None
        self._opened = anyio.Event()
        self._ended = anyio.Event()

    async def ask(self, work: Callable[[sqlite3.Connection], Any], *, writes: bool) -> Any:
        """Have `work` done and committed; its return value is the answer.

        A caller that is cancelled stops waiting; what it asked for is done all the same.

        Raises:
            StoreError: it was not done.
            UnknownOutcomeError: it was written, but the commit failed half-way; only if it `writes`.
        """
        if self._closed:
            raise StoreError(f"lease store {self.path}: it is closed")
        request = Request(work, writes, anyio.Event())
        self._requests.put(request)
        await request.done.wait()
        if request.error is not None:
            raise request.error
        return request.result

    async def wait_opened(self) -> None:
        """Wait until the file is open.

        Raises:
            StoreError: it cannot be used.
        """
        await self._opened.wait()
        if self._refused is not None:
            raise self._refused

    async def aclose(self) -> None:
        """Finish what was asked before, close the file, end the thread. Not cancellable: at most a busy timeout long."""
        self._closed = True
        self._requests.put(None)
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    # -- on the thread ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            connection = open_file(self.path)
        except Exception as error:  # noqa: BLE001 - whoever opens must hear of it, whatever it is
            refused = StoreError(f"lease store {self.path}: {type(error).__name__}: {error}")
            self._refused = error if isinstance(error, StoreError) else refused
            self._tell([self._opened, self._ended])
            return
        self._tell([self._opened])
        try:
            with closing(connection):
                while group := self._next_group():
                    perform(connection, group, self.path)
                    self._tell([request.done for request in group])
        finally:
            self._tell([self._ended])

    def _next_group(self) -> list[Request]:
        """What is waiting, at least one request; nothing after the last one."""
        group: list[Request] = []
        with suppress(Empty):
            while len(group) < _GROUP_MAX:
                request = self._requests.get(block=not group)
                if request is None:
                    # The end comes once more, when this group is served.
                    if group:
                        self._requests.put(None)
                    break
                group.append(request)
        return group

    def _tell(self, events: Sequence[anyio.Event]) -> None:
        # A loop that was closed without closing the store has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_set, events)


@asynccontextmanager
async def open_writer(path: Path) -> AsyncIterator[Writer]:
    """Open the file on a thread of its own for the length of the block.

    Raises:
        StoreError: the file cannot be used.
    """
    writer = Writer(path, asyncio.get_running_loop())
    thread = threading.Thread(target=writer.run, name=f"streamflow/{path.name}", daemon=True)  # noqa: TID251 - sqlite3 blocks
    thread.start()
    try:
        await writer.wait_opened()
        yield writer
    finally:
        await writer.aclose()
        thread.join()  # its last act was to say that it has ended


def _set(events: Iterable[anyio.Event]) -> None:
    for event in events:
        event.set()


def perform(connection: sqlite3.Connection, requests: Sequence[Request], path: Path) -> None:
    """Give each request its result or its error, in one transaction; one by one where one of them spoils it."""
    step = "begin"
    try:
        connection.execute("BEGIN IMMEDIATE" if any(request.writes for request in requests) else "BEGIN")
        step = "work"
        for request in requests:
            _work(connection, request, path)
        step = "commit"
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        # A commit that did not fit or got no lock wrote nothing; any other failed one may be on the disk.
        unknown = step == "commit" and primary_code(error) not in {"SQLITE_FULL", "SQLITE_BUSY"}
        if len(requests) > 1 and step != "begin" and not unknown:
            for request in requests:
                request.result = request.error = None
                perform(connection, [request], path)
            return
        for request in requests:
            failure = explained(error, path)
            request.error = UnknownOutcomeError(str(failure)) if unknown and request.writes else failure
    except Exception as error:  # noqa: BLE001 - a bug must not leave callers waiting on a dead thread
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        for request in requests:
            request.error = UnknownOutcomeError(f"lease store {path}: {type(error).__name__} on the writer's thread")


@contextmanager
def undone_together(connection: sqlite3.Connection) -> Iterator[None]:
    """Around the statements of one request: where one of them fails all are undone, and nothing of other requests."""
    connection.execute("SAVEPOINT request")
    try:
        yield
    except BaseException:
        # After some failures SQLite has undone the whole transaction already. An undoing that fails must not pass for
        # the milder error before it: its own goes up, and spoils the transaction.
        if connection.in_transaction:
            connection.execute("ROLLBACK TO request")
            connection.execute("RELEASE request")
        raise
    connection.execute("RELEASE request")


def _work(connection: sqlite3.Connection, request: Request, path: Path) -> None:
    """A request that fails undoes itself: the transaction goes on, unless SQLite says it cannot."""
    try:
        request.result = request.work(connection)
    except sqlite3.Error as error:
        if primary_code(error) not in _LOCAL or not connection.in_transaction:
            raise
        request.error = explained(error, path)
    except StoreError as error:
        request.error = error
    except (ValueError, TypeError, OverflowError) as error:
        request.error = StoreError(f"lease store {path}: {error}")
