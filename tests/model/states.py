"""What a state of the model is: rows in the store, what each worker remembers, requests on their way, faults yet to come.

Rows are the product's own `Lease`. States are tuples of few, small things, because there are hundreds of thousands.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from streamflow.leases import Lease, LeaseState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position
from streamflow.rules.steps import Checkpointed, Ended, PassedOn, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamflow.rules.steps import Step


class Row:
    """A lease that is compared by identity, since each is there only once: `row_of` makes them."""

    __slots__ = ("lease",)

    def __init__(self, lease: Lease) -> None:
        self.lease = lease


_ROWS: dict[Lease, Row] = {}


def row_of(lease: Lease) -> Row:
    found = _ROWS.get(lease)
    if found is None:
        found = _ROWS[lease] = Row(lease)
    return found


@cache
def numbered(row: Row, version: int, epoch: int) -> Row:
    return row_of(replace(row.lease, version=version, epoch=epoch))


def in_place_of(before: Row, wanted: Row) -> Row:
    """As a store makes of what is to be written in the place of another row."""
    return numbered(wanted, before.lease.version + 1, wanted.lease.epoch)


class Call(NamedTuple):
    """A step on its way into the store: `phase` is sent, stored, refused, or unknown to its sender.

    Once it is stored, `wanted` is the row as the store has it.
    """

    step: Step
    before: Row
    wanted: Row
    phase: str = "sent"

    @property
    def is_take(self) -> bool:
        return isinstance(self.step, Taken)

    @property
    def noun(self) -> str:
        return _NOUNS[type(self.step)]


_NOUNS = {Taken: "take", Checkpointed: "checkpoint", PassedOn: "passing on", Ended: "end"}


class Part(NamedTuple):
    """What one worker knows of one shard. `settled` and `flying` count records from the start of the shard."""

    seen: Row | None = None
    """The row as it was listed, free to be taken."""
    held: Row | None = None
    call: Call | None = None
    settled: int = 0
    flying: bool = False
    """The next record is in the handler's hands."""
    leaving: tuple[str | None, str | None] | None = None
    """Who asked for the lease, and who is to have it if nobody does."""
    parting: Call | None = None
    """The last write of a lease that is let go; the worker believes in it no more."""


class Shard(NamedTuple):
    row: Row | None
    parts: tuple[Part, ...]
    late: tuple[Call, ...] = ()
    """Requests whose senders have given up or died; they may still arrive."""
    done: int = 0
    """Records that some handler has settled: the truth that checkpoints have to keep behind."""
    fence: tuple[int, str] | None = None
    """The highest epoch under which a record was delivered, and by whom."""
    shown: bool = True
    """The service lists the shard's children."""
    trimmed: bool = False
    previous: Row | None = None
    """The row before its last write, where the store may forget that one."""


class Life(NamedTuple):
    """One worker. `age` counts from the sending of its last acknowledged beat, `quiet` from the last that was stored."""

    number: int = 1
    phase: str = "runs"
    """Or stops, or dead."""
    listed: bool = True
    """Its row is among those of workers."""
    age: int = 0
    quiet: int = 0
    beat: tuple[int, str] | None = None
    """A beat on its way: its age, and sent, stored or refused."""


class Left(NamedTuple):
    """How much of each may still happen. What comes before `asks` is a fault."""

    crashes: int = 0
    pauses: int = 0
    unknown: int = 0
    """Answers that do not come: of a request that was lost, or of one that was stored."""
    delays: int = 0
    """Requests that arrive when their sender has given up."""
    deletes: int = 0
    resets: int = 0
    rollbacks: int = 0
    asks: int = 0
    stops: int = 0
    trims: int = 0

    @property
    def faults(self) -> tuple[int, ...]:
        return self[:7]

    def less(self, kind: str) -> Left | None:
        """With one less; None where there is none."""
        count: int = getattr(self, kind)
        return self._replace(**{kind: count - 1}) if count else None


class State(NamedTuple):
    shards: tuple[Shard, ...]
    lives: tuple[Life, ...]
    left: Left

    def with_shard(self, number: int, shard: Shard) -> State:
        shards = (*self.shards[:number], relabelled(shard), *self.shards[number + 1 :])
        return State(shards, self.lives, self.left)

    def with_part(self, number: int, worker: int, part: Part) -> State:
        return self.with_shard(number, with_part(self.shards[number], worker, part))

    def with_life(self, worker: int, life: Life) -> State:
        return State(self.shards, (*self.lives[:worker], life, *self.lives[worker + 1 :]), self.left)


def with_part(shard: Shard, worker: int, part: Part) -> Shard:
    return shard._replace(parts=(*shard.parts[:worker], part, *shard.parts[worker + 1 :]))


# --- positions -------------------------------------------------------------------------------------------------------


@cache
def position(settled: int) -> Position:
    return Position.after(str(settled)) if settled else TRIM_HORIZON


def settled_by(lease: Lease, records: int) -> int:
    """How many of the shard's records the row says to be settled."""
    if lease.checkpoint == SHARD_END or lease.state is not LeaseState.ACTIVE:
        return records
    return int(lease.checkpoint.sequence_number or 0)


# --- versions and epochs ---------------------------------------------------------------------------------------------

# Only which of two is greater matters, and whether one follows the other: of a wider gap, that it is one.
_GAP_MAX = 2


@cache
def relabelled(shard: Shard) -> Shard:
    """The same state with the smallest versions and epochs, so that what can happen again and again comes back to it."""
    leases = [row.lease for row in _rows(shard)]
    versions = _narrow({lease.version for lease in leases})
    fence = {shard.fence[0]} if shard.fence is not None else set()
    epochs = _narrow({lease.epoch for lease in leases} | fence)
    if all(old == new for numbers in (versions, epochs) for old, new in numbers.items()):
        return shard

    def change(row: Row | None) -> Row | None:
        if row is None:
            return None
        return numbered(row, versions[row.lease.version], epochs[row.lease.epoch])

    narrow = _changed(shard, change)
    return narrow if shard.fence is None else narrow._replace(fence=(epochs[shard.fence[0]], shard.fence[1]))


def newest(shard: Shard) -> int:
    """The greatest of all versions and epochs that anybody remembers."""
    known = {number for row in _rows(shard) for number in (row.lease.version, row.lease.epoch)}
    return max(known | ({shard.fence[0]} if shard.fence is not None else set()), default=0)


def _narrow(numbers: set[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    last = before = 0
    for number in sorted(numbers):
        last += min(number - before, _GAP_MAX)
        before = number
        found[number] = last
    return found


def _rows(shard: Shard) -> Iterator[Row]:
    calls = [*shard.late]
    for part in shard.parts:
        yield from (row for row in (part.seen, part.held) if row is not None)
        calls += [call for call in (part.call, part.parting) if call is not None]
    for call in calls:
        yield from (call.before, call.wanted)
    yield from (row for row in (shard.row, shard.previous) if row is not None)


def _changed(shard: Shard, change: Callable[[Row | None], Row | None]) -> Shard:
    def call(each: Call | None) -> Call | None:
        if each is None:
            return None
        return each._replace(before=change(each.before) or each.before, wanted=change(each.wanted) or each.wanted)

    parts = tuple(
        part._replace(seen=change(part.seen), held=change(part.held), call=call(part.call), parting=call(part.parting))
        for part in shard.parts
    )
    late = tuple(call(each) or each for each in shard.late)
    return shard._replace(row=change(shard.row), previous=change(shard.previous), parts=parts, late=late)
