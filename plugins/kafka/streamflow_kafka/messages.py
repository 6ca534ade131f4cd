"""A record as a message: key, value and headers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streamflow.sdk import MalformedRecordError, RecordRefusedError, payload, sortable

if TYPE_CHECKING:
    from streamflow.sdk import Record
    from streamflow_kafka.settings import KafkaSettings

# What one header takes in a message beside its name and value: two lengths.
_HEADER_BYTES = 4


class Message(NamedTuple):
    """`value` is None for a tombstone."""

    key: bytes
    value: bytes | None
    headers: list[tuple[str, str | bytes | None]]


def encode(record: Record, settings: KafkaSettings) -> Message:
    """The message of a record.

    `_sf_seq` orders as a text as the sequence numbers do as numbers, whatever their length.

    Raises:
        MalformedRecordError: the record cannot be read.
        RecordRefusedError: the message is too large, or the form needs an image that the stream does not carry.
    """
    removed = record.event_name == "REMOVE"
    message = Message(
        record.item_key.encode(),
        None if removed and settings.tombstones else payload(record, settings.payload),
        [
            ("_sf_event_id", record.event_id.encode()),
            ("_sf_seq", sortable(record.sequence_number).encode()),
            ("_sf_shard", record.shard.shard_id.encode()),
            ("_sf_event_name", record.event_name.encode()),
        ],
    )
    size = message_bytes(message)
    if size > settings.record_bytes_max:
        raise RecordRefusedError(f"its message has {size} bytes, and record_bytes_max is {settings.record_bytes_max}")
    return message


def key_of(record: Record) -> bytes | None:
    """The key of the record's message; None where it cannot be read."""
    try:
        return record.item_key.encode()
    except MalformedRecordError:
        return None


def message_bytes(message: Message) -> int:
    headers = sum([len(name) + len(value or b"") + _HEADER_BYTES for name, value in message.headers])
    return len(message.key) + len(message.value or b"") + headers
