"""What makes one run differ from the next, kept out for the length of a run."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets  # noqa: TID251 - to keep it out of runs
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio._backends import _asyncio as backend

import streamflow
from streamflow import deadlines
from streamflow.batches import request_ids
from streamflow.testing.simulation.loop import NODE, SimulatedLoop
from streamflow.testing.simulation.trace import LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PACKAGE = str(Path(streamflow.__file__).parent)
_SIMULATION = str(Path(__file__).parent)

# Asked for directly: what a library does for itself, such as logging with the time, is not ours and changes nothing.
_DIRECT = [
    (time, ["time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"]),
    (time, ["clock_gettime", "clock_gettime_ns"]),
    (os, ["getpid", "urandom"]),
    (uuid, ["uuid1", "uuid4"]),
    (secrets, ["choice", "randbelow", "token_bytes", "token_hex", "token_urlsafe"]),
    (
        random,
        ["choice", "choices", "gauss", "getrandbits", "randbytes", "randint", "random", "randrange", "sample", "seed"],
    ),
    (random, ["shuffle", "uniform"]),
    (socket, ["getaddrinfo", "gethostname"]),
]
# Whoever asks a library to do this has done it.
_THROUGH_LIBRARIES = [
    (threading.Thread, ["start"]),  # noqa: TID251 - to keep it out of runs
    (socket.socket, ["bind", "connect", "connect_ex"]),
    (subprocess.Popen, ["__init__"]),
]

_FRONT = "00000000-0000-4000-8000-"
"""Of the ids of batches."""


class NotDeterministicError(Exception):
    """streamflow itself has asked for something that differs from run to run, past its ports."""


@dataclass(slots=True)
class Repeatability:
    """What the user's own code asked for that differs from run to run: `time.time in handlers.py:12` to how often."""

    leaks: Counter[str] = field(default_factory=Counter)

    @property
    def repeatable(self) -> bool:
        return not self.leaks


class OrderedSet(dict[Any, None]):
    """What anyio and asyncio want of their sets, in the order in which it was filled."""

    def add(self, element: object) -> None:
        self[element] = None

    def discard(self, element: object) -> None:
        self.pop(element, None)

    def remove(self, element: object) -> None:
        del self[element]


class _OfNodes(dict[Any, Any]):
    """What belongs to an event loop, for the node whose code asks."""

    def get(self, _loop: object, default: Any = None) -> Any:
        return super().get(NODE.get(), default)

    def __setitem__(self, _loop: object, value: object) -> None:
        super().__setitem__(NODE.get(), value)


@contextmanager
def deterministic() -> Iterator[Repeatability]:
    """For the length of the block: order by age instead of address, no threads, no garbage collection by chance.

    - anyio's and asyncio's sets of tasks and scopes keep the order in which they were filled.
    - Each node has the timer of its time limits, as it has a loop of its own in truth: one that stands still holds up only
      its own.
    - `anyio.to_thread.run_sync` calls its function in the loop (`SimulatedLoop.run_in_executor`).
    - Clocks, randomness, ids, threads, sockets and processes raise `NotDeterministicError` when streamflow's own code asks
      for them; when other code does, they work, and are counted. Names that were imported from their modules before the
      block, and methods of built-in types such as `datetime.now`, are not seen.
    - The ids of batches begin anew.
    - The garbage collector runs at the beginning and at the end only.

    Not for two threads at once: it changes modules of the process.
    """
    repeatability = Repeatability()
    with ExitStack() as stack:
        stack.enter_context(_no_collection())
        request_ids.restart(_FRONT)
        stack.callback(request_ids.restart)
        for place, name, value in [*_ordered(), *_guards(repeatability)]:
            stack.enter_context(_replaced(place, name, value))
        yield repeatability


@contextmanager
def _no_collection() -> Iterator[None]:
    """What is collected calls finalizers: at a moment that depends on all that was allocated before."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()  # the collection at the end need not look at what was there before
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if enabled:
            gc.enable()


@contextmanager
def _replaced(place: Any, name: str, value: object) -> Iterator[None]:
    own = vars(place).get(name)
    setattr(place, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(place, name)  # it was inherited
        else:
            setattr(place, name, own)


# -- order ----------------------------------------------------------------------------------------------------------------


def _ordered() -> Iterator[tuple[Any, str, object]]:
    yield backend.CancelScope, "__init__", _filling(backend.CancelScope.__init__, "_tasks", "_child_scopes")
    yield backend.TaskGroup, "__init__", _filling(backend.TaskGroup.__init__, "_tasks")
    yield asyncio.TaskGroup, "__init__", _filling(asyncio.TaskGroup.__init__, "_tasks")
    yield asyncio.tasks, "all_tasks", _all_tasks
    yield deadlines, "_of_loop", _OfNodes()
    yield backend.AsyncIOBackend, "run_sync_in_worker_thread", classmethod(_run_sync)


def _filling(make: Callable[..., None], *sets: str) -> Callable[..., None]:
    @wraps(make)
    def init(self: object, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        for name in sets:
            setattr(self, name, OrderedSet())

    return init


_unordered_tasks = asyncio.tasks.all_tasks


def _all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> Any:
    loop = loop or asyncio.get_running_loop()
    return OrderedSet.fromkeys(loop.tasks()) if isinstance(loop, SimulatedLoop) else _unordered_tasks(loop)


async def _run_sync(
    _: type, func: Callable[..., Any], args: tuple[Any, ...], abandon_on_cancel: bool = False, limiter: Any = None
) -> Any:
    """What `anyio.to_thread.run_sync` does, but for the thread."""
    await anyio.lowlevel.checkpoint()
    async with limiter or anyio.to_thread.current_default_thread_limiter():
        with anyio.CancelScope(shield=not abandon_on_cancel):
            return await asyncio.get_running_loop().run_in_executor(None, partial(copy_context().run, func, *args))


# -- guards ---------------------------------------------------------------------------------------------------------------


def _guards(repeatability: Repeatability) -> Iterator[tuple[Any, str, object]]:
    for tables, through in ((_DIRECT, False), (_THROUGH_LIBRARIES, True)):
        for place, names in tables:
            for name in names:
                yield place, name, _guarded(getattr(place, name), f"{place.__name__}.{name}", through, repeatability)


def _guarded(
    function: Callable[..., Any], name: str, through: bool, repeatability: Repeatability
) -> Callable[..., Any]:
    @wraps(function)
    def guard(*args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        while through and frame.f_back is not None and _of_library(frame.f_code.co_filename):
            frame = frame.f_back
        path = frame.f_code.co_filename
        if path.startswith(_PACKAGE) and not path.startswith(_SIMULATION):
            raise NotDeterministicError(f"{name} in {path}:{frame.f_lineno}: ask a port instead")
        if not _of_library(path) and not path.startswith(_SIMULATION):
            repeatability.leaks[f"{name} in {Path(path).name}:{frame.f_lineno}"] += 1
        return function(*args, **kwargs)

    return guard


def _of_library(path: str) -> bool:
    return path.startswith((*LIBRARIES, "<")) and not path.startswith(_PACKAGE)
