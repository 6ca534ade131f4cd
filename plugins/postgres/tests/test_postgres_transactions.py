"""Data and checkpoint in one transaction: whatever crashes, and whoever comes back, the table is the fold of the log.

Each owner of a shard is an opened sink of its own. It begins where its fence says that the shard is, as the engine does.
"""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crashes import crash, hold
from streamflow.sdk import AwsSettings, FencedError, Position, RecordsFailedError, StreamflowError
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Changes
from streamflow.testing.sink_contract.opened import open_sink
from streamflow_postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from servers.postgres import PostgresServer
    from streamflow.protocols import TransactionalWriter
    from streamflow.records import Record
    from streamflow.testing.proxies import FaultProxy

pytestmark = pytest.mark.anyio

_STEPS_MAX = 60
_TOGETHER = 3


class World:
    """One shard, its log, and the owners that it had; the newest is the last of `owners`."""

    def __init__(self, server: PostgresServer, proxy: FaultProxy, table: str, mode: str, stack: AsyncExitStack) -> None:
        self.changes = Changes()
        self.table = table
        self._declared = postgres(
            dsn=server.dsn(port=proxy.port), table=table, mode=mode, transactional=True, create_table=True
        )
        self._mode = mode
        self._proxy = proxy
        self._stack = stack
        self._server = server
        self.owners: list[Owner] = []

    def log(self, count: int) -> list[Record]:
        """More changes: of three items, some of them deletes."""
        for number in range(count):
            name = f"item{number % 3}"
            if number % 5 == 4:
                self.changes.delete(name)
            self.changes.put(name)
        return self.changes.records

    async def take_over(self) -> Owner:
        """A new owner, with the next epoch. May be called while the one before is at work."""
        opened = await self._stack.enter_async_context(
            open_sink(self._declared, pipeline=self.changes.pipeline, aws=AwsSettings())
        )
        owner = Owner(self, opened.transactional, epoch=len(self.owners) + 1)
        self.owners.append(owner)
        await owner.begin()
        return owner

    async def finish(self) -> None:
        """A last owner writes what is left, without any fault."""
        self._proxy.pass_through()
        owner = await self.take_over()
        while owner.rest():
            await owner.write()

    async def check(self) -> None:
        """The table is the fold of the log, and the checkpoint is behind its last record."""
        connection = await asyncpg.connect(self._server.dsn())
        try:
            rows = await connection.fetch(
                f"SELECT key->>'id' AS id, image->>'version' AS version, _sf_event_id FROM {self.table}"
            )
            shard = self.changes.records[0].shard
            stored = await connection.fetchrow(
                "SELECT seq::text, epoch FROM streamflow_checkpoint WHERE pipeline = $1 AND shard = $2",
                self.changes.pipeline,
                shard.shard_id,
            )
        finally:
            await connection.close()
        records = self.changes.records
        if self._mode == "upsert":
            records = list({record.item_key: record for record in records}.values())
        assert sorted(row["_sf_event_id"] for row in rows) == sorted(record.event_id for record in records)
        expected = {record.event_id: (record.json_image("new") or {}).get("version") for record in records}
        assert {row["_sf_event_id"]: row["version"] and int(row["version"]) for row in rows} == expected
        assert stored["seq"] == self.changes.records[-1].sequence_number
        assert stored["epoch"] == len(self.owners)


class Owner:
    """What the engine does for one epoch: it writes from where the target says that the shard is."""

    def __init__(self, world: World, writer: TransactionalWriter, *, epoch: int) -> None:
        self._world = world
        self._writer = writer
        self._epoch = epoch
        self._position: Position | None = None

    async def begin(self) -> None:
        self._position = await self._writer.fence(self._world.changes.records[0].shard, self._epoch)

    def rest(self) -> Sequence[Record]:
        number = int(self._position.sequence_number) if self._position else 0
        return [record for record in self._world.changes.records if int(record.sequence_number) > number]

    async def write(self) -> None:
        """The next records; they count as written only when this returns."""
        batch = self._world.changes.batch(*self.rest()[:_TOGETHER], epoch=self._epoch)
        await self._writer.write(batch)
        self._position = batch.last

    async def advance(self) -> None:
        """Over everything."""
        newest = self._world.changes.records[-1]
        await self._writer.advance(newest.shard, self._epoch, newest.position)


