"""Handlers that go on although they were cancelled: found out, told once, and their shards given to others in the end.

Whoever catches a cancellation and does not raise it again cannot be stopped within this process: it takes a whole core, as
the cancellation comes again with every turn of the loop, and only the end of the process ends it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.engine.watchdog import stack_of_task, where
from streamflow.errors import LeaseLostError, StoreError
from streamflow.rules.steps import PassedOn

if TYPE_CHECKING:
    from streamflow.engine.delivery import Delivery
    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease

IGNORED_S = 5.0
"""A handler that was cancelled has this long to clean up."""


async def insist(flow: Flow, held: HeldLease, delivery: Delivery) -> None:
    """See a delivery end that was cancelled. One that does not keeps its lease for as long as a lease lasts, and no longer.

    Returns when the delivery has ended, or others may have the shard; it is not cancelled itself.
    """
    with anyio.CancelScope(shield=True):
        if await delivery.over_within(IGNORED_S):
            return
        tell_ignored(flow, held.shard_id, after_s=IGNORED_S)
        if not await delivery.over_within(flow.around.options.lease_duration_s):
            with suppress(LeaseLostError, StoreError):
                await held.write(PassedOn())


@dataclass(slots=True, eq=False)
class Overdue:
    """Looks at invocations that are past the pipeline's time limit: cancelled, and still at work."""

    flow: Flow
    shard_id: str
    timeout_s: float
    _began_at: float = 0.0
    _seen_at: float | None = None
    """None once it is told."""

    def look(self, delivery: Delivery, now: float) -> float:
        """Tell of one that two looks have found. The answer is when to look again, at the latest.

        Two looks, because after the loop stood still a handler is cancelled late, and has its time from then on.
        """
        began_at = delivery.at_work_since()
        patience_s = self.timeout_s + IGNORED_S
        if began_at is None or now < began_at + patience_s:
            return patience_s + (now if began_at is None else began_at)
        if began_at != self._began_at:
            self._began_at, self._seen_at = began_at, now
        if self._seen_at is None:
            return now + patience_s
        if now - self._seen_at < IGNORED_S:
            return self._seen_at + IGNORED_S
        self._seen_at = None
        tell_ignored(self.flow, self.shard_id, after_s=now - began_at - self.timeout_s)
        return now + patience_s


def tell_ignored(flow: Flow, shard_id: str, *, after_s: float) -> None:
    """Say which task goes on, and where it is."""
    name = f"{flow.name}/{shard_id}"
    tasks = [task for task in asyncio.all_tasks() if _delivers(task.get_name(), name)]
    # A delivery of several lanes waits for them.
    task = max(tasks, key=lambda task: (task.get_name().startswith(f"{name}/lane-"), task.get_name()), default=None)
    stack = [] if task is None else stack_of_task(task)
    flow.around.emit(
        events.CancellationIgnored(
            pipeline=flow.name,
            shard_id=shard_id,
            task="(no task)" if task is None else task.get_name(),
            where=where(stack),
            stack=tuple(map(str, stack)),
            after_s=after_s,
        )
    )


def _delivers(task: str, shard: str) -> bool:
    return task == f"{shard}/delivery" or task.startswith(f"{shard}/lane-")
