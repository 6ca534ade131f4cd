"""From a declaration to a running worker: opens the parts that an app names, runs them, closes them in reverse."""

from __future__ import annotations

import os
import secrets  # noqa: TID251 - a new id for each process
import socket
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, cast

import anyio
from prometheus_client import CollectorRegistry

from streamflow import events
from streamflow.clock import SystemClock
from streamflow.delivery_options import DEAD_LETTERS, DROP
from streamflow.destinations.invocation_record import MappingIdentity
from streamflow.destinations.letters import LettersDestination
from streamflow.engine.flow import Flow, Surroundings, WorkerOptions
from streamflow.engine.lease_loop import DistantStore, open_lease_loop
from streamflow.engine.read_ahead import ReadAhead
from streamflow.engine.redrive import Redrive
from streamflow.engine.watchdog import Watchdog
from streamflow.engine.worker import Worker
from streamflow.errors import ConfigError, leading_error
from streamflow.failpoints import check_environment
from streamflow.handlers.adapt import open_handler
from streamflow.handlers.context import Context
from streamflow.handlers.fitting import check_view, fitted
from streamflow.handlers.lambda_function import function_arn
from streamflow.leases import LeaseLayout
from streamflow.middleware.chain import compose
from streamflow.observe.balance import Balances
from streamflow.observe.health import Health
from streamflow.observe.logs import EventLog
from streamflow.observe.metrics import Metrics
from streamflow.observe.progress import Progress
from streamflow.observe.shards import OpenShards
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, FanOut, LambdaFunction, Pipeline
from streamflow.plugins import open_store
from streamflow.rules.filters import compile_filters
from streamflow.sdk.declarations import DestinationDeclaration
from streamflow.sources.shared import SharedSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from streamflow.aws.session import Aws
    from streamflow.dead_letters import Drawer
    from streamflow.events import Event
    from streamflow.protocols import CountedLeaseStore, Destination, LeaseStore, Observer, Source, StreamInfo
    from streamflow.sdk.settings import AwsSettings


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
        sessions = _Sessions(stack)
        flows: list[Flow] = []
        for pipeline in app.pipelines:
            source = await _open_source(pipeline, app, sessions, stack)
            opened = [await _open_flow(flow, source, app, around, sessions, stack) for flow in pipeline.flows]
            for branch in opened[1:]:
                branch.company = opened[0].name
            flows += opened
        worker = Worker(flows)
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


class _Sessions:
    """One AWS session for each way to reach AWS, opened when the first pipeline needs it."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._open: dict[AwsOptions, Aws] = {}

    async def get(self, options: AwsOptions) -> Aws:
        from streamflow.aws.session import open_aws

        if options not in self._open:
            self._open[options] = await self._stack.enter_async_context(open_aws(options))
        return self._open[options]


async def _open_flow(
    pipeline: Pipeline, source: Source, app: App, around: Surroundings, sessions: _Sessions, stack: AsyncExitStack
) -> Flow:
    pipeline = fitted(pipeline)
    info = await source.describe()
    check_view(pipeline, info)
    context = _context(pipeline, app, sessions, around.emit)
    handler = await stack.enter_async_context(open_handler(pipeline.handler, pipeline=pipeline.name, context=context))
    return Flow(
        name=pipeline.name,
        options=pipeline,
        source=source,
        info=info,
        chain=compose(pipeline.middleware, handler.call),
        fence=handler.fence,
        around=around,
        accepts=compile_filters(pipeline.filters, extensions=pipeline.filter_extensions),
        destinations=[
            await _open_destination(target, pipeline, info, app, around, sessions, stack)
            for target in pipeline.on_failure
            if target != DROP
        ],
        event_bytes_max=pipeline.batch_bytes_max if isinstance(pipeline.handler, LambdaFunction) else None,
    )


def _context(pipeline: Pipeline, app: App, sessions: _Sessions, emit: Callable[[Event], None]) -> Context:
    """What a sink of the pipeline is given: by default it reaches AWS as the pipeline reaches its stream."""
    own = _aws_of(pipeline, app)

    async def open_session(settings: AwsSettings | None) -> Aws:
        return await sessions.get(own if settings is None else AwsOptions(**dict(settings)))

    def suppressed(records: int) -> None:
        emit(events.RecordsSuppressed(pipeline=pipeline.name, records=records))

    return Context(pipeline=pipeline.name, clock=SystemClock(), aws=open_session, suppressed=suppressed)


async def _open_destination(
    target: str | Destination | DestinationDeclaration,
    pipeline: Pipeline,
    info: StreamInfo,
    app: App,
    around: Surroundings,
    sessions: _Sessions,
    stack: AsyncExitStack,
) -> Destination:
    if isinstance(target, DestinationDeclaration):
        context = _context(pipeline, app, sessions, around.emit)
        return await stack.enter_async_context(target.open(context))
    if not isinstance(target, str):
        return target
    if target == DEAD_LETTERS:
        return LettersDestination(around.store)
    from streamflow.destinations.aws import open_destination

    # Like polling, this is done under the execution role.
    aws = await sessions.get(_aws_of(pipeline, app))
    return await stack.enter_async_context(open_destination(target, aws=aws, identity=_identity(pipeline, info)))


def _identity(pipeline: Pipeline, info: StreamInfo) -> MappingIdentity:
    """What Lambda would call this mapping and its function; without a Lambda function, one named after the pipeline."""
    name = pipeline.name
    if isinstance(pipeline.handler, LambdaFunction):
        name = pipeline.handler.function_name or pipeline.handler.target.rpartition(":")[2]
    return MappingIdentity(
        uuid=pipeline.uuid or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{info.stream_arn}#{pipeline.name}")),
        function_arn=function_arn(info.stream_arn, name),
    )


def _aws_of(pipeline: Pipeline, app: App) -> AwsOptions:
    return getattr(pipeline.source, "aws", None) or app.aws


async def _open_source(pipeline: Pipeline, app: App, sessions: _Sessions, stack: AsyncExitStack) -> Source:
    """The pipeline's source, shared where several flows read it."""
    source: Source = pipeline.source
    if isinstance(pipeline.source, DynamoDBStream):
        from streamflow.sources.dynamodb import open_dynamodb_stream

        aws = await sessions.get(_aws_of(pipeline, app))
        source = await stack.enter_async_context(open_dynamodb_stream(aws, pipeline.source, numbers=pipeline.numbers))
    if isinstance(pipeline.handler, FanOut):
        return SharedSource(source, log_bytes_max=pipeline.buffer_bytes_max)
    return source


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
        context = _context(declared, app, _Sessions(stack), lambda _: None)
        handler = await stack.enter_async_context(open_handler(declared.handler, pipeline=pipeline, context=context))
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
        sessions = _Sessions(stack)
        for flow in app.flows:
            context = _context(flow, app, sessions, lambda _: None)
            async with open_handler(flow.handler, pipeline=flow.name, context=context):
                pass


def _process_id() -> str:
    """Of this process, and of one start of it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"  # noqa: TID251 - a new id for each process
