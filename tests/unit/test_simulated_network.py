"""What becomes of a request in the simulated network, and of those of nodes that are cut off, killed or stand still."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import anyio.lowlevel
import pytest

from streamflow.deadlines import TimeLimit
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.stores.memory import MemoryStore
from streamflow.testing.simulation.determinism import deterministic
from streamflow.testing.simulation.draws import Draws
from streamflow.testing.simulation.faults import Faults
from streamflow.testing.simulation.loop import NODE, START_S, SimulatedLoop, SimulationError
from streamflow.testing.simulation.network import Network
from streamflow.testing.simulation.nodes import Node, open_lease_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": lambda: SimulatedLoop(1)}


@dataclass(eq=False)
class Adder:
    """Counts, and notes when and for whom it did."""

    network: Network
    loop: SimulatedLoop
    count: int = 0
    seen: list[tuple[str, float]] = field(default_factory=list)

    async def add(self, node: str = "w1.1") -> int:
        async def effect() -> int:
            assert NODE.get() == "", "an effect happens at the service"
            self.count += 1
            self.seen.append((node, self.loop.now - START_S))
            return self.count

        return await self.call(effect, node)

    async def call(self, effect: Callable[[], Awaitable[int]], node: str = "w1.1") -> int:
        return await self.network.call(node, "store", "add", effect, failed=StoreError, unknown=UnknownOutcomeError)


def service(**rates: float) -> Adder:
    draws = Draws(1)
    faults = Faults(draws, rates={name.replace("__", "."): rate for name, rate in rates.items()})
    return Adder(Network(draws, faults), cast("SimulatedLoop", asyncio.get_running_loop()))


def now(service: Adder) -> float:
    return service.loop.now - START_S


async def outcome(call: Awaitable[int]) -> tuple[type[Exception] | int, str]:
    try:
        return await call, ""
    except StoreError as error:
        return type(error), str(error)


# -- outcomes -------------------------------------------------------------------------------------------------------------


async def test_a_request_takes_a_while_there_and_back() -> None:
    store = service()
    assert await store.add() == 1
    assert 0 < store.seen[0][1] < now(store) < 1


async def test_who_waits_for_a_request_goes_on_while_its_answer_is_on_its_way() -> None:
    store, answered = service(), anyio.Event()

    async def ask() -> None:
        await store.add("w2.1")
        await store.add()
        answered.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await store.network.wait_carried_out("w1.1", "store", "add")
        assert [node for node, _ in store.seen] == ["w2.1", "w1.1"]
        assert not answered.is_set()


async def test_what_the_effect_raises_is_an_answer() -> None:
    async def refuse() -> int:
        raise KeyError("not here")

    store = service()
    with pytest.raises(KeyError, match="not here"):
        await store.call(refuse)
    assert now(store) > 0


@pytest.mark.parametrize(
    ("fault", "expected", "count"),
    [
        ("network__refused", StoreError, 0),
        ("network__request_lost", UnknownOutcomeError, 0),
        ("network__answer_lost", UnknownOutcomeError, 1),
        ("network__clog", 1, 1),
        ("network__delayed", UnknownOutcomeError, 0),
        ("network__twice", 1, 1),
    ],
)
async def test_faults_of_the_network(fault: str, expected: object, count: int) -> None:
    store = service(**{fault: 1.0})
    result, said = await outcome(store.add())
    assert (result, store.count) == (expected, count)
    assert said.startswith("store: add: ") or result == 1
    if fault == "network__clog":
        assert now(store) > 1


async def test_a_delayed_request_lands_when_nobody_thinks_of_it_any_more() -> None:
    store = service(network__delayed=1.0)
    assert (await outcome(store.add()))[0] is UnknownOutcomeError
    await anyio.sleep(61)
    assert store.count == 1


async def test_a_request_is_carried_out_twice_and_the_first_answer_counts() -> None:
    store = service(network__twice=1.0)
    assert await store.add() == 1
    await anyio.sleep(6)
    assert store.count == 2


async def test_a_cancelled_caller_does_not_take_back_what_it_sent() -> None:
    store = service(network__clog=1.0)
    with anyio.move_on_after(0.5) as scope:
        await store.add()
    assert scope.cancelled_caught
    assert store.count == 0
    await anyio.sleep(13)
    assert store.count == 1


async def test_an_effect_that_waits_is_a_mistake_in_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[BaseException] = []

    async def effect() -> int:
        await anyio.lowlevel.checkpoint()
        return 1

    store = service()
    monkeypatch.setattr(store.loop, "fail", found.append)
    await store.call(effect)
    assert isinstance(found[0], SimulationError)


# -- links ----------------------------------------------------------------------------------------------------------------


async def test_nothing_gets_through_a_partition_until_it_heals() -> None:
    store = service()
    store.network.partition("w1.1", "store")
    outcomes = {(await outcome(store.add()))[0] for _ in range(20)}
    assert outcomes == {StoreError, UnknownOutcomeError}
    assert store.count == 0
    assert await store.add("w2.1") == 1
    store.network.heal("w1.1", "store")
    assert await store.add() == 2


async def test_a_partition_of_the_answers_lets_requests_land() -> None:
    store = service()
    store.network.partition("w1.1", "store", answers_only=True)
    assert (await outcome(store.add()))[0] is UnknownOutcomeError
    assert store.count == 1
    store.network.heal_all()
    assert await store.add() == 2


async def test_a_partition_takes_what_is_under_way() -> None:
    store = service(network__clog=1.0)
    outcomes: list[object] = []

    async def call() -> None:
        outcomes.append((await outcome(store.add()))[0])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(0.5)
        store.network.partition("w1.1", "store")
    assert outcomes[0] in {StoreError, UnknownOutcomeError}
    assert store.count == 0


async def test_what_is_clogged_arrives_together() -> None:
    store = service()
    store.network.clog("w1.1", "store", 10)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(store.add)
            await anyio.sleep(1)
    assert all(10 < at_s < 11 for _, at_s in store.seen)
    assert len(store.seen) == 5


# -- nodes ----------------------------------------------------------------------------------------------------------------


async def test_a_killed_node_reaches_nothing_any_more_but_can_end() -> None:
    store = service(network__clog=1.0)
    node = Node("w1", loop=store.loop, network=store.network)
    done: list[str] = []

    async def work() -> None:
        try:
            await store.add(node.key)
        finally:
            with anyio.move_on_after(5, shield=True):
                await store.add(node.key)
                done.append("reached the store")
            done.append("ended")

    lived: list[bool] = []

    async def live() -> None:
        lived.append(await node.live(work))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        await anyio.sleep(0.5)
        node.crash()
        assert not node.alive
    assert (done, lived, store.count) == (["ended"], [False], 0)
    assert now(store) == pytest.approx(5.5)


async def test_a_delayed_request_survives_its_node() -> None:
    store = service(network__delayed=1.0)
    node = Node("w1", loop=store.loop, network=store.network)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.live, lambda: store.add(node.key))
        await anyio.sleep(0.0001)
        node.crash()
    await anyio.sleep(61)
    assert store.seen[0][0] == "w1.1"


async def test_a_severed_node_hears_no_answer_to_what_has_landed() -> None:
    store = service()

    async def effect() -> int:
        store.count += 1
        store.network.sever("w1.1")
        return store.count

    with anyio.move_on_after(100) as scope:
        await store.call(effect)
    assert (scope.cancelled_caught, store.count) == (True, 1)


async def test_nothing_lands_of_what_a_severed_node_sends() -> None:
    store = service(network__delayed=1.0)
    store.network.sever("w1.1")
    with anyio.move_on_after(100) as scope:
        await store.add()
    assert (scope.cancelled_caught, store.count) == (True, 0)


async def test_the_next_life_is_connected_and_has_the_same_name() -> None:
    store = service()
    node = Node("w1", loop=store.loop, network=store.network)

    async def hang() -> None:
        await anyio.sleep_forever()

    async def work() -> None:
        assert NODE.get() == node.key
        assert await store.add(node.key) == 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.live, hang)
        await anyio.sleep(1)
        node.crash()
    assert await node.live(work)
    assert (node.name, node.key, node.clock.node) == ("w1", "w1.2", "w1.2")
    with pytest.raises(ZeroDivisionError):
        await node.live(fail)


async def fail() -> None:
    raise ZeroDivisionError


async def test_a_node_that_was_killed_while_it_failed_fails_nobody() -> None:
    store = service()
    node = Node("w1", loop=store.loop, network=store.network)

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise ZeroDivisionError

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.live, work)
        await anyio.sleep(1)
        node.crash()


async def test_a_killed_node_that_stood_still_ends_at_once() -> None:
    store = service()
    node = Node("w1", loop=store.loop, network=store.network)
    ended_s: list[float] = []

    async def live() -> None:
        await node.live(anyio.sleep_forever)
        ended_s.append(now(store))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(live)
        await anyio.sleep(1)
        tasks.start_soon(node.pause, 100.0)
        await anyio.sleep(1)
        node.crash()
    assert ended_s == [2]


async def test_a_blocked_loop_keeps_its_leases_and_a_paused_process_does_not() -> None:
    store = service()
    node = Node("w1", loop=store.loop, network=store.network)
    handled: list[float] = []
    renewed: list[float] = []

    async def work() -> None:
        async with open_lease_loop(opened_store) as leases, anyio.create_task_group() as tasks:
            tasks.start_soon(each_second, handled)
            await leases.call(each_second, renewed)

    async def each_second(seen: list[float]) -> None:
        for _ in range(8):
            await anyio.sleep(1)
            seen.append(now(store))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.live, work)
        await anyio.sleep(1.5)
        await node.block(2)
        await anyio.sleep(1)
        await node.pause(2)
    assert handled == [1, 3.5, 4.5, 6.5, 7.5, 8.5, 9.5, 10.5]
    assert renewed == [1, 2, 3, 4, 6.5, 7.5, 8.5, 9.5]


async def test_a_killed_node_loses_the_loop_of_its_leases_too() -> None:
    store = service()
    node = Node("w1", loop=store.loop, network=store.network)

    async def work() -> None:
        async with open_lease_loop(opened_store) as leases:
            await leases.call(anyio.sleep_forever)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.live, work)
        await anyio.sleep(1)
        node.crash()
    assert now(store) == 1
    assert await node.live(fail_to_open) is True


async def fail_to_open() -> None:
    @asynccontextmanager
    async def opening() -> AsyncIterator[MemoryStore]:
        if NODE.get():
            raise StoreError("no disk")
        yield MemoryStore()

    with pytest.raises(StoreError, match="no disk"):
        async with open_lease_loop(opening):
            raise AssertionError("it is not open")


@asynccontextmanager
async def opened_store() -> AsyncIterator[MemoryStore]:
    yield MemoryStore()


async def test_the_service_works_on_while_the_node_stands_still() -> None:
    store = service()
    node = Node("w1", loop=store.loop, network=store.network)
    returned: list[float] = []

    async def work() -> None:
        await store.add(node.key)
        returned.append(now(store))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.live, work)
        await anyio.sleep(0.0001)
        await node.pause(10)
    assert store.seen[0][1] < 1
    assert returned[0] >= 10


async def test_clocks_of_a_node() -> None:
    store = service()
    node = Node("w1", loop=store.loop, network=store.network)
    seen: list[tuple[float, float]] = []

    async def work() -> None:
        for _ in range(3):
            seen.append((node.clock.monotonic() - START_S, node.clock.wall() - wall_s))
            await anyio.sleep(1)

    wall_s = node.clock.wall()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(node.live, work)
        await anyio.sleep(0.5)
        node.jump_clock(-600)
        await anyio.sleep(1)
        await node.suspend(50)
    assert seen == [(0, 0), (1, -599), (2, -548)]


@pytest.mark.parametrize("stands", ["w1.1", "w2.1"])
def test_a_node_that_stands_still_holds_up_no_time_limit_but_its_own(stands: str) -> None:
    """Whoever cancels what cannot be cancelled yet goes on and on, and time stands."""
    passed_at: dict[str, float] = {}

    async def work(loop: SimulatedLoop, name: str) -> None:
        with TimeLimit(2.0 if name == "w1" else 3.0):
            await anyio.sleep(100)
        passed_at[name] = round(loop.now - START_S, 3)

    async def main() -> None:
        store = service()
        nodes = [Node(name, loop=store.loop, network=store.network) for name in ("w1", "w2")]
        async with anyio.create_task_group() as tasks:
            for node in nodes:
                tasks.start_soon(node.live, partial(work, store.loop, node.name))
            await anyio.sleep(1)
            await next(node for node in nodes if node.key == stands).pause(9)

    with deterministic():
        anyio.run(main, backend_options={"loop_factory": lambda: SimulatedLoop(1, steps_max=10_000)})
    assert passed_at == ({"w1": 10.0, "w2": 3.0} if stands == "w1.1" else {"w1": 2.0, "w2": 10.0})