@pytest.fixture(params=["upsert", "append"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("late", [False, True], ids=["waiting", "answered"])
async def test_a_crash_at_any_await_loses_and_repeats_nothing(
    postgres_server: PostgresServer, table: str, mode: str, late: bool
) -> None:
    async with (
        AsyncExitStack() as stack,
        open_fault_proxy("127.0.0.1", postgres_server.port) as proxy,
    ):
        world = World(postgres_server, proxy, table, mode, stack)
        for step in range(_STEPS_MAX):
            world.log(_TOGETHER)
            owner = await world.take_over()
            while len(owner.rest()) > _TOGETHER:
                await owner.write()
            if not await crash(owner.write(), at=step, late=late):
                break
        else:
            raise AssertionError("a write has more awaits than were tried")
        assert step >= 4, "BEGIN, checkpoint, rows and COMMIT are awaited"
        await world.finish()
        await world.check()


async def test_a_zombie_that_stands_at_any_await_is_waited_for_or_fenced(
    postgres_server: PostgresServer, connection: Any, table: str, mode: str
) -> None:
    outcomes = set()
    async with (
        AsyncExitStack() as stack,
        open_fault_proxy("127.0.0.1", postgres_server.port) as proxy,
    ):
        world = World(postgres_server, proxy, table, mode, stack)
        for step in range(_STEPS_MAX):
            world.log(_TOGETHER)
            zombie = await world.take_over()
            while len(zombie.rest()) > _TOGETHER:
                await zombie.write()
            reached, release = anyio.Event(), anyio.Event()
            outcome: list[str] = []

            async def write_late(
                zombie: Owner = zombie,
                step: int = step,
                reached: anyio.Event = reached,
                release: anyio.Event = release,
                outcome: list[str] = outcome,
            ) -> None:
                try:
                    await hold(zombie.write(), at=step, reached=reached, release=release)
                except FencedError:
                    outcome.append("fenced")
                else:
                    outcome.append("committed")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write_late)
                await reached.wait()
                if outcome:
                    break
                taken = anyio.Event()

                async def take_over(taken: anyio.Event = taken) -> None:
                    await world.take_over()
                    taken.set()

                tasks.start_soon(take_over)
                await _until_fenced_or_waiting(connection, world.changes.pipeline, taken)
                release.set()
            outcomes.update(outcome)
            owner = world.owners[-1]
            while owner.rest():
                await owner.write()
        await world.finish()
        await world.check()
    assert outcomes == {"fenced", "committed"}


async def _until_fenced_or_waiting(connection: Any, pipeline: str, taken: anyio.Event) -> None:
    """Until the new owner has the shard, or its fence waits for the zombie's transaction."""
    with anyio.fail_after(20):
        while not taken.is_set():
            waiting = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'",
                f"streamflow/{pipeline}"[:63],
            )
            if waiting:
                return
            await anyio.lowlevel.checkpoint()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 0)),
        st.tuples(st.sampled_from(["crash", "crash late"]), st.integers(0, 8)),
        st.tuples(st.just("lose an answer"), st.integers(0, 6)),
        st.tuples(st.just("zombie writes"), st.integers(0, 5)),
        st.tuples(st.just("zombie advances"), st.integers(0, 5)),
        st.tuples(st.just("log"), st.integers(1, 6)),
    ),
    min_size=3,
    max_size=12,
)


@given(steps=STEPS, mode=st.sampled_from(["upsert", "append"]))
@settings(max_examples=25, deadline=None)
def test_whatever_happens_the_table_is_the_fold_of_the_log(
    postgres_server: PostgresServer, steps: list[tuple[str, int]], mode: str
) -> None:
    anyio.run(_live, postgres_server, steps, mode)


async def _live(server: PostgresServer, steps: list[tuple[str, int]], mode: str) -> None:
    table = f"random_{secrets.token_hex(8)}"
    async with AsyncExitStack() as stack, open_fault_proxy("127.0.0.1", server.port) as proxy:
        world = World(server, proxy, table, mode, stack)
        world.log(8)
        owner = await world.take_over()
        for what, argument in steps:
            proxy.pass_through()
            older = world.owners[:-1]
            if what == "log":
                world.log(argument)
            elif what.startswith("zombie"):
                if older:
                    await _is_fenced(older[argument % len(older)], what)
            elif not owner.rest():
                continue
            elif what == "write":
                await owner.write()
            else:
                if what.startswith("crash"):
                    gone = await crash(owner.write(), at=argument, late=what == "crash late")
                else:
                    proxy.lose_answers(1, after=argument)
                    gone = not await _succeeds(owner)
                    proxy.pass_through()
                if gone:
                    owner = await world.take_over()
        await world.finish()
        await world.check()


async def _succeeds(owner: Owner) -> bool:
    """Whether the write returned; where it did not, it may have happened all the same."""
    try:
        await owner.write()
    except FencedError:
        raise
    except StreamflowError:
        return False
    return True


async def _is_fenced(zombie: Owner, what: str) -> None:
    act = zombie.write if what == "zombie writes" and zombie.rest() else zombie.advance
    with pytest.raises(FencedError):
        await act()


