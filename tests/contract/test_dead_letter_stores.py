"""Our stores keep the contract for letters, in a file across openings, and across two stores on one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamflow.stores.memory import MemoryStore
from streamflow.stores.sqlite import SqliteStore, open_sqlite_store
from streamflow.testing.store_contract.letters import (
    DEAD,
    PARKED,
    STREAM_ARN,
    DeadLetterStoreContract,
    ids_of,
    key_of,
    letter,
    without_ids,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


class TestMemoryStore(DeadLetterStoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def rival(self, store: MemoryStore) -> MemoryStore:
        return store


class TestSqliteStore(DeadLetterStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        async with open_sqlite_store(tmp_path / "letters.db") as store:
            yield store

    @pytest.fixture
    def rival(self, store: SqliteStore) -> SqliteStore:
        return store


class TestTwoSqliteStoresOnOneFile(TestSqliteStore):
    @pytest.fixture
    async def rival(self, store: SqliteStore, tmp_path: Path) -> AsyncIterator[SqliteStore]:
        async with open_sqlite_store(tmp_path / "letters.db") as rival:
            yield rival


async def test_letters_survive_reopening_the_file(tmp_path: Path) -> None:
    file = tmp_path / "letters.db"
    async with open_sqlite_store(file) as store:
        await store.keep([letter(1), letter(2)])
        await store.park([letter(3, "a"), letter(4, "b")], opening=True)
        dead, parked = await store.letters(DEAD), await store.letters(PARKED)
        await store.remove("parked", ids_of(parked)[1:])
    async with open_sqlite_store(file) as store:
        assert list(await store.letters(DEAD)) == list(dead)
        assert list(await store.letters(PARKED)) == list(parked)[:1]
        assert await store.parked_keys("orders", STREAM_ARN) == {key_of("a")}
        await store.keep([letter(1, invoke_count=5), letter(5)])
        kept = await store.letters(DEAD)
    assert without_ids(kept) == [letter(1, invoke_count=5), letter(2), letter(5)]
    assert ids_of(kept)[:2] == ids_of(dead)
    assert kept[2].id > parked[1].id  # which had the highest id when it was removed


async def test_two_stores_on_one_file_share_their_letters(tmp_path: Path) -> None:
    file = tmp_path / "letters.db"
    async with open_sqlite_store(file) as one, open_sqlite_store(file) as other:
        await one.park([letter(1)], opening=True)
        assert await other.park([letter(2), letter(3, "b")]) == {key_of("a")}
        parked = await one.letters(PARKED)
        assert without_ids(parked) == [letter(1), letter(2)]
        assert await other.remove("parked", ids_of(parked)) == 2
        assert await one.park([letter(4)]) == frozenset()
