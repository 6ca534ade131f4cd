"""What a target shows: the suite compares it with what was written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import orjson

from streamflow.attributes import json_item

if TYPE_CHECKING:
    from streamflow.payloads import PayloadForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One message of a log, or the entry of one item. What the target does not show is None.

    At least one of `item_key`, `event_id` and `image` tells which item it is: an `item_key` may be any text that holds the
    value of the item's key attribute `id`, and an image has it as its `id`.
    """

    item_key: str | None = None
    sequence_number: str | None = None
    """Decimal, as the record has it."""
    event_id: str | None = None
    image: dict[str, Any] | None = None
    """The new image in plain JSON, read with `exact_json`."""
    deleted: bool = False
    """A delete that a log tells, or the tombstone of an item."""

    @classmethod
    def of_payload(cls, text: bytes | str, form: PayloadForm) -> Seen:
        """What a message shows that was made with `streamflow.sdk.payload`."""
        return _FORMS[form](exact_json(text))


def exact_json(text: bytes | str) -> dict[str, Any]:
    """A JSON object with all digits of its numbers: `int` where they are whole, else `Decimal`."""
    return cast("dict[str, Any]", json.loads(text, parse_float=Decimal))


def _lambda(message: dict[str, Any]) -> Seen:
    change = message["dynamodb"]
    image = change.get("NewImage")
    return Seen(
        item_key=orjson.dumps(change["Keys"], option=orjson.OPT_SORT_KEYS).decode(),
        sequence_number=change["SequenceNumber"],
        event_id=message["eventID"],
        image=None if image is None else exact_json(orjson.dumps(json_item(image))),
        deleted=message["eventName"] == "REMOVE",
    )


def _image(message: dict[str, Any]) -> Seen:
    if message.get("__deleted") is True:
        return Seen(item_key=_text({name: each for name, each in message.items() if name != "__deleted"}), deleted=True)
    return Seen(image=message)


def _change(message: dict[str, Any]) -> Seen:
    return Seen(
        item_key=_text(message["key"]),
        sequence_number=message["source"]["sequence_number"],
        event_id=message["source"]["event_id"],
        image=message["after"],
        deleted=message["op"] == "d",
    )


def _text(value: object) -> str:
    return json.dumps(value, default=str)


_FORMS = {"lambda": _lambda, "image": _image, "change": _change}
