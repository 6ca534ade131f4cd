"""Dead letters and parked records as rows of PostgreSQL.

Whoever parks holds the advisory lock of the stream until the commit, and then looks: so nobody parks at the same time,
and what was parked before is seen. The look locks the letter that it finds, so a removal of it waits for the commit too.
Whoever removed the last letter of an item and then finds none has not overlooked one that was on its way.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from streamflow.dead_letters import DeadLetter
from streamflow.errors import StoreError
from streamflow_postgres.store_texts import original, stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamflow.dead_letters import Drawer, LetterQuery
    from streamflow_postgres.store_calls import Calls

_INTEGER_MAX = 2**63 - 1  # of PostgreSQL's bigint
_PLACE = ("drawer", "pipeline", "stream_arn", "shard_id", "sequence_number")
_FACTS = (
    "item_key",
    "item_digest",
    "record",
    "reason",
    "error_type",
    "error_text",
    "invoke_count",
    "kept_at_s",
)
_COLUMNS = _PLACE + _FACTS
_READ = (
    "id, pipeline, stream_arn, shard_id, sequence_number, item_key, record, reason, error_type, error_text, invoke_count, "
    "kept_at_s"
)
# Of arrays, the client library knows those of texts; about others it would ask the server, on each new connection.
_IDS = "${}::text[]::bigint[]"
_IN_STREAM = "drawer = 'parked' AND pipeline = $1 AND stream_arn = $2"


class PostgresLetters:
    """The contract of `DeadLetterStore`; `schema` is quoted."""

    def __init__(self, calls: Calls, schema: str) -> None:
        self._letter_calls = calls
        self._schema = schema
        table = f"{schema}.streamflow_letters"
        # All of these are made of the constants above, and of a name that is quoted.
        values = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
        renewed = ", ".join(f"{column} = excluded.{column}" for column in _FACTS)
        self._keep = (
            f"INSERT INTO {table} ({', '.join(_COLUMNS)}) VALUES ({values}) "  # noqa: S608
            f"ON CONFLICT ({', '.join(_PLACE)}) DO UPDATE SET {renewed}"
        )
        self._parked_keys = f"SELECT DISTINCT item_key FROM {table} WHERE {_IN_STREAM} AND item_key <> ''"  # noqa: S608
        self._followed = (
            "SELECT item.place FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY "  # noqa: S608
            "AS item (pipeline, stream_arn, item_key, item_digest, place), LATERAL ("
            f"SELECT FROM {table} AS held WHERE held.drawer = 'parked' AND held.pipeline = item.pipeline "
            "AND held.stream_arn = item.stream_arn AND held.item_digest = item.item_digest AND held.item_key = item.item_key "
            "ORDER BY held.id DESC LIMIT 1 FOR KEY SHARE) AS last"
        )
        self._letters = f"SELECT {_READ} FROM {table}"  # noqa: S608
        self._count = f"SELECT count(*) FROM {table}"  # noqa: S608
        self._remove = f"DELETE FROM {table} WHERE drawer = $1 AND id = ANY({_IDS.format(2)})"  # noqa: S608

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            await self._letter_calls.change_all(self._keep, _rows("dead", letters))

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        offered = tuple(letters)
        if not offered:
            return frozenset()

        async def steps(connection: Any) -> frozenset[str]:
            taken = offered if opening else await self._followers(connection, offered)
            if taken:
                await connection.executemany(self._keep, _rows("parked", taken))
            return frozenset(letter.item_key for letter in taken)

        streams = {(letter.pipeline, letter.stream_arn) for letter in offered}
        # In one order, whoever takes several.
        locks = sorted(stream_lock(self._schema, *stream) for stream in streams)
        return await self._letter_calls.transact(steps, locks=locks)

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        rows = await self._letter_calls.fetch(self._parked_keys, stored(pipeline), stored(stream_arn))
        return frozenset(self._text(row[0], "an item key") for row in rows)

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        condition, values = _condition(query)
        statement = f"{self._letters} {condition} ORDER BY id LIMIT ${len(values) + 1}"
        rows = await self._letter_calls.fetch(statement, *values, _integer(query.limit))
        return [self._letter(row) for row in rows]

    async def count(self, query: LetterQuery) -> int:
        condition, values = _condition(query)
        ((number,),) = await self._letter_calls.fetch(f"{self._count} {condition}", *values)
        return int(number)

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        return await self._letter_calls.change(self._remove, drawer, _ids(ids))

    async def _followers(self, connection: Any, offered: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Those whose keys are parked now. Records without a key that can be read have no order to keep."""
        items = list(dict.fromkeys(_item(letter) for letter in offered if letter.item_key))
        if not items:
            return ()
        pipelines, streams, keys = ([stored(item[part]) for item in items] for part in range(3))
        found = await connection.fetch(self._followed, pipelines, streams, keys, [_digest(key) for key in keys])
        parked = {items[row[0] - 1] for row in found}
        return [letter for letter in offered if letter.item_key and _item(letter) in parked]

    def _letter(self, row: Any) -> DeadLetter:
        letter_id, pipeline, stream_arn, shard_id, sequence_number, item_key, record, *facts = row
        reason, error_type, error_text, invoke_count, kept_at_s = facts
        what = f"letter {letter_id}"
        return DeadLetter(
            pipeline=self._text(pipeline, what),
            stream_arn=self._text(stream_arn, what),
            shard_id=self._text(shard_id, what),
            sequence_number=self._text(sequence_number, what),
            item_key=self._text(item_key, what),
            record=record,
            reason=self._text(reason, what),
            error_type=self._text(error_type, what),
            error_text=self._text(error_text, what),
            invoke_count=invoke_count,
            kept_at_s=kept_at_s,
            id=letter_id,
        )

    def _text(self, found: str, what: str) -> str:
        try:
            return original(found)
        except ValueError as error:
            raise StoreError(
                f"lease store {self._letter_calls.shown}: {what} is damaged: {error} (correct it, or remove the letter: its "
                "record is lost then)"
            ) from error


