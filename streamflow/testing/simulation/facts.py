"""What the oracle is told: everything that happened to the world, as frozen facts, by whoever saw it happen.

Sequence numbers are integers. `node` is one life of one worker: a restart is another node. None of these facts says what
the engine believes, but for `Told`, which repeats its own events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.events import Event
    from streamflow.leases import Lease

HAND = "hand"
"""The node of rows that were written behind the workers' backs."""

# --- the service -----------------------------------------------------------------------------------------------------


class ShardMade(msgspec.Struct, frozen=True, kw_only=True):
    shard_id: str
    parents: tuple[str, ...] = ()


class RecordMade(msgspec.Struct, frozen=True, kw_only=True):
    """`passes`: whether the filters of the pipelines let it through. `body` is the record as the service encodes it."""

    shard_id: str
    number: int
    key: str
    passes: bool = True
    body: bytes = b""


class ShardFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The service closed it: nothing more is written to it."""

    shard_id: str


class RecordsGone(msgspec.Struct, frozen=True, kw_only=True):
    """Retention took all records up to `through`."""

    shard_id: str
    through: int


class ShardGone(msgspec.Struct, frozen=True, kw_only=True):
    """Retention took the shard: it is listed no more, and no record of it can be read."""

    shard_id: str


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """A request reached the service, which answered with so many records up to the number `last`, or with an error."""

    node: str
    operation: str
    shard_id: str = ""
    records: int = 0
    last: int = 0
    failed: bool = False


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a listing has come to a node, with these shards."""

    node: str
    shard_ids: tuple[str, ...]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """A node hears what became of a request to the service; `failed` also where nothing came back.

    `shard_id` is that of the children for DescribeStream, where it asks for those alone.
    """

    node: str
    operation: str
    shard_id: str = ""
    failed: bool = False


# --- the store -------------------------------------------------------------------------------------------------------


