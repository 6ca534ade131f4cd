"""Which record kills its process: what owners of a shard that ended without a word have left behind, and what it proves.

Nothing is written while all goes well. An owner that follows one that died notes, before it hands over its first batch, how
many have died at this checkpoint; so a death counts where something was handed over and nothing settled. After `DEATHS_MAX`
of them the shard is isolated: one record at a time, each noted before it is handed over. A record that was at work, alone,
in `TIMES_MAX` lives that all ended there is not handed over again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamflow.leases import SUSPECTS, Lease, LeaseKey

if TYPE_CHECKING:
    from streamflow.positions import Position

DEATHS_MAX = 3
TIMES_MAX = 3
ISOLATED_S = 60.0
"""What an owner settles between two stored checkpoints, and what it has in flight, is done one by one within this time: a
record that kills is among it. Both this time and a whole batch for each lane have to pass before a shard is let off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """Of one shard. `deaths` owners have ended without a word, one after the other, while the checkpoint was `at`.

    `alone` is the record that was handed over by itself, by its sequence number, and `times` in how many of their lives.
    """

    at: Position
    deaths: int
    alone: str = ""
    times: int = 0

    @property
    def isolates(self) -> bool:
        return self.deaths >= DEATHS_MAX

    def handing_over(self, record: str, at: Position) -> Suspicion:
        """What a life that was left this notes before it hands `record` over alone, with everything before it stored as
        settled."""
        return replace(self, at=at, alone=record, times=self.times_of(record) + 1)

    def times_of(self, record: str) -> int:
        """In how many lives that have ended it was at work alone."""
        return self.times if record == self.alone else 0

    def convicts(self, record: str) -> bool:
        return self.times_of(record) >= TIMES_MAX


def has_died(row: Lease, *, me: str, is_ours: bool) -> bool:
    """Whether the owner of a row that `me` may take has ended without letting it go. `is_ours`: in this very life.

    What was passed on to somebody who has not taken it was let go in good order.
    """
    if row.owner is None or row.owner == row.claimant:
        return False
    return row.owner != me or not is_ours


def suspicion_after_death(noted: Lease | None, checkpoint: Position) -> Suspicion:
    """What an owner has to believe that follows one which died. `noted` is the row that was there, if any.

    It is of no weight once the checkpoint has moved: then something was settled since.
    """
    found = None if noted is None else _in(noted)
    if found is None or found.at != checkpoint:
        return Suspicion(at=checkpoint, deaths=1)
    return replace(found, deaths=found.deaths + 1)


# --- as a row --------------------------------------------------------------------------------------------------------


def row_key(lease: LeaseKey) -> LeaseKey:
    """Of the row in which suspicion of a shard is noted; it is no shard's own, and never listed among them."""
    return LeaseKey(*SUSPECTS, f"{lease.pipeline}|{lease.stream_arn}|{lease.shard_id}")


def row_of(suspicion: Suspicion, lease: LeaseKey, *, by: str) -> Lease:
    """The row to be stored; `by` is the worker that is at work now."""
    key = row_key(lease)
    return Lease(
        pipeline=key.pipeline,
        stream_arn=key.stream_arn,
        shard_id=key.shard_id,
        owner=by,
        epoch=suspicion.deaths,
        checkpoint=suspicion.at,
        children=(suspicion.alone, str(suspicion.times)) if suspicion.alone else (),
    )


def _in(row: Lease) -> Suspicion | None:
    """None where the row is not as we write it: then it says nothing."""
    match row.children:
        case ():
            return Suspicion(at=row.checkpoint, deaths=row.epoch)
        case (alone, times) if times.isascii() and times.isdigit():
            return Suspicion(at=row.checkpoint, deaths=row.epoch, alone=alone, times=int(times))
        case _:
            return None
