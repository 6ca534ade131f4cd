"""What every lease store keeps, whoever wrote it: a test class to inherit from.

It asks for a fixture `store`, empty, and for `rival`: a second connection to the same rows, as another process has it; that
may be the same object where there can be no other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.leases import SUSPECTS, WORKERS, Gap, Lease, LeaseState, WindowState
from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position

if TYPE_CHECKING:
    from streamflow.protocols import LeaseStore

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
LEASE = Lease(pipeline="orders", stream_arn=STREAM_ARN, shard_id="shardId-1")
TAKERS, ROUNDS = 16, 20

POSITIONS = [
    TRIM_HORIZON,
    LATEST,
    SHARD_END,
    Position.at("123456789012345678901"),
    Position.after("9" * 40),
    Position.after("000000000000000000001"),
    Position.at_timestamp(1_764_000_000.123456),
    Position.at_timestamp(0.1 + 0.2),
]
GAPS = tuple(
    Gap(lost_from=Position.after(str(10**20 + number)), found_at_s=1_764_000_000.1 + number, cause="trimmed · “so”")
    for number in range(16)
)
WINDOWS = [
    WindowState(0, 0 + 60, b"{}"),
    WindowState(1_764_000_000, 1_764_000_000 + 60, b'{"total":{"N":"12:50"},"text":"it\'s \\"so\\" \\u0000 \\ud800"}'),
    WindowState(-900, -900 + 60, "{“🗝”: 1,\t\r\n}".encode()),
    WindowState(2**40, 2**40 + 60, b""),
    WindowState(60, 60 + 60, b'{"large":"' + b"x" * 1_000_000 + b'"}'),
]


class LeaseStoreContract:
    pytestmark = pytest.mark.anyio

    streams_max = 2
    """Most streams of one pipeline that the store has at the same time: 1 in a layout that has a table for each."""
    rows_many = 10_000
    """So many rows a listing must hold; fewer where the server is a toy."""
    row_many = LEASE
    """What each of these rows is; a large one where a service counts its pages in bytes."""

    def first_version(self, lease: Lease) -> int:
        """The version of a new row: the next one, but in a layout whose counters begin elsewhere."""
        return lease.version + 1

    # -- rows -----------------------------------------------------------------------------------------------------------

    async def test_an_unknown_row_is_none(self, store: LeaseStore) -> None:
        assert await store.get(LEASE.key) is None
        assert list(await store.list("orders", STREAM_ARN)) == []

    async def test_a_new_row_is_stored_at_the_next_version(self, store: LeaseStore) -> None:
        wanted = replace(LEASE, version=1_764_000_000_000)
        stored = await store.create(wanted)
        assert stored == replace(LEASE, version=self.first_version(wanted))
        assert await store.get(LEASE.key) == stored

    @pytest.mark.parametrize("position", POSITIONS, ids=str)
    async def test_positions_of_all_kinds_come_back_equal(self, store: LeaseStore, position: Position) -> None:
        stored = await store.create(replace(LEASE, checkpoint=position))
        found = await store.get(LEASE.key)
        assert found == stored
        assert found is not None
        assert (found.checkpoint, found.checkpoint.order) == (position, position.order)

    @pytest.mark.parametrize("state", LeaseState)
    async def test_every_field_comes_back_equal(self, store: LeaseStore, state: LeaseState) -> None:
        full = replace(
            LEASE,
            owner="worker-ä/0",
            claimant="worker-ö#2",
            epoch=2**40,
            state=state,
            checkpoint=Position.after("9" * 40),
            parents=("shardId-a", "shardId-b"),
            children=("shardId-c", "shardId-d"),
            gaps=GAPS,
            window=WindowState(1_764_000_000, 1_764_000_000 + 60, b'{"total":1}'),
            duration_s=0.1 + 0.2,
        )
        first = self.first_version(LEASE)
        await store.create(LEASE)
        stored = await store.update(full, expected_version=first)
        assert stored == replace(full, version=first + 1)
        assert await store.get(LEASE.key) == stored
        assert list(await store.list("orders", STREAM_ARN)) == [replace(full, version=first + 1, window=None)]
        emptied = await store.update(LEASE, expected_version=first + 1)
        assert emptied == await store.get(LEASE.key) == replace(LEASE, version=first + 2)

    @pytest.mark.parametrize("window", WINDOWS, ids=range(len(WINDOWS)))
    async def test_the_window_comes_back_exactly(self, store: LeaseStore, window: WindowState) -> None:
        first = self.first_version(LEASE)
        created = await store.create(replace(LEASE, window=window))
        assert created == await store.get(LEASE.key) == replace(LEASE, version=first, window=window)
        assert await store.update(LEASE, expected_version=first) is not None
        closed = await store.get(LEASE.key)
        assert closed is not None
        assert closed.window is None
        opened = await store.update(replace(LEASE, window=window), expected_version=first + 1)
        assert opened == await store.get(LEASE.key) == replace(LEASE, version=first + 2, window=window)
        assert list(await store.list("orders", STREAM_ARN)) == [replace(LEASE, version=first + 2)]

    async def test_thousands_of_rows_are_listed(self, store: LeaseStore) -> None:
        rows = [replace(self.row_many, shard_id=f"shardId-{number:08d}") for number in range(self.rows_many)]
        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(store.create, row)
        listed = await store.list("orders", STREAM_ARN)
        expected = [replace(row, version=self.first_version(row)) for row in rows]
        assert sorted(listed, key=lambda row: row.shard_id) == expected

    async def test_pipelines_and_streams_do_not_see_each_other(self, store: LeaseStore) -> None:
        rows = [
            replace(LEASE, pipeline=pipeline, stream_arn=stream_arn, owner=f"{pipeline} {stream_arn}")
            for pipeline in ("orders", "Orders")
            for stream_arn in (STREAM_ARN, STREAM_ARN + "1")[: self.streams_max]
        ]
        first = self.first_version(LEASE)
        for row in rows:
            assert await store.create(row) is not None
        assert await store.delete(rows[0].key, expected_version=first)
        for row in rows[1:]:
            assert list(await store.list(row.pipeline, row.stream_arn)) == [replace(row, version=first)]
            assert await store.get(row.key) == replace(row, version=first)

    # -- conflicts ------------------------------------------------------------------------------------------------------

    async def test_a_row_is_created_once(self, store: LeaseStore) -> None:
        stored = await store.create(LEASE)
        assert await store.create(replace(LEASE, owner="late")) is None
        assert await store.get(LEASE.key) == stored

    @pytest.mark.parametrize("off_by", [-2, -1, 1])
    async def test_a_write_on_another_version_is_a_conflict_and_changes_nothing(
        self, store: LeaseStore, off_by: int
    ) -> None:
        await store.create(LEASE)
        stored = await store.update(replace(LEASE, owner="first"), expected_version=self.first_version(LEASE))
        assert stored is not None
        version = stored.version + off_by
        assert await store.update(replace(LEASE, owner="second"), expected_version=version) is None
        assert not await store.delete(LEASE.key, expected_version=version)
        assert await store.get(LEASE.key) == stored

    async def test_the_window_is_fenced_with_its_checkpoint(self, store: LeaseStore) -> None:
        first, late = WindowState(60, 60 + 60, b'{"total":1}'), WindowState(60, 60 + 60, b'{"total":2}')
        await store.create(LEASE)
        behind_first = replace(LEASE, checkpoint=Position.after("1" * 21), window=first)
        version = self.first_version(LEASE)
        stored = await store.update(behind_first, expected_version=version)
        assert await store.update(replace(behind_first, window=late), expected_version=version) is None
        assert await store.update(replace(behind_first, window=None), expected_version=version) is None
        assert await store.create(replace(LEASE, window=late)) is None
        found = await store.get(LEASE.key)
        assert found == stored
        assert found is not None
        assert (found.checkpoint, found.window) == (behind_first.checkpoint, first)

    async def test_the_version_of_the_argument_decides_nothing(self, store: LeaseStore) -> None:
        version = self.first_version(LEASE)
        await store.create(LEASE)
        updated = await store.update(replace(LEASE, version=99), expected_version=version)
        assert updated == replace(LEASE, version=version + 1)

    async def test_a_row_that_is_gone_is_a_conflict(self, store: LeaseStore) -> None:
        assert await store.update(LEASE, expected_version=0) is None
        assert not await store.delete(LEASE.key, expected_version=0)
        assert await store.get(LEASE.key) is None

    async def test_a_deleted_row_is_gone_and_can_be_created_anew(self, store: LeaseStore) -> None:
        version = self.first_version(LEASE)
        await store.create(LEASE)
        await store.update(LEASE, expected_version=version)
        assert await store.delete(LEASE.key, expected_version=version + 1)
        assert await store.get(LEASE.key) is None
        assert list(await store.list("orders", STREAM_ARN)) == []
        assert await store.create(LEASE) == replace(LEASE, version=version)

    async def test_whoever_held_a_row_that_was_deleted_and_made_again_meets_a_conflict(self, store: LeaseStore) -> None:
        held = await store.create(replace(LEASE, version=1_000, epoch=1_000, owner="paused"))
        assert held is not None
        assert await store.delete(LEASE.key, expected_version=held.version)
        anew = await store.create(replace(LEASE, version=2_000, epoch=2_000))
        assert await store.update(replace(held, checkpoint=SHARD_END), expected_version=held.version) is None
        # Where counters come back, an update is known by its epoch; a deletion has none.
        if anew is not None and anew.version != held.version:
            assert not await store.delete(LEASE.key, expected_version=held.version)
        assert await store.get(LEASE.key) == anew

    async def test_two_connections_see_each_others_writes(self, store: LeaseStore, rival: LeaseStore) -> None:
        created = await store.create(LEASE)
        assert created is not None
        assert await rival.get(LEASE.key) == created
        assert await rival.create(LEASE) is None
        taken = await rival.update(replace(LEASE, owner="rival"), expected_version=created.version)
        assert taken is not None
        assert await store.get(LEASE.key) == taken
        assert await store.update(replace(LEASE, owner="store"), expected_version=created.version) is None
        assert await store.delete(LEASE.key, expected_version=taken.version)
        assert await rival.get(LEASE.key) is None

    async def test_what_a_stale_look_asks_for_is_a_conflict(self, store: LeaseStore, rival: LeaseStore) -> None:
        await store.create(LEASE)
        (stale,) = await store.list("orders", STREAM_ARN)
        taken = await rival.update(replace(LEASE, owner="rival"), expected_version=stale.version)
        assert await store.update(replace(stale, owner="late", epoch=9), expected_version=stale.version) is None
        assert not await store.delete(stale.key, expected_version=stale.version)
        assert await rival.get(LEASE.key) == taken

    async def test_the_rows_of_workers_are_apart(self, store: LeaseStore) -> None:
        pipeline, stream_arn = WORKERS
        worker = Lease(pipeline=pipeline, stream_arn=stream_arn, shard_id="w#1", owner="w#1", duration_s=10.0)
        stored = await store.create(worker)
        await store.create(LEASE)
        assert list(await store.list(*WORKERS)) == [stored] == [replace(worker, version=1)]

    async def test_the_rows_of_suspects_are_apart(self, store: LeaseStore) -> None:
        pipeline, stream_arn = SUSPECTS
        name = f"orders|{STREAM_ARN}|shardId-1"
        suspect = Lease(
            pipeline=pipeline,
            stream_arn=stream_arn,
            shard_id=name,
            owner="w#1",
            epoch=3,
            checkpoint=Position.after("9" * 40),
            children=("9" * 40, "2"),
        )
        stored = await store.create(suspect)
        await store.create(LEASE)
        assert list(await store.list(*SUSPECTS)) == [stored] == [replace(suspect, version=1)]
        assert stored is not None
        assert list(await store.list(*WORKERS)) == []
        assert await store.delete(suspect.key, expected_version=stored.version)
        assert await store.get(suspect.key) is None

    async def test_of_sixteen_takers_exactly_one_wins_each_round(self, store: LeaseStore, rival: LeaseStore) -> None:
        seen = await store.create(LEASE)
        for _ in range(ROUNDS):
            assert seen is not None
            winners: list[Lease] = []

            async def take(name: str, seen: Lease = seen, winners: list[Lease] = winners) -> None:
                wanted = replace(seen, owner=name, epoch=seen.epoch + 1)
                through = rival if name.endswith(("1", "3", "5", "7", "9")) else store
                if (taken := await through.update(wanted, expected_version=seen.version)) is not None:
                    winners.append(taken)

            async with anyio.create_task_group() as tasks:
                for taker in range(TAKERS):
                    tasks.start_soon(take, f"worker-{taker}")
            seen = await store.get(LEASE.key)
            assert [seen] == winners
        assert seen is not None
        assert (seen.epoch, seen.version) == (ROUNDS, self.first_version(LEASE) + ROUNDS)

    async def test_of_sixteen_creators_exactly_one_wins(self, store: LeaseStore) -> None:
        winners: list[Lease] = []

        async def create(name: str) -> None:
            if (created := await store.create(replace(LEASE, owner=name))) is not None:
                winners.append(created)

        async with anyio.create_task_group() as tasks:
            for taker in range(TAKERS):
                tasks.start_soon(create, f"worker-{taker}")
        assert winners == [await store.get(LEASE.key)]
