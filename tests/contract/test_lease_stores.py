"""Our stores keep the contract, and two SQLite stores on one file are one store."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.errors import ConfigError
from streamflow.plugins import open_store
from streamflow.stores.memory import MemoryStore
from streamflow.stores.sqlite import SqliteStore, open_sqlite_store
from streamflow.testing.store_contract.leases import LEASE, LeaseStoreContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


class TestMemoryStore(LeaseStoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def rival(self, store: MemoryStore) -> MemoryStore:
        return store


class TestSqliteStore(LeaseStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        async with open_sqlite_store(tmp_path / "leases.db") as store:
            yield store

    @pytest.fixture
    async def rival(self, store: SqliteStore, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        async with open_sqlite_store(tmp_path / "leases.db") as rival:
            yield rival


def test_stores_in_two_threads_lose_no_update_of_each_other(tmp_path: Path) -> None:
    file = tmp_path / "leases.db"
    increments = 30

    async def count_up() -> None:
        async with open_sqlite_store(file) as store:
            done = 0
            while done < increments:
                row = await store.get(LEASE.key) or await store.create(LEASE) or await store.get(LEASE.key)
                assert row is not None
                changed = replace(row, epoch=row.epoch + 1)
                done += await store.update(changed, expected_version=row.version) is not None

    async def total() -> int:
        async with open_sqlite_store(file) as store:
            row = await store.get(LEASE.key)
            assert row is not None
            return row.epoch

    threads = [threading.Thread(target=anyio.run, args=(count_up,)) for _ in range(3)]  # noqa: TID251 - beside the test
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert anyio.run(total) == increments * len(threads)


@pytest.mark.parametrize(("url", "kind"), [("memory:", MemoryStore), ("sqlite:///leases.db", SqliteStore)])
async def test_a_url_opens_its_store(
    url: str, kind: type[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store(url) as store:
        assert isinstance(store, kind)
        assert await store.create(LEASE) is not None
    assert (tmp_path / "leases.db").exists() == (kind is SqliteStore)


async def test_four_slashes_name_an_absolute_path(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/leases.db") as store:
        assert await store.create(LEASE) is not None
    assert (tmp_path / "leases.db").exists()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "installed: dynamodb, memory"),
        ("nowhere://user:geheim@db", "installed: dynamodb, memory"),
        ("sqlit:///leases.db", "did you mean sqlite?"),
        ("sqlite:///", "write sqlite:///PATH"),
        ("sqlite:leases.db", "write sqlite:///PATH"),
        ("memory", "has the URL memory:"),
        ("memory:leases", "has the URL memory:"),
    ],
)
async def test_a_url_of_no_store_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        async with open_store(url):
            pass
    assert reason in str(raised.value)
    assert "geheim" not in str(raised.value)
