"""The transactional sqlite sink against crashes at every statement, lost answers, other batches and zombies.

A worker writes a log of changes in batches of random sizes. Before or after any statement, the commit among them, its
connection may be gone; a new worker then fences the shard, asks where it is, and goes on in other batches. At any time an
old worker that was thought dead writes what it had. In the end the table is the fold of the log, and each change is in
the history once.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.batches import Batch
from streamflow.errors import FencedError
from streamflow.sinks.sqlite_checkpoints import CREATION, ShardCheckpoint
from streamflow.sinks.sqlite_file import open_file
from streamflow.sinks.sqlite_rows import Mode, Table
from streamflow.sinks.sqlite_writes import prepare
from streamflow.sinks.writing_thread import Request
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from streamflow.positions import Position
    from streamflow.records import Record
    from streamflow.sinks.writing_thread import Perform


class Crash(BaseException):
    """The process is gone: nothing of it runs any more."""


@dataclass(slots=True, eq=False)
class Fuse:
    """Burns with each statement; at its end the process is gone, before the statement or after it."""

    statements: int
    before: bool

    def burn(self, run: Callable[[], Any]) -> Any:
        self.statements -= 1
        if self.statements == 0 and self.before:
            raise Crash
        result = run()
        if self.statements == 0:
            raise Crash
        return result


class Connection(sqlite3.Connection):
    fuse: Fuse | None = None

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        return self._burn(lambda: super(Connection, self).execute(*arguments))

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        return self._burn(lambda: super(Connection, self).executemany(*arguments))

    def _burn(self, run: Callable[[], sqlite3.Cursor]) -> sqlite3.Cursor:
        if self.fuse is not None and self.fuse.statements > 0:
            return self.fuse.burn(run)  # type: ignore[no-any-return]
        if self.fuse is not None:
            raise Crash  # a dead process rolls nothing back: closing the file does
        return run()


@dataclass(slots=True, eq=False)
class Worker:
    """One owner of the shard, as the engine would be; `unwritten` is what it has read and not written."""

    path: Path
    table: Table
    epoch: int
    fuse: Fuse | None
    _connection: Connection = field(init=False)
    _perform: Perform[Any] = field(init=False)
    _opening: AbstractContextManager[Perform[Any]] = field(init=False)

    def __enter__(self) -> Self:
        made: list[Connection] = []
        connect = sqlite3.connect

        def connect_burning(*arguments: Any, **options: Any) -> Connection:
            made.append(connect(*arguments, **options, factory=Connection))
            return made[0]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", connect_burning)
            self._opening = open_file(self.path, self.table, [CREATION])
            self._perform = self._opening.__enter__()
        self._connection = made[0]
        self._connection.fuse = self.fuse
        return self

    def __exit__(self, *exception: object) -> None:
        self._opening.__exit__(None, None, None)

    def fence(self, record: Record) -> Position | None:
        position: Position | None = self._ask(lambda: lambda at: self._checkpoint(record).fence(at, self.epoch))
        return position

    def write(self, records: Sequence[Record]) -> None:
        batch = Batch(pipeline="orders", shard=records[0].shard, records=records, epoch=self.epoch)
        written = self._ask(lambda: prepare(self.table, batch, self._checkpoint(records[0])))
        assert not written.failures
        assert not written.suppressed, "the checkpoint is behind the data"

    def _checkpoint(self, record: Record) -> ShardCheckpoint:
        return ShardCheckpoint(path=str(self.path), pipeline="orders", shard=record.shard)

    def _ask(self, work: Any) -> Any:
        request = Request(work, anyio.Event())
        self._perform([request])
        if request.error is not None:
            raise request.error
        return request.result


Log = list[tuple[str, bool]]
LOGS: st.SearchStrategy[Log] = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12)
FUSES = st.builds(Fuse, statements=st.integers(1, 40), before=st.booleans())


@given(
    log=LOGS,
    cuts=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    fuses=st.lists(FUSES, min_size=1, max_size=5),
    zombies=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 11), st.integers(1, 5)), max_size=3),
    mode=st.sampled_from(["append", "upsert"]),
)
@settings(max_examples=60)
def test_the_table_is_the_fold_of_the_log_whatever_dies(
    log: Log,
    cuts: list[int],
    fuses: list[Fuse],
    zombies: list[tuple[int, int, int]],
    mode: Mode,
) -> None:
    records = written(log)
    with tempfile.TemporaryDirectory() as directory:
        table = Table(name="orders", mode=mode, attributes={})
        path = Path(directory, "orders.db")
        sizes = endless(cuts)
        raised = list(zombies)
        for epoch, fuse in enumerate([*fuses, None], start=1):
            copied = Fuse(fuse.statements, fuse.before) if fuse else None
            with suppress(Crash), Worker(path, table, epoch, copied) as worker:
                work_through(worker, records, sizes, lambda: wake(raised, path, table, epoch, records))  # noqa: B023
        check(path, mode, records)


def written(log: Log) -> list[Record]:
    """A delete of an item that is not there makes no record: it is put instead."""
    changes = Changes()
    there: set[str] = set()
    for item, is_delete in log:
        if is_delete and item in there:
            there.discard(item)
            changes.delete(item)
        else:
            there.add(item)
            changes.put(item)
    return changes.records


def endless(cuts: Sequence[int]) -> Iterator[int]:
    while True:
        yield from cuts


def work_through(worker: Worker, records: Sequence[Record], sizes: Iterator[int], between: Callable[[], None]) -> None:
    """From where the target is to the end; `between` happens before each batch."""
    position = worker.fence(records[0])
    rest = [record for record in records if position is None or position.order < record.position.order]
    while rest:
        between()
        size = next(sizes)
        worker.write(rest[:size])
        rest = rest[size:]


def wake(raised: list[tuple[int, int, int]], path: Path, table: Table, epoch: int, records: Sequence[Record]) -> None:
    """One worker of an older epoch writes what it had in its hands."""
    if epoch > 1 and raised:
        age, start, size = raised.pop()
        stale = records[start % len(records) :][:size]
        with Worker(path, table, 1 + age % (epoch - 1), None) as zombie, pytest.raises(FencedError):
            zombie.write(stale)


def check(path: Path, mode: Mode, records: Sequence[Record]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        ((position,),) = connection.execute("SELECT position FROM streamflow_checkpoint").fetchall()
        assert position == str(records[-1].position)
        if mode == "append":
            history = [event for (event,) in connection.execute("SELECT _sf_event_id FROM orders ORDER BY rowid")]
            assert history == [record.event_id for record in records]
        else:
            state = dict(connection.execute("SELECT item_key, _sf_event_id FROM orders WHERE NOT _sf_deleted"))
            fold = {record.item_key: record for record in records}
            alive = {key: record.event_id for key, record in fold.items() if record.event_name != "REMOVE"}
            assert state == alive
