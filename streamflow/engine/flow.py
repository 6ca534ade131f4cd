"""A flow: one pipeline whose source and handler are open, with what its tasks share."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from streamflow.clock import LeaseClock
    from streamflow.engine.lease_loop import LeaseLoop
    from streamflow.engine.read_ahead import ReadAhead
    from streamflow.events import Event
    from streamflow.pipeline import PipelineOptions
    from streamflow.positions import Position
    from streamflow.protocols import (
        Destination,
        Handler,
        Observer,
        Pin,
        Source,
        StateStore,
        StreamInfo,
        TransactionalWriter,
    )
    from streamflow.rules.filters import Filters

_logger = logging.getLogger("streamflow")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What all flows of a worker share; the fields are those of `App`."""

    worker_id: str
    lease_duration_s: float = 10.0
    drain_timeout_s: float = 25.0
    audit_interval_s: float = 600.0
    """Pause between complete listings of a stream; in between, children are looked up as their parents end."""
    store_deadline_s: float = 5.0
    """Time for one sign of life, and for the last checkpoint of a shard at shutdown."""
    look_interval_s: float = 0.0
    """Least time between two looks at the leases where nothing is free; 0 leaves it to `rules/balance`."""
    stall_s: float = 60.0
    """How long a reader, or the whole event loop, may be stuck until its leases are given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a worker gives to each of its flows."""

    options: WorkerOptions
    store: StateStore
    """For the handlers' loop."""
    lease_loop: LeaseLoop
    """Where leases are kept alive, with the store's other side."""
    clock: LeaseClock
    observers: Sequence[Observer]
    random: Random
    read_ahead: ReadAhead
    isolated: anyio.Lock = field(default_factory=anyio.Lock)
    """Of isolated shards, one hands over a record at a time."""

    def emit(self, event: Event) -> None:
        """Tell every observer; what one of them raises is logged and reaches neither the engine nor the others."""
        for observer in self.observers:
            try:
                observer(event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: ASYNC103, BLE001 - an observer is somebody else's code, and never waits
                # Neither its message nor its traceback: both may quote what the observer looked at.
                names = type(observer).__name__, type(event).__name__, type(error).__name__
                _logger.error("observer failed observer=%s event=%s error_type=%s", *names)  # noqa: TRY400


@dataclass(slots=True, eq=False)
class SharedLooks:
    """Looks at the store that many shards share: each wants one that began after it asked."""

    turn: anyio.Lock = field(default_factory=anyio.Lock)
    begun: int = 0
    answered: int = 0
    """Number of the last one that was answered."""


@dataclass(slots=True, kw_only=True, eq=False)
class Flow:
    """State that belongs to the pipeline as a whole. `chain` is the middleware around the handler, composed once.

    `accepts` is what the filters say of a record. `destinations` take what is given up; none means that it is dropped.
    """

    name: str
    options: PipelineOptions
    source: Source
    info: StreamInfo
    chain: Handler
    around: Surroundings
    accepts: Filters | None = None
    destinations: Sequence[Destination] = ()
    fence: TransactionalWriter | None = None
    """The handler where it is a sink that keeps the checkpoint itself: it decides where each shard goes on."""
    event_bytes_max: int | None = None
    """Where the handler takes an encoded event: the most it may have, also for a single record."""
    company: str | None = None
    """The first branch of the same fan-out, for the others: a worker has all branches of a shard, or none."""
    stopping: anyio.Event = field(default_factory=anyio.Event)
    """Set once: no new reads, no new batches."""
    changed: anyio.Event = field(default_factory=anyio.Event)
    """Replaced after each use: leases changed here, so look again before the next round is due."""
    pins: dict[str, Pin] = field(default_factory=dict)
    """Shard id to its pinned tip, until the shard is opened: the iterator is of use to whoever begins at that position."""
    at_risk: dict[str, Callable[[], Position]] = field(default_factory=dict)
    """Shards whose handler has seen records that are not stored as settled, and what tells after which they come again."""

    parked_keys: set[str] = field(default_factory=set)
    """The items of the stream that are parked, as far as this worker knows."""
    parked_looks: SharedLooks = field(default_factory=SharedLooks)
    at_stop: dict[Callable[[], None], None] = field(default_factory=dict)
    """Called once when the flow begins to stop: wakes whoever waits for something else. A set that keeps its order."""

    outrun: set[str] = field(default_factory=set)
    """Shards whose lease this worker has moved beyond an epoch that a sink had seen."""
    shards: int = 1
    """How many all workers together read, as of the last look; only the whole flow knows."""
    _whole: Flow | None = None

    @property
    def whole(self) -> Flow:
        """Itself, or that of which it is the part of one shard."""
        return self._whole or self

    @property
    def repeating(self) -> dict[str, Position]:
        """Shard id to the position after which records that the handler has seen would come again."""
        return {shard_id: position() for shard_id, position in self.at_risk.items()}

    def for_shard(self) -> Flow:
        """The same flow for one shard, which may stop before the others; it stops with them if it is in `at_stop`."""
        part = replace(self, stopping=anyio.Event(), _whole=self)
        if self.stopping.is_set():
            part.stopping.set()
        return part

    def stop(self) -> None:
        """Begin the graceful end of this flow."""
        self.stopping.set()
        self.nudge()
        for wake in list(self.at_stop):
            wake()

    def nudge(self) -> None:
        """Have the leases looked at now."""
        self.whole.changed.set()

    async def wait_nudge(self, timeout_s: float) -> bool:
        """Wait for a nudge or the timeout, whichever is first; True if there was a nudge."""
        with anyio.move_on_after(timeout_s):
            await self.changed.wait()
        nudged = self.changed.is_set()
        if nudged:
            self.changed = anyio.Event()
        return nudged

    async def pause(self, delay_s: float) -> bool:
        """Wait `delay_s`, or less when the flow stops: then the answer is True."""
        if delay_s <= 0:
            # A turn for the others: a reader that is behind must not keep the loop to itself.
            await anyio.lowlevel.checkpoint()
        else:
            with anyio.move_on_after(delay_s):
                await self.stopping.wait()
        return self.stopping.is_set()
