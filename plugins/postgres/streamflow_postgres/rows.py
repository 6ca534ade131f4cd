"""A record as a row: pure. What PostgreSQL has no type for is refused here, before anything is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import orjson

from streamflow.sdk import RecordRefusedError, image_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.sdk import Record

# An escape of NUL: the backslash before the `u` is not itself the second of a pair.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Row(NamedTuple):
    record: Record
    key: str
    """The item's key attributes as JSON, sorted by name: the same text for the same item."""
    image: str | None
    """The new image as plain JSON; None for a delete."""
    sequence_number: str
    event_id: str


def encode(record: Record) -> Row:
    """Raises `RecordRefusedError` and `MalformedRecordError`."""
    image = image_json(record)
    key = _key(record)
    if key in {"null", "{}"}:
        raise RecordRefusedError("it has no key")
    sequence_number = record.sequence_number
    return Row(
        record,
        _storable(key),
        None if image is None else _storable(image.decode()),
        sequence_number,
        record.event_id or f"{record.shard.shard_id}:{sequence_number}",
    )


def _key(record: Record) -> str:
    return orjson.dumps(record.json_image("keys"), option=orjson.OPT_SORT_KEYS).decode()


def _storable(text: str) -> str:
    if "\\u0000" in text and _NUL.search(text):
        raise RecordRefusedError("a string in it holds the character NUL, which PostgreSQL cannot store")
    return text


def latest(rows: Sequence[Row]) -> list[Row]:
    """The last row of each item, in the order in which all writers lock them: so two of them never wait for each other."""
    last = {row.key: row for row in rows}
    return [last[key] for key in sorted(last)]


Columns = tuple[list[str], list[str | None], list[str], list[str]]


def columns(rows: Sequence[Row]) -> Columns:
    """Keys, images, sequence numbers and event ids: what a statement takes as arrays."""
    _, keys, images, sequence_numbers, event_ids = zip(*rows, strict=True)
    return list(keys), list(images), list(sequence_numbers), list(event_ids)