async def test_the_records_before_a_poison_record_are_committed_with_their_checkpoint(
    postgres_server: PostgresServer, connection: Any, table: str, mode: str
) -> None:
    primary = {"upsert": "key", "append": "_sf_event_id"}[mode]
    await connection.execute(
        f"CREATE TABLE {table} (key jsonb, image jsonb, _sf_seq numeric(130), _sf_shard text, _sf_event_id text, "
        f"_sf_deleted boolean, total integer, PRIMARY KEY ({primary}))"
    )
    changes = Changes()
    good = [changes.put(f"before{number % 4}", total={"N": str(number)}) for number in range(11)]
    poison = changes.put("bad", total={"S": "many"})
    behind = [changes.put(f"behind{number}", total={"N": "1"}) for number in range(4)]
    declared = postgres(
        dsn=postgres_server.dsn(),
        table=table,
        mode=mode,
        transactional=True,
        create_table=True,
        columns={"total": "total"},
    )
    async with open_sink(declared, pipeline=changes.pipeline, aws=AwsSettings()) as opened:
        with pytest.raises(RecordsFailedError) as caught:
            await opened.write(changes.batch(*good, poison, *behind))
        kinds = [(failure.record.event_id, failure.kind) for failure in caught.value.failures]
        assert kinds == [(poison.event_id, "refused"), *((record.event_id, "waiting") for record in behind)]
        assert "many" not in str(caught.value)
        assert await opened.transactional.fence(poison.shard, 1) == good[-1].position
        found = await connection.fetch(f"SELECT _sf_event_id FROM {table}")
        assert good[-1].event_id in {row[0] for row in found}
        assert not {record.event_id for record in (poison, *behind)} & {row[0] for row in found}
        # The engine has put the poison record away, and settles it.
        await opened.transactional.advance(poison.shard, 1, poison.position)
        await opened.write(changes.batch(*behind))
        assert await opened.transactional.fence(poison.shard, 1) == behind[-1].position


async def test_a_poison_record_at_the_beginning_moves_nothing(
    postgres_server: PostgresServer, table: str, mode: str
) -> None:
    changes = Changes()
    poison, behind = changes.put("bad", text={"S": "\x00"}), changes.put("behind")
    declared = postgres(dsn=postgres_server.dsn(), table=table, mode=mode, transactional=True, create_table=True)
    async with open_sink(declared, pipeline=changes.pipeline, aws=AwsSettings()) as opened:
        with pytest.raises(RecordsFailedError) as caught:
            await opened.write(changes.batch(poison, behind))
        assert [failure.kind for failure in caught.value.failures] == ["refused", "waiting"]
        assert await opened.transactional.fence(poison.shard, 1) is None


async def test_a_fenced_worker_is_told_the_newest_epoch_and_in_which_row_it_is(
    postgres_server: PostgresServer, connection: Any, table: str
) -> None:
    changes = Changes()
    record = changes.put("one")
    declared = postgres(dsn=postgres_server.dsn(), table=table, transactional=True, create_table=True)
    async with open_sink(declared, pipeline=changes.pipeline, aws=AwsSettings()) as opened:
        await opened.transactional.fence(record.shard, 7)
        with pytest.raises(FencedError, match="epoch 7") as caught:
            await opened.transactional.fence(record.shard, 3)
        assert caught.value.epoch == 7
        place = str(caught.value).partition("epoch 7 is in ")[2].partition(", and this worker")[0]
        assert await connection.fetchval(f"SELECT epoch FROM {place}") == 7
        assert await opened.transactional.fence(record.shard, 8) is None
        await connection.execute("DELETE FROM streamflow_checkpoint WHERE pipeline = $1", changes.pipeline)
        with pytest.raises(FencedError, match="deleted"):
            await opened.writer.write(changes.batch(record, epoch=8))


async def test_two_streams_with_a_shard_of_the_same_name_have_a_checkpoint_each(
    postgres_server: PostgresServer, table: str
) -> None:
    """Some servers name the shard of every stream alike."""
    from dataclasses import replace

    changes = Changes()
    shard = changes.put("one").shard
    declared = postgres(dsn=postgres_server.dsn(), table=table, transactional=True, create_table=True)
    async with open_sink(declared, pipeline=changes.pipeline, aws=AwsSettings()) as opened:
        await opened.write(changes.batch(*changes.records))
        assert await opened.transactional.fence(replace(shard, stream_arn="arn:another"), 1) is None


async def test_rows_that_a_reader_of_an_append_table_deleted_do_not_come_back(
    postgres_server: PostgresServer, connection: Any, table: str
) -> None:
    changes = Changes()
    changes.put_many(4)
    declared = postgres(dsn=postgres_server.dsn(), table=table, mode="append", transactional=True, create_table=True)
    async with open_sink(declared, pipeline=changes.pipeline, aws=AwsSettings()) as opened:
        await opened.write(changes.batch(*changes.records[:3]))
        await connection.execute(f"DELETE FROM {table}")
        await opened.write(changes.batch(*changes.records))
        found = await connection.fetch(f"SELECT _sf_event_id FROM {table}")
        assert [row[0] for row in found] == [changes.records[3].event_id]
