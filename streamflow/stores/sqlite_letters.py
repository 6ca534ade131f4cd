"""Dead letters and parked records as rows of a SQLite file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streamflow.dead_letters import DeadLetter
from streamflow.errors import StoreError
from streamflow.stores.sqlite_writer import undone_together

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from streamflow.dead_letters import Drawer, LetterQuery
    from streamflow.stores.sqlite_writer import Writer

_INTEGER_MAX = 2**63 - 1  # SQLite's
_NAME = "drawer, pipeline, stream_arn, shard_id, sequence_number"
_REST = "item_key, record, reason, error_type, error_text, invoke_count, kept_at_s"
_RENEWED = ", ".join(f"{column} = excluded.{column}" for column in _REST.split(", "))
_KEEP = (
    f"INSERT INTO streamflow_letters ({_NAME}, {_REST}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
    f"ON CONFLICT ({_NAME}) DO UPDATE SET {_RENEWED}"
)
_PARKED = "drawer = 'parked' AND pipeline = ? AND stream_arn = ?"
_IS_PARKED = f"SELECT 1 FROM streamflow_letters WHERE {_PARKED} AND item_key = ? LIMIT 1"  # noqa: S608
_PARKED_KEYS = (
    f"SELECT min(id), CAST(item_key AS BLOB) FROM streamflow_letters WHERE {_PARKED} AND item_key <> '' "  # noqa: S608
    "GROUP BY item_key"
)
# Text is read as bytes: sqlite3 quotes text that it cannot decode in its error, and this text may be of an item.
_TEXTS = ("pipeline", "stream_arn", "shard_id", "sequence_number", "item_key", "reason", "error_type", "error_text")
_AS_BYTES = ", ".join(f"CAST({column} AS BLOB)" for column in _TEXTS)
_LETTERS = f"SELECT id, record, invoke_count, kept_at_s, {_AS_BYTES} FROM streamflow_letters"  # noqa: S608
_AMONG = "id IN (SELECT value FROM json_each(?))"  # one parameter for any number of ids
_REMOVE = f"DELETE FROM streamflow_letters WHERE drawer = ? AND {_AMONG}"  # noqa: S608


class SqliteLetters:
    """The contract of `DeadLetterStore`, by a writer that others may share."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        kept = tuple(letters)

        def work(connection: sqlite3.Connection) -> None:
            with undone_together(connection):
                connection.executemany(_KEEP, _rows("dead", kept))

        await self._writer.ask(work, writes=True)

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        offered = tuple(letters)

        def work(connection: sqlite3.Connection) -> frozenset[str]:
            with undone_together(connection):
                taken = offered if opening else _followers(connection, offered)
                connection.executemany(_KEEP, _rows("parked", taken))
            return frozenset(letter.item_key for letter in taken)

        taken: frozenset[str] = await self._writer.ask(work, writes=True)
        return taken

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        path = self._writer.path

        def work(connection: sqlite3.Connection) -> frozenset[str]:
            found = connection.execute(_PARKED_KEYS, (pipeline, stream_arn))
            return frozenset(_text(key, "item_key", letter_id, path) for letter_id, key in found)

        keys: frozenset[str] = await self._writer.ask(work, writes=False)
        return keys

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        condition, values = _condition(query)
        statement = f"{_LETTERS} {condition} ORDER BY id LIMIT ?"
        path = self._writer.path

        def work(connection: sqlite3.Connection) -> Sequence[DeadLetter]:
            return [_letter(row, path) for row in connection.execute(statement, (*values, _integer(query.limit)))]

        letters: Sequence[DeadLetter] = await self._writer.ask(work, writes=False)
        return letters

    async def count(self, query: LetterQuery) -> int:
        condition, values = _condition(query)
        statement = f"SELECT count(*) FROM streamflow_letters {condition}"  # noqa: S608 - made of constants

        def work(connection: sqlite3.Connection) -> int:
            (number,) = connection.execute(statement, values).fetchone()
            return int(number)

        number: int = await self._writer.ask(work, writes=False)
        return number

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        among = json.dumps(list(ids))

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(_REMOVE, (drawer, among)).rowcount

        removed: int = await self._writer.ask(work, writes=True)
        return removed


def _followers(connection: sqlite3.Connection, offered: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
    """Those whose keys are parked now. Records without a key that can be read have no order to keep."""
    items = {(letter.pipeline, letter.stream_arn, letter.item_key) for letter in offered if letter.item_key}
    parked = {item for item in items if connection.execute(_IS_PARKED, item).fetchone()}
    return [letter for letter in offered if (letter.pipeline, letter.stream_arn, letter.item_key) in parked]


def _condition(query: LetterQuery) -> tuple[str, tuple[Any, ...]]:
    """An index and a WHERE clause, with the values for it."""
    restrictions = {
        "drawer": query.drawer,
        "pipeline": query.pipeline,
        "stream_arn": query.stream_arn,
        "shard_id": query.shard_id,
        "item_key": query.item_key,
    }
    given = {column: value for column, value in restrictions.items() if value is not None}
    terms = [*(f"{column} = ?" for column in given), "id > ?"]
    values: list[Any] = [*given.values(), _integer(query.after_id)]
    if query.ids:
        terms.append(_AMONG)
        values.append(json.dumps(query.ids))
    return f"{_index(query)} WHERE {' AND '.join(terms)}", tuple(values)


def _index(query: LetterQuery) -> str:
    """In which the letters asked for come by id: left to itself, SQLite would find and sort all of them for each page."""
    if query.ids:
        return "NOT INDEXED"  # by the id itself
    if None not in (query.pipeline, query.stream_arn, query.item_key):
        return "INDEXED BY streamflow_letters_by_item"
    return f"INDEXED BY streamflow_letters_by_{'drawer' if query.pipeline is None else 'pipeline'}"


def _integer(number: int) -> int:
    """What means the same to SQLite: a negative limit would be none, one beyond 64 bits an error."""
    return max(0, min(number, _INTEGER_MAX))


def _rows(drawer: Drawer, letters: Iterable[DeadLetter]) -> Iterable[tuple[Any, ...]]:
    for letter in letters:
        yield (
            drawer,
            letter.pipeline,
            letter.stream_arn,
            letter.shard_id,
            letter.sequence_number,
            letter.item_key,
            letter.record,
            letter.reason,
            _encodable(letter.error_type),
            _encodable(letter.error_text),
            letter.invoke_count,
            letter.kept_at_s,
        )


def _encodable(text: str) -> str:
    """Any exception's text: lone surrogates, as in names of files, are escaped and stop no letter."""
    return text.encode(errors="backslashreplace").decode()


def _letter(row: Sequence[Any], path: Path) -> DeadLetter:
    letter_id, record, invoke_count, kept_at_s, *texts = row
    pipeline, stream_arn, shard_id, sequence_number, item_key, reason, error_type, error_text = (
        _text(text, column, letter_id, path) for column, text in zip(_TEXTS, texts, strict=True)
    )
    return DeadLetter(
        pipeline=pipeline,
        stream_arn=stream_arn,
        shard_id=shard_id,
        sequence_number=sequence_number,
        item_key=item_key,
        record=record,
        reason=reason,
        error_type=error_type,
        error_text=error_text,
        invoke_count=invoke_count,
        kept_at_s=kept_at_s,
        id=letter_id,
    )


def _text(found: bytes, column: str, letter_id: int, path: Path) -> str:
    try:
        return str(found, "utf-8")
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"lease store {path}: letter {letter_id} is damaged: its {column} is no UTF-8 text (correct it, or remove "
            "the letter: its record is lost then)"
        ) from error
