"""The store in DynamoDB against MiniStack: the contracts of stores, rows of Java fleets, lost answers, tables of others.

That MiniStack enforces conditions and transactions is what the first tests of the second part look at.
"""

from __future__ import annotations

import logging
import random
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import orjson
import pytest
from botocore.exceptions import ClientError

from cancelled_stores import check_leases, check_letters
from outages import closed_port
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import STREAM_ROW, Gap, Lease, LeaseKey, LeaseLayout, LeaseState, WindowState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position
from streamflow.stores.dynamodb.store import DynamoDBStore, open_dynamodb_store, read_kcl_table
from streamflow.stores.dynamodb.store import dynamodb as plugin
from streamflow.stores.dynamodb.url import parse_url
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.store_contract.leases import GAPS, LEASE, STREAM_ARN, LeaseStoreContract
from streamflow.testing.store_contract.letters import (
    DEAD,
    PARKED,
    DeadLetterStoreContract,
    ids_of,
    key_of,
    letter,
    without_ids,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streamflow.dead_letters import DeadLetter

# Thousands of rows are the work of a real service in a server that is a toy.
pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(300)]

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "kcl").glob("*.json"))
KINESIS_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
TABLE = "kcl-orders"
SHARD_OF_TWO = "shardId-000000000005"


def url_of(endpoint: str, table: str = TABLE, **options: str) -> str:
    query = {"region": "us-east-1", "endpoint_url": endpoint, **options}
    return f"dynamodb://{table}?" + "&".join(f"{name}={value}" for name, value in query.items())


@pytest.fixture
def url(ministack: str) -> str:
    return url_of(ministack, "kcl-{pipeline}")


@pytest.fixture
async def store(url: str) -> AsyncIterator[DynamoDBStore]:
    async with open_dynamodb_store(url) as store:
        yield store


@pytest.fixture
async def rival(store: DynamoDBStore, url: str) -> AsyncIterator[DynamoDBStore]:
    async with open_dynamodb_store(url) as rival:
        yield rival


class TestLeases(LeaseStoreContract):
    streams_max = 1
    rows_many = 800  # each is a request of its own to write
    row_many = replace(LEASE, gaps=GAPS)  # together more than the 1 MB of a page

    def first_version(self, lease: Lease) -> int:
        return 0


class TestLetters(DeadLetterStoreContract):
    letters_many = 600  # each is a request or more, and the server is slow
    rounds = 5  # what may come in between is made to happen below: "rivals at the worst moment"


# --- the server ------------------------------------------------------------------------------------------------------


def make_table(dynamodb: Any, name: str = TABLE, key: str = "leaseKey", kind: str = "S") -> None:
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind}],
        BillingMode="PAY_PER_REQUEST",
    )


def rows_in(dynamodb: Any, table: str = TABLE) -> dict[str, Any]:
    return {item["leaseKey"]["S"]: item for item in dynamodb.scan(TableName=table, ConsistentRead=True)["Items"]}


def companion_items(dynamodb: Any, prefix: str, table: str = "kcl-pipelines-streamflow") -> list[Any]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith(prefix)]


def test_the_server_enforces_conditions(dynamodb: Any) -> None:
    make_table(dynamodb)
    key = {"leaseKey": {"S": "a"}}
    dynamodb.put_item(TableName=TABLE, Item={**key, "leaseCounter": {"N": "1"}})
    for condition in (
        "leaseCounter = :other",
        "leaseCounter = :one AND leaseOwner = :me",
        "leaseCounter = :one AND attribute_exists(leaseOwner)",
        "attribute_not_exists(leaseKey)",
    ):
        values = {":other": {"N": "2"}, ":one": {"N": "1"}, ":me": {"S": "me"}}
        used = {name: value for name, value in values.items() if name in condition}
        with pytest.raises(ClientError, match="ConditionalCheckFailed"):
            dynamodb.update_item(
                TableName=TABLE,
                Key=key,
                UpdateExpression="SET checkpoint = :new",
                ConditionExpression=condition,
                ExpressionAttributeValues={**used, ":new": {"S": "stolen"}},
            )
    assert "checkpoint" not in rows_in(dynamodb)["a"]


def test_the_server_cancels_transactions_as_a_whole(dynamodb: Any) -> None:
    make_table(dynamodb)
    put = {"Put": {"TableName": TABLE, "Item": {"leaseKey": {"S": "a"}}}}
    gone = {"TableName": TABLE, "Key": {"leaseKey": {"S": "b"}}, "ConditionExpression": "attribute_exists(leaseKey)"}
    with pytest.raises(ClientError, match="TransactionCanceled") as raised:
        dynamodb.transact_write_items(TransactItems=[put, {"ConditionCheck": gone}])
    reasons = raised.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
    assert rows_in(dynamodb) == {}


# --- rows of Java fleets ---------------------------------------------------------------------------------------------


