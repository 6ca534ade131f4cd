"""Changes of items, and the stream records they become, encoded once when they are written."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson

from streamflow.testing.items import attributes_bytes, key_attributes

if TYPE_CHECKING:
    from streamflow.records import EventName, StreamViewType
    from streamflow.testing.items import KeySchema, StoredItem

_TIME_TO_LIVE = b',"userIdentity":{"PrincipalId":"dynamodb.amazonaws.com","Type":"Service"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one write did to one item; at least one of `old` and `new` is there, and they differ."""

    old: StoredItem | None
    new: StoredItem | None
    expired: bool = False
    """A delete by time to live."""

    @property
    def event_name(self) -> EventName:
        if self.old is None:
            return "INSERT"
        return "REMOVE" if self.new is None else "MODIFY"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEncoder:
    """What all records of one stream have in common."""

    stream_arn: str
    region: str
    view_type: StreamViewType
    key_schema: KeySchema

    def encode(self, change: Change, *, number: int, created_at_s: float) -> bytes:
        """The record as an element of `Records` in the answer to GetRecords, members in AWS's order."""
        item = change.new or change.old
        assert item is not None
        keys = key_attributes(item, self.key_schema)
        size_bytes = attributes_bytes(keys)
        images = b""
        if change.new is not None and self.view_type in {"NEW_IMAGE", "NEW_AND_OLD_IMAGES"}:
            images += b',"NewImage":' + change.new.json
            size_bytes += change.new.size_bytes
        if change.old is not None and self.view_type in {"OLD_IMAGE", "NEW_AND_OLD_IMAGES"}:
            images += b',"OldImage":' + change.old.json
            size_bytes += change.old.size_bytes
        event_id = blake2b(f"{self.stream_arn}:{number}".encode(), digest_size=16).hexdigest()
        head = (
            f'{{"eventID":"{event_id}","eventName":"{change.event_name}","eventVersion":"1.1",'
            f'"eventSource":"aws:dynamodb","awsRegion":"{self.region}",'
            f'"dynamodb":{{"ApproximateCreationDateTime":{int(created_at_s)}.0,"Keys":'
        )
        tail = f',"SequenceNumber":"{number}","SizeBytes":{size_bytes},"StreamViewType":"{self.view_type}"}}'
        identity = _TIME_TO_LIVE if change.expired else b""
        return b"".join((head.encode(), orjson.dumps(keys), images, tail.encode(), identity, b"}"))
