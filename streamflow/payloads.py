"""What a record looks like to somebody who does not know streamflow: the forms in which sinks send it.

- `lambda`: the record as an element of `Records` in a Lambda event, spliced from what the service sent;
- `image`: the new image as plain JSON; a delete is its keys and `"__deleted": true`;
- `change`: key, before, after, source and operation (`c`, `u`, `d`), as Debezium's users know them.

In `image` and `change`, numbers keep all their digits, binary values are base64 text, and sets are arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import orjson

from streamflow.errors import RecordRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.records import Record

PayloadForm: TypeAlias = Literal["lambda", "image", "change"]

_OPERATIONS = {"INSERT": "c", "MODIFY": "u", "REMOVE": "d"}


def payload(record: Record, form: PayloadForm) -> bytes:
    """One line of JSON.

    Raises:
        MalformedRecordError: the record cannot be read.
        RecordRefusedError: `image`, and the stream's view has no new image.
    """
    return _FORMS[form](record)


def image_json(record: Record) -> bytes | None:
    """The new image as plain JSON; None for a delete. Raises as `payload`."""
    if record.event_name == "REMOVE":
        return None
    image = record.json_image("new")
    if image is None:
        raise RecordRefusedError(
            "the stream carries no new images: its view type must be NEW_IMAGE or NEW_AND_OLD_IMAGES"
        )
    return orjson.dumps(image)


def _image(record: Record) -> bytes:
    image = image_json(record)
    if image is not None:
        return image
    return orjson.dumps({**(record.json_image("keys") or {}), "__deleted": True})


def _change(record: Record) -> bytes:
    created_ms = int(record.created_at_s * 1000)
    return orjson.dumps(
        {
            "key": record.json_image("keys"),
            "before": record.json_image("old"),
            "after": record.json_image("new"),
            "source": {
                "connector": "streamflow",
                "table": table_of(record.shard.stream_arn),
                "stream_arn": record.shard.stream_arn,
                "shard_id": record.shard.shard_id,
                "sequence_number": record.sequence_number,
                "event_id": record.event_id,
                "ts_ms": created_ms,
            },
            "op": _OPERATIONS[record.event_name],
            "ts_ms": created_ms,
        }
    )


def _lambda(record: Record) -> bytes:
    return record.lambda_event_json()


_FORMS: dict[PayloadForm, Callable[[Record], bytes]] = {"lambda": _lambda, "image": _image, "change": _change}


def table_of(stream_arn: str) -> str:
    """The table's name in the ARN of its stream; the whole ARN where there is none."""
    _, found, rest = stream_arn.partition(":table/")
    return rest.partition("/")[0] if found else stream_arn
