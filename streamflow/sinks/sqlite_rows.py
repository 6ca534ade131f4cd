"""Records as rows, and the statements that write them: pure.

Every row carries `_sf_seq` (text that orders like the sequence number), `_sf_shard` and `_sf_event_id`. In `append` a row
is a change, and its event id the key. In `upsert` a row is an item; a delete leaves a row with `_sf_deleted`, so that an
older change that comes again cannot bring the item back, and a change is only written over an older one.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

from streamflow.errors import RecordRefusedError
from streamflow.payloads import image_json
from streamflow.positions import sortable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.records import Record

Mode: TypeAlias = Literal["append", "upsert"]

_INTEGER_MAX = 2**63
# What a double holds without loss. Beyond that a number is text, with all its digits.
_REAL_DIGITS_MAX = 15

_APPEND = {
    "item_key": "TEXT NOT NULL",
    "event_name": "TEXT NOT NULL",
    "created_at_s": "REAL NOT NULL",
    "old_image": "TEXT",
    "new_image": "TEXT",
    "_sf_event_id": "TEXT NOT NULL PRIMARY KEY",
    "_sf_seq": "TEXT NOT NULL",
    "_sf_shard": "TEXT NOT NULL",
}
_UPSERT = {
    "item_key": "TEXT NOT NULL PRIMARY KEY",
    "image": "TEXT",
    "_sf_seq": "TEXT NOT NULL",
    "_sf_shard": "TEXT NOT NULL",
    "_sf_event_id": "TEXT NOT NULL",
    "_sf_deleted": "INTEGER NOT NULL",
}
OWN_COLUMNS = frozenset(_APPEND | _UPSERT)


@dataclass(frozen=True, slots=True)
class Row:
    """`values` are in the order of `Table.columns`."""

    record: Record
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the user's. `attributes` maps columns of it to attributes of the item."""

    name: str
    mode: Mode
    attributes: Mapping[str, str]

    @property
    def columns(self) -> dict[str, str]:
        """Name to declaration; those of attributes have no type, so that values stay what they are."""
        return {**(_APPEND if self.mode == "append" else _UPSERT), **dict.fromkeys(self.attributes, "")}

    @property
    def key(self) -> str:
        return "_sf_event_id" if self.mode == "append" else "item_key"

    @property
    def creation(self) -> str:
        columns = ", ".join(f"{quoted(name)} {declared}".rstrip() for name, declared in self.columns.items())
        return f"CREATE TABLE IF NOT EXISTS {quoted(self.name)} ({columns})"

    @property
    def insertion(self) -> str:
        """Changes one row, or none where the target has the change, or a newer one, already."""
        names = ", ".join(map(quoted, self.columns))
        marks = ", ".join("?" * len(self.columns))
        table = quoted(self.name)
        insert = f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({quoted(self.key)})"  # noqa: S608
        if self.mode == "append":
            return f"{insert} DO NOTHING"
        sets = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in self.columns if name != self.key)
        return f"{insert} DO UPDATE SET {sets} WHERE excluded._sf_seq > {table}._sf_seq"

    def row(self, record: Record) -> Row:
        """Raises `MalformedRecordError` and `RecordRefusedError`."""
        if not record.event_id:
            raise RecordRefusedError("it has no event id")
        return Row(record, self._appended(record) if self.mode == "append" else self._upserted(record))

    def _appended(self, record: Record) -> tuple[Any, ...]:
        return (
            record.item_key,
            record.event_name,
            record.created_at_s,
            _json(record, "old"),
            _json(record, "new"),
            record.event_id,
            sortable(record.sequence_number),
            record.shard.shard_id,
            *self._attributes(record),
        )

    def _upserted(self, record: Record) -> tuple[Any, ...]:
        image = image_json(record)
        return (
            record.item_key,
            None if image is None else image.decode(),
            sortable(record.sequence_number),
            record.shard.shard_id,
            record.event_id,
            int(image is None),
            *self._attributes(record),
        )

    def _attributes(self, record: Record) -> list[object]:
        """Of a delete, what the key holds."""
        if not self.attributes:
            return []
        item = record.keys if record.new_image is None else record.new_image
        plain = record.json_image("keys" if record.new_image is None else "new") or {}
        return [column_value(item.get(name), plain.get(name)) for name in self.attributes.values()]


def column_value(native: object, plain: object) -> object:
    """What SQLite stores: numbers as it computes with them, where that loses nothing; sets, lists and maps as JSON text.

    `plain` is the same value as `orjson.dumps` writes it.
    """
    match native:
        case bool():
            return int(native)
        case int():
            return native if -_INTEGER_MAX <= native < _INTEGER_MAX else str(native)
        case Decimal():
            return _number(native)
        case None | float() | str() | bytes():
            return native
        case _:
            return orjson.dumps(plain).decode()


def _number(number: Decimal) -> int | float | str:
    _, digits, exponent = number.as_tuple()
    if isinstance(exponent, int) and exponent >= 0 and len(digits) + exponent <= len(str(_INTEGER_MAX)):
        whole = int(number)
        return whole if -_INTEGER_MAX <= whole < _INTEGER_MAX else str(number)
    # A double reaches far beyond the exponents of DynamoDB, which are within 130.
    return float(number) if len(digits) <= _REAL_DIGITS_MAX and abs(number.adjusted()) <= 130 else str(number)


def _json(record: Record, which: Literal["old", "new"]) -> str | None:
    image = record.json_image(which)
    return None if image is None else orjson.dumps(image).decode()


def quoted(name: str) -> str:
    """Names are of letters, digits and `_` (see the settings); quoted, they may be words of SQL too."""
    return f'"{name}"'
