"""A small world in virtual time: streams without HTTP, leases in memory, workers that can be stopped, killed and cut off."""

from __future__ import annotations

from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.dead_letters import LetterQuery
from streamflow.destinations.letters import LettersDestination
from streamflow.engine.flow import Flow, Surroundings, WorkerOptions
from streamflow.engine.lease_loop import SameLoop
from streamflow.engine.read_ahead import ReadAhead
from streamflow.engine.worker import Worker
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import STREAM_ROW, Lease, LeaseKey
from streamflow.middleware.chain import compose
from streamflow.pipeline import Pipeline
from streamflow.rules.filters import compile_filters
from streamflow.stores.memory import MemoryStore
from streamflow.testing.controls import Controls
from streamflow.testing.counted_store import CountedMemoryStore
from streamflow.testing.memory_source import MemorySource
from streamflow.testing.simulation.clocks import VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.dead_letters import DeadLetter, Drawer
    from streamflow.events import Event
    from streamflow.protocols import Handler, Source


class FaultyStore:
    """A lease store whose answers can be lost, before or after the effect, and which can go away altogether."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.layout = inner.layout
        self._claimants: dict[LeaseKey, str | None] = {}
        self.down = False
        self.latency_s = 0.05
        """On the way there, and again on the way back: whoever is cancelled in between does not know what happened."""
        self.refuse_letters = False
        self.lose_answers = 0
        self.lose_requests = 0
        self.lose_looks = 0
        self.writes = 0

    def _check(self) -> None:
        if self.down:
            raise StoreError("the store is down")

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        self._check()
        return await self.inner.list(pipeline, stream_arn)

    async def get(self, key: LeaseKey) -> Lease | None:
        self._check()
        if self.lose_looks:
            self.lose_looks -= 1
            raise StoreError("the answer was lost")
        return self._known(key, await self.inner.get(key))

    def _known(self, key: LeaseKey, row: Lease | None) -> Lease | None:
        self._claimants[key] = None if row is None else row.claimant
        return row

    async def create(self, lease: Lease) -> Lease | None:
        self._check()
        return await self.inner.create(lease)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        self._check()
        self.writes += 1
        if self.lose_requests:
            self.lose_requests -= 1
            raise UnknownOutcomeError("the request was lost")
        await anyio.sleep(self.latency_s)
        if isinstance(self.inner, CountedMemoryStore):
            known = self._claimants.get(lease.key)
            stored = await self.inner.update_knowing(lease, expected_version=expected_version, claimant=known)
        else:
            stored = await self.inner.update(lease, expected_version=expected_version)
        if stored is not None:
            self._known(lease.key, stored)
        await anyio.sleep(self.latency_s)
        self._lose_answer()
        return stored

    async def ask(self, lease: Lease, claimant: str) -> Lease | None:
        """Of an `inner` in the KCL's layout."""
        self._check()
        assert isinstance(self.inner, CountedMemoryStore)
        return await self.inner.ask(lease, claimant)

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        self._check()
        return await self.inner.delete(key, expected_version=expected_version)

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        self._check()
        if self.refuse_letters:
            raise StoreError("no letters are taken")
        await self.inner.keep(letters)
        self._lose_answer()

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        self._check()
        taken = await self.inner.park(letters, opening=opening)
        self._lose_answer()
        return taken

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        self._check()
        return await self.inner.parked_keys(pipeline, stream_arn)

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        self._check()
        return await self.inner.letters(query)

    async def count(self, query: LetterQuery) -> int:
        self._check()
        return await self.inner.count(query)

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        self._check()
        return await self.inner.remove(drawer, ids)

    def _lose_answer(self) -> None:
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnknownOutcomeError("the answer was lost")