def binary(found: Any) -> Any:
    """Of the JSON of a fixture, with base64 as bytes."""
    match found:
        case {"B": str(text)}:
            return {"B": b64decode(text)}
        case dict():
            return {key: binary(inner) for key, inner in found.items()}
        case list():
            return [binary(inner) for inner in found]
    return found


def load(dynamodb: Any, file: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables of a fleet as it left them; the answer is their items."""
    tables = orjson.loads(file.read_bytes())["tables"]
    for name, table in tables.items():
        make_table(dynamodb, name, table["description"]["KeySchema"][0]["AttributeName"])
        for item in table["items"]:
            dynamodb.put_item(TableName=name, Item=binary(item))
    return {name: binary(table["items"]) for name, table in tables.items()}


async def take(store: DynamoDBStore, row: Lease, owner: str = "ours") -> Lease:
    """As the engine does: the row as it is now, and on from what the store returns."""
    current = await store.get(row.key)
    assert current is not None
    taken = await store.update(
        replace(current, owner=owner, claimant=None, epoch=current.epoch + 1), expected_version=row.version
    )
    assert taken is not None
    assert (taken.owner, taken.version) == (owner, row.version + 1)
    assert taken.epoch > current.epoch
    return taken


async def write(store: DynamoDBStore, row: Lease, **changes: Any) -> Lease:
    """An owner's write, which has to succeed; the row as it is then."""
    wanted = replace(row, **changes)
    stored = await store.update(wanted, expected_version=row.version)
    assert stored is not None
    assert stored == replace(wanted, version=row.version + 1)
    return stored


async def look(store: DynamoDBStore, key: LeaseKey = LEASE.key) -> Lease:
    found = await store.get(key)
    assert found is not None
    return found


@pytest.mark.fault("F59")
@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: file.stem)
async def test_the_table_of_a_real_fleet_is_taken_over(file: Path, ministack: str, dynamodb: Any) -> None:
    tables = load(dynamodb, file)
    url = url_of(ministack, "orders", leader="gone")
    async with open_dynamodb_store(url) as store:
        rows = await store.list("orders", KINESIS_ARN)
        assert len(rows) == len(tables["orders"])
        for row in rows:
            taken = await take(store, row)
            assert await store.get(row.key) == taken
            if taken.state is not LeaseState.ACTIVE:
                continue
            moved = await write(store, taken, checkpoint=Position.after("9" * 57))
            await write(store, moved, owner=None)
    after = rows_in(dynamodb, "orders")
    written = {
        "checkpoint",
        "checkpointOwner",
        "leaseCounter",
        "leaseOwner",
        "ownerSwitchesSinceCheckpoint",
        "streamflow",
    }
    pending = {"pendingCheckpoint", "pendingCheckpointState", "pendingCheckpointSubSequenceNumber"}
    for before in tables["orders"]:
        row = after[before["leaseKey"]["S"]]
        assert "checkpointOwner" not in row
        kept = before.keys() - written - (pending if row["checkpoint"] != before["checkpoint"] else set())
        assert {name: row[name] for name in kept} == {name: before[name] for name in kept}
    for name in tables.keys() - {"orders"}:
        assert sorted(map(repr, dynamodb.scan(TableName=name)["Items"])) == sorted(map(repr, tables[name]))


@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: file.stem)
async def test_only_where_a_leader_is_there_the_store_does_not_open(file: Path, ministack: str, dynamodb: Any) -> None:
    tables = load(dynamodb, file)
    leads = any(item["key"]["S"] == "Leader" for item in tables.get("orders-CoordinatorState", []))
    assert leads == (file.stem in {"3x-live", "3x-resharded", "3x-handoff"})
    if not leads:
        async with open_dynamodb_store(url_of(ministack, "orders")):
            return
    with pytest.raises(StoreError, match=r"a fleet of the KCL 3\.x has a leader.*add leader=gone") as raised:
        async with open_dynamodb_store(url_of(ministack, "orders")):
            pass
    assert not isinstance(raised.value, UnknownOutcomeError)
    assert rows_in(dynamodb, "orders") == {item["leaseKey"]["S"]: item for item in tables["orders"]}
    async with open_dynamodb_store(url_of(ministack, "orders", mode="shadow")) as store:
        assert len(await store.list("orders", KINESIS_ARN)) == len(tables["orders"])


def row_35(lease_key: str, entity: str, **attributes: Any) -> dict[str, Any]:
    return {"leaseKey": {"S": lease_key}, "entityType": {"S": entity}, **attributes}


