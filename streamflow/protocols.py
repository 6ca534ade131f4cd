"""The contracts between the rooms. Everything here is structural: nothing to inherit from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from streamflow.batches import Batch
    from streamflow.dead_letters import DeadLetter, DiscardedBatch, Drawer, LetterQuery
    from streamflow.events import Event
    from streamflow.leases import Lease, LeaseKey, LeaseLayout
    from streamflow.positions import Position
    from streamflow.records import Record, Shard

# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """`enabled` is false for a stream that gets no new records: it can be read to its end."""

    stream_arn: str
    name: str
    view_type: str
    enabled: bool
    retention_s: float = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Records oldest first. `bytes` is the size of the response body; `millis_behind` is None where nobody says.

    `reopened` tells that the iterator had expired and was replaced before this page was read. `age_s` is how long ago
    another reader of the shard asked for it, where it is empty and was not read now.
    """

    records: Sequence[Record]
    bytes: int
    millis_behind: int | None = None
    ended: bool = False
    reopened: bool = False
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A LATEST made concrete. `cursor` continues exactly there while it lives (minutes); `position` does for ever."""

    position: Position
    cursor: str | None = None


class ShardReader(Protocol):
    async def read(self, *, records_max: int) -> Page:
        """Read the next page, oldest record first.

        Returns 0..`records_max` records. An empty page is normal and is not the end: the shard has ended
        only when `page.ended`. `records_max` is 1..1000 on DynamoDB Streams (the service also stops at 1 MB).

        May be cancelled anywhere and called again: nothing is skipped. Expired iterators are re-opened from
        the last position inside the reader, and are not errors.

        Raises:
            ThrottledError: the service asked for a pause; wait `retry_after_s`.
            TrimmedError: the position is older than retention (24 h); the records between are lost.
            NotFoundError: the shard or its stream is gone.
            SourceError: any other failure; transient with an unknown outcome unless its class says otherwise.
        """
        ...


class Source(Protocol):
    """One stream. Its calls may be cancelled anywhere and repeated."""

    async def describe(self) -> StreamInfo:
        """Look the stream up.

        Raises:
            NotFoundError, StreamDisabledError, AccessDeniedError: as they say, with the command that helps.
        """
        ...

    async def shards(self) -> Mapping[str, Shard]:
        """The complete listing by shard id, every page of it, retained closed shards included."""
        ...

    async def children(self, shard: Shard) -> Sequence[Shard]:
        """The shards that name `shard` as a parent; empty while the service does not show them yet."""
        ...

    async def pin(self, shard: Shard) -> Pin:
        """Fix the tip of an open shard: everything written after the call is found from there."""
        ...

    def open(
        self, shard: Shard, start: Position, *, cursor: str | None = None
    ) -> AbstractAsyncContextManager[ShardReader]:
        """A reader from `start`; `cursor`, from `pin`, is used instead of it while it lives."""
        ...


# --- handling --------------------------------------------------------------------------------------------------------

Handler: TypeAlias = "Callable[[Batch], Awaitable[None]]"
"""Returning is success, raising is failure; `PartialFailure` is failure from a record on."""


class Middleware(Protocol):
    async def __call__(self, batch: Batch, /, call_next: Handler) -> None:
        """Do something around the rest of the chain; runs in the caller's task, outermost layer first."""
        ...


class Writer(Protocol):
    async def write(self, batch: Batch, /) -> None:
        """Write the batch; the same meaning of returning and raising as for a handler."""
        ...


