"""Scenarios about what a sink does to the event loop and to those that cancel it."""

from __future__ import annotations

import gc
from math import inf
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.failures import write_until_written
from streamflow.testing.sink_contract.hooks import SinkHooks
from streamflow.testing.sink_contract.stalls import watched_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streamflow.batches import Batch
    from streamflow.testing.sink_contract.opened import OpenSink

STALL_S_MAX = 0.05
"""Leases are renewed and other shards polled on the same loop."""
# A stall in each of so many rounds is the sink's; one in a single round may be anybody's.
_ROUNDS = 3
_RECORDS, _RECORD_BYTES = 500, 1_000


class ConcurrencyScenarios(SinkHooks):
    async def test_the_event_loop_is_never_blocked(self) -> None:
        changes = Changes(shards=2)
        least_s = inf
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(changes.put("first")))
            for number in range(_ROUNDS):
                start = len(changes.records)
                for index in range(_RECORDS):
                    changes.put(f"round{number}item{index}", blob={"S": "x" * _RECORD_BYTES})
                batches = changes.batches(changes.records[start:], size=self.capabilities.batch_size)
                gc.collect()
                async with watched_loop() as stalls:
                    for batch in batches:
                        await opened.write(batch)
                if (least_s := min(least_s, stalls.longest_s)) < STALL_S_MAX:
                    break
        assert least_s < STALL_S_MAX, f"writing blocks the event loop for {least_s * 1000:.0f} ms"
        await self.check_target(changes, changes.records)

    async def test_a_write_that_is_cancelled_leaves_the_sink_usable(self) -> None:
        """And none of its records counts as written: all of them come again."""
        changes = Changes()
        async with self.opened(changes) as opened:
            for pause in _pauses():
                changes.put("again")
                records = [changes.records[-1], *changes.put_many(3, name=f"item{len(changes.records)}x")]
                batch = changes.batch(*records)
                if not await _returned(opened, batch, pause):
                    await write_until_written(opened, batch)
        await self.check_target(changes, changes.records, once=self.is_idempotent)


async def _returned(opened: OpenSink, batch: Batch, pause: Callable[[], Awaitable[None]]) -> bool:
    """Write, and cancel after the pause; whether the write was done by then."""
    returned = False
    async with anyio.create_task_group() as tasks:

        async def write() -> None:
            nonlocal returned
            await opened.write(batch)
            returned = True

        tasks.start_soon(write)
        await pause()
        tasks.cancel_scope.cancel()
    return returned


def _pauses() -> list[Callable[[], Awaitable[None]]]:
    """From none at all to some that are longer than most writes."""

    def steps(count: int) -> Callable[[], Awaitable[None]]:
        async def pause() -> None:
            for _ in range(count):
                await anyio.lowlevel.checkpoint()

        return pause

    def seconds(delay_s: float) -> Callable[[], Awaitable[None]]:
        async def pause() -> None:
            await anyio.sleep(delay_s)

        return pause

    return [*map(steps, range(8)), *(seconds(0.0005 * 2**power) for power in range(7))]
