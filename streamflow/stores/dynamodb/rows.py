"""A row of a lease table of the Kinesis Client Library, and the lease that it is: read leniently, written to the letter.

While `checkpointOwner` is there, it is the owner, and `leaseOwner` the one that the lease is passed on to. What the row
says by itself counts wherever our note in it is older than the row: then a worker of the KCL wrote it since.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamflow.errors import StoreError
from streamflow.leases import Lease, LeaseState
from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position, PositionKind
from streamflow.stores.dynamodb.notes import gaps_in, note_in, with_note

if TYPE_CHECKING:
    from streamflow.leases import LeaseKey
    from streamflow.stores.dynamodb.notes import Item, Value

KEY, OWNER, COUNTER, CHECKPOINT = "leaseKey", "leaseOwner", "leaseCounter", "checkpoint"
SUB_SEQUENCE, SWITCHES = "checkpointSubSequenceNumber", "ownerSwitchesSinceCheckpoint"
CHECKPOINT_OWNER, PARENTS, CHILDREN, ENTITY = "checkpointOwner", "parentShardId", "childShardIds", "entityType"
RELEASED = "isReleased"
PENDING = ("pendingCheckpoint", "pendingCheckpointState", "pendingCheckpointSubSequenceNumber")

_SENTINELS = {"LATEST": LATEST, "SHARD_END": SHARD_END, "TRIM_HORIZON": TRIM_HORIZON}
# Its time is in the configuration of a Java application, which we do not have: reading more is safe.
_SENTINELS["AT_TIMESTAMP"] = TRIM_HORIZON


def is_lease(item: Item) -> bool:
    """False for what the KCL 3.5 keeps besides leases in one table."""
    return _entity(item) in {None, "LEASE"}


def is_leader(item: Item) -> bool:
    """Whether this is the record of a leader of the KCL 3.5, held: one that is given back says so, or is taken away."""
    return _entity(item) == "LEADER" and RELEASED not in item


def lease_of(item: Item, key: LeaseKey) -> Lease:
    """The lease of a row. A window that is in chunks is left out.

    Raises:
        StoreError: the row is damaged.
    """
    try:
        lease = as_kcl_says(item, key)
        note = note_in(item)
        if note is None:
            return lease
        if is_current(note, lease):
            return with_note(lease, note)
        # The epoch grows on with the counter, so that it never comes twice.
        epoch = int(note["epoch"]["N"]) + max(1, lease.version - int(note["counter"]["N"]))
        return replace(lease, epoch=epoch, gaps=gaps_in(note))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"lease store: the row {lease_key_of(item)} of pipeline {key.pipeline!r} is damaged: {error!r} (correct it, or "
            "delete it: then the shard starts at its starting position)"
        ) from error


def as_kcl_says(item: Item, key: LeaseKey) -> Lease:
    """The lease as a worker of the KCL understands the row."""
    checkpoint, children = position_of(item), _names(item, CHILDREN)
    state = LeaseState.ACTIVE
    if checkpoint == SHARD_END:
        state = LeaseState.ENDED if children else LeaseState.AWAITING_CHILDREN
    owner, claimant = owners_of(item)
    counter = counter_of(item)
    return Lease(
        pipeline=key.pipeline,
        stream_arn=key.stream_arn,
        shard_id=key.shard_id,
        owner=owner,
        claimant=claimant,
        epoch=counter,
        version=counter,
        checkpoint=checkpoint,
        state=state,
        parents=_names(item, PARENTS),
        children=children,
    )


def is_current(note: Item, kcl: Lease) -> bool:
    """Whether nobody but us wrote the row since the note was."""
    owner = note["owner"]["S"] if "owner" in note else None
    return (int(note["counter"]["N"]), owner) == (kcl.version, kcl.owner)


def lease_key_of(item: Item) -> str:
    return str(item.get(KEY, {}).get("S", ""))


def counter_of(item: Item) -> int:
    return _number(item[COUNTER])


def owners_of(item: Item) -> tuple[str | None, str | None]:
    """Who may write the row's checkpoint, and who asked for it."""
    owner, checkpoint_owner = _text(item, OWNER), _text(item, CHECKPOINT_OWNER)
    if checkpoint_owner is None:
        return owner, None
    return checkpoint_owner, owner if owner != checkpoint_owner else None


def position_of(item: Item) -> Position:
    """Where the row says that reading goes on.

    A sub-sequence number is a place within one record that holds many: that record is read again.
    """
    text = _text(item, CHECKPOINT) or PositionKind.TRIM_HORIZON.value
    if text in _SENTINELS:
        return _SENTINELS[text]
    part = _number(item[SUB_SEQUENCE]) if SUB_SEQUENCE in item else 0
    kind = PositionKind.AT_SEQUENCE_NUMBER if part else PositionKind.AFTER_SEQUENCE_NUMBER
    return Position.parse(f"{kind.value}:{text}")


def switches_of(item: Item) -> int:
    return _number(item[SWITCHES]) if SWITCHES in item else 0


def _entity(item: Item) -> str | None:
    return item.get(ENTITY, {}).get("S")


def _text(item: Item, name: str) -> str | None:
    """Absent, NULL and empty are the same: nobody. What is no text is damage, and no shard that was never read."""
    value = item.get(name, {})
    found = value.get("S")
    if found is None and value and "NULL" not in value:
        raise ValueError(f"{name} is no string")
    return found or None


def _number(value: Value) -> int:
    return int(value["N"] if "N" in value else value["S"])


def _names(item: Item, name: str) -> tuple[str, ...]:
    """In an order of their own: a set has none."""
    value = item.get(name, {})
    if "L" in value:
        return tuple(sorted(one["S"] for one in value["L"]))
    if "S" in value:
        return (value["S"],)
    return tuple(sorted(value["SS"])) if value and "NULL" not in value else ()
