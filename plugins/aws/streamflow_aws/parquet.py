"""Records as a Parquet file: what identifies and dates a change in columns, keys and image as JSON text."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet

from streamflow.sdk import sortable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.sdk import Record

SCHEMA = pa.schema(
    [
        pa.field("event_name", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("keys", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("_sf_seq", pa.string(), nullable=False),
        pa.field("_sf_shard", pa.string(), nullable=False),
        pa.field("_sf_event_id", pa.string(), nullable=False),
        pa.field("_sf_deleted", pa.bool_(), nullable=False),
    ]
)
"""`image` is the new image in plain JSON: null for a delete, and where the stream carries none. `_sf_seq` orders as text."""


def row(record: Record) -> tuple[Any, ...]:
    """The values of a record, in the order of the columns. Raises `MalformedRecordError`."""
    image = record.json_image("new")
    return (
        record.event_name,
        int(record.created_at_s * 1000),
        orjson.dumps(record.json_image("keys") or {}).decode(),
        None if image is None else orjson.dumps(image).decode(),
        sortable(record.sequence_number),
        record.shard.shard_id,
        record.event_id,
        record.event_name == "REMOVE",
    )


def body(rows: Sequence[tuple[Any, ...]]) -> bytes:
    columns = zip(*rows, strict=True) if rows else [() for _ in SCHEMA]
    arrays = [pa.array(list(column), field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), file, compression="zstd")
    return file.getvalue()
