"""A record as a document, and as the lines of a bulk request. Pure.

A document is the new image as plain JSON, with every digit of its numbers, and beside it `_sf_seq` (the sequence number
as text that orders like it), `_sf_shard` and `_sf_event_id`. A tombstone is the keys, the same, and `_sf_deleted`.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from streamflow.sdk import image_json, sortable, table_of
from streamflow_opensearch.settings import TABLE

if TYPE_CHECKING:
    from streamflow.sdk import Record
    from streamflow_opensearch.settings import Versioning

# Both products refuse a longer `_id`.
_ID_BYTES_MAX = 512
# What a line of action takes besides index and id: the longest is the script's.
_ACTION_BYTES_MAX = 600

SCRIPT = (
    "if (ctx._source._sf_seq == null || ctx._source._sf_seq.compareTo(params.document._sf_seq) < 0) "
    "{ ctx._source.clear(); ctx._source.putAll(params.document) } else { ctx.op = 'none' }"
)
"""Painless: replace the document by a newer one, and leave it alone otherwise."""

_SCRIPTED = b'{"scripted_upsert":true,"upsert":{},"script":{"lang":"painless","source":%s,"params":{"document":'
_SCRIPT_OPEN, _SCRIPT_CLOSE = _SCRIPTED % orjson.dumps(SCRIPT), b"}}}"
# Somebody who writes the same document in the same moment, an index refresh for instance, is waited out by the server.
_CONFLICTS_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be written for one record."""

    index: str
    id: str
    place: bytes
    """JSON object of `_index` and `_id`."""
    document: bytes
    """JSON object; for a delete, the tombstone."""
    sequence: str
    deleted: bool
    created_at_us: int

    @property
    def bytes_max(self) -> int:
        """The most that its lines take in a request, whatever the versioning."""
        return len(self.place) + len(self.document) + _ACTION_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The document that is there, or none. `sequence` is None where something else has written it."""

    found: bool
    sequence: str | None = None
    seq_no: int = 0
    primary_term: int = 0


def change(record: Record, *, index: str) -> Change:
    """The change of one record; `index` may hold `{table}`.

    Raises:
        MalformedRecordError: the record cannot be read.
        RecordRefusedError: the stream's view has no new image.
    """
    if TABLE in index:
        index = index.replace(TABLE, table_of(record.shard.stream_arn).lower())
    id_ = document_id(record.item_key)
    sequence = sortable(record.sequence_number)
    image = image_json(record)
    origin = {"_sf_seq": sequence, "_sf_shard": record.shard.shard_id, "_sf_event_id": record.event_id}
    if image is None:
        document = orjson.dumps({**(record.json_image("keys") or {}), **origin, "_sf_deleted": True})
    else:
        # An image has its keys at least, so that there is something before the comma.
        document = image[:-1] + b"," + orjson.dumps(origin)[1:]
    return Change(
        index=index,
        id=id_,
        place=orjson.dumps({"_index": index, "_id": id_}),
        document=document,
        sequence=sequence,
        deleted=image is None,
        created_at_us=int(record.created_at_s * 1_000_000),
    )


def document_id(item_key: str) -> str:
    """The value of a simple key; a JSON array of the values of a composite one, by the names of its attributes.

    A longer one than the target takes is replaced by its SHA-256.
    """
    values = [value for typed in orjson.loads(item_key).values() for value in typed.values()]
    text: str = values[0] if len(values) == 1 else orjson.dumps(values).decode()
    encoded = text.encode()
    return text if len(encoded) <= _ID_BYTES_MAX else f"sha256-{sha256(encoded).hexdigest()}"


def lines(change: Change, versioning: Versioning) -> bytes:
    """The lines of a change whose version the server looks at, or nobody."""
    match versioning:
        case "ordered" if change.deleted:
            return b'{"delete":%s}\n' % change.place
        case "ordered":
            return b'{"index":%s}\n%s\n' % (change.place, change.document)
        case "external":
            # Stream sequence numbers have more digits than a version holds, which is a signed number of 64 bits.
            version = b',"version":%d,"version_type":"external_gte"' % change.created_at_us
            return _with(b"index", change.place, version) + change.document + b"\n"
        case "scripted":
            update = _with(b"update", change.place, b',"retry_on_conflict":%d' % _CONFLICTS_MAX)
            return update + _SCRIPT_OPEN + change.document + _SCRIPT_CLOSE + b"\n"
        case "compared":
            raise ValueError("a compared change needs to know what is stored")


def conditional_lines(change: Change, stored: Stored) -> bytes:
    """The lines that write the change unless somebody has written the document since it was looked at."""
    if not stored.found:
        return _with(b"create", change.place, b"") + change.document + b"\n"
    condition = b',"if_seq_no":%d,"if_primary_term":%d' % (stored.seq_no, stored.primary_term)
    return _with(b"index", change.place, condition) + change.document + b"\n"


def _with(action: bytes, place: bytes, members: bytes) -> bytes:
    return b'{"%s":%s%s}}\n' % (action, place[:-1], members)


def is_news(change: Change, stored: Stored) -> bool:
    """False where the stored document is that of this change or of a later one."""
    return stored.sequence is None or stored.sequence < change.sequence