async def test_in_the_single_table_of_3_5_only_leases_are_touched(ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb)
    leases = [
        row_35(
            f"shardId-{number}", "LEASE", leaseCounter={"N": "5"}, checkpoint={"S": "100"}, theirs={"L": [{"N": "1"}]}
        )
        for number in range(2)
    ]
    others = [
        row_35("wid-1", "WORKER_METRIC_STATS", wid={"S": "w"}, lut={"N": "1"}),
        row_35("Migration3.0", "CLIENT_VERSION_MIGRATION", cv={"S": "CLIENT_VERSION_3X"}),
        row_35("shardId-9", "STREAM"),
        row_35("Leader", "LEADER", isReleased={"S": "1"}),
    ]
    for item in (*leases, *others):
        dynamodb.put_item(TableName=TABLE, Item=item)
    async with open_dynamodb_store(url_of(ministack)) as store:
        rows = await store.list("orders", STREAM_ARN)
        assert sorted(row.shard_id for row in rows) == ["shardId-0", "shardId-1"]
        assert await store.get(LeaseKey("orders", STREAM_ARN, "shardId-9")) is None
        taken = await take(store, rows[0])
        assert await store.create(replace(LEASE, shard_id="shardId-2")) is not None
    after = rows_in(dynamodb)
    assert after["shardId-2"]["entityType"] == {"S": "LEASE"}
    assert after[taken.shard_id]["theirs"] == {"L": [{"N": "1"}]}
    for item in others:
        assert after[item["leaseKey"]["S"]] == item


async def test_a_leader_in_the_single_table_keeps_the_store_from_working(ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb)
    dynamodb.put_item(TableName=TABLE, Item=row_35("Leader", "LEADER", ownerName={"S": "java-1"}))
    async with open_dynamodb_store(url_of(ministack)) as store:
        for _ in range(2):
            with pytest.raises(StoreError, match=r"has a leader \(a row of the table\).*leader=gone"):
                await store.list("orders", STREAM_ARN)
    async with open_dynamodb_store(url_of(ministack, leader="gone")) as store:
        assert list(await store.list("orders", STREAM_ARN)) == []


async def test_beside_3x_workers_in_their_2x_mode_there_is_a_warning(
    ministack: str, dynamodb: Any, caplog: pytest.LogCaptureFixture
) -> None:
    load(dynamodb, next(file for file in FIXTURES if file.stem == "2x-live"))
    for mode, warned in (("takeover", False), ("coexist-2x", True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "streamflow"):
            async with open_dynamodb_store(url_of(ministack, "orders", mode=mode, failover_s="4")) as store:
                assert (store.layout is LeaseLayout.KCL_SHARED) == warned
                assert store.failover_s == 4.0
        assert ("COMPATIBLE_WITH_2X" in caplog.text) == warned


async def test_rows_of_two_applications_are_refused(ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb)
    for lease_key in ("shardId-1", "000000000000:orders:1:shardId-1"):
        dynamodb.put_item(TableName=TABLE, Item={"leaseKey": {"S": lease_key}, "leaseCounter": {"N": "1"}})
    async with open_dynamodb_store(url_of(ministack)) as store:
        with pytest.raises(StoreError, match="two applications"):
            await store.list("orders", STREAM_ARN)


async def test_in_a_table_of_many_streams_ours_is_read_and_written_in_its_form(ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb)
    ours = "123456789012:eu-west-1$123456789012$orders$2026-01-01T00_00_00.000:1"
    for stream in (ours, "123456789012:eu-west-1$123456789012$other$2026-01-01T00_00_00.000:1"):
        item = {"leaseKey": {"S": f"{stream}:shardId-1"}, "leaseCounter": {"N": "1"}, "streamName": {"S": stream}}
        dynamodb.put_item(TableName=TABLE, Item=item)
    async with open_dynamodb_store(url_of(ministack)) as store:
        (row,) = await store.list("orders", STREAM_ARN)
        assert row.shard_id == "shardId-1"
        await take(store, row)
        assert await store.create(replace(LEASE, shard_id="shardId-2", parents=("shardId-1",))) is not None
    created = rows_in(dynamodb)[f"{ours}:shardId-2"]
    assert (created["streamName"], created["shardId"]) == ({"S": ours}, {"S": "shardId-2"})
    assert created["parentShardId"] == {"SS": ["shardId-1"]}


async def test_a_worker_of_the_kcl_that_steals_is_a_conflict_and_its_checkpoint_counts(
    ministack: str, dynamodb: Any
) -> None:
    async with open_dynamodb_store(url_of(ministack, mode="coexist-2x")) as store:
        created = await store.create(replace(LEASE, epoch=1_764_000_000_000))
        assert created is not None
        taken = await take(store, created)
        window = WindowState(0, 60, b"{}")
        held = await store.update(
            replace(taken, checkpoint=Position.at_timestamp(1.5), window=window), expected_version=taken.version
        )
        assert held is not None
        dynamodb.update_item(  # the take of the KCL 2.x, and a checkpoint
            TableName=TABLE,
            Key={"leaseKey": {"S": LEASE.shard_id}},
            UpdateExpression="SET leaseOwner = :java, leaseCounter = :counter, checkpoint = :checkpoint",
            ConditionExpression="leaseCounter = :known",
            ExpressionAttributeValues={
                ":java": {"S": "java-1"},
                ":known": {"N": str(held.version)},
                ":counter": {"N": str(held.version + 2)},
                ":checkpoint": {"S": "500"},
            },
        )
        assert await store.update(held, expected_version=held.version) is None
        (stolen,) = await store.list("orders", STREAM_ARN)
        assert (stolen.owner, stolen.checkpoint, stolen.window) == ("java-1", Position.after("500"), None)
        back = await take(store, stolen)
        assert back.epoch > stolen.epoch > held.epoch
        assert (back.checkpoint, back.window) == (Position.after("500"), None)


async def test_the_first_epoch_of_a_row_of_the_kcl_is_greater_than_any_before(ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb)
    dynamodb.put_item(TableName=TABLE, Item={"leaseKey": {"S": LEASE.shard_id}, "leaseCounter": {"N": "5"}})
    async with open_dynamodb_store(url_of(ministack)) as store:
        (row,) = await store.list("orders", STREAM_ARN)
        taken = await take(store, row)
        assert taken.epoch > 1_700_000_000_000  # milliseconds since the Unix epoch
        assert (await take(store, taken)).epoch == taken.epoch + 1


async def test_an_import_reads_a_table_and_leaves_no_trace(ministack: str, dynamodb: Any) -> None:
    tables = load(dynamodb, next(file for file in FIXTURES if file.stem == "3x-handoff"))
    names = dynamodb.list_tables()["TableNames"]
    rows = await read_kcl_table(url_of(ministack, "orders"), pipeline="orders", stream_arn=KINESIS_ARN)
    (handed_over,) = [row for row in rows if row.claimant is not None]
    assert (handed_over.owner, handed_over.claimant) == ("worker-1", "worker-2")
    assert {row.shard_id: row.parents for row in rows}[SHARD_OF_TWO] == ("shardId-000000000001", "shardId-000000000002")
    assert {row.state for row in rows} == {LeaseState.ACTIVE, LeaseState.ENDED}
    assert rows_in(dynamodb, "orders") == {item["leaseKey"]["S"]: item for item in tables["orders"]}
    assert dynamodb.list_tables()["TableNames"] == names


@pytest.mark.parametrize("counter", [None, {"S": "many"}])
async def test_a_damaged_row_is_told_whatever_is_done_with_it(counter: Any, ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb)
    item = {"leaseKey": {"S": LEASE.shard_id}, **({} if counter is None else {"leaseCounter": counter})}
    dynamodb.put_item(TableName=TABLE, Item=item)
    async with open_dynamodb_store(url_of(ministack)) as store:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.list("orders", STREAM_ARN),
            lambda: store.get(LEASE.key),
            lambda: store.update(LEASE, expected_version=0),
            lambda: store.delete(LEASE.key, expected_version=0),
        ]
        for call in [*calls, *calls]:
            with pytest.raises(StoreError, match="the row shardId-1 of pipeline 'orders' is damaged"):
                await call()
    assert rows_in(dynamodb) == {LEASE.shard_id: item}