class RowStored(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the store changed: created where `before` is None, deleted where `after` is.

    The request was on its way for `age_s`.
    """

    node: str
    before: Lease | None
    after: Lease | None
    age_s: float = 0.0


class RowsListed(msgspec.Struct, frozen=True, kw_only=True):
    """A node was shown these rows, as they are or were."""

    node: str
    rows: tuple[Lease, ...]


class StoreRolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """The store lost acknowledged writes: these rows (pipeline, shard id) are what they were before."""

    rows: tuple[Lease, ...]


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    drawer: str
    pipeline: str
    shard_id: str
    number: int
    key: str = ""
    reason: str = "RetryAttemptsExhausted"
    body: bytes = b""


class LettersStored(msgspec.Struct, frozen=True, kw_only=True):
    """Records are durably in a drawer of the store, or in a destination (drawer `dead`)."""

    node: str
    letters: tuple[Letter, ...]


# --- the handler -----------------------------------------------------------------------------------------------------


class WindowSeen(msgspec.Struct, frozen=True, kw_only=True):
    """The tumbling window that a handler was given; `numbers` are the records that its state knows of."""

    start_s: int
    numbers: tuple[int, ...] = ()
    final: bool = False


class Invoked(msgspec.Struct, frozen=True, kw_only=True):
    """The handler was called, in an invocation with a number of its own."""

    node: str
    invocation: int
    pipeline: str
    shard_id: str
    epoch: int
    numbers: tuple[int, ...]
    window: WindowSeen | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of these records is in the sink."""

    node: str
    invocation: int
    pipeline: str
    shard_id: str
    epoch: int
    numbers: tuple[int, ...]
    fenced: bool = False
    """The sink refuses what an older owner writes."""


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """The invocation is over; the handler says that it is done with `done`. `counted` is false where it was merely busy.

    A handler that was cancelled and goes on in a thread of its own returns when the thread has ended.
    """

    node: str
    invocation: int
    pipeline: str
    shard_id: str
    epoch: int
    numbers: tuple[int, ...]
    done: tuple[int, ...] = ()
    counted: bool = True
    named: bool = False
    """The handler says of each record whether it is done."""
    refused: tuple[int, ...] = ()
    """Of these, that they will never be taken."""
    waiting: tuple[int, ...] = ()
    """Of these, that they were not tried."""
    fenced: bool = False
    """The sink has seen a newer owner."""
    window: WindowSeen | None = None
    """As `Invoked` has it."""


# --- the nodes -------------------------------------------------------------------------------------------------------


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the pipelines of one node promise of handlers that fail, and of memory; -1 and None are no bound."""

    retries_max: int = -1
    halves: bool = False
    """Batches that fail are halved."""
    refusals: bool = True
    """A record that the sink refuses is given up without a retry."""
    parks_max: int = 0
    """So many items are parked instead of given up; 0: none."""
    age_max_s: float | None = None
    lanes: int = 1
    buffer_bytes_max: int = 1 << 30
    """For one shard."""


class NodeStarted(msgspec.Struct, frozen=True, kw_only=True):
    """`ahead_s` is how far its wall clock is ahead of the service's."""

    node: str
    worker_id: str
    terms: Terms = Terms()
    ahead_s: float = 0.0


class ClockJumped(msgspec.Struct, frozen=True, kw_only=True):
    """The wall clock of a node was set, and is so far ahead of the service's now."""

    node: str
    ahead_s: float


class NodeCrashed(msgspec.Struct, frozen=True, kw_only=True):
    node: str


class NodeStands(msgspec.Struct, frozen=True, kw_only=True):
    """A node stands still: a pause, a suspend, a blocked loop."""

    node: str


class NodeHeld(msgspec.Struct, frozen=True, kw_only=True):
    """A node stood still for so long, and goes on."""

    node: str
    held_s: float


class StopAsked(msgspec.Struct, frozen=True, kw_only=True):
    node: str


class NodeStopped(msgspec.Struct, frozen=True, kw_only=True):
    """The worker returned. `tasks_left` are the names of its tasks that did not end."""

    node: str
    drained: bool = True
    failed: bool = False
    repeating: Mapping[tuple[str, str], int | float] = {}
    """Pipeline and shard id to the number after which, it says, records come again."""
    tasks_left: tuple[str, ...] = ()


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the engine."""

    node: str
    event: Event


class Wrote(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a log, or a text for people that left the process some other way."""

    node: str
    text: str


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """What one node looks like now. `ages_s` are its gauges of iterator age, by pipeline and shard."""

    node: str
    buffered_bytes: int = 0
    tasks: int = 0
    shards: int = 0
    ages_s: Mapping[tuple[str, str], float] = {}
    ahead_s: float = 0.0
    """How far the node's wall clock is ahead of the service's."""


class LoopComplained(msgspec.Struct, frozen=True, kw_only=True):
    """The event loop reported an error that nobody awaited, or Python a coroutine that nobody did."""

    text: str


# --- the run ---------------------------------------------------------------------------------------------------------


class Promised(msgspec.Struct, frozen=True, kw_only=True):
    """What is written from now on is due to the pipeline: with TRIM_HORIZON everything, with LATEST from its start."""

    pipeline: str


class QuietBegun(msgspec.Struct, frozen=True, kw_only=True):
    """Faults are over for good, and these nodes live on."""

    nodes: tuple[str, ...]


class EvenLoad(msgspec.Struct, frozen=True, kw_only=True):
    """From now on every open shard gets as many records as every other, or no more."""

    over: bool = False


class Converged(msgspec.Struct, frozen=True, kw_only=True):
    """Everything due is settled and stored, `took_s` after faults were over; None: it never came to that."""

    took_s: float | None
    missing: str = ""


Fact: TypeAlias = (
    ShardMade
    | RecordMade
    | ShardFinished
    | RecordsGone
    | ShardGone
    | Called
    | Shown
    | Heard
    | RowStored
    | RowsListed
    | StoreRolledBack
    | LettersStored
    | Invoked
    | Accepted
    | Returned
    | NodeStarted
    | ClockJumped
    | NodeCrashed
    | NodeStands
    | NodeHeld
    | StopAsked
    | NodeStopped
    | Told
    | Wrote
    | Sampled
    | LoopComplained
    | Promised
    | QuietBegun
    | EvenLoad
    | Converged
)
