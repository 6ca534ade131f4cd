"""Which leases a worker should take and ask for, so that all are owned, each worker has its share, and little moves.

Every worker decides for itself from one look at the rows. Counts are balanced, not traffic. A fleet that differs by one
lease is balanced; beyond that those who have less ask those who have most, a few at a time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING
from zlib import crc32

from streamflow.leases import LeaseLayout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.leases import Lease

_IMBALANCE_MIN = 1.1
_MOVES_SHARE = 0.25
LISTING_MIN_S = 0.4
# Rows that one worker lists in a second. A KCL table is scanned, and paid by its size; for the others this is little work.
_LISTED_PER_S = {LeaseLayout.NATIVE: 1_500.0, LeaseLayout.KCL: 800.0, LeaseLayout.KCL_SHARED: 100.0}
# In lease durations: how late a worker may see that a lease was let go. The KCL looks every other lease duration.
_LISTING_MAX = {LeaseLayout.NATIVE: 1 / 3, LeaseLayout.KCL: 2.0, LeaseLayout.KCL_SHARED: 2.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One look. `rows` are those that may be worked on; `workers` are alive and work on this pipeline, `me` included.

    `free` are shards that nobody alive owns, `left_over` those of them that were free at the look before. `avoided` are
    shards that `me` could not read: others may fare better. `company` maps shards to the worker that has the same shard for
    the first branch of a fan-out: branches share what they read.
    """

    me: str
    workers: frozenset[str]
    rows: Sequence[Lease]
    free: frozenset[str]
    left_over: frozenset[str] = frozenset()
    avoided: frozenset[str] = frozenset()
    company: Mapping[str, str] = field(default_factory=dict)


def listing_interval_s(rows: int, duration_s: float, layout: LeaseLayout = LeaseLayout.NATIVE) -> float:
    """How long to wait between two looks at `rows` rows: often where there are few, so that a lease let go is taken soon."""
    longest_s = duration_s * _LISTING_MAX[layout]
    return min(longest_s, max(LISTING_MIN_S, rows / _LISTED_PER_S[layout]))


def takes(view: View) -> list[Lease]:
    """Free rows to take: all that were passed on to `me` or were mine, others up to my share, and what is left over."""
    free = [row for row in view.rows if row.shard_id in view.free]
    taken = [row for row in free if _is_mine(view, row)]
    room = _shares(view)[1] - _counts(view)[view.me]
    for row in _in_my_order(view, [row for row in free if not _is_mine(view, row)]):
        promised = row.claimant in view.workers
        companion = view.company.get(row.shard_id)
        wanted = companion == view.me if companion in view.workers else room > 0 and not promised
        if wanted or row.shard_id in view.left_over:
            taken.append(row)
            room -= companion not in view.workers
    return taken


def asks(view: View) -> list[Lease]:
    """Rows of others that `me` should ask for; to be acted upon only when the look before found some too."""
    counts = _counts(view)
    pending = sum(row.claimant == view.me and row.owner != view.me for row in view.rows)
    # A branch goes where its company is, however many leases that makes.
    company = [row for row in view.rows if view.company.get(row.shard_id) == view.me and _may_be_asked(view, row)]
    owned: dict[str, list[Lease]] = defaultdict(list)
    for row in _in_my_order(view, [row for row in view.rows if _is_lonely(view, row) and _may_be_asked(view, row)]):
        owned[row.owner or ""].append(row)
    have = counts[view.me] + pending
    fewest, most = _shares(view)
    # One more than the others may be somebody's fair share: there is no hurry to get that one.
    moves = min(ceil(most * _MOVES_SHARE) - pending, max(fewest - have, min(most - have, 1)))
    wanted: list[Lease] = []
    while owned and moves > len(wanted):
        richest = max(sorted(owned), key=lambda owner: counts[owner])
        if counts[richest] - have < 2 or counts[richest] < have * _IMBALANCE_MIN:
            break
        wanted.append(owned[richest].pop())
        if not owned[richest]:
            del owned[richest]
        counts[richest] -= 1
        have += 1
    return company + wanted


def heirs(view: View) -> dict[str, str]:
    """Shard to the worker that should have it when `me` leaves: those who have least, in turn; empty if nobody else lives."""
    counts, others = _counts(view), sorted(view.workers - {view.me})
    found: dict[str, str] = {}
    for row in view.rows if others else ():
        if row.owner == view.me:
            heir = found[row.shard_id] = min(others, key=counts.__getitem__)
            counts[heir] += 1
    return found


def _shares(view: View) -> tuple[int, int]:
    """The fewest and the most leases that a worker has in a balanced fleet."""
    lonely, workers = sum(_is_lonely(view, row) for row in view.rows), len(view.workers)
    return lonely // workers, ceil(lonely / workers)


def _counts(view: View) -> Counter[str | None]:
    """How many leases each worker has, or is just being given, without those that keep another branch company."""
    lonely = [row for row in view.rows if _is_lonely(view, row)]
    counts: Counter[str | None] = Counter(row.owner for row in lonely if row.shard_id not in view.free)
    counts[view.me] += sum(row.shard_id in view.free and _is_mine(view, row) for row in lonely)
    return counts


def _is_mine(view: View, row: Lease) -> bool:
    """Of a free row: it was passed on to me, let go for me, or mine in an earlier life."""
    return view.me in (row.owner, row.claimant)


def _is_lonely(view: View, row: Lease) -> bool:
    """Whether the lease goes anywhere, since nobody has the same shard for the first branch."""
    return view.company.get(row.shard_id) not in view.workers


def _may_be_asked(view: View, row: Lease) -> bool:
    if row.shard_id in view.free or row.shard_id in view.avoided:
        return False
    return row.owner not in {None, view.me} and row.claimant is None


def _in_my_order(view: View, rows: Sequence[Lease]) -> list[Lease]:
    """Another order for each worker, so that they seldom reach for the same row."""
    return sorted(rows, key=lambda row: crc32(f"{view.me}/{row.shard_id}".encode()))