# --- passing on ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F50")
async def test_what_somebody_else_noted_in_a_row_stays_whatever_is_written(ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb)
    async with open_dynamodb_store(url_of(ministack)) as store:
        created = await store.create(LEASE)
        assert created is not None
        (key,) = rows_in(dynamodb)
        noted = {"ticket": {"S": "OPS-1"}, "later": {"M": {"deep": {"NS": ["1"]}}}}
        dynamodb.update_item(
            TableName=TABLE,
            Key={"leaseKey": {"S": key}},
            UpdateExpression="SET ticket = :ticket, #later = :later",
            ExpressionAttributeNames={"#later": "later"},
            ExpressionAttributeValues={f":{name}": value for name, value in noted.items()},
        )
        row = await store.update(replace(created, owner="ours"), expected_version=created.version)
        assert row is not None
        row = await store.update(replace(row, checkpoint=Position.after("7")), expected_version=row.version)
        assert row is not None
        ended = replace(row, owner=None, state=LeaseState.ENDED, checkpoint=SHARD_END, children=("shardId-2",))
        assert await store.update(ended, expected_version=row.version) is not None
    assert {name: rows_in(dynamodb)[key][name] for name in noted} == noted


async def test_a_lease_is_asked_for_and_passed_on(store: DynamoDBStore, rival: DynamoDBStore, dynamodb: Any) -> None:
    created = await store.create(replace(LEASE, owner="old"))
    assert created is not None
    held = await take(store, created, "old")
    assert await rival.ask(held, "new") == replace(held, claimant="new")
    asked = await look(store)
    assert asked == replace(held, claimant="new")
    row = rows_in(dynamodb)[LEASE.shard_id]
    assert (row["leaseOwner"], row["checkpointOwner"]) == ({"S": "new"}, {"S": "old"})
    for late in (held, replace(held, owner=None), replace(held, owner="somebody")):
        assert await rival.ask(late, "late") is None

    renewed = await write(store, asked)
    passed = await write(store, renewed, owner="new", claimant=None, checkpoint=Position.after("7"))
    row = rows_in(dynamodb)[LEASE.shard_id]
    assert (row["leaseOwner"], row.get("checkpointOwner"), row["checkpoint"]) == ({"S": "new"}, None, {"S": "7"})
    assert await store.update(renewed, expected_version=renewed.version) is None
    assert (await take(rival, passed, "new")).epoch == held.epoch + 1


