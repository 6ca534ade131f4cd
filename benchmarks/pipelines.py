"""Ours: a pipeline as a user runs it, from the first shard opened to the last one settled and stored."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.claims import Measurement
from benchmarks.contend import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.replay_stream import Shape
    from streamflow import App
    from streamflow.batches import Batch
    from streamflow.events import Event
    from streamflow.records import Record

# 400 KB is the largest item that DynamoDB takes; a record with both images may have twice that, and escapes.
_OVERSIZED_BYTES = 1_000_000


async def streamflow(url: str, shape: Shape) -> Measurement:
    """A handler that counts, behind all that `run` says."""
    return await run_pipeline(url, shape)


async def run_pipeline(url: str, shape: Shape, *, take: Callable[[Batch], int] = len, **options: Any) -> Measurement:
    """A pipeline whose handler has `take` look at each batch and say how many records there are.

    What filters leave out is counted too, because it is read and settled.
    """
    count = 0

    async def deliver(batch: Batch) -> None:
        nonlocal count
        count += take(batch)

    lap = await run(url, shape, deliver, **options)
    return lap.measurement(count + lap.filtered)


async def run(url: str, shape: Shape, handler: Any, **options: Any) -> Lap:
    """What `declared` says, to the end of the stream, with Python's garbage collection as `streamflow run` has it."""
    from streamflow.cli import garbage

    lap = Lap()
    with garbage.put_off():
        import streamflow as product

        with declared(url, shape, handler, **options) as app:
            async with product.running(app, observers=[lap]) as worker:
                garbage.settle()
                await worker.wait()
    return lap


@contextmanager
def declared(url: str, shape: Shape, handler: Any, **options: Any) -> Iterator[App]:
    """By table name, through four layers, checkpoints in SQLite, metrics on, batches of 100, and these options besides.

    The layers are `timeout`, `log_batches` (at DEBUG, which is off), `concurrency_limit` and a `drop` that looks at the
    size of every record. The store's file is gone after the block.
    """
    import streamflow as product
    from streamflow.middleware.concurrency_limit import concurrency_limit
    from streamflow.middleware.drop import drop
    from streamflow.middleware.log_batches import log_batches
    from streamflow.middleware.timeout import timeout

    pipeline = product.Pipeline(
        name="replay",
        source=product.DynamoDBStream(table=shape.table),
        handler=handler,
        middleware=(
            timeout(30.0),
            log_batches(),
            concurrency_limit(64),
            drop(_oversized, reason="oversized"),
        ),
        batch_size=100,
        starting_position="TRIM_HORIZON",
        **options,
    )
    with TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'checkpoints.db'}"
        yield product.App(pipelines=(pipeline,), store=store, aws=product.AwsOptions(endpoint_url=url))


def _oversized(record: Record) -> bool:
    return len(record.json) > _OVERSIZED_BYTES


class Lap:
    """An observer: its watch runs from the first shard opened to the last shard closed."""

    def __init__(self) -> None:
        self._watch: Stopwatch | None = None
        self._read: Measurement | None = None
        self.filtered = 0
        self.delivered = 0

    def __call__(self, event: Event) -> None:
        match type(event).__name__:
            case "ShardOpened" if self._watch is None:
                self._watch = Stopwatch()
            case "PageRead":
                self.filtered += event.filtered  # type: ignore[union-attr]
            case "BatchDelivered":
                self.delivered += event.delivered  # type: ignore[union-attr]
            case "ShardClosed" if self._watch is not None:
                self._read = self._watch.read(0)

    def measurement(self, count: int) -> Measurement:
        assert self._read is not None
        return Measurement(count=count, wall_s=self._read.wall_s, cpu_s=self._read.cpu_s)
