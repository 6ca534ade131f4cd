"""What breaks between a store and its server: nothing is told that is not so, nothing hangs, and it mends by itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from crashes import crash
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, key_of, letter, without_ids
from streamflow_postgres import store as store_module
from streamflow_postgres.store import PostgresStore, open_postgres_store
from streamflow_postgres.store_letters import stream_lock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from servers.postgres import PostgresServer
    from streamflow.testing.proxies import FaultProxy

pytestmark = pytest.mark.anyio

_IMPATIENT_S = 0.5
_AWAITS_MAX = 60
_LOCKED = "wait_event_type = 'Lock'"
_COLUMNS = (
    "drawer, pipeline, stream_arn, shard_id, sequence_number, item_key, item_digest, record, reason, error_type, error_text, "
    "invoke_count, kept_at_s"
)


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[FaultProxy]:
    async with open_fault_proxy("127.0.0.1", postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: FaultProxy, postgres_server: PostgresServer, schema: str) -> AsyncIterator[PostgresStore]:
    """With a connection that is open already."""
    async with open_postgres_store(f"{postgres_server.dsn(port=proxy.port)}&schema={schema}") as store:
        yield store


@pytest.fixture
async def truth(store: PostgresStore, store_url: str) -> AsyncIterator[PostgresStore]:
    """The same tables, past the proxy."""
    async with open_postgres_store(store_url) as truth:
        yield truth


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """To be named before `store`."""
    monkeypatch.setattr(store_module, "LEASE_TIMEOUT_S", _IMPATIENT_S)
    monkeypatch.setattr(store_module, "LETTER_TIMEOUT_S", _IMPATIENT_S)


async def _failure(call: Awaitable[object]) -> StoreError:
    with anyio.fail_after(20), pytest.raises(StoreError) as caught:
        await call
    return caught.value


async def _wait_for(connection: Any, count: int, condition: str) -> None:
    """Until there are so many sessions."""
    statement = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'streamflow' AND {condition}"
    with anyio.fail_after(20):
        while await connection.fetchval(statement) != count:
            await anyio.sleep(0.01)
            await connection.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees the same for its length


# --- answers that are lost -------------------------------------------------------------------------------------------


async def test_a_lost_answer_to_a_write_is_an_unknown_outcome_and_the_row_says_that_it_happened(
    store: PostgresStore, truth: PostgresStore, proxy: FaultProxy
) -> None:
    # Two answers to each: what the statement takes, and what came of it.
    proxy.lose_answers(1, after=1)
    assert type(await _failure(store.create(LEASE))) is UnknownOutcomeError
    assert await store.get(LEASE.key) == await truth.get(LEASE.key) == replace(LEASE, version=1)
    proxy.lose_answers(1, after=1)
    changed = replace(LEASE, owner="w")
    assert type(await _failure(store.update(changed, expected_version=1))) is UnknownOutcomeError
    assert await store.get(LEASE.key) == replace(changed, version=2)
    proxy.lose_answers(1, after=1)
    assert type(await _failure(store.delete(LEASE.key, expected_version=2))) is UnknownOutcomeError
    assert await store.get(LEASE.key) is None


async def test_a_lost_answer_to_a_look_is_a_plain_failure(store: PostgresStore, proxy: FaultProxy) -> None:
    looks: list[Callable[[], Awaitable[object]]] = [
        lambda: store.get(LEASE.key),
        lambda: store.list("orders", STREAM_ARN),
        lambda: store.letters(DEAD),
        lambda: store.count(DEAD),
        lambda: store.parked_keys("orders", STREAM_ARN),
    ]
    for look in looks:
        await look()
        proxy.lose_answers(1, after=1)
        assert type(await _failure(look())) is StoreError
        proxy.pass_through()


@pytest.mark.fault("F30")
async def test_wherever_a_write_is_cut_the_row_tells_what_became_of_it(
    store: PostgresStore, truth: PostgresStore, proxy: FaultProxy
) -> None:
    row = await store.create(LEASE)
    assert row is not None
    happened: set[bool] = set()
    for bytes_up in range(10, 1_200, 70):
        await store.get(LEASE.key)  # over a connection that is there
        proxy.cut_after(bytes_up)
        wanted = replace(row, owner=f"cut{bytes_up}")
        try:
            answer = await store.update(wanted, expected_version=row.version)
        except UnknownOutcomeError:
            answer = None
        proxy.pass_through()
        found = await store.get(LEASE.key)
        assert found == await truth.get(LEASE.key)
        assert found in (row, replace(wanted, version=row.version + 1))
        assert answer in (None, found)
        happened.add(found != row)
        row = found
    assert happened == {True, False}


async def test_what_was_not_sent_did_not_happen(store: PostgresStore, truth: PostgresStore, proxy: FaultProxy) -> None:
    await store.create(LEASE)
    proxy.refuse()
    calls: list[Awaitable[object]] = [
        store.update(LEASE, expected_version=1),
        store.delete(LEASE.key, expected_version=1),
        store.keep([letter(1)]),
        store.park([letter(1)], opening=True),
        store.get(LEASE.key),
    ]
    # The connection that was there may be cut before or while the first of them is sent.
    with pytest.raises(StoreError):
        await store.get(LEASE.key)
    for call in calls:
        failure = await _failure(call)
        assert type(failure) is StoreError
        assert "lease store postgresql://127.0.0.1:" in str(failure)
        assert "the connection failed" in str(failure)
    assert await truth.get(LEASE.key) == replace(LEASE, version=1)
    assert await truth.count(DEAD) == await truth.count(PARKED) == 0


async def test_letters_whose_answer_was_lost_may_be_given_again(store: PostgresStore, proxy: FaultProxy) -> None:
    letters = [letter(number, key) for number, key in enumerate("aba")]
    for after in range(4):  # BEGIN, what the statement takes, what came of it, COMMIT
        proxy.lose_answers(1, after=after)
        failure = await _failure(store.park(letters, opening=True))
        assert isinstance(failure, UnknownOutcomeError) == (after == 3), after
        assert await store.count(PARKED) == (3 if after == 3 else 0)
    assert await store.park(letters, opening=True) == {key_of("a"), key_of("b")}
    assert without_ids(await store.letters(PARKED)) == letters
    proxy.lose_answers(1, after=1)
    assert type(await _failure(store.keep(letters))) is UnknownOutcomeError
    await store.keep(letters)
    assert without_ids(await store.letters(DEAD)) == letters


# --- outages ---------------------------------------------------------------------------------------------------------


async def test_it_works_again_after_the_server_was_killed(
    postgres_server: PostgresServer, store: PostgresStore, proxy: FaultProxy
) -> None:
    made = await store.create(LEASE)
    await store.park([letter(1)], opening=True)
    postgres_server.kill()
    try:
        for call in (store.get(LEASE.key), store.update(LEASE, expected_version=1), store.count(DEAD)):
            await _failure(call)
    finally:
        postgres_server.start()
    assert await store.get(LEASE.key) == made
    assert await store.park([letter(2)]) == {key_of("a")}
    assert await store.update(LEASE, expected_version=1) is not None
    assert proxy.connections > 1


async def test_it_works_again_after_the_server_was_stopped_in_an_orderly_way(
    postgres_server: PostgresServer, store: PostgresStore
) -> None:
    made = await store.create(LEASE)
    postgres_server.stop()
    try:
        await _failure(store.get(LEASE.key))
    finally:
        postgres_server.start()
    assert await store.get(LEASE.key) == made


@pytest.mark.fault("F38")
async def test_a_server_that_says_nothing_is_given_up_in_time_by_everybody(
    impatient: None,
    store: PostgresStore,
    truth: PostgresStore,
    proxy: FaultProxy,
) -> None:
    await store.create(LEASE)
    failures: list[StoreError] = []
    proxy.delay(math.inf)

    async def update() -> None:
        failures.append(await _failure(store.update(LEASE, expected_version=1)))

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(update)
    told = {str(failure).partition(": ")[2] for failure in failures}
    assert "no answer within 0.5 s" in told
    assert any(text.startswith("all connections were waiting for answers for 0.5 s") for text in told)
    assert {type(failure) for failure in failures} == {StoreError, UnknownOutcomeError}
    proxy.pass_through()
    with anyio.fail_after(20):
        found = await store.get(LEASE.key)
    assert found == await truth.get(LEASE.key)


async def test_a_session_that_is_ended_from_outside_costs_a_write_its_certainty_at_most(
    store: PostgresStore, connection: Any
) -> None:
    await store.create(LEASE)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'streamflow'"
    )
    failures = 0
    while True:
        try:
            assert await store.get(LEASE.key) == replace(LEASE, version=1)
        except StoreError:
            failures += 1
            assert failures <= 4  # as many as there are connections
        else:
            break


# --- others who lock -------------------------------------------------------------------------------------------------


async def test_a_row_that_is_locked_is_given_up_and_its_session_does_not_stay(
    impatient: None,
    store: PostgresStore,
    truth: PostgresStore,
    connection: Any,
    schema: str,
) -> None:
    await store.create(LEASE)
    async with connection.transaction():
        await connection.execute(f"SELECT FROM {schema}.streamflow_leases FOR UPDATE")
        failure = await _failure(store.update(LEASE, expected_version=1))
        assert type(failure) is UnknownOutcomeError
        await _wait_for(connection, 0, _LOCKED)
    assert await truth.get(LEASE.key) == replace(LEASE, version=1)
    assert await store.update(LEASE, expected_version=1) is not None


async def test_letters_that_wait_keep_no_lease_waiting(
    store: PostgresStore, truth: PostgresStore, connection: Any, schema: str
) -> None:
    async with anyio.create_task_group() as tasks, connection.transaction():
        await connection.execute(f"LOCK TABLE {schema}.streamflow_letters")
        for number in range(20):
            tasks.start_soon(store.keep, [letter(number)])
        await _wait_for(connection, 2, _LOCKED)
        for version in range(10):
            made = await store.update(LEASE, expected_version=version) if version else await store.create(LEASE)
            assert made is not None
        assert await truth.get(LEASE.key) == replace(LEASE, version=10)
    assert await store.count(DEAD) == 20


async def test_a_removal_waits_for_whoever_parks_behind_its_letter(
    store: PostgresStore, truth: PostgresStore, connection: Any, schema: str
) -> None:
    """Whoever parks is held up behind its look, by a letter of its own that somebody else is about to write."""
    await store.park([letter(1)], opening=True)
    (opener,) = await store.letters(PARKED)
    ended: list[str] = []

    async def follow() -> None:
        assert await store.park([letter(2)]) == {key_of("a")}
        ended.append("parked")

    async def heal() -> None:
        assert await truth.remove("parked", [opener.id]) == 1
        ended.append("removed")

    async with anyio.create_task_group() as tasks:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            f"INSERT INTO {schema}.streamflow_letters ({_COLUMNS}) "
            f"SELECT {_COLUMNS.replace('sequence_number', '$1')} FROM {schema}.streamflow_letters",
            letter(2).sequence_number,
        )
        tasks.start_soon(follow)
        await _wait_for(connection, 1, _LOCKED)
        tasks.start_soon(heal)
        await _wait_for(connection, 2, _LOCKED)
        assert ended == []
        await transaction.rollback()
    assert sorted(ended) == ["parked", "removed"]
    assert without_ids(await store.letters(PARKED)) == [letter(2)]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_whoever_parks_sees_what_was_parked_while_it_waited(
    store_url: str, truth: PostgresStore, connection: Any, schema: str, isolation: str
) -> None:
    """The opener is removed while a follower is on its way, but another letter of the item was parked before."""
    url = f"{store_url}&default_transaction_isolation={isolation.replace(' ', '%20')}"
    async with open_postgres_store(url) as store:
        await _park_while_another_parks(store, truth, connection, schema)


async def _park_while_another_parks(store: PostgresStore, truth: PostgresStore, connection: Any, schema: str) -> None:
    await store.park([letter(1)], opening=True)
    (opener,) = await store.letters(PARKED)
    answers: list[frozenset[str]] = []

    async def follow() -> None:
        answers.append(await store.park([letter(3)]))

    # As somebody who parks: the lock of the stream, a letter, and the commit after the follower has begun.
    lock = stream_lock(f'"{schema}"', "orders", STREAM_ARN)
    async with anyio.create_task_group() as tasks:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"SELECT pg_advisory_xact_lock({lock})")
        tasks.start_soon(follow)
        await _wait_for(connection, 1, _LOCKED)
        # Under another id: the letter that was there when the follower began is gone.
        await connection.execute(
            f"UPDATE {schema}.streamflow_letters SET id = DEFAULT, sequence_number = $1", letter(2).sequence_number
        )
        await transaction.commit()
    assert answers == [{key_of("a")}]
    assert await truth.remove("parked", [opener.id]) == 0
    found = [one.sequence_number for one in await store.letters(PARKED)]
    assert found == [letter(2).sequence_number, letter(3).sequence_number]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_whatever_isolation_the_role_prefers_exactly_one_taker_wins(store_url: str, isolation: str) -> None:
    url = f"{store_url}&default_transaction_isolation={isolation.replace(' ', '%20')}"
    async with open_postgres_store(url) as one, open_postgres_store(url) as other:
        row = await one.create(LEASE)
        for _ in range(10):
            assert row is not None
            wins: list[bool] = []

            async def take(through: PostgresStore, wins: list[bool] = wins, version: int = row.version) -> None:
                try:
                    wins.append(await through.update(LEASE, expected_version=version) is not None)
                except StoreError as error:
                    if isinstance(error, UnknownOutcomeError) or "try again" not in str(error):
                        raise
                    wins.append(False)

            async with anyio.create_task_group() as tasks:
                for through in (one, other) * 4:
                    tasks.start_soon(take, through)
            assert sum(wins) == 1
            row = await one.get(LEASE.key)
        assert await one.park([letter(1)], opening=True) == await other.park([letter(2)]) == {key_of("a")}


@pytest.mark.fault("F49")
async def test_tables_that_were_dropped_are_told_and_nothing_is_made_in_silence(
    store: PostgresStore, connection: Any, schema: str
) -> None:
    await connection.execute(f"DROP TABLE {schema}.streamflow_leases, {schema}.streamflow_letters")
    for call in (store.get(LEASE.key), store.create(LEASE), store.keep([letter(1)]), store.park([letter(1)])):
        failure = await _failure(call)
        assert type(failure) is StoreError
        assert "the tables of the store are gone: restore them" in str(failure)


async def test_a_number_that_has_no_room_is_refused_and_the_store_goes_on(store: PostgresStore) -> None:
    failure = await _failure(store.create(replace(LEASE, epoch=2**63)))
    assert type(failure) is StoreError
    assert "no room" in str(failure)
    assert await store.create(LEASE) is not None


# --- callers that go away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
async def test_whoever_is_cancelled_in_the_middle_leaves_no_lock_and_no_half_behind(
    store: PostgresStore, truth: PostgresStore, connection: Any, late: bool
) -> None:
    await store.park([letter(1)], opening=True)
    for at in range(_AWAITS_MAX):
        await store.keep([])
        letters = [letter(100 + at), letter(200 + at)]
        if not await crash(store.park(letters), at=at, late=late):
            break
        with anyio.fail_after(20):
            assert await truth.park([letter(300 + at)]) == {key_of("a")}
            found = {one.sequence_number for one in await truth.letters(PARKED)}
        assert len(found & {one.sequence_number for one in letters}) in (0, 2)
    else:
        raise AssertionError("it never ended")
    assert at > 3
    await _wait_for(connection, 0, "state LIKE 'idle in transaction%'")


async def test_a_write_whose_caller_is_cancelled_leaves_the_store_usable(
    store: PostgresStore, truth: PostgresStore
) -> None:
    row = await store.create(LEASE)
    for at in range(_AWAITS_MAX):
        assert row is not None
        wanted = replace(row, owner=f"w{at}")
        reached = await crash(store.update(wanted, expected_version=row.version), at=at)
        found = await store.get(LEASE.key)
        assert found == await truth.get(LEASE.key)
        assert found in (row, replace(wanted, version=row.version + 1))
        row = found
        if not reached:
            break
    else:
        raise AssertionError("it never ended")
    assert at > 1


async def test_closing_ends_all_connections(store_url: str, connection: Any) -> None:
    async with open_postgres_store(store_url) as store:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(store.create, replace(LEASE, shard_id=f"shardId-{number}"))
                tasks.start_soon(store.keep, [letter(number)])
        await _wait_for(connection, 4, "true")
    await _wait_for(connection, 0, "true")
    with pytest.raises(StoreError):
        await store.get(LEASE.key)