async def test_an_owner_that_does_not_know_it_was_asked_meets_a_conflict_and_goes_on(
    store: DynamoDBStore, rival: DynamoDBStore
) -> None:
    created = await store.create(replace(LEASE, owner="old"))
    assert created is not None
    held = await write(store, created)
    assert await rival.ask(held, "new") is not None
    assert await store.update(held, expected_version=held.version) is None
    current = await look(store)
    assert current == replace(held, claimant="new")
    await write(store, current)


@pytest.mark.fault("F50")
async def test_another_process_is_not_fooled_by_a_row_that_was_made_again(
    store: DynamoDBStore, rival: DynamoDBStore
) -> None:
    held = await store.create(replace(LEASE, owner="paused", epoch=1_000))
    assert held is not None
    assert await store.get(LEASE.key) == held
    assert await rival.delete(LEASE.key, expected_version=held.version)
    anew = await rival.create(replace(LEASE, epoch=2_000, owner="other"))
    assert anew is not None
    assert anew.version == held.version
    assert not await store.delete(LEASE.key, expected_version=held.version)
    assert await store.update(replace(held, checkpoint=SHARD_END), expected_version=held.version) is None
    assert await store.get(LEASE.key) == anew


# --- whose table it is -----------------------------------------------------------------------------------------------


@pytest.mark.fault("F47")
async def test_a_second_pipeline_or_stream_is_refused(ministack: str) -> None:
    async with open_dynamodb_store(url_of(ministack)) as store:
        assert await store.create(LEASE) is not None
        for other in (replace(LEASE, pipeline="other"), replace(LEASE, stream_arn=STREAM_ARN + "1")):
            with pytest.raises(
                StoreError, match=r"one pipeline and one stream.*put \{pipeline\} into the table's name"
            ):
                await store.list(other.pipeline, other.stream_arn)
            with pytest.raises(StoreError, match=r"\{pipeline\}"):
                await store.create(other)
        assert len(await store.list("orders", STREAM_ARN)) == 1
    async with open_dynamodb_store(url_of(ministack)) as store:
        with pytest.raises(StoreError, match=r"leases of pipeline 'orders', and not of 'other'.*\{pipeline\}"):
            await store.list("other", STREAM_ARN)


@pytest.mark.fault("F45")
async def test_rows_of_an_earlier_stream_of_the_table_are_as_good_as_none(ministack: str, dynamodb: Any) -> None:
    row = replace(LEASE, checkpoint=Position.after("9"), owner="ours")
    async with open_dynamodb_store(url_of(ministack)) as store:
        assert await store.create(row) is not None
    later = STREAM_ARN.replace("2026", "2027")
    async with open_dynamodb_store(url_of(ministack)) as store:
        anew = replace(LEASE, stream_arn=later)
        assert list(await store.list("orders", later)) == []
        assert await store.get(anew.key) is None
        assert await store.create(anew) == replace(anew, version=0)
        assert await store.create(anew) is None
        assert (await store.list("orders", later))[0].checkpoint == TRIM_HORIZON
    assert len(rows_in(dynamodb)) == 1


