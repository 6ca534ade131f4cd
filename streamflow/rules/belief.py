"""How long an owner believes in its leases, and how long others wait before they take them: always longer.

Both count durations by their own monotonic clocks, and nothing else: the owner from before it sent the last sign of life
that was acknowledged, an observer from when it first saw the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from streamflow.leases import Lease

# The owner believes for 4/5 of the lease duration, observers wait for all of it: the rest is the margin between them.
_OWN_SHARE = 0.8
_BEATS_PER_LEASE = 3


def valid_until(sent_at: float, duration_s: float) -> float:
    """Up to when nobody else can own what is ours, if our last acknowledged sign of life was sent at `sent_at`."""
    return sent_at + duration_s * _OWN_SHARE


def beat_interval_s(duration_s: float) -> float:
    """How often an owner gives a sign of life."""
    return duration_s / _BEATS_PER_LEASE


def patience_s(row: Lease, duration_s: float) -> float:
    """For how long the row must not have changed before others may take it, or strike it if it is a worker's own.

    A worker's row names its own duration. What was passed on and not taken has an owner that does not believe in it yet:
    where leases are renewed one by one, others need not wait for long.
    """
    if row.duration_s is not None:
        return row.duration_s
    return beat_interval_s(duration_s) if row.owner is not None and row.owner == row.claimant else duration_s


def unowned(row: Lease, me: str, living: Container[str]) -> bool:
    """Whether nobody owns the row: it was let go, its owner is struck, or it is ours without our knowing, by a lost answer."""
    return row.owner is None or row.owner == me or row.owner not in living
