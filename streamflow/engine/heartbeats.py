"""Liveness by one row for each worker, written a few times in a lease duration; leases themselves are not renewed.

Who sees a worker's row unchanged for the duration that the row names strikes it, by compare-and-set, and only then are
its leases free. A worker that finds its row struck has lost them all, and comes back under another id.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.engine.patience import Patience
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.failpoints import reach
from streamflow.leases import WORKERS, Lease, LeaseKey
from streamflow.rules import belief, steps
from streamflow.rules.steps import AskedFor, Beaten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamflow.engine.flow import Surroundings
    from streamflow.engine.liveness import Held


@dataclass(slots=True, eq=False)
class Heartbeats:
    """Keeps `Liveness`, in a store of `LeaseLayout.NATIVE`."""

    around: Surroundings
    pipelines: tuple[str, ...]
    held: dict[LeaseKey, Held] = field(default_factory=dict)
    _row: Lease = field(init=False)
    """As it was last stored. Belongs to the loop of the leases, as does everything that writes it."""
    _listed: bool = False
    _sent_at: float = float("-inf")
    """Lifetime of the clock just before the last acknowledged beat was sent."""
    _stirred_at: float = float("-inf")
    """When the handlers' loop last ran."""
    _writing: anyio.Lock = field(default_factory=anyio.Lock)
    _abandoned: bool = False
    _patience: Patience = field(init=False)
    _living: dict[str, Lease] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._patience = Patience(self.around.clock, self.around.options.lease_duration_s)
        self._row = self._new_row(self.around.options.worker_id)

    @property
    def worker_id(self) -> str:
        return self._row.shard_id

    @property
    def beat_interval_s(self) -> float:
        return belief.beat_interval_s(self.around.options.lease_duration_s)

    @property
    def alive(self) -> bool:
        return self.around.clock.lifetime() < self._valid_until

    def valid_until(self, held: Held) -> float:  # noqa: ARG002 - one sign of life for all leases
        return self._valid_until

    @property
    def _valid_until(self) -> float:
        return belief.valid_until(self._sent_at, self.around.options.lease_duration_s)

    # -- this worker ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._stirred_at = self.around.clock.monotonic()
        await self.around.lease_loop.call(self._start)

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stir, name="worker/stir")
            await self.around.lease_loop.call(self._beat_on)

    async def leave(self) -> None:
        if not self._abandoned:
            await self.around.lease_loop.call(self._leave)

    async def retire(self, pipeline: str) -> None:
        self.pipelines = tuple(name for name in self.pipelines if name != pipeline)
        # At once, so that others reckon without us before the leases are free. If it fails, the next beat says it.
        with anyio.move_on_after(self.beat_interval_s), suppress(StoreError):
            await self.around.lease_loop.call(self._beat)

    def abandon(self) -> None:
        self._abandoned = True

    async def _stir(self) -> None:
        while True:
            self._stirred_at = self.around.clock.monotonic()
            await anyio.sleep(self.beat_interval_s / 4)

    # -- in the loop of the leases --------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Strike earlier lives of this worker, which are dead if they are what they should be, and begin a new one."""
        name = self.around.options.worker_id
        for row in await self.around.lease_loop.store.list(*WORKERS):
            if row.shard_id.partition("#")[0] == name:
                await self.around.lease_loop.store.delete(row.key, expected_version=row.version)
                self._row = self._new_row(_next_life(max(self.worker_id, row.shard_id, key=_life)))
        await self._enlist()

    async def _enlist(self) -> None:
        """Store a row under an id that nobody has."""
        while True:
            sent_at = self.around.clock.lifetime()
            stored = await self.around.lease_loop.store.create(self._row)
            if stored is not None:
                self._row, self._sent_at, self._listed = stored, sent_at, True
                return
            self._row = self._new_row(_next_life(self.worker_id))

    async def _beat_on(self) -> None:
        clock = self.around.clock
        while True:
            next_at = clock.monotonic() + self.beat_interval_s
            if clock.monotonic() - self._stirred_at < self.around.options.stall_s:
                try:
                    await self._beat()
                    # Validity counts from the sending: an answer that took its time must not put off the next beat.
                    next_at = clock.monotonic() + self.beat_interval_s - (clock.lifetime() - self._sent_at)
                except StoreError as error:
                    # The validity of all leases is at stake: try again well before it ends.
                    next_at = clock.monotonic() + self.beat_interval_s / 4
                    self._report(error, self.beat_interval_s / 4)
            await anyio.sleep(max(0.0, next_at - clock.monotonic()))

    async def _beat(self) -> None:
        async with self._writing:
            if not self._listed:
                await self._enlist()
                return
            sent_at = self.around.clock.lifetime()
            stored = await self._update()
            if stored is not None:
                self._row, self._sent_at = stored, sent_at
                return
            silent_s = sent_at - self._sent_at
            self._row = self._new_row(_next_life(self.worker_id))
            self._sent_at, self._listed = float("-inf"), False
            self.around.lease_loop.tell(lambda: self._lose_all(silent_s))
            await self._enlist()

    async def _update(self) -> Lease | None:
        """The row as stored, None if it was struck. Not to be cancelled half-way: nobody would know what became of it."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(self.around.options.store_deadline_s):
            stored = await self._compare_and_set()
            if stored is None and (current := await self._found()) is not None:
                # A beat that was given up has arrived after all.
                self._row = current
                stored = await self._compare_and_set()
            if stored is not None:
                await reach("heartbeat.written")
            return stored
        raise StoreError(f"the store did not answer within {self.around.options.store_deadline_s:g} s")

    async def _compare_and_set(self) -> Lease | None:
        wanted = steps.after(self._row, Beaten(self.pipelines))
        try:
            return await self.around.lease_loop.store.update(wanted, expected_version=self._row.version)
        except UnknownOutcomeError:
            current = await self._found()
        if current is not None:
            # What was found may be an earlier beat, and others wait since that one: only an answer is a sign of life of now.
            self._row = current
            raise StoreError("the heartbeat has no answer")
        return None

    async def _found(self) -> Lease | None:
        """Our row, if it is there and of this life: nobody else writes it, but for taking it away."""
        current = await self.around.lease_loop.store.get(self._row.key)
        return current if steps.of_same_life(self._row, current) else None

    async def _leave(self) -> None:
        async with self._writing:
            await self.around.lease_loop.store.delete(self._row.key, expected_version=self._row.version)

    def _new_row(self, worker_id: str) -> Lease:
        pipeline, stream_arn = WORKERS
        row = Lease(
            pipeline=pipeline,
            stream_arn=stream_arn,
            shard_id=worker_id,
            owner=worker_id,
            children=self.pipelines,
            duration_s=self.around.options.lease_duration_s,
        )
        return steps.born(row, int(self.around.clock.wall() * 1_000))

    def _report(self, error: StoreError, retry_after_s: float) -> None:
        event = events.HeartbeatFailed(worker_id=self.worker_id, error=error, retry_after_s=retry_after_s)
        self.around.lease_loop.tell(lambda: self.around.emit(event))

    # -- in the handlers' loop ------------------------------------------------------------------------------------------

    def _lose_all(self, silent_s: float) -> None:
        self.around.emit(events.WorkerTakenForDead(worker_id=self.worker_id, silent_s=silent_s))
        for held in list(self.held.values()):
            if held.lease.owner != self.worker_id:
                held.lose()

    async def look(self, rows: Sequence[Lease]) -> None:
        store = self.around.store
        workers = {row.shard_id: row for row in await store.list(*WORKERS)}
        self._patience.look(WORKERS, {worker_id: row.version for worker_id, row in workers.items()})
        for worker_id, row in list(workers.items()):
            silent_s = self._patience.silent_s(WORKERS, worker_id, row.version)
            if worker_id != self.worker_id and self._patience_left_s(row) <= 0:
                await reach("heartbeat.before_strike")
                await store.delete(row.key, expected_version=row.version)
                # Whether it was we who struck it or another, or it has come back: the next look tells.
                if (current := await store.get(row.key)) is None:
                    del workers[worker_id]
                    self.around.emit(events.WorkerStruck(worker_id=worker_id, silent_s=silent_s))
                else:
                    workers[worker_id] = current
        for worker_id in sorted(_owners(rows) - workers.keys() - {self.worker_id}):
            # The listing of workers may be older than the lease: only the row itself, looked up now, says who is dead.
            if (found := await store.get(LeaseKey(*WORKERS, worker_id))) is not None:
                workers[worker_id] = found
        self._living = workers

    def workers(self, pipeline: str) -> frozenset[str]:
        others = {worker_id for worker_id, row in self._living.items() if pipeline in row.children}
        return frozenset(others | {self.worker_id} if pipeline in self.pipelines else others - {self.worker_id})

    def unowned(self, row: Lease) -> bool:
        return belief.unowned(row, self.worker_id, self._living)

    def due_in_s(self, rows: Sequence[Lease]) -> float:  # noqa: ARG002 - it is about workers, not about their leases
        left_s = (self._patience_left_s(row) for worker_id, row in self._living.items() if worker_id != self.worker_id)
        return min(left_s, default=float("inf"))

    def _patience_left_s(self, row: Lease) -> float:
        patience_s = belief.patience_s(row, self.around.options.lease_duration_s)
        return patience_s - self._patience.silent_s(WORKERS, row.shard_id, row.version)

    async def ask(self, row: Lease) -> None:
        store = self.around.lease_loop.store
        # What is written is the whole row, and a listing leaves out its window.
        current = await store.get(row.key)
        if current is not None and current.version == row.version:
            await store.update(steps.after(current, AskedFor(self.worker_id)), expected_version=row.version)


def _owners(rows: Iterable[Lease]) -> set[str]:
    return {row.owner for row in rows if row.owner is not None} | {
        row.claimant for row in rows if row.claimant is not None
    }


def _life(worker_id: str) -> int:
    return int(worker_id.partition("#")[2] or 1)


def _next_life(worker_id: str) -> str:
    """`orders-0`, `orders-0#2`, `orders-0#3`: each id is of one life, from a start or a resurrection to its end."""
    return f"{worker_id.partition('#')[0]}#{_life(worker_id) + 1}"
