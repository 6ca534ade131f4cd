"""The contract of stores, over a real server, and two pools on one schema are one store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamflow.testing.store_contract import DeadLetterStoreContract, LeaseStoreContract
from streamflow_postgres.store import PostgresStore, open_postgres_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.protocols import LeaseStore


class _Postgres:
    @pytest.fixture
    async def store(self, store_url: str) -> AsyncIterator[PostgresStore]:
        async with open_postgres_store(store_url) as store:
            yield store

    @pytest.fixture
    async def rival(self, store: PostgresStore, store_url: str) -> AsyncIterator[PostgresStore]:
        async with open_postgres_store(store_url) as rival:
            yield rival


class TestPostgresLeases(_Postgres, LeaseStoreContract):
    @pytest.mark.timeout(240)
    async def test_thousands_of_rows_are_listed(self, store: LeaseStore) -> None:
        """Each of them a transaction of its own, which is on the disk before the next one has the connection."""
        await super().test_thousands_of_rows_are_listed(store)


class TestPostgresLetters(_Postgres, DeadLetterStoreContract):
    pass
