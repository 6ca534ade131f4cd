"""Writes to a lease table of the KCL as requests to DynamoDB: pure, so that each can be looked at.

A row that is there is only ever updated, and only in what changes: attributes that we do not know survive. Every update
asks for the counter, the owner and the `checkpointOwner` that the row was known with. That is more than the KCL asks for,
and defeats a row that was deleted and made again, whose counter comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamflow.leases import LeaseState
from streamflow.positions import TRIM_HORIZON, PositionKind
from streamflow.stores.dynamodb.notes import NOTE, noted
from streamflow.stores.dynamodb.rows import (
    CHECKPOINT,
    CHECKPOINT_OWNER,
    CHILDREN,
    COUNTER,
    ENTITY,
    KEY,
    OWNER,
    PARENTS,
    PENDING,
    SUB_SEQUENCE,
    SWITCHES,
    as_kcl_says,
    lease_of,
    position_of,
    switches_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamflow.leases import Lease
    from streamflow.stores.dynamodb.keys import RowKeys
    from streamflow.stores.dynamodb.notes import Item, Value

_ZERO: Value = {"N": "0"}
# What the adapter for DynamoDB Streams writes for every shard: there are no ranges of hash keys.
_HASH_RANGE: Item = {"startingHashKey": {"S": "0"}, "endingHashKey": {"S": "1"}}


def create_request(lease: Lease, keys: RowKeys, *, typed: bool, chunks: str | None = None) -> dict[str, Any]:
    """Parameters of PutItem. `lease` is the row as it will be, its version 0; `typed` is whether rows have `entityType`."""
    item: dict[str, Value] = {
        KEY: {"S": keys.lease_key(lease.shard_id)},
        COUNTER: {"N": str(lease.version)},
        SUB_SEQUENCE: _ZERO,
        SWITCHES: _ZERO,
        CHECKPOINT: {"S": _checkpoint_text(lease, {}) or PositionKind.TRIM_HORIZON.value},
        **_present(_owners(lease)),
        **_present({PARENTS: _names(lease.parents), CHILDREN: _names(lease.children)}),
        **_HASH_RANGE,
    }
    if typed:
        item[ENTITY] = {"S": "LEASE"}
    if keys.stream:
        item |= {"streamName": {"S": keys.stream}, "shardId": {"S": lease.shard_id}}
    item[NOTE] = noted(lease, as_kcl_says(item, lease.key), chunks=chunks)
    # A row that we wrote for an earlier stream of the table, whose shard had the same name, is as good as none.
    foreign = f"attribute_exists(#{NOTE}.#stream) AND #{NOTE}.#stream <> :stream"
    return {
        "Item": item,
        "ConditionExpression": f"attribute_not_exists(#{KEY}) OR ({foreign})",
        "ExpressionAttributeNames": {**_attribute_names([KEY, NOTE]), "#stream": "stream"},
        "ExpressionAttributeValues": {":stream": {"S": lease.stream_arn}},
    }


def update_request(before: Item, lease: Lease, *, chunks: str | None = None) -> dict[str, Any]:
    """Parameters of UpdateItem: from the row as it was known to `lease`, whose version is the next one."""
    changes = _changes(before, lease)
    after = _present({**before, **changes})
    changes[NOTE] = noted(lease, as_kcl_says(after, lease.key), chunks=chunks)
    return {**_changed(before[KEY], changes, _unchanged(before)), "ReturnValues": "ALL_NEW"}


def ask_request(lease_key: str, *, owner: str, claimant: str) -> dict[str, Any]:
    """Parameters of UpdateItem: the KCL's way to begin a graceful hand-over. The counter stays."""
    conditions = [
        f"#{OWNER} = :known_{OWNER}",
        f"attribute_not_exists(#{CHECKPOINT_OWNER})",
        f"attribute_exists(#{KEY})",
    ]
    changes: Item = {OWNER: {"S": claimant}, CHECKPOINT_OWNER: {"S": owner}}
    request = _changed({"S": lease_key}, changes, (conditions, {f":known_{OWNER}": {"S": owner}}))
    request["ExpressionAttributeNames"][f"#{KEY}"] = KEY
    return {**request, "ReturnValues": "ALL_NEW"}


def delete_request(before: Item) -> dict[str, Any]:
    """Parameters of DeleteItem: of the row as it was known. The KCL itself deletes without a condition."""
    conditions, values = _unchanged(before)
    return {
        "Key": {KEY: before[KEY]},
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": _attribute_names([COUNTER, OWNER, CHECKPOINT_OWNER]),
        "ExpressionAttributeValues": values,
    }