class TransactionalWriter(Writer, Protocol):
    """A writer that stores how far each shard is in the same transaction as the data: its own checkpoint is the truth.

    `write` stores `batch.last` with the records, all or nothing, and leaves out what is stored already. It raises
    `FencedError` where a newer epoch has fenced the shard. What it refuses, it refuses before storing anything behind it:
    the checkpoint never passes a record that was not written.

    A batch of epoch 0 is none of a shard's owner: dead letters that are delivered again, each older than the checkpoint.
    It is written all the same, without touching or asking the checkpoint; versions keep newer data as it is.
    """

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        """Refuse, from now on, what owners of an older epoch write; the answer is how far the shard is, None for nowhere.

        Raises:
            FencedError: the target has seen a newer epoch.
        """
        ...

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        """Everything up to `position` is settled, though not all of it was written: store that. It never moves back.

        Raises:
            FencedError: the target has seen a newer epoch.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """A handler with a life: an async context manager that is opened once per run and yields its writer."""

    async def __aenter__(self) -> Writer: ...

    async def __aexit__(self, *exception: object) -> bool | None: ...


class AwsClients(Protocol):
    """One way to reach AWS: `streamflow.aws.session.Aws`."""

    def client(
        self, service: str, *, region: str | None = None, attempts_max: int = ..., read_timeout_s: float | None = None
    ) -> AbstractAsyncContextManager[Any]: ...

    async def renew(self) -> None: ...


# --- leases ----------------------------------------------------------------------------------------------------------


class LeaseStore(Protocol):
    """Rows with compare-and-set. No store's clock, and no wall clock, decides anything.

    Every call may raise `StoreError` (nothing happened) and every write `UnknownOutcomeError` (it may have happened). No
    call is repeated by the store itself: a repetition of a write that happened would look like somebody else's.
    """

    @property
    def layout(self) -> LeaseLayout:
        """How owners show that they live; a store in `LeaseLayout.KCL` is a `CountedLeaseStore`."""
        ...

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        """All rows of one stream in one pipeline, in no particular order; may be stale by a moment.

        They come without their `window`, which may be large: `get` has it.
        """
        ...

    async def get(self, key: LeaseKey) -> Lease | None:
        """The row as it is now: linearizable."""
        ...

    async def create(self, lease: Lease) -> Lease | None:
        """Store a row that does not exist yet, at the version after that of `lease`, and return it; None if one exists."""
        ...

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        """Replace the row if its version is still `expected_version`; return what is stored now, at the next version.

        None means conflict: the row has another version, or is gone.
        """
        ...

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        """Remove the row if its version is still `expected_version`; False means conflict."""
        ...


class CountedLeaseStore(LeaseStore, Protocol):
    """A store of the KCL's layout, in which a request to pass a lease on leaves its counter, and so its renewals, alone."""

    @property
    def failover_s(self) -> float:
        """The lease duration of the workers of the KCL that share the table."""
        ...

    async def ask(self, lease: Lease, claimant: str) -> Lease | None:
        """Note `claimant` in a lease that is still owned by `lease.owner` and that nobody else has asked for.

        The version stays as it is. None means conflict: it has another owner, another claimant, or is gone.
        """
        ...


class DeadLetterStore(Protocol):
    """Two drawers of whole records: given up ("dead"), and set aside with their item's key ("parked").

    Durable when a call returns. Every call may raise `StoreError`; all may be repeated.
    """

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Put into the drawer "dead". A record that is there already keeps its id and gets the new reason and counts."""
        ...

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        """Put into the drawer "parked", in one step with the look whether their keys are parked there now.

        The answer names the item keys whose letters were taken: all of them if `opening`, else those that have letters
        of this pipeline and stream in the drawer already. Letters of other keys are not stored.
        """
        ...

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        """The item keys with letters in the drawer "parked"."""
        ...

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        """By ascending id, `query.limit` at most."""
        ...

    async def count(self, query: LetterQuery) -> int:
        """How many there are, whatever `limit` says."""
        ...

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        """Delete; the answer is how many were there."""
        ...


class StateStore(LeaseStore, DeadLetterStore, Protocol):
    """Everything durable of a worker in one place."""


class Destination(Protocol):
    """Where batches go that are given up."""

    @property
    def name(self) -> str:
        """For events and logs: `dead_letters`, or an ARN."""
        ...

    async def send(self, discarded: DiscardedBatch, /) -> None:
        """Hand over; durable when it returns. May be called again with the same batch.

        Raises:
            DestinationError, StoreError: it was not taken, or nobody knows; the engine tries again until it is.
        """
        ...


# --- observing -------------------------------------------------------------------------------------------------------


class Observer(Protocol):
    def __call__(self, event: Event, /) -> None:
        """Take note of a fact, quickly: called on the event loop, once per page or batch, never per record.

        What it raises is logged and goes no further.
        """
        ...
