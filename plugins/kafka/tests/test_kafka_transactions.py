"""The Kafka sink with transactions, beside others that have transactions too."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread
from confluent_kafka import KafkaException, Producer

from kafka_reading import read_topic
from servers.kafka import fake_broker
from streamflow.pipeline import AwsOptions
from streamflow.sdk import ConfigError, RecordsFailedError
from streamflow.testing.sink_contract import Changes
from streamflow.testing.sink_contract.opened import open_sink
from streamflow_kafka import kafka
from streamflow_kafka.checkpoints import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from servers.kafka import FakeBroker
    from streamflow.testing.sink_contract.opened import OpenSink

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class Target:
    """Topics of the fake, and whoever writes to them."""

    def __init__(self, broker: FakeBroker, topic: str, checkpoint_topic: str) -> None:
        self.broker = broker
        self.topic = topic
        self.checkpoint_topic = checkpoint_topic

    @asynccontextmanager
    async def opened(self, changes: Changes, **settings: Any) -> AsyncIterator[OpenSink]:
        declared = kafka(
            bootstrap_servers=self.broker.bootstrap_servers,
            topic=self.topic,
            checkpoint_topic=self.checkpoint_topic,
            transactional=True,
            **settings,
        )
        async with open_sink(declared, pipeline=changes.pipeline, aws=AwsOptions()) as sink:
            yield sink

    async def event_ids(self, *, committed: bool = True) -> list[str]:
        read = await to_thread.run_sync(
            lambda: read_topic(self.broker.bootstrap_servers, self.topic, committed=committed)
        )
        return [message.headers.get("_sf_event_id", "") for message in read]

    def somebody(self, transactional_id: str) -> Producer:
        """A producer with a transaction open."""
        producer = Producer(
            {"bootstrap.servers": self.broker.bootstrap_servers, "transactional.id": transactional_id, "log_level": 0}
        )
        producer.init_transactions(10)
        producer.begin_transaction()
        return producer


@pytest.fixture
def target(broker: FakeBroker, topic: str, checkpoint_topic: str) -> Target:
    return Target(broker, topic, checkpoint_topic)


async def test_what_a_worker_had_not_committed_when_it_died_is_never_seen(target: Target) -> None:
    """It had written records, and perhaps the checkpoint; its process is gone, and the transaction is open."""
    changes = Changes()
    shard = changes.put("first").shard
    worker = await to_thread.run_sync(target.somebody, f"{changes.pipeline}.contract.{shard.shard_id}")
    worker.produce(target.topic, b"half-way", b"key")
    await to_thread.run_sync(worker.flush, 10)
    async with target.opened(changes) as sink:
        assert await sink.transactional.fence(shard, 1) is None
        await sink.write(changes.batch(*changes.records))
        assert await target.event_ids() == [changes.records[0].event_id]
        assert len(await target.event_ids(committed=False)) == 2
        with pytest.raises(KafkaException, match="fenced"):
            await to_thread.run_sync(worker.commit_transaction, 10)
    assert await target.event_ids() == [changes.records[0].event_id]


async def test_a_checkpoint_behind_somebody_elses_open_transaction_is_waited_for(target: Target) -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    place = Place.of(changes.pipeline, batch.shard, target.checkpoint_topic, range(4))
    other = await to_thread.run_sync(target.somebody, "somebody else")
    async with target.opened(changes) as sink:
        await sink.write(changes.batch(*batch.records[:1]))
        other.produce(target.checkpoint_topic, b"{}", b"another key", partition=place.partition)
        await to_thread.run_sync(other.flush, 10)
        await sink.write(changes.batch(*batch.records[1:]))
    found: list[object] = []
    async with target.opened(changes) as sink, anyio.create_task_group() as tasks:

        async def fence() -> None:
            found.append(await sink.transactional.fence(batch.shard, 2))

        tasks.start_soon(fence)
        await anyio.sleep(0.5)
        assert found == [], "the fence did not wait, and took an older checkpoint for the newest"
        await to_thread.run_sync(other.commit_transaction, 10)
    assert found == [batch.last]


@pytest.mark.parametrize("producers_max", [1, 3])
async def test_more_shards_than_producers_take_turns(target: Target, producers_max: int) -> None:
    changes = Changes(shards=5)
    changes.put_many(100, items=20)
    async with target.opened(changes, producers_max=producers_max) as sink, anyio.create_task_group() as tasks:
        for shard_id in {record.shard.shard_id for record in changes.records}:
            own = [record for record in changes.records if record.shard.shard_id == shard_id]

            async def write(batches: list[Any]) -> None:
                for batch in batches:
                    await sink.write(batch)

            tasks.start_soon(write, changes.batches(own, size=5))
    assert sorted(await target.event_ids()) == sorted(changes.by_event_id)


async def test_a_record_that_is_refused_stops_its_batch_until_it_is_settled(target: Target) -> None:
    changes = Changes()
    before = changes.put_many(2, name="before")
    large = changes.put("large", blob={"S": "x" * 5_000})
    behind = changes.put_many(2, name="behind")
    shard = large.shard
    async with target.opened(changes, record_bytes_max=4_000) as sink:
        with pytest.raises(RecordsFailedError) as told:
            await sink.write(changes.batch(*changes.records))
        assert {each.record: each.kind for each in told.value.failures} == {
            large: "refused",
            behind[0]: "waiting",
            behind[1]: "waiting",
        }
        assert await sink.transactional.fence(shard, 1) == before[-1].position
        await sink.transactional.advance(shard, 1, large.position)
        await sink.write(changes.batch(*behind))
        assert await sink.transactional.fence(shard, 1) == behind[-1].position
    assert sorted(await target.event_ids()) == sorted(record.event_id for record in [*before, *behind])


async def test_of_a_transaction_that_is_too_large_exactly_the_large_record_is_refused(tmp_path: Path) -> None:
    changes = Changes()
    records = changes.put_many(20)
    large = changes.put("large", blob={"S": "x" * 30_000})
    changes.put_many(3, name="behind")
    with fake_broker(tmp_path, "orders", "checkpoints", bytes_max=20_000) as broker:
        target = Target(broker, "orders", "checkpoints")
        async with target.opened(changes) as sink:
            with pytest.raises(RecordsFailedError) as told:
                await sink.write(changes.batch(*changes.records))
            assert [each.record for each in told.value.failures if each.kind == "refused"] == [large]
            assert await sink.transactional.fence(large.shard, 1) == records[-1].position
        assert sorted(await target.event_ids()) == sorted(record.event_id for record in records)


async def test_a_transaction_that_takes_too_long_is_given_up_and_written_once(target: Target) -> None:
    changes = Changes()
    async with target.opened(changes, delivery_timeout_s=1) as sink:
        await sink.write(changes.batch(changes.put("first")))
        target.broker.freeze()
        second = changes.batch(changes.put("second"))
        with pytest.raises(TimeoutError, match="given up"):
            await sink.write(second)
        target.broker.thaw()
        await sink.write(second)
    assert sorted(await target.event_ids()) == sorted(changes.by_event_id)


async def test_a_missing_topic_of_checkpoints_is_told_with_the_command_that_makes_it(
    broker: FakeBroker, topic: str
) -> None:
    with pytest.raises(ConfigError, match=r"--create --topic nowhere --config cleanup\.policy=compact"):
        async with Target(broker, topic, "nowhere").opened(Changes()):
            pass
