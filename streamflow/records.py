"""Records and shards: frozen, no I/O.

A record is a view over the JSON that the service sent. Nothing but its outline is decoded until somebody looks: the
envelope (ids, sequence number, times) on first touch of one of its fields, the keys and each image on theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, cast

import msgspec
import orjson
from msgspec.structs import fields, force_setattr

from streamflow.attributes import Numbers, json_image, native_image
from streamflow.errors import MalformedRecordError
from streamflow.positions import SEQUENCE_NUMBER_DIGITS_MAX, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from streamflow.attributes import NativeValue

EventName = Literal["INSERT", "MODIFY", "REMOVE"]
StreamViewType = Literal["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard of one stream, as a listing shows it.

    `parents` has 0 to 2 ids (two after a merge on Kinesis); a parent need not be listed any more.
    `closed` is true once the service shows an ending sequence number: it may still hold unread records.
    """

    stream_arn: str
    shard_id: str
    parents: tuple[str, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdentity:
    """Who made the change where it was not a user: `Service` / `dynamodb.amazonaws.com` for deletes by time to live."""

    type: str
    principal_id: str


class _WireIdentity(msgspec.Struct, gc=False):
    PrincipalId: str = ""
    Type: str = ""


class _WireChange(msgspec.Struct, gc=False):
    SequenceNumber: str
    Keys: msgspec.Raw = msgspec.Raw()
    NewImage: msgspec.Raw = msgspec.Raw()
    OldImage: msgspec.Raw = msgspec.Raw()
    ApproximateCreationDateTime: float = 0.0
    SizeBytes: int = 0
    StreamViewType: str = ""


class Envelope(msgspec.Struct, gc=False):
    """What surrounds the data of a record, with the wire's names: keys and images are raw slices."""

    dynamodb: _WireChange
    eventID: str = ""
    eventName: str = ""
    userIdentity: _WireIdentity | None = None


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoders raise."""
_decode_record = msgspec.json.Decoder(Envelope).decode
_UNREAD: Any = object()
_OPENING, _CLOSING, _COMMA = b"{},"
_SEQUENCE_NUMBER = re.compile(rb'"SequenceNumber"\s*:\s*"(\d{1,128})"')


class Record(msgspec.Struct, gc=False, frozen=True, eq=False, repr_omit_defaults=True):
    """One change of one item.

    Built by sources; the constructor takes the record's JSON as a raw slice, its shard and the treatment of numbers.
    Every property that decodes raises `MalformedRecordError`, which names shard and sequence number, never the data.
    """

    json: msgspec.Raw
    shard: Shard
    numbers: Numbers = "decimal"
    _envelope: Any = None
    _keys: Any = _UNREAD
    _new_image: Any = _UNREAD
    _old_image: Any = _UNREAD

    def __repr__(self) -> str:
        found = _SEQUENCE_NUMBER.search(bytes(self.json))
        return f"<Record {found[1].decode() if found else '?'} of {self.shard.shard_id}>"

    # -- the envelope -------------------------------------------------------------------------------------------------

    def _open(self) -> Envelope:
        if self._envelope is None:
            try:
                envelope = _decode_record(self.json)
            except UNREADABLE as error:
                self._refuse(_without_data(error))
            number = envelope.dynamodb.SequenceNumber
            if not (number.isdigit() and number.isascii() and len(number) <= SEQUENCE_NUMBER_DIGITS_MAX):
                self._refuse("its SequenceNumber is not decimal")
            force_setattr(self, "_envelope", envelope)
        return self._envelope  # type: ignore[no-any-return]

    def _refuse(self, reason: str) -> NoReturn:
        found = _SEQUENCE_NUMBER.search(bytes(self.json))
        raise MalformedRecordError(
            shard_id=self.shard.shard_id, sequence_number=found[1].decode() if found else None, reason=reason
        ) from None

    @property
    def raw(self) -> bytes:
        """The JSON object exactly as the service sent it."""
        return bytes(self.json)

    @property
    def event_id(self) -> str:
        """Unique for the change and stable across redelivery: 32 hexadecimal digits."""
        return self._open().eventID

    @property
    def event_name(self) -> EventName:
        name = self._open().eventName
        if name not in {"INSERT", "MODIFY", "REMOVE"}:
            self._refuse("eventName is none of INSERT, MODIFY, REMOVE")
        return name  # type: ignore[return-value]

    @property
    def sequence_number(self) -> str:
        """Decimal, 21 to 40 digits; ordered as a number within a shard."""
        return self._open().dynamodb.SequenceNumber

    @property
    def position(self) -> Position:
        """The position that settling this record stores."""
        return Position.after(self._open().dynamodb.SequenceNumber)

    @property
    def created_at_s(self) -> float:
        """Approximate creation time in seconds since the Unix epoch, rounded down to the second by the service."""
        return self._open().dynamodb.ApproximateCreationDateTime

    @property
    def size_bytes(self) -> int:
        """Size of keys and images as the service counts them."""
        return self._open().dynamodb.SizeBytes

    @property
    def view_type(self) -> str:
        """What the stream carries: one of `StreamViewType`."""
        return self._open().dynamodb.StreamViewType

    @property
    def user_identity(self) -> UserIdentity | None:
        """Set on deletes by time to live, else None."""
        identity = self._open().userIdentity
        return None if identity is None else UserIdentity(type=identity.Type, principal_id=identity.PrincipalId)

    # -- the data -----------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> dict[str, NativeValue]:
        """The item's key attributes in native Python."""
        if self._keys is _UNREAD:
            keys = self._image(self._open().dynamodb.Keys)
            if keys is None:
                self._refuse("it has no Keys")
            force_setattr(self, "_keys", keys)
        return self._keys  # type: ignore[no-any-return]

    @property
    def item_key(self) -> str:
        """The item's key as canonical JSON text: the same whatever the order of its attributes."""
        try:
            return canonical_item_key(bytes(self._open().dynamodb.Keys))
        except ValueError as error:
            self._refuse("it has no Keys" if not len(self._open().dynamodb.Keys) else _without_data(error))

    @property
    def new_image(self) -> dict[str, NativeValue] | None:
        """The item after the change; None on REMOVE, and where the view type leaves it out."""
        if self._new_image is _UNREAD:
            force_setattr(self, "_new_image", self._image(self._open().dynamodb.NewImage))
        return self._new_image  # type: ignore[no-any-return]

    @property
    def old_image(self) -> dict[str, NativeValue] | None:
        """The item before the change; None on INSERT, and where the view type leaves it out."""
        if self._old_image is _UNREAD:
            force_setattr(self, "_old_image", self._image(self._open().dynamodb.OldImage))
        return self._old_image  # type: ignore[no-any-return]

    def _image(self, raw: msgspec.Raw) -> dict[str, NativeValue] | None:
        if not len(raw):
            return None
        try:
            return native_image(memoryview(raw), numbers=self.numbers)
        except (ValueError, RecursionError) as error:
            self._refuse(_without_data(error))

    def json_image(self, which: Literal["keys", "new", "old"]) -> dict[str, Any] | None:
        """Keys or an image as `orjson.dumps` writes it in plain JSON: see `attributes.json_item`. None where there is none."""
        change = self._open().dynamodb
        raw = {"keys": change.Keys, "new": change.NewImage, "old": change.OldImage}[which]
        if not len(raw):
            return None
        try:
            return json_image(memoryview(raw))
        except (ValueError, RecursionError) as error:
            self._refuse(_without_data(error))

    # -- as AWS Lambda has it -----------------------------------------------------------------------------------------

    def lambda_event_json(self) -> bytes:
        """The record as an element of `Records` in a Lambda event, spliced from raw slices."""
        return splice_lambda_record(self, event_source_tail(self.shard.stream_arn))

    def lambda_event(self) -> dict[str, Any]:
        """The same as Python objects, as a Lambda function finds it in `event["Records"]`."""
        self._open()
        try:
            event: dict[str, Any] = orjson.loads(self.lambda_event_json())
        except orjson.JSONDecodeError as error:
            self._refuse(_without_data(error))
        change = event["dynamodb"]
        if "ApproximateCreationDateTime" in change:
            change["ApproximateCreationDateTime"] = float(change["ApproximateCreationDateTime"])
        return event


class _GlimpsedChange(Protocol):
    SequenceNumber: str
    Keys: dict[str, dict[str, str]]


class Glimpse(Protocol):
    """An envelope for somebody who looks once, long before the handler does: with its keys, and members that were asked for."""

    dynamodb: _GlimpsedChange
    eventName: str


GLIMPSED = frozenset(each.name for shape in (Envelope, _WireChange) for each in fields(shape))
"""The members that a glimpse can have."""


def glimpse_decoder(members: Collection[str] = ()) -> Callable[[msgspec.Raw], Glimpse]:
    """Takes a glimpse of a record's JSON with these of `GLIMPSED`; what nobody asks for is passed over, which is faster.

    It fails with one of `UNREADABLE`, also where `Keys` are not what DynamoDB has: for each attribute the name of its type, and
    a text.
    """

    names = {"eventName", *members} - {"Keys"}

    def chosen(shape: type[msgspec.Struct]) -> list[tuple[str, Any, Any]]:
        return [
            (each.name, each.type, each.default) for each in fields(shape) if not each.required and each.name in names
        ]

    keys = [("SequenceNumber", str), ("Keys", dict[str, dict[str, str]])]
    change = msgspec.defstruct("Change", [*keys, *chosen(_WireChange)], gc=False)
    shape = msgspec.defstruct("Glimpse", [("dynamodb", change), *chosen(Envelope)], gc=False)
    return cast("Callable[[msgspec.Raw], Glimpse]", msgspec.json.Decoder(shape).decode)


def glimpses(records: Sequence[Record], decode: Callable[[msgspec.Raw], Glimpse]) -> list[Glimpse | None]:
    """Of each record; None where it cannot be read.

    They are not kept: a record that waits should take no more memory than its JSON.
    """
    try:
        return [decode(record.json) for record in records]
    except UNREADABLE:
        if len(records) == 1:
            return [None]
        middle = len(records) // 2
        return glimpses(records[:middle], decode) + glimpses(records[middle:], decode)


def lambda_event_records(records: Sequence[Record], stream_arn: str) -> list[dict[str, Any]]:
    """`Record.lambda_event` of each, from one pass over all of them.

    Raises:
        MalformedRecordError: one of them is no record; of the first such.
    """
    try:
        events: list[dict[str, Any]] = orjson.loads(b"[%b]" % b",".join([record.json for record in records]))
        for event in events:
            _complete_lambda_event(event, stream_arn)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Something is not what it should be: one by one, each says what.
        return [record.lambda_event() for record in records]
    return events


def _complete_lambda_event(event: dict[str, Any], stream_arn: str) -> None:
    """Make an element of `Records` in a Lambda event of what the service sent; KeyError and the like where it is no record."""
    change = event["dynamodb"]
    number = change["SequenceNumber"]
    if not (number.isdigit() and number.isascii() and len(number) <= SEQUENCE_NUMBER_DIGITS_MAX):
        raise ValueError("its SequenceNumber is not decimal")
    if "ApproximateCreationDateTime" in change:
        change["ApproximateCreationDateTime"] += 0.0
    if "userIdentity" in event and (identity := event.pop("userIdentity")) is not None:
        event["userIdentity"] = {"type": identity.get("Type", ""), "principalId": identity.get("PrincipalId", "")}
    event["eventSourceARN"] = stream_arn


def canonical_item_key(keys: bytes) -> str:
    """`Record.item_key` of the `Keys` that the service sent.

    Raises:
        ValueError: it is no JSON, or nested beyond all reason.
    """
    try:
        return orjson.dumps(orjson.loads(keys), option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        raise ValueError("its Keys are nested too deeply") from None


def newest_outline(records: Sequence[Record]) -> tuple[Position, float] | None:
    """Position and creation time of the last record that has a readable sequence number; None if none has."""
    for record in reversed(records):
        try:
            change = record._open().dynamodb
        except MalformedRecordError:
            continue
        return Position.after(change.SequenceNumber), change.ApproximateCreationDateTime
    return None


def _without_data(error: Exception) -> str:
    """The reason without any content of the record: decoder messages may quote a byte or a field, never a value."""
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    if isinstance(error, orjson.JSONDecodeError | msgspec.DecodeError | UnicodeDecodeError | RecursionError):
        return "its JSON is broken"
    return str(error)


@lru_cache(maxsize=64)
def event_source_tail(stream_arn: str) -> bytes:
    return b',"eventSourceARN":' + orjson.dumps(stream_arn) + b"}"


def splice_lambda_record(record: Record, tail: bytes) -> bytes:
    """Put `tail` in place of the closing brace; give `userIdentity`, which TTL deletes have, Lambda's member names.

    Raises:
        MalformedRecordError: what the service sent is no JSON object.
    """
    text = bytes(record.json).strip()
    if len(text) < 3 or not (text.startswith(b"{") and text.endswith(b"}")):
        record._refuse("it is no JSON object with members")
    if b'"userIdentity"' in text:
        try:
            text = _with_lambda_identity(text)
        except UNREADABLE as error:
            record._refuse(_without_data(error))
    return text[:-1] + tail


def splice_lambda_records(
    records: Sequence[Record], stream_arn: str, *, before: bytes = b"", behind: bytes = b""
) -> bytes:
    """`Record.lambda_event_json` of each, with commas in between, and this text before and behind them all.

    Raises:
        MalformedRecordError: what the service sent is no JSON object; of the first such record.
    """
    tail = event_source_tail(stream_arn)
    spliced: bytes | bytearray | None = _splice_in_place([record.json for record in records], tail)
    if spliced is None:  # something is not as it mostly is: one by one
        spliced = b",".join([splice_lambda_record(record, tail) for record in records])
    return b"".join((before, spliced, behind))


def _splice_in_place(texts: Sequence[msgspec.Raw], tail: bytes) -> bytearray | None:
    """All of them in one piece, in which the comma that `tail` begins with then takes the place of each closing brace.

    So no record is copied by itself. None where one is no JSON object, or might need more than the tail.
    """
    lengths = list(map(len, texts))
    if min(lengths, default=0) < 3:
        return None
    between = tail[1:] + b","
    spliced = bytearray(between).join(texts)
    gap = len(between)
    closing = -gap - 1
    for length in lengths:
        if spliced[closing + gap + 1] != _OPENING:
            return None
        closing += gap + length
        if spliced[closing] != _CLOSING:
            return None
        spliced[closing] = _COMMA
    spliced += tail[1:]
    return None if spliced.rfind(b'"userIdentity"') >= 0 else spliced  # which takes half as long as `in`


def _with_lambda_identity(text: bytes) -> bytes:
    record = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    if "userIdentity" not in record:
        return text
    identity = msgspec.json.decode(record["userIdentity"], type=_WireIdentity | None)
    if identity is None:
        del record["userIdentity"]
    else:
        record["userIdentity"] = msgspec.Raw(orjson.dumps({"type": identity.Type, "principalId": identity.PrincipalId}))
    return msgspec.json.encode(record)
