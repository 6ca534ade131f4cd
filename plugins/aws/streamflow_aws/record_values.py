"""What templates can name of a record. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, cast

import orjson

from streamflow.sdk import RecordRefusedError, payload

if TYPE_CHECKING:
    from streamflow.sdk import PayloadForm, Record

_FIELDS = frozenset(
    {
        "created_at_ms",
        "created_at_s",
        "event_id",
        "event_name",
        "item_key",
        "payload",
        "pipeline",
        "sequence_number",
        "shard_id",
        "stream_arn",
    }
)
_IMAGES: dict[str, Literal["keys", "new", "old"]] = {"keys": "keys", "new_image": "new", "old_image": "old"}


def check_name(name: str) -> None:
    """Raises `ValueError`: there is nothing of that name."""
    head, dot, path = name.partition(".")
    if (name not in _FIELDS and head not in _IMAGES) or (dot and not path):
        known = ", ".join([*sorted(_FIELDS), *(f"{image}.…" for image in _IMAGES)])
        raise ValueError(f"${{{name}}} is nothing of a record: there are {known}")


def text(record: Record, name: str, *, pipeline: str, form: PayloadForm) -> str:
    """Strings as they are, everything else as JSON: numbers with all their digits, binary values as base64 text.

    Raises:
        MalformedRecordError: the record cannot be read.
        RecordRefusedError: it has nothing of that name.
    """
    if name == "payload":
        return payload(record, form).decode()
    value = _value(record, name, pipeline)
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def value(record: Record, name: str, *, pipeline: str, form: PayloadForm) -> Any:
    """The same as what JSON has for it: a number, a boolean, an array, an object. Raises as `text`."""
    found = payload(record, form).decode() if name == "payload" else _value(record, name, pipeline)
    return found if isinstance(found, str) else json.loads(orjson.dumps(found))


def _value(record: Record, name: str, pipeline: str) -> Any:
    match name:
        case "pipeline":
            return pipeline
        case "shard_id" | "stream_arn":
            return getattr(record.shard, name)
        case "created_at_s":
            return int(record.created_at_s)
        case "created_at_ms":
            return int(record.created_at_s * 1000)
        case _ if name in _FIELDS:
            return getattr(record, name)
    head, _, path = name.partition(".")
    return _at(record.json_image(_IMAGES[head]), path, name)


def _at(image: Any, path: str, name: str) -> Any:
    """An attribute by its whole name, or member by member of nested maps."""
    found = image
    while path and isinstance(found, dict):
        if path in found:
            return found[path]
        member, _, path = path.partition(".")
        found = cast("dict[str, Any]", found).get(member)
    if found is None or path:
        raise RecordRefusedError(f"the record has no {name}")
    return found
