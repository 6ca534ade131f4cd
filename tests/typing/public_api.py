"""The public API as users meet it. Never run, only type-checked: what must not pass carries a `type: ignore` with its
code, and mypy complains about one that is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, assert_type

import streamflow
from streamflow.launch import Running

if TYPE_CHECKING:
    from streamflow.attributes import NativeValue
    from streamflow.events import Event


# --- declaring -------------------------------------------------------------------------------------------------------


async def deliver(batch: streamflow.Batch) -> None:
    assert_type(batch.shard, streamflow.Shard)
    assert_type(batch.records, Sequence[streamflow.Record])
    assert_type(batch.without(lambda record: record.event_name == "REMOVE", reason="deletes"), streamflow.Batch)
    for record in batch:
        look_at(record)


def look_at(record: streamflow.Record) -> None:
    assert_type(record.keys, dict[str, "NativeValue"])
    assert_type(record.new_image, dict[str, "NativeValue"] | None)
    assert_type(record.raw, bytes)
    assert_type(record.position, streamflow.Position)
    assert_type(record.lambda_event(), dict[str, Any])
    record.new_image["id"]  # type: ignore[index]  # None on REMOVE
    record.event_name == "DELETE"  # type: ignore[comparison-overlap]  # noqa: B015 - the service says REMOVE
    record.json = None  # type: ignore[misc, assignment]  # frozen
    record.body  # type: ignore[attr-defined]  # noqa: B018 - no such property


def deliver_in_a_thread(batch: streamflow.Batch) -> None:
    print(len(batch))


async def count(batch: streamflow.Batch, call_next: streamflow.Handler) -> None:
    await call_next(batch)


async def forgets_the_rest(batch: streamflow.Batch) -> None:
    print(batch)


class Writer:
    async def write(self, batch: streamflow.Batch) -> None:
        raise streamflow.SinkBusyError("the table is busy", retry_after_s=0.5)


class Sink:
    async def __aenter__(self) -> Writer:
        return Writer()

    async def __aexit__(self, *exception: object) -> None: ...


def observe(event: Event) -> None:
    print(event)


handler: streamflow.Handler = deliver
layer: streamflow.Middleware = count
sink: streamflow.Sink = Sink()
writer: streamflow.Writer = Writer()
observer: streamflow.Observer = observe

not_async: streamflow.Handler = deliver_in_a_thread  # type: ignore[assignment]  # accepted by Pipeline, but no Handler
not_a_layer: streamflow.Middleware = forgets_the_rest  # type: ignore[assignment]
not_a_sink: streamflow.Sink = Writer()  # type: ignore[assignment]

orders = streamflow.Pipeline(
    name="orders",
    source=streamflow.DynamoDBStream(table="orders"),
    handler=deliver,
    middleware=(count,),
    batch_size=500,
    starting_position="TRIM_HORIZON",
)
app = streamflow.App(
    pipelines=(orders,),
    store="sqlite:///orders.db",
    aws=streamflow.AwsOptions(region="eu-west-1"),
    http=streamflow.HttpOptions(port=9102),
)
assert_type(orders.batch_size, int)
assert_type(orders.handler_timeout_s, float | None)
assert_type(app.pipelines, tuple[streamflow.Pipeline, ...])

streamflow.Pipeline(source=streamflow.DynamoDBStream(table="orders"), handler=deliver)  # type: ignore[call-arg]
streamflow.DynamoDBStream(tabel="orders")  # type: ignore[call-arg]
orders.batch_size = 1  # type: ignore[misc]


# --- running ---------------------------------------------------------------------------------------------------------


async def embed() -> None:
    async with streamflow.running(orders, observers=[observe]) as worker:
        assert_type(worker, Running)
        await worker.wait_started()
        assert_type(worker.admin_url, str | None)
        worker.stop()
        await worker.wait()
    await streamflow.run(app)
    await streamflow.run("orders.toml")  # type: ignore[arg-type]


def fail(batch: streamflow.Batch) -> None:
    raise streamflow.PartialFailure([record.sequence_number for record in batch])


def fail_with_a_record(record: streamflow.Record) -> None:
    raise streamflow.PartialFailure([record])  # type: ignore[list-item]


def read_errors(error: streamflow.ConfigError) -> None:
    assert_type(error.problems, tuple[str, ...])
