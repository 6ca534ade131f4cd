"""The transactional sqlite sink: data and checkpoint together, older owners refused, refused records never passed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from opened_sinks import opened
from streamflow.errors import FencedError
from streamflow.failures import RecordsFailedError
from streamflow.positions import Position
from streamflow.records import Record
from streamflow.sinks.sqlite import sqlite
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.db"


def declared(path: Path, **settings: Any) -> Any:
    return sqlite(path=path, table="orders", mode="append", transactional=True, **settings)


def events(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [event for (event,) in connection.execute("SELECT _sf_event_id FROM orders ORDER BY rowid")]


def checkpoint(path: Path) -> tuple[str, int, str | None]:
    with closing(sqlite3.connect(path)) as connection:
        (row,) = connection.execute("SELECT pipeline, epoch, position FROM streamflow_checkpoint").fetchall()
        return tuple(row)


async def test_the_checkpoint_is_that_of_the_last_record(path: Path) -> None:
    changes = Changes()
    records = changes.put_many(3)
    async with opened(declared(path)) as sink:
        assert await sink.writer.fence(records[0].shard, 4) is None
        await sink.writer.write(changes.batch(*records, epoch=4))
    assert checkpoint(path) == ("orders", 4, str(records[-1].position))
    async with opened(declared(path)) as sink:
        assert await sink.writer.fence(records[0].shard, 5) == records[-1].position
        await sink.writer.write(changes.batch(*records, changes.put("new"), epoch=5))
        assert sink.suppressed == [3]
    assert events(path) == [record.event_id for record in changes.records]


async def test_an_older_owner_is_refused_and_told_what_to_do(path: Path) -> None:
    changes = Changes()
    first, second = changes.put("one"), changes.put("two")
    async with opened(declared(path)) as zombie, opened(declared(path)) as owner:
        await zombie.writer.fence(first.shard, 1)
        await zombie.writer.write(changes.batch(first, epoch=1))
        assert await owner.writer.fence(first.shard, 2) == first.position
        with pytest.raises(FencedError) as fenced:
            await zombie.writer.write(changes.batch(second, epoch=1))
        with pytest.raises(FencedError):
            await zombie.writer.advance(first.shard, 1, second.position)
        with pytest.raises(FencedError):
            await zombie.writer.fence(first.shard, 1)
        assert await owner.writer.fence(first.shard, 2) == first.position  # its answer may have been lost
    assert events(path) == [first.event_id]
    told = str(fenced.value)
    assert (
        f"epoch 2 is in the table streamflow_checkpoint of {path}, pipeline 'orders', and this worker has epoch 1"
        in told
    )
    assert "its owner moves it beyond that epoch by itself" in told
    assert fenced.value.epoch == 2


async def test_shards_and_pipelines_and_streams_have_rows_of_their_own(path: Path) -> None:
    changes, others = Changes(), Changes()
    ours, theirs = changes.put("one"), others.put("one")
    async with opened(declared(path)) as sink, opened(declared(path), pipeline="copies") as copies:
        await sink.writer.fence(ours.shard, 7)
        assert await sink.writer.fence(theirs.shard, 1) is None
        assert await copies.writer.fence(ours.shard, 1) is None


async def test_advancing_never_moves_back(path: Path) -> None:
    changes = Changes()
    first, second = changes.put("a"), changes.put("b")
    async with opened(declared(path)) as sink:
        await sink.writer.fence(first.shard, 1)
        await sink.writer.advance(first.shard, 1, second.position)
        await sink.writer.advance(first.shard, 1, first.position)
        assert await sink.writer.fence(first.shard, 1) == second.position
        # Numbers of 21 and 22 digits: as text, the longer one is the lesser.
        long = Position.after("2" + "0" * 21)
        await sink.writer.advance(first.shard, 1, long)
        await sink.writer.advance(first.shard, 1, Position.after("9" * 21))
        assert await sink.writer.fence(first.shard, 1) == long


async def test_the_checkpoint_does_not_pass_a_record_that_cannot_be_read(path: Path) -> None:
    changes = Changes()
    first, torn, third, fourth = (changes.put(name) for name in "abcd")
    torn = Record(msgspec.Raw(torn.raw.replace(b'"eventName":"INSERT"', b'"eventName":"ODD"')), torn.shard)
    async with opened(declared(path)) as sink:
        await sink.writer.fence(first.shard, 1)
        with pytest.raises(RecordsFailedError) as failed:
            await sink.writer.write(changes.batch(first, torn, third, fourth))
        assert [(each.record, each.kind) for each in failed.value.failures] == [
            (torn, "refused"), (third, "waiting"), (fourth, "waiting"),
        ]  # fmt: skip
        assert checkpoint(path)[2] == str(first.position)
        await sink.writer.write(changes.batch(third, fourth))  # once the other is a dead letter
        await sink.writer.write(changes.batch(first, torn, third, fourth))  # and after a crash: settled, all of them
    assert events(path) == [record.event_id for record in (first, third, fourth)]
    assert checkpoint(path)[2] == str(fourth.position)


async def test_the_checkpoint_does_not_pass_rows_that_the_table_refuses(path: Path) -> None:
    changes = Changes()
    totals = ["1", "-1", "2", "-2", "3"]
    records = [changes.put(name, total={"N": total}) for name, total in zip("abcde", totals, strict=True)]
    sink_of = declared(path, columns={"total": "total"})
    async with opened(sink_of):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER positive BEFORE INSERT ON orders WHEN NEW.total < 0 BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    async with opened(sink_of) as sink:
        await sink.writer.fence(records[0].shard, 1)
        with pytest.raises(RecordsFailedError) as failed:
            await sink.writer.write(changes.batch(*records))
        kinds = [(each.record, each.kind) for each in failed.value.failures]
    assert kinds == list(zip(records[1:], ["refused", "waiting", "refused", "waiting"], strict=True))
    assert events(path) == [records[0].event_id]
    assert checkpoint(path)[2] == str(records[0].position)


async def test_letters_are_written_without_asking_the_checkpoint(path: Path) -> None:
    changes = Changes()
    letter, newer = changes.put("one"), changes.put("two")
    async with opened(declared(path)) as sink:
        await sink.writer.fence(letter.shard, 3)
        await sink.writer.write(changes.batch(newer, epoch=3))
        for _ in range(2):
            await sink.writer.write(changes.batch(letter, epoch=0))
        assert sink.suppressed == [1]
    assert events(path) == [newer.event_id, letter.event_id]
    assert checkpoint(path) == ("orders", 3, str(newer.position))
