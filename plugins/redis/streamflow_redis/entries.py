"""Records as what a script takes: pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

from streamflow.sdk import RecordRefusedError, payload, sortable
from streamflow_redis.keys import beside, item_key

if TYPE_CHECKING:
    from streamflow.sdk import Record
    from streamflow_redis.settings import RedisSettings

Text: TypeAlias = "str | bytes"


class Entry(NamedTuple):
    """`keys` and `arguments` as the script of the mode takes them; the first key tells what one thing is."""

    record: Record
    keys: tuple[str, ...]
    arguments: tuple[str | bytes | int, ...]
    bytes: int


def json_entry(record: Record, settings: RedisSettings) -> Entry:
    """A string, and its version in a hash beside it."""
    key = _item_key(record, settings)
    content: tuple[Text, ...] = () if record.event_name == "REMOVE" else (payload(record, settings.form),)
    return _entry(record, (key, beside(key)), content)


def hash_entry(record: Record, settings: RedisSettings) -> Entry:
    """A field for each attribute: text as it is, all else as JSON. The version is among the fields."""
    key = _item_key(record, settings)
    content: list[Text] = []
    if record.event_name != "REMOVE":
        image = record.json_image("new")
        if image is None:
            raise RecordRefusedError("the stream carries no new images")
        if taken := [name for name in image if name.startswith("_sf_")]:
            raise RecordRefusedError(f"{len(taken)} attributes have names that begin with _sf_, as the sink's own do")
        for name, value in image.items():
            content += (name, value if isinstance(value, str) else orjson.dumps(value))
    return _entry(record, (key, key), tuple(content))


def stream_entry(record: Record, settings: RedisSettings) -> Entry:
    """An entry of the stream; its only key is the event id, by which it is remembered."""
    event_id = record.event_id or f"{record.shard.shard_id}:{record.sequence_number}"
    fields: tuple[Text, ...] = (
        *("key", orjson.dumps(record.json_image("keys"), option=orjson.OPT_SORT_KEYS)),
        *("event_name", record.event_name),
        *("payload", payload(record, settings.form)),
        *("_sf_seq", sortable(record.sequence_number)),
        *("_sf_shard", record.shard.shard_id),
        *("_sf_event_id", event_id),
    )
    return Entry(record, (event_id,), (len(fields), *fields), _bytes(fields))


def message(record: Record, settings: RedisSettings) -> Entry:
    """What is published."""
    content = payload(record, settings.form)
    return Entry(record, (), (content,), len(content))


def cached_key(record: Record, settings: RedisSettings) -> Entry:
    """The key that is no longer true."""
    key = _item_key(record, settings)
    return Entry(record, (key,), (), len(key))


def _entry(record: Record, keys: tuple[str, ...], content: tuple[Text, ...]) -> Entry:
    version = sortable(record.sequence_number)
    return Entry(record, keys, (version, record.event_id, len(content), *content), _bytes(content) + len(keys[0]) + 100)


def _item_key(record: Record, settings: RedisSettings) -> str:
    return item_key(record, prefix=settings.key_prefix, attributes=settings.key_attributes)


def _bytes(content: tuple[Text, ...]) -> int:
    """About: what is not ASCII is more in UTF-8."""
    return sum([len(each) for each in content])
