"""A whole worker reads a stream to its end: the real engine, wire, signing and HTTP client, over a network in memory.

As a user runs it: four layers of middleware, every observer that `streamflow.launch` installs. What needs a thread is other
than there, because virtual time waits for none: leases are in memory and in the same loop, and there is no watchdog.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio
from aiobotocore.credentials import AioCredentials
from prometheus_client import CollectorRegistry

from guard.network import OfflineClock
from guard.stream import CREATED_AT_S, REGION, STREAM_ARN
from streamflow.aws.identity import Identity
from streamflow.aws.wire import Endpoint, open_wire
from streamflow.destinations.letters import LettersDestination
from streamflow.engine.flow import Flow, Surroundings, WorkerOptions
from streamflow.engine.lease_loop import SameLoop
from streamflow.engine.read_ahead import ReadAhead
from streamflow.engine.worker import Worker
from streamflow.middleware.chain import compose
from streamflow.middleware.concurrency_limit import concurrency_limit
from streamflow.middleware.drop import drop
from streamflow.middleware.log_batches import log_batches
from streamflow.middleware.timeout import timeout
from streamflow.observe.balance import Balances
from streamflow.observe.health import Health
from streamflow.observe.logs import EventLog
from streamflow.observe.metrics import Metrics
from streamflow.observe.progress import Progress
from streamflow.observe.shards import OpenShards
from streamflow.pipeline import AwsOptions, Pipeline
from streamflow.rules.filters import compile_filters
from streamflow.sources.dynamodb import DynamoDBSource
from streamflow.sources.dynamodb_calls import StreamCalls
from streamflow.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from guard.network import OfflineLoop
    from guard.stream import Stream
    from streamflow.batches import Batch
    from streamflow.protocols import Observer
    from streamflow.records import Record

_HOST = "streams.dynamodb.example"
_OVERSIZED_BYTES = 1_000_000


def look_at_nothing(batch: Batch) -> None:
    """A handler that counts, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """`look` is what the handler does with each batch: not counted itself, but what it calls is."""

    stream: Stream
    batch_size: int = 100
    look: Callable[[Batch], object] = look_at_nothing
    options: Mapping[str, Any] = field(default_factory=dict)
    caught_up: bool = False
    """Records are new when they are read, so that the next poll comes after the interval; else at once."""
    whole: bool = False
    """Count opening and closing too; else from all shards open to all delivered and the first one read to its end."""


@contextmanager
def without_collection() -> Iterator[None]:
    """Garbage that is collected at other times is finalised at other times."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def play(scene: Scene, observe: Observer, loop: OfflineLoop) -> None:
    """Run a worker over the stream until it ends."""
    # The ages of pooled connections are the only ones that are not of the loop's time: a busy machine would make them old.
    aged = patch("aiohttp.connector.monotonic", loop.time)
    with aged, patch.dict("os.environ", {"NO_PROXY": "*", "no_proxy": "*"}):
        anyio.run(_work, scene, observe, backend_options={"loop_factory": lambda: loop})


async def _work(scene: Scene, observe: Observer) -> None:
    age_s = 0.0 if scene.caught_up else 3_600.0
    clock = OfflineClock(CREATED_AT_S + age_s - anyio.current_time())
    endpoint = Endpoint(
        url=f"http://{_HOST}",
        region=REGION,
        signing_name="dynamodb",
        content_type="application/x-amz-json-1.0",
        certificates="",
    )
    identity = Identity(AwsOptions(region=REGION), clock, None, AioCredentials("key", "secret"))
    async with open_wire(endpoint, identity, clock=clock) as wire:
        source = DynamoDBSource(StreamCalls(wire, STREAM_ARN), numbers="decimal", clock=clock)
        await Worker([await _flow(scene, source, clock, observe)]).run()


async def _flow(scene: Scene, source: DynamoDBSource, clock: OfflineClock, observe: Observer) -> Flow:
    async def deliver(batch: Batch) -> None:
        scene.look(batch)

    pipeline = Pipeline(
        name="orders",
        source=source,
        handler=deliver,
        middleware=(timeout(30.0), log_batches(), concurrency_limit(64), drop(_oversized, reason="oversized")),
        batch_size=scene.batch_size,
        starting_position="TRIM_HORIZON",
        **scene.options,
    )
    store = MemoryStore()
    balances = Balances(OpenShards(clock))
    around = Surroundings(
        options=WorkerOptions(worker_id="guard"),
        store=store,
        lease_loop=SameLoop(store),
        clock=clock,
        observers=(
            balances,
            Metrics(CollectorRegistry(), clock=clock, balances=balances),
            EventLog(),
            Health(clock=clock, pipelines=["orders"]),
            Progress(clock, balances=balances),
            observe,
        ),
        random=Random(7),
        read_ahead=ReadAhead(1 << 28),
    )
    return Flow(
        name="orders",
        options=pipeline,
        source=source,
        info=await source.describe(),
        chain=compose(pipeline.middleware, deliver),
        around=around,
        accepts=compile_filters(pipeline.filters, extensions=pipeline.filter_extensions),
        destinations=[LettersDestination(store)],
    )


def _oversized(record: Record) -> bool:
    return len(record.json) > _OVERSIZED_BYTES