def contradicts(before: Item, lease: Lease) -> bool:
    """Whether whoever writes `lease` is an owner of before, of a row that was deleted and made again since.

    A take makes the epoch grow, and a new row begins with a greater one than any before it.
    """
    known = lease_of(before, lease.key)
    return lease.owner not in (None, known.owner) and lease.epoch < known.epoch


# --- attributes ------------------------------------------------------------------------------------------------------


def _changes(before: Item, lease: Lease) -> dict[str, Value | None]:
    """Attributes that get another value; None is for those that are taken away."""
    known = lease_of(before, lease.key)
    text = _checkpoint_text(lease, before)
    wanted: dict[str, Value | None] = {**_owners(lease), COUNTER: {"N": str(lease.version)}}
    if lease.children != known.children:
        wanted[CHILDREN] = _names(lease.children)
    if text is not None:
        wanted |= {CHECKPOINT: {"S": text}, SUB_SEQUENCE: _ZERO}
    if lease.checkpoint != known.checkpoint or text not in (None, before.get(CHECKPOINT, {}).get("S")):
        wanted |= {SWITCHES: _ZERO, **dict.fromkeys(PENDING)}
    elif _switches(before, wanted[OWNER]):
        wanted[SWITCHES] = {"N": str(switches_of(before) + 1)}
    return {name: value for name, value in wanted.items() if value != before.get(name)}


def _owners(lease: Lease) -> dict[str, Value | None]:
    """Absent, never empty, for a lease that nobody has."""
    if lease.owner is None:
        return {OWNER: None, CHECKPOINT_OWNER: None}
    if lease.claimant in (None, lease.owner):
        return {OWNER: {"S": lease.owner}, CHECKPOINT_OWNER: None}
    return {OWNER: {"S": lease.claimant}, CHECKPOINT_OWNER: {"S": lease.owner}}


def _switches(before: Item, owner: Value | None) -> bool:
    """Whether the row goes from somebody to somebody else. Passing it on has counted when it began."""
    was = before.get(OWNER, {}).get("S")
    return bool(was) and owner is not None and was != owner["S"]


def _checkpoint_text(lease: Lease, before: Item) -> str | None:
    """The value for Java: the position itself, or where that cannot be said, one that loses nothing. None leaves it alone.

    A shard that ended without children that are known must not look finished, or nobody would look for them.
    """
    if lease.state is LeaseState.ENDED:
        return PositionKind.SHARD_END.value
    there, wanted = position_of(before), lease.checkpoint
    if wanted == there:
        return None
    if wanted.kind is PositionKind.AFTER_SEQUENCE_NUMBER:
        return wanted.sequence_number
    if wanted.kind is PositionKind.LATEST:
        return PositionKind.LATEST.value
    behind = there.kind is PositionKind.AFTER_SEQUENCE_NUMBER and there.order <= wanted.order
    return None if behind or there == TRIM_HORIZON else PositionKind.TRIM_HORIZON.value


def _names(names: Iterable[str]) -> Value | None:
    """A set may not be empty."""
    found = sorted(set(names))
    return {"SS": found} if found else None


def _present(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


# --- expressions -----------------------------------------------------------------------------------------------------


def _unchanged(before: Item) -> tuple[list[str], dict[str, Value]]:
    """The condition that the row is as it was known, and its values."""
    conditions, values = [], {}
    for name in (COUNTER, OWNER, CHECKPOINT_OWNER):
        if name in before:
            conditions.append(f"#{name} = :known_{name}")
            values[f":known_{name}"] = before[name]
        else:
            conditions.append(f"attribute_not_exists(#{name})")
    return conditions, values


def _changed(
    lease_key: Value, changes: Mapping[str, Value | None], condition: tuple[list[str], dict[str, Value]]
) -> dict[str, Any]:
    conditions, values = condition
    present = _present(changes)
    gone = [name for name in changes if name not in present]
    update = "SET " + ", ".join(f"#{name} = :{name}" for name in present)
    if gone:
        update += " REMOVE " + ", ".join(f"#{name}" for name in gone)
    named = dict.fromkeys([*changes, OWNER, CHECKPOINT_OWNER])
    return {
        "Key": {KEY: lease_key},
        "UpdateExpression": update,
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": _attribute_names(named),
        "ExpressionAttributeValues": {**values, **{f":{name}": value for name, value in present.items()}},
    }


def _attribute_names(names: Iterable[str]) -> dict[str, str]:
    return {f"#{name}": name for name in names}
