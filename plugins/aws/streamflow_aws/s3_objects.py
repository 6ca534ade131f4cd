"""Records as objects: their lines or columns, their keys, and what they say of themselves. Pure, and slow for the loop."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import zstandard

from streamflow.sdk import MalformedRecordError, RecordFailure, RecordRefusedError, payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.sdk import PayloadForm, Record, Shard

Format: TypeAlias = Literal["jsonl", "jsonl.zst", "parquet"]
Partition: TypeAlias = Literal["day", "hour"]

_PARTITIONS: dict[Partition, str] = {"day": "dt=%Y-%m-%d", "hour": "dt=%Y-%m-%d/hour=%H"}
# zstandard's own default: faster than the network, and a tenth of the size of JSON.
_LEVEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectForm:
    """`row` encodes one record, `body` makes an object of rows; of none, an object that readers find empty."""

    extension: str
    content_type: str
    row: Callable[[Record], Any]
    body: Callable[[Sequence[Any]], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record that can be written, and what an object is named by."""

    record: Record
    sequence_number: str
    created_at: datetime
    content: Any


def object_form(format_: Format, form: PayloadForm) -> ObjectForm:
    """Raises `ImportError`: Parquet takes pyarrow, which is not installed."""
    match format_:
        case "parquet":
            from streamflow_aws import parquet

            return ObjectForm(
                extension="parquet", content_type="application/vnd.apache.parquet", row=parquet.row, body=parquet.body
            )
        case "jsonl":
            return ObjectForm(
                extension="jsonl", content_type="application/x-ndjson", row=partial(_line, form=form), body=b"".join
            )
        case _:
            return ObjectForm(
                extension="jsonl.zst", content_type="application/zstd", row=partial(_line, form=form), body=_compressed
            )


def rows(records: Sequence[Record], form: ObjectForm) -> tuple[list[Row], list[RecordFailure]]:
    """What can be encoded, and what cannot, with later changes of the same items."""
    found: list[Row] = []
    failures: list[RecordFailure] = []
    held: set[str] = set()
    for record in records:
        try:
            if held and record.item_key in held:
                failures.append(
                    RecordFailure(record, "waiting", "behind a change of the same item that was not written")
                )
                continue
            found.append(_row(record, form))
        except (MalformedRecordError, RecordRefusedError) as error:
            failures.append(RecordFailure(record, "refused", str(error)))
            with suppress(MalformedRecordError):
                held.add(record.item_key)
    return found, failures


def _row(record: Record, form: ObjectForm) -> Row:
    try:
        created_at = datetime.fromtimestamp(record.created_at_s, UTC)
    except (ValueError, OverflowError, OSError):
        raise RecordRefusedError("its ApproximateCreationDateTime is no time") from None
    return Row(record=record, sequence_number=record.sequence_number, created_at=created_at, content=form.row(record))


def object_key(
    prefix: str, content: Sequence[Row], form: ObjectForm, *, partition: Partition, serial: int | None
) -> str:
    """`PREFIX/dt=YYYY-MM-DD/SHARD.STREAM/FIRST-LAST[.SERIAL].EXTENSION`, by the time of the first record.

    STREAM tells streams apart whose shards have the same names. The same records have the same key, but for `serial`.
    """
    first, last = content[0], content[-1]
    folder = first.created_at.strftime(_PARTITIONS[partition])
    number = "" if serial is None else f".{serial:06d}"
    name = f"{first.sequence_number}-{last.sequence_number}{number}.{form.extension}"
    return f"{prefix}/{folder}/{shard_name(first.record.shard)}/{name}"


def shard_name(shard: Shard) -> str:
    return f"{shard.shard_id}.{blake2b(shard.stream_arn.encode(), digest_size=4).hexdigest()}"


def metadata(content: Sequence[Row]) -> dict[str, str]:
    """Of an object, for people and for whoever has to tell it from an empty one."""
    told = {"sf-records": str(len(content))}
    if not content:
        return told
    shard_id, first, last = content[0].record.shard.shard_id, content[0].sequence_number, content[-1].sequence_number
    return {**told, "sf-shard": shard_id, "sf-first": first, "sf-last": last}


def _line(record: Record, *, form: PayloadForm) -> bytes:
    return payload(record, form) + b"\n"


def _compressed(lines: Sequence[bytes]) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(lines))
