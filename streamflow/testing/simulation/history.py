"""What happens to a world: items are written, shards change, workers and links are struck; then all of that is over.

Two parts: while faults strike, and quiet. In quiet some workers live on, nothing strikes any more, and everything has to
come to its end.
"""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import StreamflowError
from streamflow.testing.simulation import store, streams
from streamflow.testing.simulation.clocks import NodeClock
from streamflow.testing.simulation.facts import (
    ClockJumped,
    Converged,
    EvenLoad,
    LoopComplained,
    NodeCrashed,
    NodeHeld,
    NodeStands,
    QuietBegun,
    StopAsked,
)
from streamflow.testing.simulation.invariants.repetition import SETTLING_S
from streamflow.testing.simulation.loop import NODE
from streamflow.testing.simulation.misbehaviour import HANG_S
from streamflow.testing.simulation.nodes import Node
from streamflow.testing.simulation.reshaping import Reshaping

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from anyio.abc import TaskGroup

    from streamflow.engine.worker import Worker
    from streamflow.testing.simulation.workers import Workers
    from streamflow.testing.simulation.world import World

_CONVERGED_WITHIN_S = 1_800.0
"""Children may be listed five minutes late, a handler may have hung for ten, and a pause between attempts is a minute."""
_IN_THE_MIDDLE_WITHIN_S = 20.0
"""There is something to do by then, or a worker is stopped that has nothing to do."""
_LONG_KEY = 300
_LOADED_S, _LOADED_IDLE_S_MAX = 12.0, 25.0
"""How long shards are loaded evenly, and not where they are polled so seldom that few of them would notice."""
_PORTS = (store.PORT, streams.PORT)


@dataclass(slots=True, kw_only=True, eq=False)
class _Seat:
    """A worker's place: one life after the other, each in a node of its own name or under the same one."""

    number: int
    node: Node
    version: int = 0
    renames: int = 0
    wanted: bool = True
    """Whether another life follows."""
    twin: bool = False

    @property
    def worker_id(self) -> str:
        return f"w{self.number}" if not self.renames else f"w{self.number}-{self.renames}"


