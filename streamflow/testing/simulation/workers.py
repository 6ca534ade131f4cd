"""The workers of a world: the product's, put together as `streamflow.launch` does. Only what they reach is simulated."""

from __future__ import annotations

from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamflow import events
from streamflow.destinations.letters import LettersDestination
from streamflow.engine.flow import Flow, Surroundings, WorkerOptions
from streamflow.engine.lease_loop import DistantStore
from streamflow.engine.read_ahead import ReadAhead
from streamflow.engine.worker import Worker
from streamflow.errors import leading_error
from streamflow.middleware.chain import compose
from streamflow.observe.balance import Balances
from streamflow.observe.logs import EventLog
from streamflow.observe.shards import OpenShards
from streamflow.pipeline import Pipeline
from streamflow.rules.filters import compile_filters
from streamflow.sources.shared import SharedSource
from streamflow.testing.simulation.destinations import SimulatedDestination
from streamflow.testing.simulation.facts import NodeStarted, NodeStopped, Promised, Sampled, Told
from streamflow.testing.simulation.nodes import Node, open_lease_loop
from streamflow.testing.simulation.sinks import SimulatedHandler
from streamflow.testing.simulation.store import SimulatedStore
from streamflow.testing.simulation.streams import SimulatedSource
from streamflow.testing.simulation.truth import through

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from streamflow.events import Event
    from streamflow.protocols import Destination, Handler, Source, StateStore, TransactionalWriter
    from streamflow.testing.simulation.world import World


@dataclass(slots=True, eq=False)
class Running:
    """One worker that lives: its parts, for those who stop it and look at it."""

    node: Node
    key: str
    worker: Worker
    balances: Balances
    read_ahead: ReadAhead
    stopped: dict[str, events.PipelineStopped] = field(default_factory=dict)
    """By pipeline."""


@dataclass(frozen=True, eq=False)
class Workers:
    """Of one world."""

    world: World
    running: dict[str, Running] = field(default_factory=dict)
    """Those that live, by the key of their node's life."""

    async def work(self, node: Node, worker_id: str, version: Mapping[str, Any]) -> None:
        """One life of a worker, in the node: from opening its parts to its end; raises what the worker raises."""
        key, world = node.key, self.world
        terms, ahead_s = world.setup.terms(version), node.clock.wall() - world.controls.tables.now()
        world.tell(NodeStarted(node=key, worker_id=worker_id, terms=terms, ahead_s=ahead_s))
        failed = True
        try:
            async with self._opened(node, worker_id, version) as running:
                self.running[key] = running
                await running.worker.run()
            failed = False
        except BaseExceptionGroup as group:
            raise leading_error(group) from None
        finally:
            self._note_end(key, failed=failed)

    @asynccontextmanager
    async def _opened(self, node: Node, worker_id: str, version: Mapping[str, Any]) -> AsyncIterator[Running]:
        world, key, clock = self.world, node.key, node.clock
        setup = world.setup

        @asynccontextmanager
        async def opening() -> AsyncIterator[StateStore]:
            yield SimulatedStore(world.rows, network=world.network, node=key, faults=world.faults)

        async with AsyncExitStack() as stack:
            lease_loop = await stack.enter_async_context(open_lease_loop(opening))
            balances = Balances(OpenShards(clock))
            around = Surroundings(
                options=WorkerOptions(
                    worker_id=worker_id,
                    lease_duration_s=setup.lease_duration_s,
                    drain_timeout_s=setup.drain_timeout_s,
                    audit_interval_s=setup.audit_interval_s,
                    look_interval_s=setup.look_interval_s,
                    stall_s=setup.stall_s,
                ),
                store=DistantStore(lease_loop),
                lease_loop=lease_loop,
                clock=clock,
                observers=(balances, EventLog(clock=clock), lambda event: self._note_event(key, event)),
                random=world.draws.rng("engine", key),
                read_ahead=ReadAhead(setup.worker_buffer_bytes_max),
            )
            source: Source = SimulatedSource(
                world.streams, world.stream_arn, network=world.network, node=key, clock=clock
            )
            if len(setup.pipelines) > 1:
                source = SharedSource(source, log_bytes_max=version["buffer_bytes_max"])
            flows = [await self._flow(name, source, key, version, around, stack) for name in setup.pipelines]
            for branch in flows[1:]:
                branch.company = flows[0].name
            yield Running(node, key, Worker(flows), balances, around.read_ahead)

    async def _flow(
        self,
        name: str,
        source: Source,
        key: str,
        version: Mapping[str, Any],
        around: Surroundings,
        stack: AsyncExitStack,  # noqa: ARG002 - for handlers that have to be opened
    ) -> Flow:
        world = self.world
        handler = SimulatedHandler(
            world.sink,
            pipeline=name,
            network=world.network,
            node=key,
            faults=world.faults,
            # One that takes too long is tried again while its thread goes on, and nobody promises more.
            in_thread=version["handler_timeout_s"] is None,
        )
        call: Handler = handler
        fence: TransactionalWriter | None = handler if world.setup.sink == "transactional" else None
        options = Pipeline(name=name.replace("/", "-"), source=source, handler=handler, **version)
        return Flow(
            name=name,
            options=options,
            source=source,
            info=await source.describe(),
            chain=compose((), call),
            fence=fence,
            around=around,
            accepts=compile_filters(options.filters),
            destinations=self._destinations(key, around.store),
        )

    def _destinations(self, key: str, store: StateStore) -> list[Destination]:
        world, letters = self.world, LettersDestination(store)
        elsewhere = SimulatedDestination(network=world.network, node=key, faults=world.faults, tell=world.tell)
        chosen: dict[str, list[Destination]] = {
            "letters": [letters],
            "elsewhere": [elsewhere],
            "both": [letters, elsewhere],
        }
        return chosen[world.setup.gives_up_to]

    def _note_event(self, key: str, event: Event) -> None:
        world = self.world
        if isinstance(event, events.PipelineStopped) and key in self.running:
            self.running[key].stopped[event.pipeline] = event
        elif isinstance(event, events.PipelineStarted) and event.pipeline not in world.oracle.truth.promised:
            world.tell(Promised(pipeline=event.pipeline))
        world.tell(Told(node=key, event=event))

    def _note_end(self, key: str, *, failed: bool) -> None:
        world, running = self.world, self.running.pop(key, None)
        if world.oracle.truth.nodes[key].ended:
            return  # it was killed, and nothing that it says is heard
        stopped = {} if running is None else running.stopped
        world.tell(
            NodeStopped(
                node=key,
                drained=all(event.drained for event in stopped.values()) and len(stopped) == len(world.setup.pipelines),
                failed=failed,
                repeating={
                    (pipeline, shard_id): through(position)
                    for pipeline, event in stopped.items()
                    for shard_id, position in event.repeating.items()
                },
                tasks_left=tuple(world.loop.left_of(key)),
            )
        )

    def sample(self) -> None:
        """Tell what each worker looks like now."""
        tasks = Counter(self.world.loop.nodes_of_tasks())
        for key, running in self.running.items():
            now_s = running.node.clock.wall()
            shards = running.balances.shards.snapshot()
            self.world.tell(
                Sampled(
                    node=key,
                    buffered_bytes=running.read_ahead.bytes,
                    tasks=tasks[key],
                    shards=len(shards),
                    ages_s={(shard.pipeline, shard.shard_id): shard.iterator_age_s(now_s) for shard in shards},
                    ahead_s=now_s - self.world.controls.tables.now(),
                )
            )
