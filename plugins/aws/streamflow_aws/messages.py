"""What messages of SQS and SNS have in common: text, attributes, group and deduplication, and what can be promised of them."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from streamflow.sdk import Capabilities, payload
from streamflow_aws.sending import REQUEST_BYTES_MAX
from streamflow_aws.settings import PayloadSettings

if TYPE_CHECKING:
    from streamflow.sdk import PayloadForm, Record
    from streamflow_aws.sending import Entry

# SendMessageBatch and PublishBatch.
_MESSAGES_MAX = 10
# How long FIFO queues and topics remember a MessageDeduplicationId.
_DEDUPLICATION_WINDOW_S = 300.0

# JSON may hold these two as they are, SQS takes no text with them. In JSON they stand in strings, and nowhere else.
_NO_CHARACTERS = {"\ufffe".encode(): rb"\ufffe", "\uffff".encode(): rb"\uffff"}
# What a MessageDeduplicationId may be.
_ID = re.compile(r"[!-~]{1,128}")


class MessageSettings(PayloadSettings):
    attributes: bool = True
    """Whether messages have the attributes `event_id`, `event_name`, `sequence_number` and `shard_id`."""


def encoded(record: Record, settings: MessageSettings, *, text_member: str, is_fifo: bool) -> tuple[Entry, int]:
    """An entry of a batch but for its id, and the bytes that count: text and attributes. Raises as `payload` does."""
    text = _text(record, settings.payload)
    entry: Entry = {text_member: text.decode()}
    size = len(text)
    if settings.attributes:
        values = _attributes(record)
        entry["MessageAttributes"] = {
            name: {"DataType": "String", "StringValue": value} for name, value in values.items()
        }
        size += sum(len(name) + len("String") + len(value.encode()) for name, value in values.items())
    if is_fifo:
        entry["MessageGroupId"] = sha256(record.item_key.encode()).hexdigest()
        entry["MessageDeduplicationId"] = _deduplication_id(record)
    return entry, size


def capabilities(*, is_fifo: bool, bytes_max: int) -> Capabilities:
    """Of a queue or a topic that takes `bytes_max` in one message as in all messages of a request."""
    standard = Capabilities(
        order="none",
        idempotence="none",
        partial_failures=True,
        request_records_max=_MESSAGES_MAX,
        request_bytes_max=min(bytes_max, REQUEST_BYTES_MAX),
        record_bytes_max=bytes_max,
    )
    if not is_fifo:
        return standard
    return replace(
        standard,
        order="key",
        idempotence="window",
        idempotence_key="event id",
        idempotence_window_s=_DEDUPLICATION_WINDOW_S,
    )


def _text(record: Record, form: PayloadForm) -> bytes:
    text = payload(record, form)
    for found, escaped in _NO_CHARACTERS.items():
        text = text.replace(found, escaped)
    return text


def _attributes(record: Record) -> dict[str, str]:
    """By name. A value cannot be empty."""
    values = {
        "event_id": record.event_id,
        "event_name": record.event_name,
        "sequence_number": record.sequence_number,
        "shard_id": record.shard.shard_id,
    }
    return {name: value for name, value in values.items() if value}


def _deduplication_id(record: Record) -> str:
    """The event id, or what stands for one that is missing or cannot be used."""
    if _ID.fullmatch(record.event_id):
        return record.event_id
    place = f"{record.shard.stream_arn}/{record.shard.shard_id}/{record.sequence_number}"
    return sha256(place.encode()).hexdigest()
