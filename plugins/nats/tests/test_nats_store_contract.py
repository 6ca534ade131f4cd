"""The contract of stores, over buckets of a real server."""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from typing import TYPE_CHECKING

import pytest

from streamflow.testing.store_contract import DeadLetterStoreContract, LeaseStoreContract
from streamflow_nats.store import open_nats_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from servers.nats import NatsServer
    from streamflow_nats.store import NatsStore

pytestmark = pytest.mark.integration


@pytest.fixture
def url(running_server: NatsServer) -> str:
    return f"{running_server.url}?bucket=t{secrets.token_hex(4)}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[NatsStore]:
    async with open_nats_store(url) as store:
        yield store


@pytest.fixture
async def rival(url: str) -> AsyncIterator[NatsStore]:
    async with open_nats_store(url) as store:
        yield store


class TestLeases(LeaseStoreContract):
    pass


class TestLetters(DeadLetterStoreContract):
    pass
