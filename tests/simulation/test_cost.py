"""The formulas of `streamflow cost` against whole workers in virtual time, call by call, within 5 %."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import msgspec
import orjson
import pytest

from streamflow.engine.flow import WorkerOptions
from streamflow.engine.worker import Worker
from streamflow.leases import STREAM_ROW, WORKERS, Lease, LeaseKey, LeaseLayout, LeaseState
from streamflow.protocols import Page, Pin, StreamInfo
from streamflow.records import Record, Shard
from streamflow.rules.cost import Calls, Fleet, calls
from streamflow.rules.pacing import PollPace
from streamflow.stores.memory import MemoryStore
from streamflow.testing.counted_store import CountedMemoryStore
from streamflow.testing.simulation.loop import SimulatedLoop
from world import FaultyStore, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.testing.simulation.clocks import VirtualClock

pytestmark = pytest.mark.anyio

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
GENERATIONS = 7
SETTLING_S = 60.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


@dataclass(eq=False)
class SteadySource:
    """Open shards of which the first ones have a record at every poll, below generations that ended without any."""

    clock: VirtualClock
    shards_open: int
    shards_busy: int
    generations: int
    counts: Counter[str]
    polled_at: list[float] = field(default_factory=list)
    _listed: dict[str, Shard] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number in range(self.shards_open):
            for generation in range(self.generations):
                self._listed[f"{number:03}-{generation}"] = Shard(
                    stream_arn=STREAM_ARN,
                    shard_id=f"{number:03}-{generation}",
                    parents=(f"{number:03}-{generation - 1}",) if generation else (),
                    closed=generation < self.generations - 1,
                )

    async def describe(self) -> StreamInfo:
        return StreamInfo(stream_arn=STREAM_ARN, name="orders", view_type="NEW_IMAGE", enabled=True)

    async def shards(self) -> Mapping[str, Shard]:
        self.counts["listings of the stream"] += 1
        return self._listed

    async def children(self, shard: Shard) -> Sequence[Shard]:
        return [each for each in self._listed.values() if shard.shard_id in each.parents]

    async def pin(self, shard: Shard) -> Pin:
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, shard: Shard, start: Position, *, cursor: str | None = None) -> AsyncIterator[SteadyReader]:
        yield SteadyReader(self, self._listed[shard.shard_id], start)

    def is_busy(self, shard: Shard) -> bool:
        return int(shard.shard_id[:3]) < self.shards_busy


class SteadyReader:
    def __init__(self, source: SteadySource, shard: Shard, start: Position) -> None:
        self._source = source
        self._shard = shard
        self._number = int(start.sequence_number or 0)

    async def read(self, *, records_max: int) -> Page:
        await anyio.lowlevel.checkpoint()
        self._source.counts["polls"] += 1
        self._source.polled_at.append(self._source.clock.monotonic())
        if self._shard.closed:
            return Page(records=(), bytes=0, ended=True)
        if not self._source.is_busy(self._shard):
            return Page(records=(), bytes=100)
        self._number += 1
        change = {
            "eventID": str(self._number),
            "eventName": "INSERT",
            "dynamodb": {
                "Keys": {"id": {"S": "a"}},
                "SequenceNumber": f"{self._number:021}",
                "ApproximateCreationDateTime": self._source.clock.wall(),
            },
        }
        return Page(records=(Record(msgspec.Raw(orjson.dumps(change)), self._shard),), bytes=400)


class CountingStore(FaultyStore):
    """Counts what a store is asked, by what it is asked for."""

    def __init__(self, layout: LeaseLayout, counts: Counter[str]) -> None:
        super().__init__(MemoryStore() if layout is LeaseLayout.NATIVE else CountedMemoryStore(layout))
        self.latency_s = 0.0
        self._counts = counts

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        self._counts["worker_listings" if (pipeline, stream_arn) == WORKERS else "lease_listings"] += 1
        return await super().list(pipeline, stream_arn)

    async def get(self, key: LeaseKey) -> Lease | None:
        self._counts["gets"] += 1
        return await super().get(key)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        before = await self.inner.get(lease.key)
        if (lease.pipeline, lease.stream_arn) == WORKERS:
            self._counts["heartbeats"] += 1
        elif before is not None and before == replace(lease, version=before.version):
            self._counts["renewals"] += 1
        elif before is not None and before.checkpoint != lease.checkpoint and lease.owner == before.owner:
            self._counts["checkpoints"] += 1
        else:
            self._counts["other writes"] += 1
        return await super().update(lease, expected_version=expected_version)


async def deliver(batch: Batch) -> None:
    pass


class Counted(NamedTuple):
    calls: Counter[str]
    polled_at: list[float]
    """Of each poll, in seconds."""


async def counted(fleet: Fleet, *, for_s: float, settling_s: float = SETTLING_S) -> Counted:
    """Run the fleet until it is settled, and count what it calls from then on."""
    counts: Counter[str] = Counter()
    world = World()
    busy, generations = round(fleet.shards * fleet.busy_share), (fleet.lease_rows - 1) // fleet.shards
    source = SteadySource(world.clock, fleet.shards, busy, generations, counts)
    store = CountingStore(fleet.layout, counts)
    found: Counter[str] = Counter()
    async with anyio.create_task_group() as tasks:
        for number in range(fleet.workers):
            flow = await world.flow(
                "p",
                source,
                deliver,
                store=store,
                poll_interval_s=fleet.pace.interval_s,
                polling=fleet.pace.polling,
                idle_poll_interval_s=fleet.pace.idle_interval_s,
                idle_polls_per_s_max=fleet.pace.idle_polls_per_s_max,
                checkpoint_interval_s=fleet.checkpoint_interval_s,
            )
            options = WorkerOptions(
                worker_id=f"w{number}",
                lease_duration_s=fleet.lease_duration_s,
                audit_interval_s=fleet.audit_interval_s,
            )
            flow.around = replace(flow.around, options=options)
            tasks.start_soon(Worker([flow]).run)
        await anyio.sleep(settling_s)
        rows = [row for row in await store.inner.list("p", STREAM_ARN) if row.shard_id != STREAM_ROW]
        assert len(rows) + 1 == fleet.lease_rows
        unfinished = [row for row in rows if row.state is LeaseState.ACTIVE]
        assert len(unfinished) == fleet.shards
        assert len({row.owner for row in unfinished} - {None}) == fleet.workers
        counts.clear()
        source.polled_at.clear()
        await anyio.sleep(for_s)
        found += counts
        tasks.cancel_scope.cancel()
    return Counted(found, source.polled_at)


def fleet(*, generations: int = GENERATIONS, **options: object) -> Fleet:
    values = {
        "shards": 6,
        "workers": 1,
        "busy_share": 0.5,
        "pace": PollPace(interval_s=0.25),
        "checkpoint_interval_s": 1.0,
        "lease_duration_s": 10.0,
        "layout": LeaseLayout.NATIVE,
        **options,
    }
    return Fleet(lease_rows=int(str(values["shards"])) * generations + 1, **values)  # type: ignore[arg-type]


FLEETS = {
    "one worker": fleet(),
    "three workers": fleet(workers=3),
    "all idle": fleet(workers=2, busy_share=0.0),
    "all busy": fleet(workers=2, busy_share=1.0, pace=PollPace(interval_s=0.5)),
    "cost mode": fleet(workers=2, shards=8, busy_share=0.25, pace=PollPace(interval_s=0.25, polling="cost")),
    "never idle": fleet(workers=2, pace=PollPace(interval_s=0.25, idle_interval_s=0.25)),
    "seldom stored": fleet(workers=2, checkpoint_interval_s=5.0, pace=PollPace(interval_s=1.0)),
    "polled seldom": fleet(workers=2, pace=PollPace(interval_s=2.0)),
    "long leases": fleet(workers=3, lease_duration_s=30.0),
    "many rows": fleet(workers=2, shards=60, busy_share=0.05, pace=PollPace(interval_s=1.0, idle_interval_s=20.0)),
}


@pytest.mark.parametrize("layout", [LeaseLayout.NATIVE, LeaseLayout.KCL])
@pytest.mark.parametrize("name", FLEETS)
async def test_calls_are_those_of_the_formulas(name: str, layout: LeaseLayout) -> None:
    planned = replace(FLEETS[name], layout=layout)
    for_s = 150.0
    found, expected = (await counted(planned, for_s=for_s)).calls, calls(planned)
    for what in set(Calls._fields) - {"describes"}:
        assert found[what] / for_s == pytest.approx(getattr(expected, what), rel=0.05, abs=1e-9), what
    # Nothing else is called again and again.
    assert found["gets"] + found["other writes"] <= 2


async def test_the_stream_is_listed_as_often_as_the_formulas_say() -> None:
    pace = PollPace(interval_s=0.25, idle_interval_s=60.0)
    planned = fleet(workers=3, shards=3, busy_share=0.0, pace=pace, audit_interval_s=60.0)
    for_s = 1_200.0
    found = (await counted(planned, for_s=for_s)).calls
    pages = -(-planned.lease_rows // 100)
    by_audits = calls(planned).describes - planned.shards / (4 * 3_600.0)
    assert found["listings of the stream"] * pages / for_s == pytest.approx(by_audits, rel=0.05)


@pytest.mark.fault("F53")
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("shards", "busy"), [(200, 0), (1_000, 20)])
async def test_two_workers_poll_many_idle_shards_as_often_as_they_may(shards: int, busy: int) -> None:
    idle_polls_max = shards / 20.0
    pace = PollPace(interval_s=0.25, polling="cost", idle_polls_per_s_max=idle_polls_max)
    planned = fleet(workers=2, shards=shards, busy_share=busy / shards, pace=pace, generations=1)
    for_s = 60.0
    found = await counted(planned, for_s=for_s, settling_s=60.0)
    assert found.calls["polls"] / for_s == pytest.approx(calls(planned).polls, rel=0.02)
    # Busy shards are polled at their own pace, beside what the idle ones may cost.
    idle_polls = found.calls["polls"] - busy * 4 * for_s
    assert 0.9 * idle_polls_max < idle_polls / for_s <= idle_polls_max
    # They do not come in bursts, though all shards were opened in one moment.
    in_a_second = Counter(int(at) for at in found.polled_at)
    assert max(in_a_second.values()) < 2 * idle_polls_max + busy * 8


@pytest.mark.parametrize("options", [{}, {"polling": "cost"}, {"polling": "cost", "idle_polls_per_s_max": 0.05}])
async def test_the_first_record_of_an_idle_shard_waits_no_longer_than_is_said(options: dict[str, Any]) -> None:
    world, waits = World(shards=1), list[float]()
    async with world.working(**options) as worker:
        for number in range(10):
            await anyio.sleep(300 + 7.3 * number)
            for key in (f"first-{number}", f"second-{number}"):
                written_at = world.clock.monotonic()
                world.write(key)
                await world.until(world.everything_delivered)
                waits.append(world.clock.monotonic() - written_at)
        longest_s = worker.flows[0].options.pace.idle_pause_s(shards=1, phase=1.0)
    first, second = waits[::2], waits[1::2]
    # `until` looks every 0.05 s.
    assert 0.5 * longest_s < max(first) <= longest_s + 0.1
    assert max(second) <= 0.25 + 0.1
