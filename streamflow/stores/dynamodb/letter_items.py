"""Dead letters and parked records as items of the companion table: pure.

A letter lies under its id, so that a drawer is read in order. Beside it, its place, named by the record, points to the id,
and a record that is kept again finds it. Each item key with parked letters has a row that counts them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

from streamflow.dead_letters import DeadLetter
from streamflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamflow.dead_letters import Drawer, LetterQuery
    from streamflow.stores.dynamodb.notes import Item, Value

# A transaction holds 4 MB in 100 actions; a larger body is kept in chunks.
BODY_BYTES_MAX = 24_000
_ID_DIGITS = 19
_ID_MAX = 10**_ID_DIGITS - 1

COUNTER_KEY: Item = {"pk": {"S": "counter"}, "sk": {"S": "letters"}}
# What tells whether a letter is asked for, and what goes with it.
PROJECTION = {
    "ProjectionExpression": "pk, sk, #pipeline, #stream, #shard, #item, #place, #chunks",
    "ExpressionAttributeNames": {
        f"#{name}": name for name in ("pipeline", "stream", "shard", "item", "place", "chunks")
    },
}


# --- names -----------------------------------------------------------------------------------------------------------


def drawer_pk(drawer: Drawer) -> str:
    return f"letters#{drawer}"


def letter_key(drawer: Drawer, letter_id: int) -> Item:
    return {"pk": {"S": drawer_pk(drawer)}, "sk": {"S": f"{letter_id:0{_ID_DIGITS}d}"}}


def id_of(item: Item) -> int:
    return int(item["sk"]["S"])


def possible(ids: Iterable[int]) -> list[int]:
    """Those that a letter may have, each once, ascending."""
    return sorted({letter_id for letter_id in ids if 0 < letter_id <= _ID_MAX})


def after(letter_id: int) -> str | None:
    """The least `sk` of a letter after this id; None where there can be none."""
    return f"{max(0, letter_id) + 1:0{_ID_DIGITS}d}" if letter_id < _ID_MAX else None


def place_of(drawer: Drawer, letter: DeadLetter) -> str:
    """The name of a record in a drawer. A parked one is of its item: what counts letters may not lose one to another."""
    parts = [drawer, letter.pipeline, letter.stream_arn, letter.shard_id, letter.sequence_number]
    return _digest([*parts, letter.item_key] if drawer == "parked" else parts)


def place_key(place: str) -> Item:
    return {"pk": {"S": f"place#{place}"}, "sk": {"S": "place"}}


def parked_pk(pipeline: str, stream_arn: str) -> str:
    return f"parked#{_digest([pipeline, stream_arn])}"


def parked_key(pipeline: str, stream_arn: str, item_key: str) -> Item:
    """Of the row that counts the letters of one item."""
    return {"pk": {"S": parked_pk(pipeline, stream_arn)}, "sk": {"S": _digest([item_key])}}


def chunks_pk(drawer: Drawer, letter_id: int) -> str:
    return f"letter#{drawer}#{letter_id}"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# --- letters ---------------------------------------------------------------------------------------------------------


def body_of(letter: DeadLetter) -> bytes:
    """What may be large, compressed. Text of an exception may hold lone surrogates: they are escaped."""
    error_text = _encodable(letter.error_text).encode()
    return zlib.compress(len(error_text).to_bytes(4, "big") + error_text + letter.record, level=1)


def chunks_name(body: bytes) -> str:
    """By content: the same record kept again writes the same chunks."""
    return hashlib.sha256(body).hexdigest()[:32]


def letter_item(drawer: Drawer, letter_id: int, letter: DeadLetter) -> tuple[Item, bytes | None]:
    """The item, and the body that has to be stored in chunks before it, if it is too large for one."""
    body = body_of(letter)
    large = len(body) > BODY_BYTES_MAX
    item = {
        **letter_key(drawer, letter_id),
        "pipeline": {"S": letter.pipeline},
        "stream": {"S": letter.stream_arn},
        "shard": {"S": letter.shard_id},
        "sequence": {"S": letter.sequence_number},
        "item": {"S": letter.item_key},
        "reason": {"S": letter.reason},
        "type": {"S": _encodable(letter.error_type)},
        "invokes": {"N": str(letter.invoke_count)},
        "kept": {"N": repr(letter.kept_at_s)},
        "place": {"S": place_of(drawer, letter)},
        **({"chunks": {"S": chunks_name(body)}} if large else {"body": {"B": body}}),
    }
    return item, body if large else None


def letter_of(item: Item, body: bytes) -> DeadLetter:
    """Raises `StoreError`: the letter is damaged."""
    try:
        plain = zlib.decompress(body)
        record_at = 4 + int.from_bytes(plain[:4], "big")
        return DeadLetter(
            pipeline=item["pipeline"]["S"],
            stream_arn=item["stream"]["S"],
            shard_id=item["shard"]["S"],
            sequence_number=item["sequence"]["S"],
            item_key=item["item"]["S"],
            record=plain[record_at:],
            reason=item["reason"]["S"],
            error_type=item["type"]["S"],
            error_text=plain[4:record_at].decode(),
            invoke_count=int(item["invokes"]["N"]),
            kept_at_s=float(item["kept"]["N"]),
            id=id_of(item),
        )
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise StoreError(
            f"lease store: letter {item['sk']['S'].lstrip('0')} is damaged: {type(error).__name__} (remove it: its record is "
            "lost then)"
        ) from error


def asked_for(item: Item, query: LetterQuery) -> bool:
    """Whether the texts of a letter are those of the query; its id is looked at elsewhere."""
    wanted = (
        ("pipeline", query.pipeline),
        ("stream", query.stream_arn),
        ("shard", query.shard_id),
        ("item", query.item_key),
    )
    return all(text is None or item.get(name, {}).get("S") == text for name, text in wanted)


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


# --- actions of transactions -----------------------------------------------------------------------------------------


def keep_actions(table: str, item: Item, *, known: bool) -> list[Any]:
    """The letter and its place: new, or still with the id that it is known by."""
    key, number = place_key(item["place"]["S"]), {"N": str(id_of(item))}
    put = {"Put": {"TableName": table, "Item": item}}
    if known:
        condition = _condition("#id = :id", {":id": number}, "id")
        return [{"ConditionCheck": {"TableName": table, "Key": key, **condition}}, put]
    place = {**key, "id": number}
    return [{"Put": {"TableName": table, "Item": place, "ConditionExpression": "attribute_not_exists(pk)"}}, put]


def remove_actions(table: str, item: Item) -> list[Any]:
    """The letter and its place, both still there."""
    letter = {"pk": item["pk"], "sk": item["sk"]}
    place = place_key(item["place"]["S"])
    known = _condition("#id = :id", {":id": {"N": str(id_of(item))}}, "id")
    return [
        {"Delete": {"TableName": table, "Key": letter, "ConditionExpression": "attribute_exists(pk)"}},
        {"Delete": {"TableName": table, "Key": place, **known}},
    ]


def more_parked(table: str, letter: DeadLetter, count: int, *, opening: bool) -> Any:
    """The row of an item counts more letters; unless `opening`, it has to be there."""
    names = {"#item": "item", "#count": "count"}
    update: dict[str, Any] = {
        "TableName": table,
        "Key": parked_key(letter.pipeline, letter.stream_arn, letter.item_key),
        "UpdateExpression": "SET #item = :item ADD #count :count",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":item": {"S": letter.item_key}, ":count": {"N": str(count)}},
    }
    return {"Update": update if opening else {**update, "ConditionExpression": "attribute_exists(pk)"}}


def fewer_parked(table: str, key: Item, count: int, *, of: int) -> Any:
    """The row of an item counts fewer letters; with the last of them it goes."""
    if count == of:
        last = _condition("#count = :count", {":count": {"N": str(count)}}, "count")
        return {"Delete": {"TableName": table, "Key": key, **last}}
    update: dict[str, Any] = {
        "TableName": table,
        "Key": key,
        "UpdateExpression": "ADD #count :less",
        **_condition("#count > :count", {":count": {"N": str(count)}, ":less": {"N": str(-count)}}, "count"),
    }
    return {"Update": update}


def _condition(expression: str, values: dict[str, Value], *names: str) -> dict[str, Any]:
    return {
        "ConditionExpression": expression,
        "ExpressionAttributeNames": {f"#{name}": name for name in names},
        "ExpressionAttributeValues": values,
    }
