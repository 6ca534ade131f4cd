"""The Kafka sink without transactions, against brokers that do not do what one hopes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread

from kafka_reading import read_topic
from servers.kafka import fake_broker, mock_cluster
from streamflow.pipeline import AwsOptions
from streamflow.sdk import ConfigError, RecordsFailedError
from streamflow.testing.sink_contract import Changes
from streamflow.testing.sink_contract.opened import open_sink
from streamflow_kafka import kafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from servers.kafka import FakeBroker
    from streamflow.sdk import Batch, Record
    from streamflow.testing.sink_contract.opened import OpenSink

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@asynccontextmanager
async def opened(servers: str, topic: str, **settings: Any) -> AsyncIterator[OpenSink]:
    declared = kafka(bootstrap_servers=servers, topic=topic, **settings)
    async with open_sink(declared, pipeline="orders", aws=AwsOptions()) as sink:
        yield sink


async def event_ids(broker: FakeBroker, topic: str) -> list[str]:
    read = await to_thread.run_sync(read_topic, broker.bootstrap_servers, topic)
    return [message.headers["_sf_event_id"] for message in read]


async def failed(sink: OpenSink, batch: Batch) -> dict[Record, str]:
    with pytest.raises(RecordsFailedError) as told:
        await sink.write(batch)
    return {each.record: each.kind for each in told.value.failures}


@pytest.mark.parametrize("topic", ["nowhere", "cdc.{table}"])
async def test_a_missing_topic_is_told_with_the_command_that_makes_it(broker: FakeBroker, topic: str) -> None:
    changes = Changes()
    with pytest.raises(ConfigError) as refused:
        async with opened(broker.bootstrap_servers, topic) as sink:
            await sink.write(changes.batch(changes.put("item")))
    assert "--create --topic " + topic.replace("{table}", "contract") in str(refused.value)


async def test_a_topic_for_each_table_is_found_when_it_is_written(broker: FakeBroker) -> None:
    changes = Changes()
    topic = await to_thread.run_sync(broker.create_topic, "each.contract")
    async with opened(broker.bootstrap_servers, "each.{table}") as sink:
        await sink.write(changes.batch(*changes.put_many(3)))
    assert sorted(await event_ids(broker, topic)) == sorted(changes.by_event_id)


async def test_brokers_that_do_not_answer_are_an_error_of_the_configuration() -> None:
    with anyio.fail_after(10), pytest.raises(ConfigError, match=r"no broker of 127\.0\.0\.1:9 answered"):
        async with opened("127.0.0.1:9", "orders", connect_timeout_s=0.3):
            pass


async def test_what_was_given_up_is_not_sent_when_the_broker_is_back(broker: FakeBroker, topic: str) -> None:
    changes = Changes()
    before, lost, cancelled, after = (
        changes.put_many(5, name=name) for name in ("before", "lost", "cancelled", "after")
    )
    async with opened(broker.bootstrap_servers, topic, delivery_timeout_s=0.5) as sink:
        await sink.write(changes.batch(*before))
        broker.kill()
        assert await failed(sink, changes.batch(*lost)) == dict.fromkeys(lost, "failed")
        with anyio.move_on_after(0.2):
            await sink.write(changes.batch(*cancelled))
        await to_thread.run_sync(broker.start)
        await _write_until_written(sink, changes.batch(*after))
    assert set(await event_ids(broker, topic)) == {record.event_id for record in [*before, *after]}


async def test_a_write_in_the_way_of_one_that_is_given_up_comes_again_at_no_cost(
    broker: FakeBroker, topic: str
) -> None:
    changes = Changes()
    first, second = changes.put_many(2, name="first"), changes.put_many(2, name="second")
    told: dict[Record, str] = {}
    async with opened(broker.bootstrap_servers, topic) as sink:
        broker.kill()
        async with anyio.create_task_group() as tasks:

            async def write() -> None:
                told.update(await failed(sink, changes.batch(*second)))

            tasks.start_soon(write)
            with anyio.move_on_after(0.3):
                await sink.write(changes.batch(*first))
        await to_thread.run_sync(broker.start)
        assert told == dict.fromkeys(second, "waiting")
        await _write_until_written(sink, changes.batch(*second))
    assert sorted(await event_ids(broker, topic)) == sorted(record.event_id for record in second)


async def test_a_frozen_broker_costs_a_timeout_and_no_order(broker: FakeBroker, topic: str) -> None:
    changes = Changes()
    records = [changes.put("item") for _ in range(6)]
    async with opened(broker.bootstrap_servers, topic, delivery_timeout_s=0.5) as sink:
        await sink.write(changes.batch(*records[:2]))
        broker.freeze()
        kinds = await failed(sink, changes.batch(*records[2:4]))
        assert "refused" not in kinds.values()
        broker.thaw()
        await _write_until_written(sink, changes.batch(*records[2:4]))
        await sink.write(changes.batch(*records[4:]))
    seen = await event_ids(broker, topic)
    # What was on the network when the write was given up may be there, and is there again; never in another order.
    assert [seen.index(record.event_id) for record in records] == sorted(
        seen.index(record.event_id) for record in records
    )
    assert seen[-2:] == [record.event_id for record in records[4:]]


async def test_of_a_request_that_is_too_large_exactly_the_large_record_is_refused(tmp_path: Path) -> None:
    changes = Changes()
    with fake_broker(tmp_path, "orders", bytes_max=20_000) as broker:
        records = changes.put_many(30)
        large = changes.put("item5", blob={"S": "x" * 30_000})
        behind, unharmed = changes.put("item5"), changes.put("item6")
        async with opened(broker.bootstrap_servers, "orders") as sink:
            with anyio.fail_after(10):
                kinds = await failed(sink, changes.batch(*changes.records))
        assert kinds == {large: "refused", behind: "waiting"}
        seen = await event_ids(broker, "orders")
        assert {record.event_id for record in [*records, unharmed]} <= set(seen)
        assert large.event_id not in seen


async def test_a_full_queue_is_waited_for(broker: FakeBroker, topic: str) -> None:
    changes = Changes(shards=2)
    changes.put_many(600, items=30)
    config = {"queue.buffering.max.messages": 7}
    async with opened(broker.bootstrap_servers, topic, config=config) as sink, anyio.create_task_group() as tasks:
        for batch in changes.batches(changes.records):
            tasks.start_soon(sink.write, batch)
    seen = await event_ids(broker, topic)
    assert len(seen) == 600
    for item in changes.by_item.values():
        places = [seen.index(record.event_id) for record in item]
        assert places == sorted(places)


async def test_a_broker_that_died_refuses_no_record() -> None:
    changes = Changes()
    with mock_cluster("orders", brokers=3) as cluster:
        async with opened(cluster.bootstrap_servers, "orders", delivery_timeout_s=0.5) as sink:
            await sink.write(changes.batch(*changes.put_many(20)))
            cluster.kill()
            lost = changes.put_many(3, name="lost")
            assert await failed(sink, changes.batch(*lost)) == dict.fromkeys(lost, "failed")


async def _write_until_written(sink: OpenSink, batch: Batch) -> None:
    with anyio.fail_after(20):
        while True:
            try:
                await sink.write(batch)
            except RecordsFailedError:
                continue
            return
