"""The process of one contender: binds itself to one core, does the work once, prints its measurement as JSON.

`python -m benchmarks.contend MODULE:FUNCTION URL VOLUME [CORE]`; useful by itself under a profiler. A volume is
`SHARDSxPAGES`, or `small-SHARDSxPAGES` for other records than the standard ones.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from importlib import import_module
from time import perf_counter, process_time  # noqa: TID251 - the machine's time is measured
from typing import TYPE_CHECKING

import orjson

from benchmarks.claims import Measurement
from benchmarks.replay_stream import Shape

if TYPE_CHECKING:
    from benchmarks.claims import Work


class Stopwatch:
    """Starts when it is made, and again at `restart`."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._wall_s, self._cpu_s = perf_counter(), process_time()

    def read(self, count: int) -> Measurement:
        return Measurement(count=count, wall_s=perf_counter() - self._wall_s, cpu_s=process_time() - self._cpu_s)


def run(target: str, url: str, shape: Shape) -> Measurement:
    """Do the work of `module:function` in this process, on a new event loop."""
    module, _, function = target.partition(":")
    work: Work = getattr(import_module(module), function)

    async def once() -> Measurement:
        return await work(url, shape)

    return asyncio.run(once())


def bind(core: int) -> None:
    """Keep this process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def main(arguments: list[str]) -> None:
    target, url, volume, *core = arguments
    if core:
        bind(int(core[0]))
    measurement = run(target, url, Shape.of_volume(volume))
    print(orjson.dumps(asdict(measurement)).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
