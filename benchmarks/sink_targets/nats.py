"""NATS JetStream: the server from the emulators' wheel."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import orjson

from benchmarks.sink_targets.target import Pages, Place, Target, item_key, lambda_record, on_core, own_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from benchmarks.sink_targets.target import Record, WritePage

# As many as nats-py lets be under way by default: at more, `publish_async` fails.
_UNDER_WAY_MAX = 4_000


@contextmanager
def _serve(core: int) -> Iterator[str]:
    with on_core(core), TemporaryDirectory() as folder:
        from servers.nats import nats_server

        with nats_server(Path(folder)) as server:
            yield server.url


@asynccontextmanager
async def _open_stream(url: str) -> AsyncIterator[Place]:
    import nats as client_library

    from streamflow_nats import nats

    name = own_name()
    client = await client_library.connect(url)
    try:
        jetstream = client.jetstream()
        await jetstream.add_stream(name=name, subjects=[f"{name}.>"])

        async def count() -> int:
            return int((await jetstream.stream_info(name)).state.messages)

        yield Place(
            sink=nats(servers=url, stream=name, subject=f"{name}.{{table}}.{{key_hash}}"),
            open_loop=partial(_publish_loop, url, name),
            count=count,
        )
        await jetstream.delete_stream(name)
    finally:
        await client.close()


@asynccontextmanager
async def _publish_loop(url: str, name: str) -> AsyncIterator[WritePage]:
    import nats as client_library

    client = await client_library.connect(url)
    try:
        jetstream = client.jetstream(publish_async_max_pending=_UNDER_WAY_MAX)

        async def write(records: Sequence[Record]) -> None:
            acknowledged = [
                await jetstream.publish_async(
                    f"{name}.{item_key(record)}",
                    orjson.dumps(lambda_record(record)),
                    headers={"Nats-Msg-Id": record["eventID"]},
                )
                for record in records
            ]
            await jetstream.publish_async_completed()
            for each in acknowledged:
                each.result()

        yield write
    finally:
        await client.close()


TARGETS = (
    Target(
        name="nats",
        server="NATS JetStream from a wheel, every write synced",
        loop="nats-py publish_async",
        holds="changes",
        pages=Pages(ours=20, peer=5, floor=15),
        serve=_serve,
        open_place=_open_stream,
    ),
)
