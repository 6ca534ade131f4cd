"""The contracts of stores over a real Valkey: two clients, each with connections of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamflow.plugins import open_store
from streamflow.testing.store_contract import DeadLetterStoreContract, LeaseStoreContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from servers.valkey import ValkeyServer
    from streamflow.protocols import StateStore


class OverValkey:
    @pytest.fixture
    async def store(self, valkey_server: ValkeyServer, name: str) -> AsyncIterator[StateStore]:
        async with open_store(f"{valkey_server.url()}?prefix={name}") as store:
            yield store

    @pytest.fixture
    async def rival(self, store: StateStore, valkey_server: ValkeyServer, name: str) -> AsyncIterator[StateStore]:
        async with open_store(f"{valkey_server.url()}?prefix={name}") as rival:
            yield rival


class TestRedisLeases(OverValkey, LeaseStoreContract):
    pass


class TestRedisLetters(OverValkey, DeadLetterStoreContract):
    pass
