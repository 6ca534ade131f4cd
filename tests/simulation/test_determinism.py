"""One seed, one course: in another process, under another hash seed, after other allocations, with other modules loaded.

Run as a program, this file prints the traces of the seeds it is given, and what it is to print them under.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio._backends import _asyncio as backend

from streamflow.clock import SystemClock
from streamflow.engine.lease_loop import open_lease_loop
from streamflow.plugins import open_store
from streamflow.testing.simulation.determinism import NotDeterministicError, deterministic
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SEEDS = (1, 2)


async def whole_workers(loop: SimulatedLoop) -> None:
    """Three workers, which share shards that split, one of them killed; their effects are in the trace."""
    random = Random(7)
    world = World(shards=4, options={"parallelization_factor": 3, "checkpoint_interval_s": 1, "batch_size": 5})

    async def accept(batch: Any) -> None:
        await anyio.sleep(random.uniform(0, 3))
        await world.accept(batch)
        loop.trace.add("accepted", batch.shard.shard_id, len(batch), loop.now)

    async with anyio.create_task_group() as others:
        for name in ("w1", "w2"):
            worker = await world.worker(accept, worker_id=name)
            others.start_soon(worker.run, name=name)
        async with world.working(accept, worker_id="w3"):
            for number in range(25):
                world.write(*(f"k{each}" for each in range(number % 7)))
                await anyio.sleep(1.7)
                if number == 12:
                    world.controls.split("orders")
        others.cancel_scope.cancel()
    for key, row in sorted((await world.rows()).items()):
        loop.trace.add("row", key, row.owner, row.version, str(row.checkpoint))


async def cancelled_tasks(loop: SimulatedLoop) -> None:
    """Many tasks, cancelled together, that clean up: the order in which they hear of it is the order of a set."""

    async def work(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
            loop.trace.add("cleaned up", number)

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(work, number, name=f"work-{number}")
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()


PROGRAMS: tuple[Callable[[SimulatedLoop], Coroutine[Any, Any, None]], ...] = (whole_workers, cancelled_tasks)


def traced(seed: int) -> list[str]:
    """One for each program."""
    loops = [SimulatedLoop(seed) for _ in PROGRAMS]
    for program, loop in zip(PROGRAMS, loops, strict=True):
        anyio.run(program, loop, backend_options={"loop_factory": lambda loop=loop: loop})
    return [loop.trace.digest() for loop in loops]


def traces(*, hash_seed: str = "0", junk: int = 0, extra: str = "sys", plain: bool = False) -> list[list[str]]:
    """Of each seed, and then of each seed again, in a fresh process."""
    root = Path(__file__).parents[2]
    order = json.dumps({"seeds": [*SEEDS, *SEEDS], "junk": junk, "extra": extra, "plain": plain})
    done = subprocess.run(
        [sys.executable, __file__, order],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}", "PYTHONHASHSEED": hash_seed, "PATH": ""},
        cwd=root,
    )
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_a_seed_takes_the_same_course_wherever_it_runs() -> None:
    here = traces()
    assert here[: len(SEEDS)] == here[len(SEEDS) :]
    assert all(len(set(of_program)) == len(SEEDS) for of_program in zip(*here, strict=True)), (
        "another seed, another course"
    )
    assert traces(hash_seed="4711", junk=123_457) == here
    assert traces(hash_seed="random", extra="xml.dom.minidom") == here


def test_without_the_shims_addresses_decide() -> None:
    """Or they could go. One of these differing is enough: which does is up to the allocator."""
    runs = [traces(plain=True, junk=junk) for junk in (0, 54_321)]
    assert runs[0] != runs[1] or runs[0][: len(SEEDS)] != runs[0][len(SEEDS) :]


# -- what is kept out -----------------------------------------------------------------------------------------------------


def test_streamflow_may_not_read_clocks_past_its_ports() -> None:
    SystemClock().wall()
    with (
        deterministic(),
        pytest.raises(NotDeterministicError, match=r"time\.time in .*clock\.py:\d+: ask a port instead"),
    ):
        SystemClock().wall()
    assert SystemClock().wall() > 0


def test_a_thread_of_streamflow_is_refused_however_it_is_started() -> None:
    async def main() -> None:
        async with open_lease_loop(lambda: open_store("memory:")):
            pass

    with deterministic(), pytest.raises(NotDeterministicError, match=r"Thread\.start in .*lease_loop\.py"):
        anyio.run(main, backend_options={"loop_factory": lambda: SimulatedLoop(1)})


def test_what_users_ask_for_works_and_is_counted() -> None:
    with deterministic() as nothing:
        pass
    assert nothing.repeatable
    with deterministic() as run:
        assert time.time() > 0  # noqa: TID251 - as users may
        assert uuid.uuid4() != uuid.uuid4()  # noqa: TID251 - as users may
    assert not run.repeatable
    kinds = sorted((leak.split(":")[0], times) for leak, times in run.leaks.items())
    assert kinds == [("time.time in test_determinism.py", 1), ("uuid.uuid4 in test_determinism.py", 2)]


def test_everything_is_as_it_was_afterwards() -> None:
    def changed() -> list[object]:
        scopes = backend.CancelScope.__init__
        clock, start = vars(time)["time"], vars(threading)["Thread"].start
        return [clock, start, scopes, asyncio.tasks.all_tasks, gc.isenabled(), "connect" in vars(socket.socket)]

    before = changed()
    with deterministic():
        assert all(now != then for now, then in zip(changed(), before, strict=True))
    assert changed() == before


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    __import__(asked["extra"])
    kept = [object() for _ in range(asked["junk"])]
    with nullcontext() if asked["plain"] else deterministic():
        print(json.dumps([traced(seed) for seed in asked["seeds"]]))
