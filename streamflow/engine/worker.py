"""The task tree and the shutdown order.

    worker
    ├─ watchdog                            is the event loop alive?
    ├─ worker/liveness                     what others see of us
    └─ <pipeline>                          one flow each
       ├─ <pipeline>/leases                the leases we could take, ask for, or should pass on
       ├─ <pipeline>/discovery             while the stream's row is ours
       └─ <pipeline>/<shard>/delivery      while the shard's row is ours
          ├─ <pipeline>/<shard>/reader
          ├─ <pipeline>/<shard>/checkpoint
          └─ <pipeline>/<shard>/lease

Shutdown: nothing is read or dispatched any more → batches in flight finish, until `drain_timeout_s` → each shard stores
its frontier and releases its lease → the stream's row is released → the worker takes its leave.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.engine.flow_work import FlowWork, patiently
from streamflow.engine.heartbeats import Heartbeats
from streamflow.engine.renewals import Renewals
from streamflow.errors import StoreError, leading_error
from streamflow.failpoints import reach
from streamflow.leases import LeaseLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.engine.flow import Flow, Surroundings
    from streamflow.engine.liveness import Liveness


@dataclass(slots=True, eq=False)
class Worker:
    """Runs flows side by side, over one store, until they stop, end or fail."""

    flows: Sequence[Flow]
    _forced: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _started: anyio.Event = field(default_factory=anyio.Event)
    _waiting_for: int = 0

    async def run(self) -> None:
        """Run every flow; an error that nothing here can mend stops them all.

        Raises:
            StreamflowError: why a flow failed; other errors are bugs and come as they are.
        """
        self._waiting_for = len(self.flows)
        around = self.flows[0].around
        liveness = liveness_in(around, tuple(flow.name for flow in self.flows))

        def report(error: StoreError, delay_s: float) -> None:
            around.emit(events.HeartbeatFailed(worker_id=liveness.worker_id, error=error, retry_after_s=delay_s))

        await patiently(liveness.start, self.flows[0], report)
        try:
            async with anyio.create_task_group() as keeping:
                keeping.start_soon(liveness.run, name="worker/liveness")
                try:
                    await self._run_flows(liveness)
                finally:
                    with (
                        anyio.CancelScope(shield=True),
                        anyio.move_on_after(around.options.store_deadline_s),
                        suppress(StoreError),
                    ):
                        await reach("worker.before_leave")
                        await liveness.leave()
                keeping.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise leading_error(group) from None

    async def _run_flows(self, liveness: Liveness) -> None:
        works = [FlowWork(flow, liveness, self._note_started) for flow in self.flows]
        by_name = {work.flow.name: work for work in works}
        for work in works:
            work.company = by_name.get(work.flow.company or "")
        with self._forced:
            async with anyio.create_task_group() as tasks:
                for work in works:
                    tasks.start_soon(self._run_flow, work, name=work.flow.name)

    def stop(self) -> None:
        """Begin the graceful shutdown; `run` returns when it is done."""
        for flow in self.flows:
            flow.stop()

    def stop_now(self) -> None:
        """Give up batches in flight; what a handler has seen of them will come again."""
        self.stop()
        self._forced.cancel()

    async def wait_started(self) -> None:
        """Wait until every flow delivers what is written from now on."""
        await self._started.wait()

    def repeating(self) -> dict[str, dict[str, str]]:
        """Pipeline to shard id to the position after which records that a handler has seen will come again."""
        return {
            flow.name: {shard_id: str(position) for shard_id, position in sorted(flow.repeating.items())}
            for flow in self.flows
            if flow.at_risk
        }

    async def _run_flow(self, work: FlowWork) -> None:
        flow, drained = work.flow, False
        try:
            drained = await work.run()
        except Exception as error:  # noqa: BLE001 - told to the observers, unwrapped, and raised again
            cause = leading_error(error) if isinstance(error, BaseExceptionGroup) else error
            flow.around.emit(events.PipelineFailed(pipeline=flow.name, error=cause))
            raise cause from None
        finally:
            flow.around.emit(events.PipelineStopped(pipeline=flow.name, drained=drained, repeating=flow.repeating))

    def _note_started(self) -> None:
        self._waiting_for -= 1
        if self._waiting_for == 0:
            self._started.set()


def liveness_in(around: Surroundings, pipelines: tuple[str, ...]) -> Liveness:
    """The way that the store's layout asks for."""
    return Heartbeats(around, pipelines) if around.store.layout is LeaseLayout.NATIVE else Renewals(around)
