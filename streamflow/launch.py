"""From a declaration to a running worker: opens the parts that an app names, runs them, closes them in reverse."""

from __future__ import annotations

import os
import secrets  # noqa: TID251 - a new id for each process
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, cast

import anyio
from prometheus_client import CollectorRegistry

from streamflow.clock import SystemClock
from streamflow.engine.flow import Surroundings, WorkerOptions
from streamflow.engine.lease_loop import DistantStore, open_lease_loop
from streamflow.engine.read_ahead import ReadAhead
from streamflow.engine.redrive import Redrive
from streamflow.engine.watchdog import Watchdog
from streamflow.engine.worker import Worker
from streamflow.errors import ConfigError, leading_error
from streamflow.failpoints import check_environment
from streamflow.handlers.fitting import fitted
from streamflow.leases import LeaseLayout
from streamflow.middleware.chain import compose
from streamflow.observe.balance import Balances
from streamflow.observe.health import Health
from streamflow.observe.logs import EventLog
from streamflow.observe.metrics import Metrics
from streamflow.observe.progress import Progress
from streamflow.observe.shards import OpenShards
from streamflow.opening import Opening
from streamflow.pipeline import App, LambdaFunction, Pipeline
from streamflow.plugins import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.dead_letters import Drawer
    from streamflow.protocols import CountedLeaseStore, LeaseStore, Observer


