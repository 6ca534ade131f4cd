"""Shards listed and leases known, to what may be read, what must be stored, and what may be forgotten.

A child is read only when every parent is ended in the store, or is proven trimmed: absent from complete listings, without
an unfinished row, and old enough for that or absent for a while. The starting position counts only for shards known at the
first start; every later one starts at TRIM_HORIZON.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.leases import STREAM_ROW, Lease, LeaseState
from streamflow.positions import SHARD_END, TRIM_HORIZON
from streamflow.rules.steps import Unblocked, after

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from streamflow.positions import Position
    from streamflow.records import Shard

# A shard's id tells when it was made, in milliseconds: `shardId-00000001795433938583-09ddeb9f`.
_MADE_AT = re.compile(r"^shardId-(\d{20})-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a listing asks for.

    `create` are rows of new shards; `unblock` rows without parents that are trimmed, to be stored in
    place of the same version; `forget` rows of ended shards that the stream lists no more.
    """

    create: tuple[Lease, ...]
    unblock: tuple[Lease, ...]
    forget: tuple[Lease, ...]


def unknown_shards(listed: Mapping[str, Shard], leases: Mapping[str, Lease]) -> list[Shard]:
    """Listed shards without a row, by id; the order does not matter, because a child waits for its parents' rows."""
    return [listed[shard_id] for shard_id in sorted(listed) if shard_id not in leases]


def leaves(listed: Mapping[str, Shard]) -> set[str]:
    """Shards that no listed shard names as a parent."""
    parents = {parent for shard in listed.values() for parent in shard.parents}
    return set(listed) - parents


def bootstrap_position(shard: Shard, *, tips: Mapping[str, Position] | None) -> Position:
    """Where a shard starts that was listed at the first start.

    `tips` is None for TRIM_HORIZON; for LATEST it maps every open leaf to its pinned tip, and whatever is not in it
    (closed, or with children) lies before the start and is done.
    """
    if tips is None:
        return TRIM_HORIZON
    return tips.get(shard.shard_id, SHARD_END)


def lease_for(
    shard: Shard,
    *,
    pipeline: str,
    start: Position,
    parents: tuple[str, ...] | None = None,
    expects_children: bool = False,
) -> Lease:
    """The row of a shard that nobody has read yet, or, from SHARD_END, of one that nobody shall.

    `parents` replaces those of the shard; `expects_children` is true for a closed shard of a live stream whose children
    are not listed yet.
    """
    done = LeaseState.AWAITING_CHILDREN if expects_children else LeaseState.ENDED
    return Lease(
        pipeline=pipeline,
        stream_arn=shard.stream_arn,
        shard_id=shard.shard_id,
        checkpoint=start,
        state=done if start == SHARD_END else LeaseState.ACTIVE,
        parents=shard.parents if parents is None else parents,
    )


def absent_parents(listed: Mapping[str, Shard], leases: Mapping[str, Lease]) -> list[str]:
    """Parents that are neither listed nor have a row: they are trimmed, or the listing was not complete."""
    named = [shard.parents for shard in listed.values()]
    named += [lease.parents for lease in leases.values() if lease.state is LeaseState.ACTIVE]
    return sorted({parent for parents in named for parent in parents} - listed.keys() - leases.keys())


def may_be_trimmed(shard_id: str, *, now_s: float, retention_s: float) -> bool:
    """By the time of its making in its id; a shard whose id tells none may always be."""
    made_s = made_at_s(shard_id)
    return made_s is None or made_s <= now_s - retention_s


def made_at_s(shard_id: str) -> float | None:
    """When a shard was made, as far as its id tells."""
    found = _MADE_AT.match(shard_id)
    return None if found is None else int(found[1]) / 1000


def living_parents(parents: tuple[str, ...], *known: Container[str]) -> tuple[str, ...]:
    """Those that a complete listing or a row knows, or that are doubted: the others are trimmed."""
    return tuple(parent for parent in parents if any(parent in each for each in known))


def plan(
    listed: Mapping[str, Shard], leases: Mapping[str, Lease], *, pipeline: str, doubted: Container[str] = ()
) -> Plan:
    """Compare a complete listing with the rows, after the first start is stored completely.

    `doubted` are absent parents that are not proven to be trimmed yet: their children wait.

    An ended row stays as a tombstone as long as the stream lists its shard, a listed shard names it as a parent, or an
    unfinished row does: else a shard could be replayed.
    """
    rows = {shard_id: lease for shard_id, lease in leases.items() if shard_id != STREAM_ROW}

    def living(parents: tuple[str, ...]) -> tuple[str, ...]:
        return living_parents(parents, listed, rows, doubted)

    create = tuple(
        lease_for(shard, pipeline=pipeline, start=TRIM_HORIZON, parents=living(shard.parents))
        for shard in unknown_shards(listed, rows)
    )
    unblock = tuple(
        after(lease, Unblocked(living(lease.parents)))
        for lease in rows.values()
        if lease.state is LeaseState.ACTIVE and living(lease.parents) != lease.parents
    )
    needed = {parent for shard in listed.values() for parent in shard.parents}
    needed |= {parent for lease in rows.values() if lease.state is not LeaseState.ENDED for parent in lease.parents}
    forget = tuple(
        lease
        for shard_id, lease in sorted(rows.items())
        if lease.state is LeaseState.ENDED and shard_id not in listed and shard_id not in needed
    )
    return Plan(create=create, unblock=unblock, forget=forget)


def readable(leases: Iterable[Lease]) -> list[Lease]:
    """Unfinished rows whose parents are all done, oldest id first.

    A parent without a row blocks: `plan` strikes it from the row once a complete listing proves that it is trimmed.
    """
    rows = {lease.shard_id: lease for lease in leases if lease.shard_id != STREAM_ROW}
    return [
        lease
        for _, lease in sorted(rows.items())
        if lease.state is LeaseState.ACTIVE
        and all(parent in rows and rows[parent].state is not LeaseState.ACTIVE for parent in lease.parents)
    ]


def awaiting_children(leases: Iterable[Lease]) -> list[Lease]:
    """Shards that are done and whose children the service has not shown yet."""
    return [lease for lease in leases if lease.state is LeaseState.AWAITING_CHILDREN and lease.shard_id != STREAM_ROW]