async def test_tables_are_made_on_demand_and_hold_nothing_foreign(store: DynamoDBStore, dynamodb: Any) -> None:
    assert dynamodb.list_tables()["TableNames"] == ["kcl-pipelines-streamflow"]
    await store.create(LEASE)
    await store.create(replace(LEASE, shard_id=STREAM_ROW, owner="ours"))
    await store.keep([letter(1)])
    for name in ("kcl-orders", "kcl-pipelines-streamflow"):
        assert (
            dynamodb.describe_table(TableName=name)["Table"]["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        )
    assert list(rows_in(dynamodb)) == [LEASE.shard_id]
    listed = await store.list("orders", STREAM_ARN)
    assert sorted(row.shard_id for row in listed) == [LEASE.shard_id, STREAM_ROW]


async def test_the_plugin_opens_its_urls(url: str) -> None:
    assert parse_url(plugin.url_example).lease_table("a") == "orders-a"
    async with plugin.open(url) as store:
        assert await store.create(LEASE) is not None


async def test_many_workers_that_start_at_once_make_one_table(url: str) -> None:
    async def start() -> None:
        async with open_dynamodb_store(url) as store:
            await store.create(LEASE)
            assert len(await store.list("orders", STREAM_ARN)) == 1

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(start)


@pytest.mark.parametrize(("key", "kind"), [("id", "S"), ("leaseKey", "N")])
async def test_the_table_of_another_program_is_refused(key: str, kind: str, ministack: str, dynamodb: Any) -> None:
    make_table(dynamodb, key=key, kind=kind)
    with pytest.raises(
        StoreError, match=f"its key is {key}, and not leaseKey as text: it is the table of another program"
    ):
        async with open_dynamodb_store(url_of(ministack)):
            pass
    assert dynamodb.list_tables()["TableNames"] == [TABLE]


async def test_a_shadow_sees_and_writes_nothing(ministack: str, dynamodb: Any) -> None:
    shadow = url_of(ministack, mode="shadow")
    with pytest.raises(StoreError, match="there is none to look at in us-east-1"):
        async with open_dynamodb_store(shadow):
            pass
    make_table(dynamodb)
    dynamodb.put_item(TableName=TABLE, Item={"leaseKey": {"S": LEASE.shard_id}, "leaseCounter": {"N": "5"}})
    async with open_dynamodb_store(shadow) as store:
        assert store.layout is LeaseLayout.KCL
        (row,) = await store.list("orders", STREAM_ARN)
        assert await store.get(row.key) == row
        assert await store.get(replace(LEASE, shard_id=STREAM_ROW).key) is None
        assert list(await store.letters(DEAD)) == []
        assert await store.count(DEAD) == 0
        assert await store.parked_keys("orders", STREAM_ARN) == frozenset()
        writes: list[Callable[[], Awaitable[object]]] = [
            lambda: store.create(replace(LEASE, shard_id="shardId-2")),
            lambda: store.create(replace(LEASE, shard_id=STREAM_ROW)),
            lambda: store.update(row, expected_version=row.version),
            lambda: store.delete(row.key, expected_version=row.version),
            lambda: store.ask(replace(row, owner="java"), "ours"),
            lambda: store.keep([letter(1)]),
            lambda: store.park([letter(1)], opening=True),
        ]
        for write in writes:
            with pytest.raises(StoreError, match=r"only looks \(mode=shadow in its URL\): nothing was written"):
                await write()
    assert dynamodb.list_tables()["TableNames"] == [TABLE]
    assert rows_in(dynamodb)[LEASE.shard_id] == {"leaseKey": {"S": LEASE.shard_id}, "leaseCounter": {"N": "5"}}


# --- large values ----------------------------------------------------------------------------------------------------


def large(text: str) -> WindowState:
    return WindowState(0, 60, b'{"large":"' + text.encode() * 1_000_000 + b'"}')


async def test_only_the_window_that_a_row_points_to_is_kept(store: DynamoDBStore, dynamodb: Any) -> None:
    row = await store.create(replace(LEASE, window=large("a")))
    for text in "bc":
        assert row is not None
        assert len(companion_items(dynamodb, "window#")) == 4
        row = await store.update(replace(row, window=large(text)), expected_version=row.version)
    assert row == await store.get(LEASE.key)
    kept = companion_items(dynamodb, "window#")
    assert len(kept) == 4
    assert await store.update(replace(LEASE, window=large("late")), expected_version=0) is None
    assert row is not None
    row = await store.update(row, expected_version=row.version)  # a renewal
    assert companion_items(dynamodb, "window#") == kept
    assert row is not None
    assert await store.get(LEASE.key) == row
    closed = await store.update(replace(row, window=None), expected_version=row.version)
    assert closed is not None
    assert companion_items(dynamodb, "window#") == []


async def test_the_window_of_a_loser_is_removed_and_the_winners_stays(
    store: DynamoDBStore, rival: DynamoDBStore
) -> None:
    created = await store.create(LEASE)
    assert created is not None
    assert await rival.get(LEASE.key) == created
    won = await store.update(replace(LEASE, window=large("a")), expected_version=0)
    assert await rival.update(replace(LEASE, window=large("b")), expected_version=0) is None
    assert await rival.create(replace(LEASE, window=large("b"))) is None
    assert await store.get(LEASE.key) == await rival.get(LEASE.key) == won


async def test_a_window_that_a_dead_worker_left_lying_is_collected(store: DynamoDBStore, dynamodb: Any) -> None:
    created = await store.create(LEASE)
    assert created is not None
    pk = f"window#kcl-orders#{LEASE.shard_id}"
    for name in (f"{1:020d}-dead#000000", f"{2:020d}-dying#000000"):
        item = {"pk": {"S": pk}, "sk": {"S": name}, "data": {"B": b"x"}}
        dynamodb.put_item(TableName="kcl-pipelines-streamflow", Item=item)
    row = await store.update(replace(LEASE, window=large("a")), expected_version=0)
    assert row == await store.get(LEASE.key)
    left = {item["sk"]["S"] for item in companion_items(dynamodb, "window#") if item["data"]["B"] == b"x"}
    assert left == {f"{2:020d}-dying#000000"}  # whoever writes the next version may be about to point to it


async def test_a_window_that_is_gone_is_told(store: DynamoDBStore, dynamodb: Any) -> None:
    await store.create(replace(LEASE, window=large("a")))
    for item in companion_items(dynamodb, "window#"):
        dynamodb.delete_item(TableName="kcl-pipelines-streamflow", Key={"pk": item["pk"], "sk": item["sk"]})
    with pytest.raises(StoreError, match="the window of shardId-1 is not where its row says"):
        await store.get(LEASE.key)
    assert len(await store.list("orders", STREAM_ARN)) == 1


async def test_records_beyond_the_limit_of_an_item_are_kept(store: DynamoDBStore, dynamodb: Any) -> None:
    incompressible = random.Random(1).randbytes(1_000_000)
    records = [letter(number, record=incompressible[number:], error_text="e\ud800" * 100_000) for number in range(2)]
    await store.keep(records)
    await store.park(records, opening=True)
    escaped = [replace(one, error_text="e\\ud800" * 100_000) for one in records]
    assert without_ids(await store.letters(DEAD)) == without_ids(await store.letters(PARKED)) == escaped
    chunks = len(companion_items(dynamodb, "letter#"))
    assert chunks == 2 * 2 * 4
    await store.keep(records)
    assert len(companion_items(dynamodb, "letter#")) == chunks
    for query in (DEAD, PARKED):
        assert await store.remove(query.drawer, ids_of(await store.letters(query))) == 2
    assert companion_items(dynamodb, "letter#") == companion_items(dynamodb, "place#") == []
    assert companion_items(dynamodb, "parked#") == []


# --- rivals at the worst moment --------------------------------------------------------------------------------------


def before_the_next_transaction(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch, rivals: Callable[[], Awaitable[object]]
) -> None:
    """Between a look of the store at its letters and the transaction that relies on it, once."""
    happens, waiting = store._happens, [rivals]

    async def happens_after_all(actions: Any) -> bool:
        while waiting:
            await waiting.pop()()
        return await happens(actions)

    monkeypatch.setattr(store, "_happens", happens_after_all)


async def test_a_key_that_is_healed_just_before_a_record_is_parked_takes_none(
    store: DynamoDBStore, rival: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.park([letter(1), letter(2, "b")], opening=True)
    (opener,) = await store.letters(replace(PARKED, item_key=key_of("a")))
    before_the_next_transaction(store, monkeypatch, lambda: rival.remove("parked", [opener.id]))
    assert await store.park([letter(3), letter(4, "b"), letter(5)]) == {key_of("b")}
    assert without_ids(await store.letters(PARKED)) == [letter(2, "b"), letter(4, "b")]
    assert await store.parked_keys("orders", STREAM_ARN) == {key_of("b")}


async def test_a_record_that_is_parked_just_before_the_last_letter_is_removed_keeps_its_key(
    store: DynamoDBStore, rival: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.park([letter(1)], opening=True)
    ids = ids_of(await store.letters(PARKED))
    before_the_next_transaction(store, monkeypatch, lambda: rival.park([letter(2)]))
    assert await store.remove("parked", ids) == 1
    assert without_ids(await store.letters(PARKED)) == [letter(2)]
    assert await store.park([letter(3)]) == {key_of("a")}


async def test_of_two_who_remove_the_last_letters_one_frees_the_key(
    store: DynamoDBStore, rival: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.park([letter(1), letter(2)], opening=True)
    first, second = ids_of(await store.letters(PARKED))
    before_the_next_transaction(store, monkeypatch, lambda: rival.remove("parked", [second]))
    assert await store.remove("parked", [first]) == 1
    assert await store.parked_keys("orders", STREAM_ARN) == frozenset()
    assert await store.park([letter(3)]) == frozenset()


async def test_a_record_that_two_keep_has_one_id(
    store: DynamoDBStore, rival: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_the_next_transaction(store, monkeypatch, lambda: rival.keep([letter(1)]))
    await store.keep([letter(1, invoke_count=7), letter(2)])
    kept = without_ids(await store.letters(DEAD))
    assert sorted(kept, key=lambda one: one.sequence_number) == [letter(1, invoke_count=7), letter(2)]


async def test_a_letter_that_somebody_else_removes_is_not_counted_and_may_be_kept_anew(
    store: DynamoDBStore, rival: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.keep([letter(1), letter(2)])
    first, second = ids_of(await store.letters(DEAD))
    before_the_next_transaction(store, monkeypatch, lambda: rival.remove("dead", [first]))
    assert await store.remove("dead", [first, second]) == 1
    await store.keep([letter(1)])
    (kept,) = ids_of(await store.letters(DEAD))
    before_the_next_transaction(store, monkeypatch, lambda: rival.remove("dead", [kept]))
    await store.keep([letter(1)])
    (anew,) = await store.letters(DEAD)
    assert anew.id > kept


async def test_what_is_parked_of_one_item_is_never_there_without_what_came_before(
    store: DynamoDBStore, rival: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [letter(number) for number in range(1, 151)]
    await store.park([letter(0)], opening=True)
    before_the_next_transaction(store, monkeypatch, lambda: rival.park([letters[0]]))
    happens, seen = store._happens, []

    async def looked_at(actions: Any) -> bool:
        happened = await happens(actions)
        seen.append([one.sequence_number for one in await rival.letters(PARKED)])
        return happened

    monkeypatch.setattr(store, "_happens", looked_at)
    assert await store.park(letters) == {key_of("a")}
    order = [letter(0).sequence_number, *(one.sequence_number for one in letters)]
    assert len(seen) == 5  # of which the first met the rival
    assert all(set(numbers) == set(order[: len(numbers)]) for numbers in seen)
    parked = await store.letters(PARKED)
    assert [one.sequence_number for one in parked] == order
    assert await store.remove("parked", ids_of(parked)) == 151
    assert await store.parked_keys("orders", STREAM_ARN) == frozenset()


async def test_an_item_whose_first_letters_are_healed_meanwhile_has_all_of_its_others_parked(
    store: DynamoDBStore, rival: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [letter(number) for number in range(1, 61)]
    await store.park([letter(0)], opening=True)
    happens = store._happens
    healed: list[DeadLetter] = []

    async def healed_behind(actions: Any) -> bool:
        happened = await happens(actions)
        if not healed:
            healed.extend(await rival.letters(PARKED))
            await rival.remove("parked", ids_of(healed))
        return happened

    monkeypatch.setattr(store, "_happens", healed_behind)
    assert await store.park(letters) == {key_of("a")}
    left = await store.letters(PARKED)
    assert without_ids([*healed, *left]) == [letter(0), *letters]
    assert 0 < len(left) < len(letters)
    assert await store.parked_keys("orders", STREAM_ARN) == {key_of("a")}


# --- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.fault("F30")
async def test_a_lost_answer_is_an_unknown_outcome_that_reading_settles(ministack: str) -> None:
    server = urlsplit(ministack)
    async with (
        open_fault_proxy(str(server.hostname), server.port or 0) as proxy,
        open_dynamodb_store(url_of(f"http://127.0.0.1:{proxy.port}")) as store,
    ):
        assert await store.get(LEASE.key) is None  # the table is open
        proxy.lose_answers()
        with pytest.raises(UnknownOutcomeError, match=r"PutItem.*it may have been written"):
            await store.create(LEASE)
        proxy.pass_through()
        row = await look(store)
        assert row == replace(LEASE, version=0)

        wanted = replace(
            row,
            owner="ours",
            checkpoint=Position.at_timestamp(1.5),
            gaps=(Gap(lost_from=TRIM_HORIZON, found_at_s=1.0, cause="x"),),
        )
        proxy.lose_answers()
        with pytest.raises(UnknownOutcomeError, match="UpdateItem"):
            await store.update(wanted, expected_version=0)
        proxy.pass_through()
        row = await look(store)
        assert row == replace(wanted, version=1)

        proxy.lose_answers()
        with pytest.raises(UnknownOutcomeError, match="UpdateItem"):
            await store.ask(row, "new")
        proxy.pass_through()
        assert await store.get(LEASE.key) == replace(row, claimant="new")

        proxy.lose_answers()
        with pytest.raises(UnknownOutcomeError, match="DeleteItem"):
            await store.delete(LEASE.key, expected_version=1)
        proxy.pass_through()
        assert await store.get(LEASE.key) is None

        proxy.lose_answers(after=1)
        with pytest.raises(UnknownOutcomeError):
            await store.keep([letter(1)])
        proxy.pass_through()
        await store.keep([letter(1)])
        assert without_ids(await store.letters(DEAD)) == [letter(1)]


async def test_a_server_that_is_gone_fails_writes_for_certain_and_heals(ministack: str) -> None:
    server = urlsplit(ministack)
    async with (
        open_fault_proxy(str(server.hostname), server.port or 0) as proxy,
        open_dynamodb_store(url_of(f"http://127.0.0.1:{proxy.port}")) as store,
    ):
        created = await store.create(LEASE)
        assert created is not None
        proxy.lose_answers()
        with pytest.raises(StoreError) as raised:
            await store.list("orders", STREAM_ARN)
        assert not isinstance(raised.value, UnknownOutcomeError)  # nothing was to be written
        proxy.pass_through()
        assert await store.update(replace(created, owner="ours"), expected_version=0) is not None
    async with open_dynamodb_store(url_of(ministack)) as store:
        assert len(await store.list("orders", STREAM_ARN)) == 1


async def test_where_nobody_listens_nothing_was_written(ministack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="cannot reach the service") as raised:
        async with open_dynamodb_store(url_of(f"http://127.0.0.1:{await closed_port(ministack)}")):
            pass
    assert not isinstance(raised.value, UnknownOutcomeError)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="store dynamodb://kcl-orders: no AWS credentials were found"):
        async with open_dynamodb_store(url_of(ministack)):
            pass


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [check_leases, check_letters])
async def test_a_call_that_is_cancelled_has_happened_or_not(
    store: DynamoDBStore, check: Callable[[DynamoDBStore], Awaitable[None]]
) -> None:
    await check(store)
