"""A record as a message: subject, payload and headers; and which subjects a stream stores. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from streamflow.sdk import RecordRefusedError, payload, sortable, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.sdk import PayloadForm, Record

_HEADER_LINE_BYTES = len("NATS/1.0\r\n\r\n")
_HEADER_BYTES = len(": \r\n")


@dataclass(frozen=True, slots=True)
class Message:
    subject: str
    payload: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """`bytes_max` is what server and stream take."""

    pipeline: str
    stream: str
    subject: str
    form: PayloadForm
    bytes_max: int

    def __call__(self, record: Record) -> tuple[Message, int]:
        """The message of a record, and its bytes as the server counts them: headers and payload.

        The stream recognises a message by pipeline and event id: another pipeline's message about the same change is not
        the same message.

        Raises:
            MalformedRecordError: the record cannot be read.
            RecordRefusedError: the message is too large, or the form needs an image that the stream does not carry.
        """
        message = Message(
            self._subject(record),
            payload(record, self.form),
            {
                "Nats-Msg-Id": f"{self.pipeline}/{record.event_id}",
                "Nats-Expected-Stream": self.stream,
                "_sf_event_id": record.event_id,
                "_sf_seq": sortable(record.sequence_number),
                "_sf_shard": record.shard.shard_id,
                "_sf_event_name": record.event_name,
            },
        )
        size = message_bytes(message)
        if size > self.bytes_max:
            raise RecordRefusedError(f"its message has {size} bytes, and server and stream take {self.bytes_max}")
        return message, size

    def _subject(self, record: Record) -> str:
        subject = self.subject
        if "{table}" in subject:
            subject = subject.replace("{table}", subject_token(table_of(record.shard.stream_arn)))
        return subject.replace("{key_hash}", key_hash(record.item_key)) if "{key_hash}" in subject else subject


def message_bytes(message: Message) -> int:
    headers = sum([len(name) + len(value) + _HEADER_BYTES for name, value in message.headers.items()])
    return len(message.payload) + headers + _HEADER_LINE_BYTES


def key_hash(item_key: str) -> str:
    """Sixteen hexadecimal digits."""
    return blake2b(item_key.encode(), digest_size=8).hexdigest()


def subject_token(name: str) -> str:
    """The name as one part of a subject: a dot would begin another."""
    return name.replace(".", "_")


def is_stored(subject: str, filters: Sequence[str]) -> bool:
    """Whether one of a stream's `filters`, such as `cdc.*.eu` or `cdc.>`, takes the subject."""
    return any(_takes(filter_.split("."), subject.split(".")) for filter_ in filters)


def _takes(filter_: list[str], subject: list[str]) -> bool:
    if filter_[-1] == ">":
        filter_, subject = filter_[:-1], subject[: len(filter_) - 1] if len(subject) >= len(filter_) else []
        if not subject and filter_:
            return False
    return len(filter_) == len(subject) and all(
        one in ("*", other) for one, other in zip(filter_, subject, strict=True)
    )
