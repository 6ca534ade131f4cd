"""Names of keys: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from streamflow.sdk import RecordRefusedError, StreamflowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.sdk import Record


def item_key(record: Record, *, prefix: str, attributes: Sequence[str]) -> str:
    """The prefix, and the values of the key attributes joined by `:`; in all but the last, `%` and `:` are escaped.

    Raises:
        MalformedRecordError: the record cannot be read.
        RecordRefusedError: it has no key.
        StreamflowError: `attributes` names one that the item's key does not have.
    """
    keys = record.json_image("keys")
    if not keys:
        raise RecordRefusedError("it has no key")
    names = attributes or sorted(keys)
    if missing := [name for name in names if name not in keys]:
        raise StreamflowError(
            f"redis: key_attributes names {', '.join(missing)}, and the key of the table is {', '.join(sorted(keys))}"
        )
    values = [value if isinstance(value := keys[name], str) else orjson.dumps(value).decode() for name in names]
    return prefix + ":".join([*(value.replace("%", "%25").replace(":", "%3A") for value in values[:-1]), values[-1]])


def beside(key: str) -> str:
    """The name of a key that lies in the same slot of a cluster as `key`, which may have a hash tag of its own."""
    return f"_sf:{key if hash_tag(key) else '{' + key + '}'}"


def hash_tag(key: str) -> str:
    """What a cluster reckons the slot from, where it is not the whole key: between the first `{` and the next `}`."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed else ""
