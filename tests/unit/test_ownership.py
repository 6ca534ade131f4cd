"""A lease is believed in for less time than any observer waits, and every write of it is fenced."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow import events
from streamflow.engine.heartbeats import Heartbeats
from streamflow.engine.ownership import HeldLease, Ownership
from streamflow.engine.renewals import Renewals
from streamflow.engine.worker import liveness_in
from streamflow.errors import LeaseLostError, StoreError
from streamflow.leases import STREAM_ROW, WORKERS, LeaseLayout
from streamflow.positions import Position
from streamflow.rules.steps import Checkpointed, Renewed
from streamflow.testing.counted_store import CountedMemoryStore
from streamflow.testing.simulation.clocks import VirtualClock
from streamflow.testing.simulation.loop import SimulatedLoop
from world import FaultyStore, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.engine.flow import Flow
    from streamflow.engine.liveness import Liveness
    from streamflow.leases import Lease

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


@pytest.fixture(params=[LeaseLayout.NATIVE, LeaseLayout.KCL], ids=lambda layout: layout.value)
async def world(request: pytest.FixtureRequest) -> World:
    """One shard, whose row is free."""
    return await new_world(request.param)


@pytest.fixture
async def native() -> World:
    return await new_world(LeaseLayout.NATIVE)


@pytest.fixture
async def kcl() -> World:
    return await new_world(LeaseLayout.KCL)


async def new_world(layout: LeaseLayout) -> World:
    world = World(shards=1)
    if layout is LeaseLayout.KCL:
        world.store = FaultyStore(CountedMemoryStore())
    async with world.working(worker_id="first"):
        await anyio.sleep(1)
    return world


@dataclass(slots=True)
class Participant:
    """A worker's part in ownership, without the work."""

    flow: Flow
    liveness: Liveness
    ownership: Ownership

    async def look(self) -> Lease:
        """The shard's row, after a look at it and at who lives."""
        return next(row for row in await self.ownership.rows() if row.shard_id != STREAM_ROW)

    async def take(self) -> HeldLease:
        held = await self.ownership.take(await self.look())
        assert held is not None
        return held


async def participant(world: World, worker_id: str = "w1") -> Participant:
    """One that has shown up, and gives no further sign of life."""
    flow = (await world.worker(worker_id=worker_id)).flows[0]
    liveness = liveness_in(flow.around, ("p",))
    await liveness.start()
    return Participant(flow, liveness, Ownership(flow, liveness))