class Running:
    """A worker at work. `health`, `progress` and `registry` are live; `admin_url` is None where no server was asked for."""

    def __init__(
        self,
        worker: Worker,
        *,
        health: Health,
        progress: Progress,
        registry: CollectorRegistry,
        admin_url: str | None,
    ) -> None:
        self.health = health
        self.progress = progress
        self.registry = registry
        self.admin_url = admin_url
        self.stopping = False
        self._worker = worker
        self._finished = anyio.Event()
        self._failure: Exception | None = None

    async def wait(self) -> None:
        """Wait until the worker has ended: it was stopped, its streams ended, or it failed.

        Raises:
            StreamflowError: why it failed; any other error is a bug and comes as it is.
        """
        await self._finished.wait()
        if self._failure is not None:
            raise self._failure

    async def wait_started(self) -> None:
        """Wait until every pipeline delivers what is written from now on; raises as `wait` does if it fails before."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cancel_when_finished, tasks.cancel_scope)
            await self._worker.wait_started()
            tasks.cancel_scope.cancel()
        if self._finished.is_set():
            await self.wait()

    def stop(self) -> None:
        """Begin the graceful end: finish what is in flight, store, release."""
        self.stopping = True
        self._worker.stop()

    def stop_now(self) -> None:
        """Give up what is in flight; `repeating` says what will be delivered again."""
        self.stopping = True
        self._worker.stop_now()

    def repeating(self) -> dict[str, dict[str, str]]:
        """Pipeline to shard id to the position after which records that a handler has seen will come again."""
        return self._worker.repeating()

    async def _cancel_when_finished(self, scope: anyio.CancelScope) -> None:
        await self._finished.wait()
        scope.cancel()

    async def _run(self) -> None:
        try:
            await self._worker.run()
        except Exception as error:  # noqa: BLE001 - kept for whoever waits, raised at the end of the block at the latest
            self._failure = error
        finally:
            self._finished.set()


@asynccontextmanager
async def running(
    app: App | Pipeline, *, observers: Sequence[Observer] = (), registry: CollectorRegistry | None = None
) -> AsyncIterator[Running]:
    """Run `app` in the background of the block; at its end, drain, store and release.

    Installs no signal handler. If the block is cancelled or raises, batches in flight are cancelled instead of drained.
    A worker that fails does not disturb the block: `wait` raises the failure, and so does the end of the block.

    Raises:
        ConfigError: a part of the declaration cannot be opened.
        SourceError, StoreError: a stream or the store cannot be reached; nothing was started.
    """
    check_environment()
    app = App(pipelines=(app,)) if isinstance(app, Pipeline) else app
    registry = CollectorRegistry() if registry is None else registry
    clock = SystemClock()
    health = Health(clock=clock, pipelines=[flow.name for flow in app.flows])
    balances = Balances(OpenShards(clock))
    progress = Progress(clock, balances=balances)
    async with AsyncExitStack() as stack:
        lease_loop = await stack.enter_async_context(open_lease_loop(partial(open_store, app.store)))
        _check_lease_duration(app, lease_loop.store)
        around = Surroundings(
            options=WorkerOptions(
                worker_id=app.worker_id or _process_id(),
                lease_duration_s=app.lease_duration_s,
                drain_timeout_s=app.drain_timeout_s,
            ),
            store=DistantStore(lease_loop),
            lease_loop=lease_loop,
            clock=clock,
            observers=(
                balances,
                Metrics(registry, clock=clock, balances=balances),
                EventLog(),
                health,
                progress,
                *observers,
            ),
            random=Random(),  # noqa: S311 - jitter, not secrets
            read_ahead=ReadAhead(app.buffer_bytes_max),
        )
        worker = Worker(await Opening(app, stack, around.emit).flows(around))
        admin_url = None
        if app.http is not None:
            from streamflow.admin.server import open_admin

            admin_url = await stack.enter_async_context(
                open_admin(app.http, registry=registry, health=health, progress=progress)
            )
        handle = Running(worker, health=health, progress=progress, registry=registry, admin_url=admin_url)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Watchdog(around.emit).run, name="watchdog")
                tasks.start_soon(handle._run, name="worker")
                yield handle
                handle.stop()
                await handle.wait()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise leading_error(group) from None


async def run(
    app: App | Pipeline, *, observers: Sequence[Observer] = (), registry: CollectorRegistry | None = None
) -> None:
    """Run `app` until it is cancelled, its streams end, or it fails; raises as `running` and `Running.wait` do."""
    async with running(app, observers=observers, registry=registry) as worker:
        await worker.wait()


def _check_lease_duration(app: App, store: LeaseStore) -> None:
    """Raises `ConfigError`: workers of the KCL would take our leases too soon, or we theirs."""
    if store.layout is LeaseLayout.KCL_SHARED:
        failover_s = cast("CountedLeaseStore", store).failover_s
        if failover_s != app.lease_duration_s:
            raise ConfigError(
                f"lease_duration_s is {app.lease_duration_s:g}, and the workers of the KCL that share the lease table wait "
                f"{failover_s:g} s: set lease_duration_s, and failover_s in the URL of the store, to their "
                "failoverTimeMillis in seconds"
            )


@asynccontextmanager
async def open_redrive(
    app: App, pipeline: str, drawer: Drawer, *, rate_max: float | None = None, take_over: bool = False
) -> AsyncIterator[Redrive]:
    """The letters that a pipeline's workers gave up ("dead") or set aside ("parked"), ready to go through its chain again.

    Opens store and handler, not the stream; workers may run meanwhile. `rate_max` is in records per second; `take_over`
    goes on where a redrive was killed.

    Raises:
        ConfigError: the app has no such pipeline, or its handler cannot be opened.
        StoreError: the store cannot be used.
    """
    check_environment()
    declared = next((each for each in app.flows if each.name == pipeline), None)
    if declared is None:
        raise ConfigError(f"there is no pipeline {pipeline!r}, but {', '.join(each.name for each in app.flows)}")
    declared = fitted(declared)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(app.store))
        # Nobody observes a redrive; its report says what became of the letters.
        handler = await Opening(app, stack, lambda _: None).handler(declared)
        yield Redrive(
            store=store,
            chain=compose(declared.middleware, handler.call),
            pipeline=pipeline,
            drawer=drawer,
            options=declared,
            clock=SystemClock(),
            owner=_process_id(),
            take_over=take_over,
            rate_max=rate_max,
            event_bytes_max=declared.batch_bytes_max if isinstance(declared.handler, LambdaFunction) else None,
        )


async def open_handlers(app: App) -> None:
    """Open every handler of the app, and close it again: what is wrong with a sink's target is told, nothing is written.

    Raises:
        ConfigError: a target that is not there, or that does not let us in.
        PluginError: a sink cannot be opened for another reason.
    """
    async with AsyncExitStack() as stack:
        opening = Opening(app, stack, lambda _: None)
        for flow in app.flows:
            async with AsyncExitStack() as one:
                await opening.handler(flow, one)


def _process_id() -> str:
    """Of this process, and of one start of it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"  # noqa: TID251 - a new id for each process
