"""What a record makes of an item of the target table, in the form that the service's own requests have.

Images are passed on as the stream has them; only binary values are touched, because the client wants them as bytes. Pure.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from streamflow.sdk import RecordRefusedError, sortable
from streamflow_aws.dynamodb_sizes import ITEM_BYTES_MAX, item_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamflow.sdk import Record
    from streamflow_aws.templates import Template

Item: TypeAlias = "dict[str, dict[str, Any]]"

SEQUENCE, SHARD, EVENT, DELETED, EXPIRES = "_sf_seq", "_sf_shard", "_sf_event_id", "_sf_deleted", "_sf_expires"
"""The attributes that this sink adds to each item; the last two are only on items that stand for a deleted one."""
MARKS = frozenset({SEQUENCE, SHARD, EVENT, DELETED, EXPIRES})

# The JSON of a record is larger than any item in it; but for these attributes, and a key that is made longer.
_ADDED_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The target: `key` is name to type (S, N or B) of its key attributes."""

    name: str
    key: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an item is made. `key` is None where it has the key of its source, `attributes` where it has all of them.

    `attributes` is a name in the target to a name in the source.
    """

    table: Table
    key: Mapping[str, Template] | None = None
    attributes: Mapping[str, str] | None = None
    tombstones: bool = True
    tombstone_ttl_s: float | None = None
    skip_replicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChange:
    """`item` is the whole item with its key, and None where it goes. `version` orders as text."""

    key: Item
    item: Item | None
    version: str


def encode(record: Record, form: Form) -> tuple[ItemChange | None, int]:
    """The change, and the bytes that it takes at most. None for a change that a sink of this kind has made.

    Raises:
        MalformedRecordError: the record cannot be read.
        RecordRefusedError: it does not fit the table, or the stream does not carry what it takes.
    """
    try:
        return _change(record, form), len(record.raw)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RecordRefusedError("it holds what is no DynamoDB value") from None


def _change(record: Record, form: Form) -> ItemChange | None:
    deleted = record.event_name == "REMOVE"
    version = sortable(record.sequence_number)
    change = _wire(record)
    image: Item = change.get("NewImage") or {}
    if not deleted and not image:
        raise RecordRefusedError(
            "the stream carries no new images: its view type must be NEW_IMAGE or NEW_AND_OLD_IMAGES"
        )
    if form.skip_replicated and _is_replicated(record, change):
        return None
    key = _key(change.get("Keys") or {}, form)
    marks = _marks(record, version)
    # An item that stands for a deleted one, where the source is itself such a copy, is a delete.
    item: Item | None
    if not deleted and DELETED not in image:
        item = {**_attributes(image, form), **key, **marks}
        _check_size(item, len(record.raw))
    else:
        item = {**key, **marks, **_tombstone(record, form)} if form.tombstones else None
    return ItemChange(key=key, item=item, version=version)


def _wire(record: Record) -> dict[str, Any]:
    raw = record.raw
    change: dict[str, Any] = orjson.loads(raw)["dynamodb"]
    if b'"B"' in raw or b'"BS"' in raw:
        for name in {"Keys", "NewImage", "OldImage"} & change.keys():
            change[name] = _map(change[name])
    return change


def _check_size(item: Item, size: int) -> None:
    """In a transaction, the service does not say which item is too large; and some never come there."""
    if size + _ADDED_BYTES_MAX > ITEM_BYTES_MAX and (found := item_bytes(item)) > ITEM_BYTES_MAX:
        raise RecordRefusedError(
            f"with what is added to it the item has {found} bytes, DynamoDB takes {ITEM_BYTES_MAX}"
        )


def _map(values: Item) -> Item:
    return {name: _value(value) for name, value in values.items()}


def _value(value: dict[str, Any]) -> dict[str, Any]:
    """With binary values as bytes."""
    ((kind, content),) = value.items()
    match kind:
        case "B":
            return {kind: _bytes(content)}
        case "BS":
            return {kind: [_bytes(each) for each in content]}
        case "L":
            return {kind: [_value(each) for each in content]}
        case "M":
            return {kind: _map(content)}
    return value


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _marks(record: Record, version: str) -> Item:
    marks = {SEQUENCE: {"S": version}, SHARD: {"S": record.shard.shard_id}}
    return marks | {EVENT: {"S": record.event_id}} if record.event_id else marks


def _tombstone(record: Record, form: Form) -> Item:
    """`_sf_expires` is for the table's time to live: seconds since the Unix epoch."""
    if form.tombstone_ttl_s is None:
        return {DELETED: {"BOOL": True}}
    return {DELETED: {"BOOL": True}, EXPIRES: {"N": str(int(record.created_at_s + form.tombstone_ttl_s))}}


def _attributes(image: Item, form: Form) -> Item:
    if form.attributes is None:
        return {name: value for name, value in image.items() if name not in MARKS}
    return {name: image[source] for name, source in form.attributes.items() if source in image}


def _is_replicated(record: Record, change: Mapping[str, Any]) -> bool:
    """A write of such a sink leaves an event id that the item did not have before; all others leave what was there."""
    after = (change.get("NewImage") or {}).get(EVENT)
    if after is None:
        return False
    if record.event_name == "MODIFY" and "OldImage" not in change:
        raise RecordRefusedError(
            "skip_replicated compares both images: the stream's view type must be NEW_AND_OLD_IMAGES"
        )
    return bool((change.get("OldImage") or {}).get(EVENT) != after)


# --- keys ------------------------------------------------------------------------------------------------------------


def _key(source: Item, form: Form) -> Item:
    key = source if form.key is None else _filled(source, form.key)
    table = form.table
    if key.keys() != table.key.keys():
        raise RecordRefusedError(
            f"the table {table.name} has the key {_names(table.key)}, and the item has {_names(key)}"
        )
    for name, kind in table.key.items():
        if kind not in key[name]:
            raise RecordRefusedError(
                f"the key {name} of the table {table.name} is of type {kind}, and the item's is not"
            )
    return key


def _filled(source: Item, templates: Mapping[str, Template]) -> Item:
    used = {name for template in templates.values() for name in template.names}
    if used != source.keys():
        # Two items that share one in the target would overwrite each other in no order.
        raise RecordRefusedError(
            f"the key of the target is made of {_names(used)}, that of the item is {_names(source)}"
        )
    return {name: _one(source, template) for name, template in templates.items()}


def _one(source: Item, template: Template) -> dict[str, Any]:
    if template.only is not None:
        return source[template.only]
    return {"S": template.text(lambda name: _text(source, name))}


def _text(source: Item, name: str) -> str:
    ((kind, content),) = source[name].items()
    if kind not in {"S", "N"}:
        raise RecordRefusedError(f"the key attribute {name} is binary, and cannot be a part of a text")
    return str(content)


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