@dataclass(slots=True, eq=False)
class History:
    """Of one world and its workers, from its first write to its last stop."""

    workers: Workers
    world: World = field(init=False)
    _seats: list[_Seat] = field(default_factory=list)
    _over: bool = False
    """No more faults, and no more writes."""
    _ending: bool = False
    _quiet: anyio.Event = field(default_factory=anyio.Event)
    """Whoever stayed away comes back."""
    _ticks: int = 0
    _reshaping: Reshaping = field(init=False)

    def __post_init__(self) -> None:
        self.world = self.workers.world
        self._reshaping = Reshaping(self.world)

    async def run(self) -> None:
        """Everything."""
        async with anyio.create_task_group() as tasks:
            for number in range(1, self.world.setup.scale.workers + 1):
                self._seat(number, tasks)
            tasks.start_soon(self._write, name="writes")
            tasks.start_soon(self._sample, name="samples")
            async with anyio.create_task_group() as strikes:
                await self._strike(tasks, strikes)
                # Who stands still, or is cut off, goes on.
                strikes.cancel_scope.cancel()
            await self._come_to_rest()
            tasks.cancel_scope.cancel()

    # -- workers --------------------------------------------------------------------------------------------------------

    def _seat(self, number: int, tasks: TaskGroup, *, twin_of: _Seat | None = None) -> _Seat:
        world = self.world
        name = f"w{number}" if twin_of is None else f"w{number}twin{self._ticks}"
        wrong: dict[str, float] = {}
        if world.faults.strikes("node.clock_skew", name):
            rng = world.faults.rng("node.clock_skew", name)
            wrong = {"skew_s": rng.uniform(-600.0, 600.0), "drift": rng.uniform(-0.02, 0.02)}
        clock = NodeClock(world.loop, name, **wrong)
        node = Node(name, loop=world.loop, network=world.network, clock=clock)
        seat = _Seat(number=number, node=node, twin=twin_of is not None)
        if twin_of is not None:
            seat.version, seat.renames = twin_of.version, twin_of.renames
        self._seats.append(seat)
        tasks.start_soon(self._live, seat, name=f"seat/{name}")
        return seat

    async def _live(self, seat: _Seat) -> None:
        """Life after life."""
        world, node = self.world, seat.node
        while seat.wanted:
            version = world.setup.versions[min(seat.version, len(world.setup.versions) - 1)]
            self._perhaps_die_young(seat, node.lives + 1)
            try:
                await node.live(partial(self.workers.work, node, seat.worker_id, version))
            except StreamflowError as error:
                # Its supervisor starts it again; once nothing fails any more there is no reason to end.
                if world.faults.quiet and not self._ending and world.elapsed_s() > world.oracle.truth.quiet_at_s + 60.0:
                    world.tell(
                        LoopComplained(text=f"{node.key} failed though nothing did: {type(error).__name__}: {error}")
                    )
            except Exception as error:  # noqa: BLE001 - a bug, of whoever
                world.tell(LoopComplained(text=f"{node.key} failed by {type(error).__name__}: {error}"))
            if seat.twin:
                seat.wanted = False
            if seat.wanted:
                with anyio.move_on_after(self._between_lives(seat)):
                    await self._quiet.wait()

    def _perhaps_die_young(self, seat: _Seat, life: int) -> None:
        """In the middle of what is done once: the first start, the first look at the leases."""
        faults, address = self.world.faults, (seat.node.name, life)
        if faults.strikes("node.dies_young", *address):
            # From 10 ms to 3 s, as often in the short half of it as in the long one.
            delay_s = 10.0 ** faults.rng("node.dies_young", *address).uniform(-2.0, 0.5)
            self.world.loop.call_later(delay_s, self._die, seat, life)

    def _die(self, seat: _Seat, life: int) -> None:
        if seat.node.lives == life and not self.world.faults.quiet:
            self._kill(seat)

    def _between_lives(self, seat: _Seat) -> float:
        faults, life = self.world.faults, (seat.node.name, seat.node.lives)
        if faults.strikes("node.renamed", *life):
            seat.renames += 1
        if faults.strikes("node.upgrade", *life):
            seat.version += 1
        if faults.strikes("node.away", *life):
            return faults.rng("node.away", *life).uniform(10.0, 600.0)
        return self.world.draws.rng("restart", *life).choice([0.1, 2.0, 20.0])

    # -- faults that come by themselves -----------------------------------------------------------------------------------

    async def _strike(self, tasks: TaskGroup, strikes: TaskGroup) -> None:
        """Draw, tick after tick, until it is enough."""
        ends_at_s = self.world.setup.lasts_s
        while self.world.elapsed_s() < ends_at_s:
            await anyio.sleep(self.world.setup.tick_s)
            self._ticks += 1
            for seat in list(self._seats):
                self._strike_node(seat, tasks, strikes)
                self._strike_links(seat, strikes)
            self._reshaping.strike(self._ticks)

    def _strike_node(self, seat: _Seat, tasks: TaskGroup, strikes: TaskGroup) -> None:
        faults, node, lease_s = self.world.faults, seat.node, self.world.setup.lease_duration_s
        if not node.alive:
            return
        address = node.name, self._ticks
        acts: dict[str, Callable[[Random], Awaitable[None]]] = {
            "node.crash": lambda rng: self._crash(seat, rng),
            "node.stop": lambda rng: self._stop(seat, rng, now_after_s=None),
            "node.stop_now": lambda rng: self._stop(seat, rng, now_after_s=rng.uniform(0.0, 3.0)),
            "node.stop_hung": lambda rng: self._stop_hung(seat, rng),
            "node.pause": lambda rng: self._hold(seat, node.pause, rng.uniform(0.1, 3.0) * lease_s),
            "node.pause_asking": lambda rng: self._pause_asking(seat, rng),
            "node.suspend": lambda rng: self._hold(seat, node.suspend, rng.choice([rng.uniform(1.0, 60.0), 3_600.0])),
            "node.block": lambda rng: self._hold(seat, node.block, rng.uniform(0.5, 120.0)),
            "node.clock_jump": lambda rng: self._jump(seat, rng),
        }
        for kind, act in acts.items():
            if faults.strikes(kind, *address):
                rng = faults.rng(kind, *address)
                strikes.start_soon(self._after_a_moment, act, rng, name=f"{kind}/{node.name}")
        if not seat.twin and faults.strikes("node.twin", *address):
            self._seat(seat.number, tasks, twin_of=seat)

    async def _after_a_moment(self, act: Callable[[Random], Awaitable[None]], rng: Random) -> None:
        """Ticks are regular, and what happens is not."""
        await anyio.sleep(rng.uniform(0.0, self.world.setup.tick_s))
        await act(rng)

    async def _crash(self, seat: _Seat, _rng: Random) -> None:
        self._kill(seat)

    def _kill(self, seat: _Seat) -> None:
        if seat.node.alive:
            key = seat.node.key
            seat.node.crash()
            if key in self.world.oracle.truth.nodes:
                self.world.tell(NodeCrashed(node=key))

    async def _stop(self, seat: _Seat, _rng: Random, *, now_after_s: float | None) -> None:
        key = seat.node.key
        running = self.workers.running.get(key)
        if not seat.node.alive or running is None:
            return
        self._signal(key, partial(self._stop_asked, key, running.worker))
        if now_after_s is not None:
            await anyio.sleep(now_after_s)
            self._signal(key, running.worker.stop_now)

    def _stop_asked(self, key: str, worker: Worker) -> None:
        self.world.tell(StopAsked(node=key))
        worker.stop()

    def _signal(self, key: str, act: Callable[[], object]) -> None:
        """In the node, as a signal is: one that stands still hears of it when it goes on."""
        context = copy_context()
        context.run(NODE.set, key)
        self.world.loop.call_soon(act, context=context)

    async def _hold(self, seat: _Seat, stand: Callable[[float], Awaitable[None]], seconds: float) -> None:
        key = seat.node.key
        began_s = self.world.elapsed_s()
        if key in self.world.oracle.truth.nodes:
            self.world.tell(NodeStands(node=key))
        try:
            await stand(seconds)
        finally:
            if key in self.world.oracle.truth.nodes:
                self.world.tell(NodeHeld(node=key, held_s=self.world.elapsed_s() - began_s))

    async def _pause_asking(self, seat: _Seat, rng: Random) -> None:
        """What the answer says was true when it was asked; and there is something to do at once when it is heard."""
        lease_s = self.world.setup.lease_duration_s
        with anyio.move_on_after(lease_s) as waiting:
            await self.world.network.wait_carried_out(seat.node.key, store.PORT, "update")
        if not waiting.cancelled_caught:
            await self._hold(seat, seat.node.pause, rng.uniform(0.5, 1.5) * lease_s)
            for _ in range(3):
                self._write_some(rng)
                await anyio.sleep(lease_s / 10)

    async def _stop_hung(self, seat: _Seat, rng: Random) -> None:
        """Once there is something to wait for."""
        key, sink = seat.node.key, self.world.sink
        sink.hung[key] = rng.uniform(*HANG_S)
        self._write_some(rng)
        with anyio.move_on_after(_IN_THE_MIDDLE_WITHIN_S):
            while key not in sink.hanging:  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.5)
        if seat.node.key == key:
            await self._stop(seat, rng, now_after_s=None)

    async def _jump(self, seat: _Seat, rng: Random) -> None:
        node, world = seat.node, self.world
        node.jump_clock(rng.uniform(-3_600.0, 3_600.0))
        if node.key in world.oracle.truth.nodes:
            world.tell(ClockJumped(node=node.key, ahead_s=node.clock.wall() - world.controls.tables.now()))

    def _strike_links(self, seat: _Seat, strikes: TaskGroup) -> None:
        faults, network, node = self.world.faults, self.world.network, seat.node
        for port in _PORTS:
            address = node.name, port, self._ticks
            for kind, cut in (("link.cut", False), ("link.deaf", True)):
                if faults.strikes(kind, *address):
                    network.partition(node.key, port, answers_only=cut)
                    seconds = faults.rng(kind, *address).choice([3.0, 30.0, 120.0])
                    strikes.start_soon(self._heal_later, node.key, port, seconds, name=f"{kind}/{node.name}")
            if faults.strikes("link.clogged", *address):
                network.clog(node.key, port, faults.rng("link.clogged", *address).uniform(1.0, 30.0))

    async def _heal_later(self, key: str, port: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        self.world.network.heal(key, port)

    # -- the stream -----------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Now nothing for a while, now many at once."""
        world, rng = self.world, self.world.draws.rng("writes")
        while not self._over:
            count = rng.choice([1, 1, 1, 5, 40])
            self._write_some(rng, count)
            await anyio.sleep(rng.expovariate(world.setup.writes_per_s / count))

    def _write_some(self, rng: Random, count: int = 5) -> None:
        for number in rng.choices(range(self.world.setup.scale.keys), k=count):
            # Some are longer than what lanes remember.
            self.world.change(f"k{number}" + "." * (_LONG_KEY * (number % 4 == 3)), rng)

    # -- quiet ----------------------------------------------------------------------------------------------------------

    async def _come_to_rest(self) -> None:
        """Faults are over; one worker at least lives on, and everything that is due is done at last."""
        world = self.world
        self._over = world.faults.quiet = True
        self._quiet.set()
        world.network.heal_all()
        world.sink.heal()
        seats = [seat for seat in self._seats if not seat.twin]
        survivors = seats[: world.draws.rng("survivors").randint(1, len(seats))]
        for seat in self._seats:
            if seat not in survivors:
                seat.wanted = False
                await self._crash(seat, world.draws.rng("unused"))
        world.tell(QuietBegun(nodes=()))
        await self._converge()
        await self._restart(survivors)
        await self._converge()
        await self._load_evenly()
        await self._rest(survivors)

    async def _converge(self) -> None:
        """Wait until everything that is due is done, and say so, or why it is not."""
        world = self.world
        begun_s = world.elapsed_s()
        missing = world.missing()
        while missing and world.elapsed_s() < begun_s + _CONVERGED_WITHIN_S + 12 * world.setup.lease_duration_s:
            await anyio.sleep(world.setup.tick_s / 10)
            missing = world.missing()
        took_s = world.elapsed_s() - begun_s
        world.tell(Converged(took_s=None if missing else took_s, missing=missing))

    async def _restart(self, seats: list[_Seat]) -> None:
        """One worker after the other, in the middle of its work: as nothing fails, nothing may come twice."""
        world, rng = self.world, self.world.draws.rng("restarts")
        await anyio.sleep(max(0.0, world.oracle.truth.quiet_at_s + SETTLING_S - world.elapsed_s()))
        for seat in seats:
            key = seat.node.key
            self._write_some(rng)
            with anyio.move_on_after(_IN_THE_MIDDLE_WITHIN_S):
                while not self._has_unstored(key):  # noqa: ASYNC110 - in virtual time a look costs nothing
                    await anyio.sleep(0.05)
            await self._stop(seat, rng, now_after_s=None)
            await self._wait_gone(key)

    def _has_unstored(self, key: str) -> bool:
        """Whether the node is done with records that its checkpoints do not cover yet."""
        return any(
            course.unstored_since_s is not None and course.takers.get(course.epoch) == key
            for course in self.world.oracle.truth.courses.values()
        )

    async def _load_evenly(self) -> None:
        """A record a second to each shard, for as long as it takes to find all of them busy, and a while longer."""
        world, idle_poll_s = self.world, self.world.setup.bounds().idle_poll_s
        if idle_poll_s > _LOADED_IDLE_S_MAX or not world.load_evenly():
            return
        world.tell(EvenLoad())
        for _ in range(int(idle_poll_s + _LOADED_S)):
            await anyio.sleep(1.0)
            world.load_evenly()
        world.tell(EvenLoad(over=True))
        await self._converge()

    async def _rest(self, survivors: list[_Seat]) -> None:
        """Long enough for leases to settle and for every shard to be polled again, and then everybody stops."""
        world = self.world
        bounds = world.setup.bounds()
        await anyio.sleep(max(3 * bounds.idle_poll_s, 6 * bounds.lease_duration_s) + 15.0)
        world.oracle.truth.quiet_nodes = tuple(seat.node.key for seat in survivors if seat.node.alive)
        world.oracle.conclude()
        self._ending = True
        for seat in survivors:
            seat.wanted = False
            await self._stop(seat, world.draws.rng("unused"), now_after_s=None)
        await self._wait_gone(*(seat.node.key for seat in survivors))
        self.workers.sample()
        # What was killed a moment ago ends at its own deadlines.
        await anyio.sleep(60.0)
        world.note_left()

    async def _wait_gone(self, *keys: str) -> None:
        """Until these lives are over, or take too long."""
        with anyio.move_on_after(self.world.setup.drain_timeout_s + 60.0):
            while any(key in self.workers.running for key in keys):  # noqa: ASYNC110 - in virtual time a look costs nothing
                await anyio.sleep(0.5)

    async def _sample(self) -> None:
        while True:
            await anyio.sleep(self.world.setup.tick_s)
            self.workers.sample()
