"""What a fleet calls in a second while nothing happens to it, and what that costs in a month; formulas, no measurements.

A shard is busy while every poll of it brings records, and idle once its polls have slowed down as far as they will. What is
between, starts, hand-overs, retries and dead letters come on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streamflow.leases import LeaseLayout
from streamflow.rules.balance import listing_interval_s

if TYPE_CHECKING:
    from streamflow.rules.pacing import PollPace

MONTH_S = 2_628_000.0
GET_RECORDS_FREE = 2_500_000
"""Calls a month for an account in a region (documented)."""
ROLLOVER_S = 4 * 3_600.0
"""How long a shard stays open (seen by many; not promised)."""
RETENTION_S = 24 * 3_600.0
LEASE_BYTES = 450
"""Of one row in the layout of the KCL (calculated from its attributes)."""

_READ_UNIT_BYTES = 4_096
_WRITES_PER_LEASE_DURATION = 3
_LISTED_PER_CALL = 100
# The KCL layout looks for leases to renew several times in a renewal interval, and renews a little early.
_RENEWAL_DUE, _RENEWAL_LOOKS = 0.9, 4


class Price(NamedTuple):
    """US dollars for a million; `source` says how well we know it, and from when."""

    usd: float
    source: str


PRICE_GET_RECORDS = Price(0.20, "list price, us-east-1, not looked up again, November 2026")
PRICE_WRITE = Price(0.625, "on-demand write of 1 KB, us-east-1, from a third party's page, since November 2024")
PRICE_READ = Price(0.125, "on-demand read of 4 KB, us-east-1, from a third party's page, since November 2024")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Workers that share the shards of one stream, in one pipeline."""

    shards: int
    """Open ones."""
    workers: int
    lease_rows: int
    """With those of shards that ended and are still listed, and the stream's own."""
    busy_share: float
    """Of the shards, or of the time of each; 0..1."""
    pace: PollPace
    checkpoint_interval_s: float
    lease_duration_s: float
    layout: LeaseLayout
    audit_interval_s: float = 600.0

    @property
    def native(self) -> bool:
        return self.layout is LeaseLayout.NATIVE

    @property
    def idle_pause_s(self) -> float:
        """Between two polls of an idle shard, on average."""
        return self.pace.idle_pause_s(shards=self.shards, phase=0.5)

    @property
    def idle_pause_max_s(self) -> float:
        """How long the first record of an idle shard may wait to be read."""
        return self.pace.idle_pause_s(shards=self.shards, phase=1.0)


class Calls(NamedTuple):
    """Calls of the whole fleet in a second. Listings count once, however many pages they have."""

    polls: float
    heartbeats: float
    """Rows of workers written, in the native layout."""
    renewals: float
    """Leases written for no other reason, in the layout of the KCL."""
    checkpoints: float
    lease_listings: float
    worker_listings: float
    describes: float
    """Of the stream: the audit, and children at the end of shards."""


class Cost(NamedTuple):
    """US dollars a month by what is paid for; None for a store that has no price of its own."""

    polls: float
    lease_writes: float | None
    lease_reads: float | None

    @property
    def total(self) -> float:
        return self.polls + (self.lease_writes or 0.0) + (self.lease_reads or 0.0)


def lease_rows(shards: int) -> int:
    """Those of open shards, of the generations before them that the stream still lists, and of the stream itself."""
    return round(shards * (RETENTION_S / ROLLOVER_S + 1)) + 1


def calls(fleet: Fleet) -> Calls:
    """What the engine does: see `rules.pacing`, `engine.checkpoints`, `engine.heartbeats` and `engine.renewals`."""
    busy = fleet.shards * fleet.busy_share
    idle = fleet.shards - busy
    # What moves seldom is stored when it moves.
    checkpoint_interval_s = max(fleet.checkpoint_interval_s, fleet.pace.interval_s)
    listings = _listings(fleet)
    beat_s = fleet.lease_duration_s / _WRITES_PER_LEASE_DURATION
    return Calls(
        polls=busy / fleet.pace.interval_s + idle / fleet.idle_pause_s,
        heartbeats=fleet.workers / beat_s if fleet.native else 0.0,
        renewals=0.0
        if fleet.native
        else (idle + 1) / beat_s + busy * _renewals_between(checkpoint_interval_s, beat_s) / checkpoint_interval_s,
        checkpoints=busy / checkpoint_interval_s,
        lease_listings=listings,
        worker_listings=listings if fleet.native else 0.0,
        describes=math.ceil(fleet.lease_rows / _LISTED_PER_CALL) / fleet.audit_interval_s + fleet.shards / ROLLOVER_S,
    )


def _listings(fleet: Fleet) -> float:
    """Every worker looks for leases to take."""
    return fleet.workers / listing_interval_s(fleet.lease_rows, fleet.lease_duration_s, fleet.layout)


def _renewals_between(checkpoint_interval_s: float, beat_s: float) -> int:
    """How many renewals a lease needs from one checkpoint to the next, which is a renewal, too."""
    first_s = beat_s * (_RENEWAL_DUE + 1 / (2 * _RENEWAL_LOOKS))
    return max(0, math.ceil((checkpoint_interval_s - first_s) / beat_s))


def cost(
    fleet: Fleet,
    found: Calls,
    *,
    get_records: float = PRICE_GET_RECORDS.usd,
    write: float = PRICE_WRITE.usd,
    read: float = PRICE_READ.usd,
) -> Cost:
    """Prices are in US dollars for a million. Calls that describe a stream are free."""
    polls = max(0.0, found.polls * MONTH_S - GET_RECORDS_FREE) * get_records / 1e6
    if fleet.native:
        return Cost(polls=polls, lease_writes=None, lease_reads=None)
    writes = (found.renewals + found.checkpoints) * MONTH_S
    # A listing is a scan, and one look at the stream's own row beside it.
    units = math.ceil(fleet.lease_rows * LEASE_BYTES / _READ_UNIT_BYTES) + 1
    reads = found.lease_listings * units * MONTH_S
    return Cost(polls=polls, lease_writes=writes * write / 1e6, lease_reads=reads * read / 1e6)
