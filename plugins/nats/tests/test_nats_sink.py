"""The NATS sink against servers and streams that do not do what one hopes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread
from nats.js.api import DiscardPolicy

from nats_streams import create_stream, jetstream, read_stream
from servers.nats import nats_server
from streamflow.clock import SystemClock
from streamflow.pipeline import AwsOptions
from streamflow.sdk import ConfigError, RecordsFailedError, SinkBusyError
from streamflow.testing.sink_contract import Changes
from streamflow.testing.sink_contract.opened import open_sink
from streamflow_nats import nats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from servers.nats import NatsServer
    from streamflow.sdk import Batch, Record
    from streamflow.testing.sink_contract.opened import OpenSink

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@asynccontextmanager
async def opened(server: NatsServer, stream: str, **settings: Any) -> AsyncIterator[OpenSink]:
    declared = nats(
        **{"servers": server.url, "stream": stream, "subject": f"{stream}.{{table}}.{{key_hash}}", **settings}
    )
    async with open_sink(declared, pipeline="orders", aws=AwsOptions()) as sink:
        yield sink


async def event_ids(server: NatsServer, stream: str) -> list[str]:
    return [message.headers["_sf_event_id"] for message in await read_stream(server, stream)]


async def failed(sink: OpenSink, batch: Batch) -> dict[Record, str]:
    with pytest.raises(RecordsFailedError) as told:
        await sink.write(batch)
    return {each.record: each.kind for each in told.value.failures}


async def write_until_written(sink: OpenSink, batch: Batch) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                await sink.write(batch)
            except Exception:  # noqa: BLE001 - whatever it is, it comes again
                await anyio.sleep(0.05)
            else:
                return


# -- opening ------------------------------------------------------------------------------------------------------------


async def test_a_missing_stream_is_told_with_the_command_that_makes_it(running_server: NatsServer) -> None:
    with pytest.raises(ConfigError, match=r"nats stream add NOWHERE --subjects 'cdc\.>' --dupe-window 120s"):
        async with opened(running_server, "NOWHERE", subject="cdc.{table}.{key_hash}"):
            pass


async def test_a_shorter_window_than_asked_for_is_told(running_server: NatsServer) -> None:
    await create_stream(running_server, "SHORT", subjects=["short.>"], duplicate_window=5)
    with pytest.raises(ConfigError, match="for 5 s, and duplicate_window_s is 120"):
        async with opened(running_server, "SHORT"):
            pass
    async with opened(running_server, "SHORT", duplicate_window_s=5):
        pass


async def test_a_subject_that_the_stream_does_not_store_is_told(running_server: NatsServer, stream: str) -> None:
    with pytest.raises(ConfigError, match="does not store the subject elsewhere"):
        async with opened(running_server, stream, subject="elsewhere.{key_hash}"):
            pass


async def test_a_token_is_taken_and_a_wrong_one_is_told_without_showing_it(tmp_path: Path) -> None:
    changes = Changes()
    with nats_server(tmp_path, token="let-me-in") as server:
        await create_stream(server, "CDC", subjects=["CDC.>"])
        async with opened(server, "CDC", token="let-me-in") as sink:
            await sink.write(changes.batch(changes.put("item")))
        with pytest.raises(ConfigError, match="did not let us in") as refused:
            async with opened(server, "CDC", token="hunter2"):
                pass
        assert "hunter2" not in str(refused.value)
        assert await event_ids(server, "CDC") == list(changes.by_event_id)


async def test_a_server_that_is_not_there_is_an_error_of_the_configuration() -> None:
    declared = nats(servers="nats://127.0.0.1:9", stream="CDC", connect_timeout_s=1)
    with anyio.fail_after(10), pytest.raises(ConfigError, match="did not let us in"):
        async with open_sink(declared, pipeline="orders", aws=AwsOptions()):
            pass


async def test_of_several_servers_one_is_enough(running_server: NatsServer, stream: str) -> None:
    changes = Changes()
    servers = f"nats://127.0.0.1:9, {running_server.url}"
    for _ in range(4):  # the client looks at them in any order
        async with opened(running_server, stream, servers=servers) as sink:
            await sink.write(changes.batch(changes.put("item")))
    assert await event_ids(running_server, stream) == list(changes.by_event_id)


# -- what is too large --------------------------------------------------------------------------------------------------


async def test_what_the_server_does_not_take_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    changes = Changes()
    with nats_server(tmp_path, payload_max=4_000) as server:
        await create_stream(server, "CDC", subjects=["CDC.>"])
        large, small = changes.put("large", blob={"S": "x" * 5_000}), changes.put("small")
        async with opened(server, "CDC") as sink:
            assert await failed(sink, changes.batch(large, small)) == {large: "refused"}
        assert await event_ids(server, "CDC") == [small.event_id]


async def test_what_the_stream_does_not_take_is_refused_also_where_its_limit_was_lowered(
    running_server: NatsServer, stream: str
) -> None:
    changes = Changes()
    large, small = changes.put("large", blob={"S": "x" * 5_000}), changes.put("small")
    async with opened(running_server, stream) as sink:
        async with jetstream(running_server) as other:
            config = (await other.stream_info(stream)).config
            config.max_msg_size = 3_000
            await other.update_stream(config)
        assert await failed(sink, changes.batch(large, small)) == {large: "refused"}
    async with opened(running_server, stream) as sink:
        assert await failed(sink, changes.batch(large, small)) == {large: "refused"}
    assert await event_ids(running_server, stream) == [small.event_id]


# -- what fails ---------------------------------------------------------------------------------------------------------


async def test_a_stream_that_is_full_refuses_no_record_and_keeps_the_order(running_server: NatsServer) -> None:
    changes = Changes()
    limits = {"max_msgs": 3, "discard": DiscardPolicy.NEW}
    await create_stream(running_server, "FULL", subjects=["FULL.>"], **limits)
    records = [changes.put("item") for _ in range(6)]
    async with opened(running_server, "FULL") as sink:
        kinds = await failed(sink, changes.batch(*records))
        assert kinds == {records[3]: "failed", records[4]: "waiting", records[5]: "waiting"}
        async with jetstream(running_server) as other:
            await other.purge_stream("FULL")
        await sink.write(changes.batch(*records[3:]))
    assert await event_ids(running_server, "FULL") == [record.event_id for record in records[3:]]


async def test_a_stream_that_was_deleted_is_told_as_the_reason(running_server: NatsServer, stream: str) -> None:
    changes = Changes()
    async with opened(running_server, stream) as sink:
        async with jetstream(running_server) as other:
            await other.delete_stream(stream)
        with pytest.raises(RecordsFailedError, match="no stream stores its subject") as told:
            await sink.write(changes.batch(changes.put("item")))
    assert [each.kind for each in told.value.failures] == ["failed"]


async def test_a_frozen_server_costs_a_timeout_and_nothing_is_there_twice(
    running_server: NatsServer, stream: str
) -> None:
    changes = Changes()
    async with opened(running_server, stream, ack_timeout_s=0.5) as sink:
        await sink.write(changes.batch(*changes.put_many(3)))
        running_server.freeze()
        missed = changes.batch(*changes.put_many(3, name="missed"))
        assert set((await failed(sink, missed)).values()) == {"failed"}
        running_server.thaw()
        await write_until_written(sink, missed)
    assert sorted(await event_ids(running_server, stream)) == sorted(changes.by_event_id)


async def test_what_was_given_up_is_not_sent_when_the_server_is_back(running_server: NatsServer, stream: str) -> None:
    changes = Changes()
    before, lost, after = (changes.put_many(5, name=name) for name in ("before", "lost", "after"))
    async with opened(running_server, stream, ack_timeout_s=0.5) as sink:
        await sink.write(changes.batch(*before))
        running_server.kill()
        with pytest.raises((RecordsFailedError, OSError)):
            await sink.write(changes.batch(*lost))
        await to_thread.run_sync(running_server.start)
        await write_until_written(sink, changes.batch(*after))
    assert await event_ids(running_server, stream) == [record.event_id for record in [*before, *after]]


async def test_a_request_that_was_in_the_way_of_another_comes_again_at_no_cost(
    running_server: NatsServer, stream: str
) -> None:
    changes = Changes()
    first, second = changes.put_many(2, name="first"), changes.put_many(2, name="second")
    told: list[SinkBusyError] = []
    async with opened(running_server, stream) as sink:
        await sink.write(changes.batch(changes.put("warm")))
        running_server.freeze()
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                with pytest.raises(SinkBusyError) as busy:
                    await sink.write(changes.batch(*second))
                told.append(busy.value)

            tasks.start_soon(write)
            with anyio.move_on_after(0.3):
                await sink.write(changes.batch(*first))
        running_server.thaw()
        assert told[0].retry_after_s > 0
        await write_until_written(sink, changes.batch(*second))
    seen = await event_ids(running_server, stream)
    assert {record.event_id for record in second} <= set(seen)
    assert len(seen) == len(set(seen))


class CountingContext:
    """What a sink is given, with a look at what it says was there already."""

    pipeline = "orders"
    clock = SystemClock()

    def __init__(self) -> None:
        self.suppressed = 0

    def aws_client(self, service: str, **_: Any) -> Any:
        raise NotImplementedError(service)

    def open_sink(self, sink: Any) -> Any:
        raise NotImplementedError(sink)

    def note_suppressed(self, records: int) -> None:
        self.suppressed += records


async def test_what_the_stream_had_already_is_counted(running_server: NatsServer, stream: str) -> None:
    changes = Changes()
    context = CountingContext()
    declared = nats(servers=running_server.url, stream=stream, subject=f"{stream}.all")
    records = changes.put_many(5)
    async with declared.open(context) as writer:
        await writer.write(changes.batch(*records[:3]))
        assert context.suppressed == 0
        await writer.write(changes.batch(*records))
        assert context.suppressed == 3
    assert await event_ids(running_server, stream) == [record.event_id for record in records]