@dataclass(eq=False)
class World:
    """One table `orders` with a stream; `deliveries` are (key, version) in the order in which handlers accepted them."""

    shards: int = 2
    worker_buffer_bytes_max: int = 1 << 28
    event_bytes_max: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    deliveries: list[tuple[str, int]] = field(default_factory=list)
    written: list[tuple[str, int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.controls = Controls(now=self.clock.wall, shards=self.shards, **self.tables)
        self.stream_arn = self.controls.create_table("orders")
        self.store = FaultyStore(MemoryStore())
        self._versions: dict[str, int] = defaultdict(int)

    # -- the stream -----------------------------------------------------------------------------------------------------

    def write(self, *keys: str) -> None:
        """The next version of each key."""
        for key in keys:
            self._versions[key] += 1
            version = self._versions[key]
            self.controls.put("orders", {"id": {"S": key}, "version": {"N": str(version)}})
            self.written.append((key, version))

    # -- workers --------------------------------------------------------------------------------------------------------

    async def accept(self, batch: Batch) -> None:
        """The handler by default: take note."""
        self.batches.append(batch)
        for record in batch:
            image = record.new_image or {}
            self.deliveries.append((str(image["id"]), int(image["version"])))  # type: ignore[arg-type]

    def source(self) -> MemorySource:
        return MemorySource(self.controls.tables, self.stream_arn, faults=self.controls.faults)

    async def worker(self, handler: Handler | None = None, *, worker_id: str = "w1", **options: Any) -> Worker:
        return Worker([await self.flow("p", self.source(), handler, worker_id=worker_id, **options)])

    async def flow(
        self, name: str, source: Source, handler: Handler | None = None, *, worker_id: str = "w1", **options: Any
    ) -> Flow:
        settings = {"starting_position": "TRIM_HORIZON", **self.options, **options}
        middleware = settings.pop("middleware", ())
        destinations = settings.pop("destinations", None)
        fence = settings.pop("fence", None)
        store = settings.pop("store", self.store)
        pipeline = Pipeline(name="p", source=source, handler=handler or self.accept, **settings)
        around = Surroundings(
            options=WorkerOptions(worker_id=worker_id),
            store=store,
            lease_loop=SameLoop(store),
            clock=self.clock,
            observers=(self.events.append,),
            random=Random(7),
            read_ahead=ReadAhead(self.worker_buffer_bytes_max),
        )
        return Flow(
            name=name,
            options=pipeline,
            source=source,
            info=await source.describe(),
            chain=compose(middleware, handler or self.accept),
            fence=fence,
            around=around,
            accepts=compile_filters(pipeline.filters, extensions=pipeline.filter_extensions),
            destinations=[LettersDestination(store)] if destinations is None else destinations,
            event_bytes_max=self.event_bytes_max,
        )

    @asynccontextmanager
    async def working(self, handler: Handler | None = None, **options: Any) -> AsyncIterator[Worker]:
        """A worker in the background of the block, stopped gracefully at its end."""
        worker = await self.worker(handler, **options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await worker.wait_started()
            yield worker
            worker.stop()

    # -- what came of it ------------------------------------------------------------------------------------------------

    async def until(self, fact: Callable[[], bool], *, within_s: float = 120.0) -> None:
        """Wait, in virtual time, until something is so.

        Raises:
            TimeoutError: it never was.
        """
        with anyio.fail_after(within_s):
            while not fact():  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.05)

    async def rows(self) -> dict[str, Lease]:
        """The whole row of each shard."""
        listed = [row for row in await self.store.inner.list("p", self.stream_arn) if row.shard_id != STREAM_ROW]
        return {row.shard_id: whole for row in listed if (whole := await self.store.inner.get(row.key)) is not None}

    async def letters(self, drawer: Drawer) -> list[DeadLetter]:
        return list(await self.store.inner.letters(LetterQuery(drawer=drawer, pipeline="p")))

    def last_number(self) -> int:
        """The sequence number of what was written last."""
        return max(shard.numbers[-1] for shard in self.controls.tables.stream_of("orders").shards.values())

    async def edit(self, row: Lease, **changes: Any) -> None:
        """Write a row behind the workers' backs."""
        assert await self.store.inner.update(replace(row, **changes), expected_version=row.version) is not None

    def everything_delivered(self) -> bool:
        return set(self.deliveries) >= set(self.written)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def check_order(self) -> None:
        """First acceptances of each key come in the order of its versions."""
        newest: dict[str, int] = {}
        seen: set[tuple[str, int]] = set()
        for key, version in self.deliveries:
            if (key, version) not in seen:
                seen.add((key, version))
                assert version > newest.get(key, 0), f"{key}: {version} after {newest[key]}"
                newest[key] = version
