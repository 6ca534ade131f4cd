"""What a webhook is sent: bodies of several records, the key that a repetition is recognised by, signatures. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from streamflow.payloads import payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamflow.payloads import PayloadForm
    from streamflow.records import Record

Body: TypeAlias = Literal["array", "ndjson", "event", "single"]

_SECRET_PREFIX = "whsec_"  # noqa: S105 - what marks one
# Of Standard Webhooks.
_SECRET_BYTES_MIN, _SECRET_BYTES_MAX = 24, 64

_AROUND: Mapping[Body, tuple[bytes, bytes, bytes]] = {
    "array": (b"[", b",", b"]"),
    "ndjson": (b"", b"\n", b"\n"),
    "event": (b'{"Records":[', b",", b"]}"),
    "single": (b"", b"", b""),
}


@dataclass(frozen=True, slots=True)
class Message:
    """A record as it is sent. `identity` is unique for the change, and the same whenever it is sent again."""

    identity: str
    sequence_number: str
    content: bytes


def message(record: Record, form: PayloadForm) -> Message:
    """Raises as `payload`."""
    content = payload(record, form)
    number = record.sequence_number
    return Message(record.event_id or f"{record.shard.shard_id}:{number}", number, content)


def body_of(messages: Sequence[Message], body: Body) -> bytes:
    before, between, behind = _AROUND[body]
    return before + between.join([each.content for each in messages]) + behind


def content_type(body: Body) -> str:
    return "application/x-ndjson" if body == "ndjson" else "application/json"


def key_of(messages: Sequence[Message]) -> str:
    """The same for the same records, whatever the attempt; another one where a record is missing or added.

    That of one record is its identity, so that a receiver who gets them one by one recognises each.
    """
    if len(messages) == 1:
        return messages[0].identity
    return hashlib.sha256("\n".join([each.identity for each in messages]).encode()).hexdigest()


# --- signing (Standard Webhooks) -------------------------------------------------------------------------------------


def secret_bytes(secret: str) -> bytes:
    """The key in `whsec_BASE64`, whose prefix may be missing.

    Raises:
        ValueError: it is no such secret; the message does not show it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a signing secret is whsec_ and base64") from None
    if not _SECRET_BYTES_MIN <= len(key) <= _SECRET_BYTES_MAX:
        raise ValueError(
            f"a signing secret has {_SECRET_BYTES_MIN} to {_SECRET_BYTES_MAX} bytes; this one has {len(key)}"
        )
    return key


def signed_headers(keys: Iterable[bytes], *, identity: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """One signature for each key, so that a receiver may know the old one or the new one."""
    content = f"{identity}.{timestamp_s}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys]
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
