"""The PostgreSQL store: how it is opened, what it makes, and what it says where that cannot be."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st

from streamflow.errors import ConfigError, StoreError
from streamflow.leases import Gap
from streamflow.plugins import open_store
from streamflow.positions import TRIM_HORIZON
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, letter, without_ids
from streamflow_postgres.store import PostgresStore, open_postgres_store
from streamflow_postgres.store_schema import SCHEMA_VERSION
from streamflow_postgres.store_texts import original, stored
from streamflow_postgres.store_url import StoreUrl
from tls_front import open_tls_front
from transaction_pooler import open_transaction_pooler

if TYPE_CHECKING:
    from pathlib import Path

    from servers.postgres import PostgresServer

pytestmark = pytest.mark.anyio

_OPENING = """
import sys
import anyio
from streamflow_postgres.store import open_postgres_store

async def main():
    print("here", flush=True)
    sys.stdin.readline()
    async with open_postgres_store(sys.argv[1]) as store:
        print("made" if await store.list("orders", "a stream") == [] else "found something")

anyio.run(main)
"""
_PRIVILEGES = "SELECT, INSERT, UPDATE, DELETE"


async def _refusal(url: str, kind: type[Exception] = StoreError) -> str:
    with pytest.raises(kind) as caught:
        async with open_postgres_store(url):
            pass
    return str(caught.value)


# --- the URL ---------------------------------------------------------------------------------------------------------


def test_our_settings_are_taken_out_of_the_url_and_the_rest_is_left() -> None:
    url = "postgresql://user:p%40ss%2F@one:5432,two:5433/shop?schema=leases&sslmode=require&pool_size=7&options=a%20b"
    assert StoreUrl.parse(url) == StoreUrl(
        dsn="postgresql://user:p%40ss%2F@one:5432,two:5433/shop?sslmode=require&options=a%20b",
        shown="postgresql://one:5432,two:5433/shop",
        schema="leases",
        pool_size=7,
        hosts=2,
    )
    plain = StoreUrl.parse("postgresql:///shop")
    assert (plain.dsn, plain.schema, plain.pool_size, plain.hosts) == ("postgresql:///shop", None, 4, 1)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://user:geheim@host/shop?schema=a%22b", "no name of a schema"),
        ("postgresql://user:geheim@host/shop?schema=", "no name of a schema"),
        ("postgresql://user:geheim@host/shop?pool_size=1", "no number of connections: 2 to 100"),
        ("postgresql://user:geheim@host/shop?pool_size=many", "no number of connections"),
        ("postgresql://user:geheim@host:port/shop", "cannot be read"),
        ("postgresql://user:geheim@host/shop?sslmode", "cannot be read"),
        ("postgresql://user:geheim@host/shop?sslmode=whatever", "cannot be read"),
        ("postgresql://user:geheim@[::1/shop", "cannot be read"),
        ("postgresql://user:ge@heim@host/shop", "write %40"),
        ("postgresql://user:5432/heim@host/shop", "write %40"),
        ("postgresql://user:ge#heim@host/shop", "write %40"),
        ("postgres://user:geheim@host/shop", "begins with postgresql://"),
    ],
)
async def test_a_url_that_cannot_be_read_is_told_without_its_password(url: str, reason: str) -> None:
    message = await _refusal(url, ConfigError)
    assert reason in message
    assert "heim" not in message


async def test_its_url_opens_it(store_url: str) -> None:
    async with open_store(store_url) as store:
        assert isinstance(store, PostgresStore)
        assert await store.create(LEASE) is not None


# --- texts -----------------------------------------------------------------------------------------------------------

_TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("\\\0\ud800\udfff0u")))


@given(_TEXTS, _TEXTS)
@example("\\0", "\0")
@example("\\ud800", "\ud800")
def test_any_text_can_be_stored_and_no_two_are_the_same(one: str, other: str) -> None:
    assert "\0" not in stored(one)
    stored(one).encode()
    assert original(stored(one)) == one
    assert (stored(one) == stored(other)) == (one == other)


@pytest.mark.parametrize("text", ["\\", "a\\b", "\\u12", "\\\\\\"])
def test_what_was_not_stored_by_us_is_no_text(text: str) -> None:
    with pytest.raises(ValueError, match="backslash"):
        original(text)


async def test_a_lease_holds_any_text(store_url: str) -> None:
    odd = "\0 \ud800 \\ \\0 'ü'"
    full = replace(
        LEASE,
        pipeline=odd,
        stream_arn=odd,
        shard_id=odd,
        owner=odd,
        claimant=odd,
        parents=(odd, ""),
        children=(odd,),
        gaps=(Gap(lost_from=TRIM_HORIZON, found_at_s=0.5, cause=odd),),
    )
    async with open_postgres_store(store_url) as store:
        made = await store.create(full)
        assert made is not None
        assert await store.get(full.key) == made
        assert list(await store.list(odd, odd)) == [made]
        assert await store.delete(full.key, expected_version=made.version)


async def test_keys_of_items_may_be_longer_than_an_index_takes(store_url: str) -> None:
    long_key = random.Random(1).randbytes(3_000).hex()
    kept = letter(1, item_key=long_key)
    async with open_postgres_store(store_url) as store:
        await store.park([kept], opening=True)
        assert await store.park([letter(2, item_key=long_key), letter(3, item_key=long_key[:-1])]) == {long_key}
        assert await store.count(replace(PARKED, item_key=long_key)) == 2
        assert await store.parked_keys("orders", STREAM_ARN) == {long_key}


async def test_a_damaged_row_is_told_and_nothing_of_it_is_guessed(store_url: str, connection: Any, schema: str) -> None:
    async with open_postgres_store(store_url) as store:
        await store.create(LEASE)
        await connection.execute(f"UPDATE {schema}.streamflow_leases SET checkpoint = 'somewhere'")
        with pytest.raises(StoreError, match=r"the row of shardId-1 in pipeline 'orders' is damaged"):
            await store.get(LEASE.key)
        await store.keep([letter(1)])
        await connection.execute(f"UPDATE {schema}.streamflow_letters SET reason = 'C:\\new'")
        with pytest.raises(StoreError, match=r"letter \d+ is damaged: it has a backslash"):
            await store.letters(DEAD)


# --- tables ----------------------------------------------------------------------------------------------------------


async def test_everything_is_there_when_it_is_opened_again(store_url: str) -> None:
    async with open_postgres_store(store_url) as store:
        made = await store.create(replace(LEASE, owner="w"))
        await store.keep([letter(1)])
    async with open_postgres_store(store_url) as store:
        assert await store.get(LEASE.key) == made
        assert without_ids(await store.letters(DEAD)) == [letter(1)]


async def test_without_a_schema_the_search_path_says_where(
    postgres_server: PostgresServer, connection: Any, schema: str
) -> None:
    await connection.execute(f"CREATE SCHEMA {schema}; CREATE SCHEMA {schema}_b")
    url = f"{postgres_server.dsn()}&search_path={schema}"
    async with open_postgres_store(url) as store:
        made = await store.create(LEASE)
    # A store that is found is taken, before one is made at the front.
    async with open_postgres_store(f"{url}_b,{schema}") as store:
        assert await store.get(LEASE.key) == made
    async with open_postgres_store(f"{url}_b") as store:
        assert await store.get(LEASE.key) is None
    message = await _refusal(f"{postgres_server.dsn()}&search_path=nowhere")
    assert "no schema of the search path is there: name one in the URL, ?schema=streamflow" in message


def test_processes_that_make_the_tables_at_once_do_not_disturb_each_other(store_url: str) -> None:
    command = [sys.executable, "-c", _OPENING, store_url]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, ("made\n", ""))


async def test_tables_of_a_newer_version_are_refused_and_stay_as_they_are(
    store_url: str, connection: Any, schema: str
) -> None:
    async with open_postgres_store(store_url) as store:
        made = await store.create(LEASE)
    await connection.execute(f"UPDATE {schema}.streamflow_schema SET version = {SCHEMA_VERSION + 1}")
    assert f"its tables have version {SCHEMA_VERSION + 1}, made by a newer streamflow" in await _refusal(store_url)
    await connection.execute(f"UPDATE {schema}.streamflow_schema SET version = {SCHEMA_VERSION}")
    async with open_postgres_store(store_url) as store:
        assert await store.get(LEASE.key) == made


async def test_tables_of_somebody_else_are_left_alone(store_url: str, connection: Any, schema: str) -> None:
    await connection.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.streamflow_letters (ours text)")
    assert "which is none of a store" in await _refusal(store_url)
    assert await connection.fetchval(f"SELECT to_regclass('{schema}.streamflow_leases')") is None


async def test_rows_that_are_written_again_stay_in_their_pages(store_url: str, connection: Any, schema: str) -> None:
    """So no index hears of it, and vacuum has next to nothing to do."""
    rows, rounds = 300, 3
    async with open_postgres_store(store_url) as store:
        for number in range(rows):
            await store.create(replace(LEASE, shard_id=f"shardId-{number:08d}"))
        for _ in range(rounds):
            for row in await store.list(LEASE.pipeline, LEASE.stream_arn):
                assert await store.update(replace(row, owner="w"), expected_version=row.version) is not None
    # Sessions hand their counts over when they end.
    look = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = $1 AND relname = $2"
    with anyio.fail_after(20):
        while (found := await connection.fetchrow(look, schema, "streamflow_leases"))["n_tup_upd"] < rows * rounds:  # noqa: ASYNC110
            await anyio.sleep(0.05)
    assert found["n_tup_hot_upd"] >= 0.99 * found["n_tup_upd"]


# --- permissions -----------------------------------------------------------------------------------------------------


async def test_a_permission_that_is_missing_is_told_with_what_gives_it(
    postgres_server: PostgresServer, connection: Any, schema: str
) -> None:
    await connection.execute(f"CREATE ROLE {schema} LOGIN PASSWORD 'pass'")
    limited = postgres_server.dsn().replace(f"streamflow:{postgres_server.password}", f"{schema}:pass")
    url = f"{limited}&schema={schema}"

    message = await _refusal(url)
    assert f'GRANT CREATE ON DATABASE "postgres" TO "{schema}"' in message
    await connection.execute(f"CREATE SCHEMA {schema}")
    message = await _refusal(url)
    assert f"permission denied for schema {schema} for the user {schema}" in message
    # Somebody else makes the tables.
    async with open_postgres_store(f"{postgres_server.dsn()}&schema={schema}"):
        pass
    await connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}")
    assert "permission denied for table streamflow_schema" in await _refusal(url)
    await connection.execute(f"GRANT SELECT ON {schema}.streamflow_schema TO {schema}")
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE ON {schema}.streamflow_leases TO {schema}")
    message = await _refusal(url)
    assert f"the user {schema} lacks DELETE on streamflow_leases, SELECT on streamflow_letters" in message
    grants = message.partition("streamflow_letters: ")[2]
    assert f"GRANT {_PRIVILEGES} ON " in grants
    await connection.execute(grants)
    async with open_postgres_store(url) as store:
        made = await store.create(LEASE)
        assert made is not None
        assert await store.update(LEASE, expected_version=made.version) is not None
        assert await store.park([letter(1)], opening=True) == await store.park([letter(1)])
        assert await store.remove("parked", [1]) == 1
        assert await store.delete(LEASE.key, expected_version=made.version + 1)
        await connection.execute(f"REVOKE UPDATE ON {schema}.streamflow_leases FROM {schema}")
        await store.create(LEASE)
        with pytest.raises(StoreError, match="GRANT SELECT, INSERT, UPDATE, DELETE") as refused:
            await store.update(LEASE, expected_version=1)
        assert type(refused.value) is StoreError


async def test_the_grants_for_making_the_tables_are_enough(
    postgres_server: PostgresServer, connection: Any, schema: str
) -> None:
    await connection.execute(f"CREATE ROLE {schema} LOGIN PASSWORD 'pass'; CREATE SCHEMA {schema}")
    await connection.execute(f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {schema}")
    limited = postgres_server.dsn().replace(f"streamflow:{postgres_server.password}", f"{schema}:pass")
    async with open_postgres_store(f"{limited}&schema={schema}") as store:
        assert await store.create(LEASE) is not None


# --- servers ---------------------------------------------------------------------------------------------------------


async def test_a_server_that_cannot_be_used_is_told_without_the_password(
    postgres_server: PostgresServer, connection: Any, schema: str
) -> None:
    dsn = postgres_server.dsn()
    await connection.execute(f"CREATE DATABASE {schema} ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        cases = {
            dsn.replace(postgres_server.password, "wrong-password"): "mend user and password in the URL of the store",
            postgres_server.dsn("no_such_database"): "no such database",
            dsn.partition("?")[0]: "speaks no TLS",
            postgres_server.dsn(port=nobody.getsockname()[1]): "cannot be reached (ConnectionRefusedError)",
            dsn + "&shema=leases": "does not know a parameter",
            dsn + "&synchronous_commit=off": "synchronous_commit is off",
            postgres_server.dsn(schema): "its encoding is LATIN1",
        }
        for url, expected in cases.items():
            message = await _refusal(url)
            assert expected in message
            assert message.startswith(f"lease store postgresql://127.0.0.1:{urlsplit(url).port}/")
            assert postgres_server.password not in message
            assert "wrong-password" not in message
    await connection.execute(f"DROP DATABASE {schema}")


async def test_a_server_that_takes_no_writes_is_refused_though_its_tables_can_be_read(store_url: str) -> None:
    async with open_postgres_store(store_url):
        pass
    message = await _refusal(f"{store_url}&default_transaction_read_only=on")
    assert "the server takes no writes, as a standby does: name the primary" in message


async def test_of_several_hosts_one_that_is_there_is_taken(postgres_server: PostgresServer, store_url: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        real = f"127.0.0.1:{postgres_server.port}"
        several = store_url.replace(real, f"127.0.0.1:{nobody.getsockname()[1]},{real}")
        async with open_postgres_store(several) as store:
            assert await store.create(LEASE) is not None


@pytest.mark.fault("F36")
async def test_the_certificate_of_the_server_is_verified(
    postgres_server: PostgresServer, schema: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    async with open_tls_front(postgres_server.port, authority.issue_cert("localhost")) as port:
        dsn = postgres_server.dsn(host="localhost", port=port).partition("?")[0]
        assert "its certificate cannot be verified" in await _refusal(f"{dsn}?schema={schema}")
        async with open_postgres_store(f"{dsn}?schema={schema}&sslrootcert={tmp_path / 'authority.pem'}") as store:
            assert await store.create(LEASE) is not None


async def test_it_works_behind_a_pooler_that_pools_transactions(postgres_server: PostgresServer, schema: str) -> None:
    rounds = 20
    async with open_transaction_pooler(postgres_server.port) as (port, pooler):
        url = f"{postgres_server.dsn(port=port)}&schema={schema}"
        async with open_postgres_store(url) as store, open_postgres_store(url) as rival:
            row = await store.create(LEASE)
            for number in range(rounds):
                assert row is not None
                wins: list[bool] = []

                async def take(through: PostgresStore, wins: list[bool] = wins, version: int = row.version) -> None:
                    wins.append(await through.update(LEASE, expected_version=version) is not None)

                async with anyio.create_task_group() as tasks:
                    for through in (store, rival, store, rival):
                        tasks.start_soon(take, through)
                assert sorted(wins) == [False, False, False, True]
                row = await rival.get(LEASE.key)
                await store.park([letter(number)], opening=True)
                assert await rival.park([letter(number + rounds), letter(number, "b")]) == {letter(0).item_key}
            found = await rival.letters(PARKED)
            assert await store.remove("parked", [kept.id for kept in found]) == len(found) == 2 * rounds
        assert pooler.moves > pooler.transactions // 2