def _item(letter: DeadLetter) -> tuple[str, str, str]:
    return letter.pipeline, letter.stream_arn, letter.item_key


def _digest(key: str) -> str:
    """Of the text as it is stored: a key may be longer than what an index of PostgreSQL takes (2,704 bytes)."""
    return hashlib.sha256(key.encode()).hexdigest()


def stream_lock(schema: str, pipeline: str, stream_arn: str) -> int:
    """The number of an advisory lock. Where two streams have the same they only wait for each other."""
    name = "\0".join(("streamflow", schema, stored(pipeline), stored(stream_arn)))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def _rows(drawer: Drawer, letters: Iterable[DeadLetter]) -> Sequence[tuple[Any, ...]]:
    """Each in the order of `_COLUMNS`."""
    return [
        (
            drawer,
            stored(letter.pipeline),
            stored(letter.stream_arn),
            stored(letter.shard_id),
            stored(letter.sequence_number),
            key := stored(letter.item_key),
            _digest(key),
            letter.record,
            stored(letter.reason),
            stored(letter.error_type),
            stored(letter.error_text),
            letter.invoke_count,
            letter.kept_at_s,
        )
        for letter in letters
    ]


def _condition(query: LetterQuery) -> tuple[str, list[Any]]:
    """A WHERE clause with the values for it."""
    restrictions = {
        "drawer": query.drawer,
        "pipeline": query.pipeline,
        "stream_arn": query.stream_arn,
        "shard_id": query.shard_id,
        "item_key": query.item_key,
    }
    values: list[Any] = []
    terms: list[str] = []

    def add(term: str, value: Any) -> None:
        values.append(value)
        terms.append(f"{term} ${len(values)}")

    for column, text in restrictions.items():
        if text is not None:
            add(f"{column} =", stored(text))
    if query.item_key is not None:
        add("item_digest =", _digest(stored(query.item_key)))
    add("id >", _integer(query.after_id))
    if query.ids:
        values.append(_ids(query.ids))
        terms.append(f"id = ANY({_IDS.format(len(values))})")
    return f"WHERE {' AND '.join(terms)}", values


def _integer(number: int) -> int:
    """What means the same to PostgreSQL, which takes no negative limit and nothing beyond 64 bits."""
    return max(0, min(number, _INTEGER_MAX))


def _ids(ids: Iterable[int]) -> list[str]:
    """Those that a letter may have, for `_IDS`."""
    return [str(number) for number in ids if 0 < number <= _INTEGER_MAX]
