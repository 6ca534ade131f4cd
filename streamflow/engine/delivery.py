"""One shard's records through its lanes to the handler, until each is settled.

A lane has one batch in flight at a time, and all changes of one item are in one lane. When the flow stops, the lanes still
deliver what is older than the newest record that any of them has delivered: a clean stop repeats nothing. One whose batch
fails ends all the same, and then the others deliver nothing that is newer than its records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from streamflow.engine.lane import Lane
from streamflow.errors import leading_error
from streamflow.rules.windows import Windows, state_bytes_max

if TYPE_CHECKING:
    from streamflow.engine.assignment import Assignment


@dataclass(slots=True, eq=False)
class Delivery:
    """`run` returns when the shard is delivered to its end, or when the flow stops between two batches."""

    shared: Assignment
    lanes: list[Lane] = field(init=False)
    _runs: bool = False
    _over: anyio.Event | None = None
    _left: list[int] = field(default_factory=list)
    """The lanes that have ended because the flow stops."""

    def __post_init__(self) -> None:
        """Raises `WindowStateError` where the lease holds no state of a window."""
        shared = self.shared
        size_s = shared.flow.options.tumbling_window_s
        stored = shared.held.lease.window
        # Windows have one lane only; what is left of windows that were turned off is the first one's to close.
        windows = None
        if size_s or stored is not None:
            limit = state_bytes_max(shared.flow.options.batch_bytes_max)
            windows = Windows.restored(size_s, stored, state_bytes_max=limit)
        numbers = range(len(shared.buffer.batchers))
        self.lanes = [Lane(shared=shared, number=number, windows=None if number else windows) for number in numbers]

    @property
    def in_flight(self) -> bool:
        """True while any handler is at work, and for good if it was cancelled in between."""
        return any(lane.in_flight for lane in self.lanes)

    def at_work_since(self) -> float | None:
        """The monotonic time since which the longest invocation in flight goes on; None where there is none."""
        return min((lane.began_at for lane in self.lanes if lane.in_flight), default=None)

    async def run(self) -> bool:
        """Deliver batch after batch. True: everything to the end of the shard is settled; False: stopped before."""
        self._runs = True
        try:
            return await self._run()
        finally:
            self._runs = False
            if self._over is not None:
                self._over.set()

    async def over_within(self, seconds: float) -> bool:
        """Wait for the end of `run`; False if it does not come in time."""
        if self._runs:
            self._over = self._over or anyio.Event()
            with anyio.move_on_after(seconds):
                await self._over.wait()
        return not self._runs

    async def _run(self) -> bool:
        if len(self.lanes) == 1:
            return await self.lanes[0].run()
        finished: list[bool] = []

        async def run_lane(lane: Lane) -> None:
            finished.append(over := await lane.run())
            if not over:
                self._left.append(lane.number)
                self.stop()

        name = f"{self.shared.flow.name}/{self.shared.shard.shard_id}"
        try:
            async with anyio.create_task_group() as tasks:
                for lane in self.lanes:
                    tasks.start_soon(run_lane, lane, name=f"{name}/lane-{lane.number}")
        except BaseExceptionGroup as group:
            raise leading_error(group) from None
        return len(finished) == len(self.lanes) and all(finished)

    def stop(self) -> None:
        """The flow stops: forget what is buffered, but for what is older than the newest record delivered.

        Again for each lane that ends: what is newer than a record that it leaves would come again.
        """
        in_flight = [lane.unsettled for lane in self.lanes]
        kept = self.shared.checkpoints.kept_at_stop(in_flight, self._left)
        for lane, batcher in zip(self.lanes, self.shared.buffer.batchers, strict=True):
            batcher.truncate(max(0, kept[lane.number] - in_flight[lane.number]))
            lane.forget_behind(kept[lane.number])
        self.shared.buffer.wake()
