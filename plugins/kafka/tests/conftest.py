"""What the tests of the Kafka sink use: brokers, topics of their own, and what is in them."""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from typing import TYPE_CHECKING

import pytest

from servers.kafka import fake_broker, mock_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.kafka import FakeBroker, MockCluster


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def running_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeBroker]:
    with fake_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def broker(running_broker: FakeBroker) -> FakeBroker:
    """The fake, up, whatever the test before did to it."""
    if not running_broker.processes:
        running_broker.start()
    running_broker.thaw()
    return running_broker


@pytest.fixture(scope="session")
def mock() -> Iterator[MockCluster]:
    """librdkafka's mock cluster; it makes the topics that it is asked for."""
    with mock_cluster("orders") as cluster:
        yield cluster


@pytest.fixture
def topic(broker: FakeBroker) -> str:
    """A topic of four partitions, of the fake, that no other test uses."""
    return broker.create_topic(f"orders-{secrets.token_hex(4)}")


@pytest.fixture
def checkpoint_topic(broker: FakeBroker) -> str:
    return broker.create_topic(f"checkpoints-{secrets.token_hex(4)}")