@asynccontextmanager
async def alive(member: Participant) -> AsyncIterator[None]:
    """Signs of life for the length of the block."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(member.liveness.run)
        yield
        tasks.cancel_scope.cancel()


async def looked_on(observer: Participant, seconds: float) -> Lease:
    """What the observer sees after looking on for so long."""
    ends_at = anyio.current_time() + seconds
    row = await observer.look()
    while anyio.current_time() < ends_at:
        await anyio.sleep(0.5)
        row = await observer.look()
    return row


async def test_a_row_that_was_listed_is_made_again_beyond_it_whatever_the_clock_says(world: World) -> None:
    """Deleted by hand, and made again by a worker whose clock is far behind that of whoever made it first."""
    member = await participant(world)
    row = await member.look()
    await world.edit(row, epoch=row.epoch + 3_600_000, owner=None)
    row = await member.look()
    assert await world.store.delete(row.key, expected_version=row.version)
    await member.ownership.rows()
    assert await member.ownership.create([replace(row, epoch=0, version=0)]) == [row.shard_id]
    again = await member.look()
    assert again.epoch > row.epoch
    assert again.version > row.version or world.store.layout is not LeaseLayout.NATIVE


# --- validity and patience -------------------------------------------------------------------------------------------


@pytest.mark.fault("F29")
async def test_a_lease_past_its_validity_is_not_written_even_if_nobody_took_it(world: World) -> None:
    held = await (await participant(world)).take()
    await anyio.sleep(8.5)
    writes = world.store.writes
    with pytest.raises(LeaseLostError):
        await held.write(Checkpointed(Position.after("1")))
    assert world.store.writes == writes
    assert not held.valid


@pytest.mark.fault("F44")
async def test_validity_counts_from_before_the_sign_of_life_was_sent(world: World) -> None:
    world.store.latency_s = 1.0
    member = await participant(world)
    sent_at = anyio.current_time()
    held = await member.take()
    assert held.valid_until <= sent_at + 0.8 * held.around.options.lease_duration_s


class Suspended(VirtualClock):
    """Of a machine whose monotonic clock stood for a while."""

    for_s = 0.0

    def lifetime(self) -> float:
        return self.monotonic() + self.for_s


@pytest.mark.fault("F44")
async def test_a_worker_whose_machine_was_suspended_believes_in_nothing(world: World) -> None:
    world.clock = clock = Suspended(world.clock.epoch_s)
    member = await participant(world)
    held = await member.take()
    writes, before = world.store.writes, held.valid
    clock.for_s = 8.5
    assert (before, held.valid) == (True, False)
    with pytest.raises(LeaseLostError):
        await held.write(Checkpointed(Position.after("1")))
    assert world.store.writes == writes


async def test_an_observer_takes_a_lease_only_after_looking_on_for_its_whole_duration(world: World) -> None:
    member = await participant(world)
    held = await member.take()
    other = await participant(world, "w2")
    assert not other.ownership.free(await looked_on(other, 9))
    assert not held.valid
    row = await looked_on(other, 1.5)
    assert other.ownership.free(row)
    assert await other.ownership.take(row) is not None


async def test_signs_of_life_restart_the_observers_patience(world: World) -> None:
    member = await participant(world)
    held = await member.take()
    other = await participant(world, "w2")
    async with alive(member):
        row = await looked_on(other, 60)
    assert not other.ownership.free(row)
    assert held.valid


async def test_a_store_that_was_away_makes_nobody_dead(world: World) -> None:
    member, other = await participant(world), await participant(world, "w2")
    await member.take()
    async with alive(member):
        await looked_on(other, 2)
        world.store.down = True
        await anyio.sleep(31)
        world.store.down = False
        row = await other.look()
        assert not other.ownership.free(row)
        assert not other.ownership.free(await looked_on(other, 9))
    assert not world.of(events.WorkerStruck)


async def test_a_store_that_takes_its_time_costs_no_lease(world: World) -> None:
    """Each answer comes just before the next sign of life is due: that must not put it off."""
    member = await participant(world)
    held = await member.take()
    world.store.latency_s = 1.6
    async with alive(member):
        for _ in range(300):
            await anyio.sleep(0.2)
            assert held.valid


# --- writes ----------------------------------------------------------------------------------------------------------


async def test_a_take_from_an_old_row_fails_and_the_epoch_grows_with_each_owner(world: World) -> None:
    member = await participant(world)
    held = await member.take()
    old = replace(held.lease, version=held.lease.version - 1)
    other = await participant(world, "w2")
    assert await other.ownership.take(old) is None
    again = await other.ownership.take(held.lease)
    assert again is not None
    assert again.lease.epoch == held.lease.epoch + 1
    with pytest.raises(LeaseLostError):
        await held.write(Checkpointed(Position.after("1")))
    await member.ownership.release(held)
    (row,) = (await world.rows()).values()
    assert row.owner == "w2"


async def test_a_store_that_takes_no_sign_of_life_is_told_and_is_not_yet_a_lost_lease(world: World) -> None:
    member = await participant(world)
    held = await member.take()
    async with alive(member):
        world.store.down = True
        await anyio.sleep(4)
        assert held.valid
        assert world.of(events.HeartbeatFailed) or world.of(events.CheckpointFailed)
        world.store.down = False
        await anyio.sleep(5)
        assert held.valid


@pytest.mark.fault("F30")
async def test_a_lost_answer_is_read_back(world: World) -> None:
    member = await participant(world)
    held = await member.take()
    world.store.lose_answers = 1
    await held.write(Checkpointed(Position.after("7")))
    (row,) = (await world.rows()).values()
    assert row == held.lease
    assert row.checkpoint == Position.after("7")
    async with alive(member):
        for _ in range(10):
            world.store.lose_answers = 1
            await anyio.sleep(3)
    assert held.valid
    assert not world.of(events.WorkerTakenForDead)


@pytest.mark.fault("F30")
async def test_a_sign_of_life_that_was_stored_long_ago_does_not_count_as_one_of_now(world: World) -> None:
    """Two got no answer, and only the first was stored: what is found may be either, and others wait since the first."""
    member = await participant(world)
    held = await member.take()
    believed_until = held.valid_until

    async def sign() -> None:
        if isinstance(member.liveness, Heartbeats):
            await member.liveness.retire("another")
        else:
            with suppress(StoreError):
                await held.write(Renewed())

    world.store.lose_answers = 1
    world.store.lose_looks = 1
    await sign()
    await anyio.sleep(5)
    world.store.lose_requests = 1
    await sign()
    assert world.store.lose_requests == world.store.lose_answers == 0
    assert held.valid_until == believed_until
    await sign()
    assert held.valid_until > believed_until
    assert held.valid


async def test_writes_of_one_lease_come_one_after_the_other(world: World) -> None:
    held = await (await participant(world)).take()
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(partial(held.write, Checkpointed(Position.after(str(number + 1)))))
    (row,) = (await world.rows()).values()
    assert row == held.lease
    assert held.valid


# --- asking and passing on -------------------------------------------------------------------------------------------


async def test_a_lease_that_was_asked_for_is_still_its_owners(world: World) -> None:
    member, other = await participant(world), await participant(world, "w2")
    held = await member.take()
    await other.ownership.ask_for([await other.look()])
    assert (await member.look()).claimant == "w2"
    await held.write(Checkpointed(Position.after("7")))
    (row,) = (await world.rows()).values()
    assert (row.owner, row.claimant, row.epoch, row.checkpoint) == ("w1", "w2", held.lease.epoch, Position.after("7"))


async def test_a_lease_that_is_passed_on_was_never_anybody_elses(world: World) -> None:
    member, other = await participant(world), await participant(world, "w2")
    held = await member.take()
    await other.ownership.ask_for([await other.look()])
    await member.ownership.release(held, to="w2")
    assert not held.valid
    third = await participant(world, "w3")
    row = await third.look()
    assert (row.owner, row.claimant) == ("w2", "w2")
    assert not third.ownership.free(row)
    passed_on = await other.take()
    assert passed_on.lease.claimant is None
    assert passed_on.lease.epoch == held.lease.epoch + 1
    assert [event.to for event in world.of(events.LeaseHandedOver)] == ["w2"]


async def test_what_is_passed_on_to_a_worker_that_dies_is_soon_free(kcl: World) -> None:
    """Its new owner never believed in it, so nobody has to wait until that could not do so any more."""
    member, other = await participant(kcl), await participant(kcl, "w2")
    held = await member.take()
    await other.ownership.ask_for([await other.look()])
    await member.ownership.release(held, to="w2")
    third = await participant(kcl, "w3")
    assert not third.ownership.free(await looked_on(third, 3))
    assert third.liveness.due_in_s([await third.look()]) <= 0.5
    row = await looked_on(third, 0.5)
    assert third.ownership.free(row)
    assert third.liveness.due_in_s([row]) == float("inf")
    taken = await third.take()
    assert (taken.lease.owner, taken.lease.claimant) == ("w3", None)


async def test_a_request_behind_a_write_whose_answer_was_lost_does_not_hide_that_it_was_stored(world: World) -> None:
    held = await (await participant(world)).take()
    world.store.lose_answers = 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(held.write, Checkpointed(Position.after("7")))
        await anyio.sleep(1.5 * world.store.latency_s)
        (row,) = (await world.rows()).values()
        assert row.checkpoint == Position.after("7"), "stored, and the answer is on its way"
        await world.edit(row, claimant="w2")
    assert held.valid
    assert held.lease == (await world.rows())[held.shard_id]
    assert (held.lease.checkpoint, held.lease.claimant) == (Position.after("7"), "w2")


async def test_a_conflict_that_is_more_than_a_request_loses_the_lease(world: World) -> None:
    held = await (await participant(world)).take()
    await world.edit(held.lease, checkpoint=Position.after("99"))
    with pytest.raises(LeaseLostError):
        await held.write(Checkpointed(Position.after("1")))
    (row,) = (await world.rows()).values()
    assert row.checkpoint == Position.after("99")


async def test_what_is_withdrawn_or_never_taken_is_free_for_others(world: World) -> None:
    member, other = await participant(world), await participant(world, "w2")
    held = await member.take()
    await other.ownership.ask_for([await other.look()])
    await other.ownership.withdraw()
    assert (await member.look()).claimant is None
    await held.write(Checkpointed(Position.after("7")))
    await member.ownership.release(held, to="w2")
    row = await member.look()
    assert (row.owner, row.checkpoint) == (None, Position.after("7")), "nobody is given what it does not want any more"
    held = await member.take()
    await other.ownership.ask_for([await other.look()])
    await member.ownership.release(held, to="w2")
    assert (await member.look()).owner == "w2"
    await other.ownership.withdraw()
    assert (await member.look()).owner is None


async def test_what_was_abandoned_is_not_withdrawn(world: World) -> None:
    member = await participant(world)
    member.ownership.abandon(await member.take())
    await member.ownership.withdraw()
    assert (await member.look()).owner == "w1"


# --- heartbeats ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F29")
async def test_who_was_taken_for_dead_loses_everything_and_comes_back_under_another_id(native: World) -> None:
    member, other = await participant(native), await participant(native, "w2")
    held = await member.take()
    await looked_on(other, 11)
    assert [event.worker_id for event in native.of(events.WorkerStruck)] == ["w1"]
    async with alive(member):
        await anyio.sleep(1)
        assert held.lost.is_set()
        assert member.liveness.worker_id == "w1#2"
        assert native.of(events.WorkerTakenForDead)
        again = await member.take()
        assert again.valid
        assert again.lease.owner == "w1#2"


async def test_a_restart_under_the_same_id_continues_at_once(native: World) -> None:
    await (await participant(native)).take()
    restarted = await participant(native)
    row = await restarted.look()
    assert restarted.ownership.free(row)
    assert (await restarted.take()).lease.owner == "w1#2"


async def test_a_beat_that_was_given_up_and_arrived_is_no_death(native: World, monkeypatch: pytest.MonkeyPatch) -> None:
    member = await participant(native)
    held = await member.take()
    update = native.store.update

    async def hang(row: Lease, *, expected_version: int) -> None:
        await update(row, expected_version=expected_version)
        await anyio.sleep_forever()

    async with alive(member):
        await anyio.sleep(3)
        monkeypatch.setattr(native.store, "update", hang)
        await anyio.sleep(1)
        monkeypatch.setattr(native.store, "update", update)
        await anyio.sleep(10)
        assert member.liveness.worker_id == "w1"
        assert held.valid
    assert native.of(events.HeartbeatFailed)
    assert not native.of(events.WorkerTakenForDead)


@pytest.mark.fault("F48")
async def test_two_processes_with_one_id_do_not_fight(native: World) -> None:
    """The second one takes the place of the first, which goes on as another worker."""
    first = await participant(native)
    async with alive(first):
        await first.take()
        second = await participant(native)
        async with alive(second):
            held = await second.take()
            await anyio.sleep(60)
            assert held.valid
    assert {first.liveness.worker_id, second.liveness.worker_id} == {"w1#2", "w1#3"}
    assert len(native.of(events.WorkerTakenForDead)) == 1


async def test_a_listing_of_workers_that_is_older_than_a_lease_makes_nobody_dead(
    native: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await participant(native, "w2")
    workers = list(await native.store.list(*WORKERS))
    await (await participant(native)).take()
    fresh = native.store.list

    async def stale(pipeline: str, stream_arn: str) -> object:
        return workers if (pipeline, stream_arn) == WORKERS else await fresh(pipeline, stream_arn)

    monkeypatch.setattr(native.store, "list", stale)
    assert not other.ownership.free(await other.look())


async def test_whoever_leaves_is_gone_at_once_unless_it_had_to_abandon_something(native: World) -> None:
    member, other = await participant(native), await participant(native, "w2")
    await member.take()
    await member.liveness.leave()
    assert other.ownership.free(await other.look())
    await other.take()
    other.liveness.abandon()
    await other.liveness.leave()
    third = await participant(native, "w3")
    assert not third.ownership.free(await looked_on(third, 9))
    assert third.ownership.free(await looked_on(third, 2))


async def test_whoever_retires_is_counted_no_more_and_still_owns(native: World) -> None:
    member, other = await participant(native), await participant(native, "w2")
    held = await member.take()
    await other.look()
    assert other.liveness.workers("p") == {"w1", "w2"}
    await member.liveness.retire("p")
    row = await other.look()
    assert other.liveness.workers("p") == {"w2"}
    assert not other.ownership.free(row)
    assert held.valid


@pytest.mark.fault("F18")
async def test_a_worker_whose_loop_stands_still_for_too_long_gives_no_signs_of_life(world: World) -> None:
    member, other = await participant(world), await participant(world, "w2")
    await member.take()
    assert isinstance(member.liveness, Heartbeats | Renewals)
    beating = member.liveness._beat_on if isinstance(member.liveness, Heartbeats) else member.liveness._renew_on
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beating)  # alone: nobody says that the handlers' loop runs
        await looked_on(other, member.flow.around.options.stall_s)
        assert not other.ownership.free(await other.look())
        assert other.ownership.free(await looked_on(other, 15))
        tasks.cancel_scope.cancel()
