"""Faults in the answers of AWS, on the whole way: SDK and wire, microburst in the words of AWS, and MiniStack behind it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from servers.microburst import microburst, microburst_server
from streamflow import App, AwsOptions, Batch, DynamoDBStream, Pipeline, running
from streamflow.errors import RequestRefusedError, StoreError, UnknownOutcomeError
from streamflow.stores.dynamodb.store import DynamoDBStore, open_dynamodb_store
from streamflow.testing.store_contract.leases import LEASE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from servers.microburst import Microburst
    from streamflow.leases import Lease

__all__ = ["microburst", "microburst_server"]

# One process of the run has the proxy: it takes seconds to read the models of every service.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("microburst"),
]

STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
THROTTLED = {"error": {"code": "ProvisionedThroughputExceededException", "status": 400}}
BROKEN = {"error": {"code": "InternalServerError", "status": 500}}
BUSY = {"error": {"code": "ServiceUnavailable", "status": 503}}
EXPIRED = {"error": {"code": "ExpiredTokenException", "status": 400}}
RESET = {"reset": True}
# The service has done what it was asked, and its answer breaks off before the first byte of the body.
ANSWER_LOST = {"response": {"abort_frac": 0.0}}
TRUNCATED = {"response": {"truncate_frac": 0.5}}
CORRUPT = {"response": {"corrupt_bytes": 1}}
# Nothing that anybody notices, but for its place in the list of what fired.
NOTED = {"latency": 1}


def url_of(endpoint: str) -> str:
    return f"dynamodb://kcl-orders?region=us-east-1&endpoint_url={endpoint}"


def rule(operation: str, fault: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"service": "*", "operation": operation, **fault, **more}


def create_table(dynamodb: Any) -> None:
    dynamodb.create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=STREAM,
    )


def put(dynamodb: Any, number: int, version: int) -> None:
    dynamodb.put_item(TableName="orders", Item={"id": {"S": f"order-{number}"}, "version": {"N": str(version)}})


class Deliveries:
    """A handler that notes (item, version) in the order of delivery."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    async def __call__(self, batch: Batch) -> None:
        for record in batch:
            image: Any = record.new_image
            self.seen.append((image["id"], int(image["version"])))

    async def wait(self, count: int) -> None:
        while len(set(self.seen)) < count:  # noqa: ASYNC110 - the handler may be called several times
            await anyio.sleep(0.01)


def app_at(endpoint: str, handler: Any, *, store: str | None = None) -> App:
    source = DynamoDBStream(table="orders")
    pipeline = Pipeline(
        name="orders", source=source, handler=handler, starting_position="TRIM_HORIZON", poll_interval_s=0.05
    )
    aws = AwsOptions(endpoint_url=endpoint, region="us-east-1")
    return App(pipelines=(pipeline,), store=store or "memory:", aws=aws)


FAULTS: dict[str, dict[str, Any]] = {
    "throttled": THROTTLED,
    "broken": BROKEN,
    "busy": BUSY,
    "expired": EXPIRED,
    "reset": RESET,
    "answer lost": ANSWER_LOST,
    "truncated": TRUNCATED,
    "corrupt": CORRUPT,
}

# --- the stream ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F32", "F34", "F35")
async def test_a_reader_goes_on_after_every_fault_of_a_page(microburst: Microburst, dynamodb: Any) -> None:
    create_table(dynamodb)
    handler = Deliveries()
    with anyio.fail_after(120):
        async with running(app_at(microburst.endpoint, handler)):
            for version, (name, fault) in enumerate(FAULTS.items(), 1):
                microburst.fault(rule("GetRecords", fault, times=1))
                for number in range(3):
                    put(dynamodb, number, version)
                await handler.wait(3 * version)
                assert len(microburst.fired("GetRecords")) == 1, name
    assert len(handler.seen) == len(set(handler.seen)) == 3 * len(FAULTS)
    for number in range(3):
        assert [version for key, version in handler.seen if key == f"order-{number}"] == [*range(1, len(FAULTS) + 1)]


@pytest.mark.fault("F32", "F34", "F35")
@pytest.mark.parametrize("name", FAULTS)
async def test_a_start_outlives_every_fault_of_the_listing_and_of_an_iterator(
    name: str, microburst: Microburst, dynamodb: Any
) -> None:
    create_table(dynamodb)
    put(dynamodb, 1, 1)
    handler = Deliveries()
    with anyio.fail_after(120):
        async with running(app_at(microburst.endpoint, handler)):
            microburst.fault(
                rule("GetShardIterator", FAULTS[name], times=1), rule("DescribeStream", FAULTS[name], times=1)
            )
            await handler.wait(1)
    assert handler.seen == [("order-1", 1)]


@pytest.mark.fault("F33")
async def test_a_request_that_the_service_finds_invalid_ends_the_run_and_is_not_repeated(
    microburst: Microburst, dynamodb: Any
) -> None:
    create_table(dynamodb)

    async def run_to_the_end() -> None:
        async with running(app_at(microburst.endpoint, Deliveries())) as run:
            microburst.fault(rule("GetRecords", {"error": {"code": "ValidationException", "status": 400}}))
            await run.wait()

    with pytest.raises(RequestRefusedError, match="ValidationException"), anyio.fail_after(120):
        await run_to_the_end()
    assert microburst.fired("GetRecords") == ["error:ValidationException"]


@pytest.mark.fault("F33", "F34")
@pytest.mark.parametrize("code", ["AccessDeniedException", "UnrecognizedClientException", "RequestTimeTooSkewed"])
async def test_who_may_not_read_asks_again_at_growing_distance_until_it_may(
    code: str, microburst: Microburst, dynamodb: Any
) -> None:
    create_table(dynamodb)
    handler = Deliveries()
    with anyio.fail_after(120):
        async with running(app_at(microburst.endpoint, handler)):
            put(dynamodb, 1, 1)
            await handler.wait(1)
            microburst.fault(rule("GetRecords", {"error": {"code": code, "status": 400}}, times=3))
            put(dynamodb, 1, 2)
            await handler.wait(2)
    assert microburst.fired("GetRecords") == [f"error:{code}"] * 3
    assert handler.seen == [("order-1", 1), ("order-1", 2)]


@pytest.mark.fault("F38")
async def test_a_page_that_never_comes_is_given_up_in_time_and_read_again(
    microburst: Microburst, dynamodb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamflow.aws.wire.TOTAL_TIMEOUT_S", 0.5)
    create_table(dynamodb)
    handler = Deliveries()
    with anyio.fail_after(120):
        async with running(app_at(microburst.endpoint, handler)):
            microburst.fault(rule("GetRecords", {"timeout_ms": 600_000}, times=2))
            put(dynamodb, 1, 1)
            await handler.wait(1)
    assert len(microburst.fired("GetRecords")) == 2
    assert handler.seen == [("order-1", 1)]


# --- the store -------------------------------------------------------------------------------------------------------


WRITES = ("PutItem", "UpdateItem", "DeleteItem")


@asynccontextmanager
async def behind(microburst: Microburst) -> AsyncIterator[DynamoDBStore]:
    """A store behind the proxy, whose tables are there."""
    async with open_dynamodb_store(url_of(microburst.endpoint)) as store:
        assert await store.create(LEASE) is not None
        yield store


async def row_for(store: DynamoDBStore, operation: str) -> Lease:
    """What a write of this kind begins with: a row that is there, or is not."""
    row = replace(LEASE, shard_id=f"shardId-{operation}")
    if operation == "PutItem":
        return row
    created = await store.create(row)
    assert created is not None
    return created


async def write(store: DynamoDBStore, row: Lease, operation: str) -> object:
    """One write; falsy if it met a conflict."""
    match operation:
        case "PutItem":
            return await store.create(row)
        case "DeleteItem":
            return await store.delete(row.key, expected_version=row.version)
    return await store.update(replace(row, owner="ours"), expected_version=row.version)


async def happened(store: DynamoDBStore, row: Lease, operation: str) -> bool:
    found = await store.get(row.key)
    match operation:
        case "PutItem":
            return found is not None
        case "DeleteItem":
            return found is None
    return found is not None and found.owner == "ours"


@pytest.mark.fault("F30", "F31", "F35")
@pytest.mark.parametrize("name", ["answer lost", "truncated", "corrupt"])
async def test_a_write_whose_answer_cannot_be_read_happened_is_unknown_and_is_not_repeated_behind_our_back(
    name: str, microburst: Microburst
) -> None:
    async with behind(microburst) as store:
        for operation in WRITES:
            row = await row_for(store, operation)
            microburst.fault(rule(operation, FAULTS[name], times=1), rule(operation, NOTED))
            # A repetition by the SDK would meet its own write: a conflict, as if somebody else had the lease.
            with pytest.raises(UnknownOutcomeError, match="may have been written"):
                await write(store, row, operation)
            assert len(microburst.fired(operation)) == 1
            assert await happened(store, row, operation)


@pytest.mark.fault("F30", "F32")
@pytest.mark.parametrize("name", ["reset", "broken", "busy"])
async def test_a_write_that_failed_at_the_service_is_unknown_and_can_be_made_again(
    name: str, microburst: Microburst
) -> None:
    async with behind(microburst) as store:
        for operation in WRITES:
            row = await row_for(store, operation)
            microburst.fault(rule(operation, FAULTS[name], times=1), rule(operation, NOTED))
            with pytest.raises(UnknownOutcomeError):
                await write(store, row, operation)
            assert len(microburst.fired(operation)) == 1
            assert not await happened(store, row, operation)
            assert await write(store, row, operation)


@pytest.mark.fault("F32")
@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"]
)
async def test_a_throttled_write_certainly_did_not_happen(code: str, microburst: Microburst) -> None:
    async with behind(microburst) as store:
        for operation in WRITES:
            row = await row_for(store, operation)
            microburst.fault(rule(operation, {"error": {"code": code, "status": 400}}, times=1))
            with pytest.raises(StoreError, match="too busy") as caught:
                await write(store, row, operation)
            assert type(caught.value) is StoreError
            assert not await happened(store, row, operation)
            assert await write(store, row, operation)


@pytest.mark.fault("F34")
async def test_expired_credentials_are_renewed_and_the_write_made_once(microburst: Microburst) -> None:
    async with behind(microburst) as store:
        for operation in WRITES:
            row = await row_for(store, operation)
            microburst.fault(rule(operation, EXPIRED, times=1))
            assert await write(store, row, operation)
            assert microburst.fired(operation) == ["error:ExpiredTokenException"]


@pytest.mark.fault("F38")
async def test_a_write_that_is_never_answered_is_unknown_in_time(
    microburst: Microburst, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with behind(microburst) as store:
        for operation in WRITES:
            row = await row_for(store, operation)
            microburst.fault(rule(operation, {"timeout_ms": 600_000}, times=1))
            with monkeypatch.context() as patience:
                patience.setattr("streamflow.stores.dynamodb.calls.CALL_TIMEOUT_S", 0.3)
                with anyio.fail_after(5), pytest.raises(UnknownOutcomeError, match=r"no answer within 0\.3 s"):
                    await write(store, row, operation)


@pytest.mark.fault("F30", "F31", "F32", "F35")
@pytest.mark.parametrize("name", FAULTS)
async def test_a_pipeline_keeps_its_lease_and_repeats_nothing_whatever_befalls_its_checkpoints(
    name: str, microburst: Microburst, dynamodb: Any
) -> None:
    create_table(dynamodb)
    handler = Deliveries()
    app = app_at(microburst.endpoint, handler, store=url_of(microburst.endpoint))
    with anyio.fail_after(120):
        async with running(app):
            put(dynamodb, 1, 1)
            await handler.wait(1)
            microburst.fault(rule("UpdateItem", FAULTS[name], times=2))
            put(dynamodb, 1, 2)
            await handler.wait(2)
            while len(microburst.fired("UpdateItem")) < 2:  # noqa: ASYNC110 - checkpoints are written when it is time
                await anyio.sleep(0.01)
            put(dynamodb, 1, 3)
            await handler.wait(3)
        async with running(app):
            put(dynamodb, 1, 4)
            await handler.wait(4)
    assert handler.seen == [("order-1", version) for version in (1, 2, 3, 4)]


@pytest.mark.fault("F35")
async def test_a_row_is_not_gone_because_the_answer_that_has_it_cannot_be_read(microburst: Microburst) -> None:
    async with behind(microburst) as store:
        for name in ("truncated", "corrupt"):
            microburst.fault(rule("GetItem", FAULTS[name], times=1), rule("Scan", FAULTS[name], times=1))
            with pytest.raises(StoreError, match=r"truncated or corrupt|wrong checksum"):
                await store.get(LEASE.key)
            with pytest.raises(StoreError, match=r"truncated or corrupt|wrong checksum"):
                await store.list(LEASE.pipeline, LEASE.stream_arn)
            assert await store.get(LEASE.key) is not None
            assert len(await store.list(LEASE.pipeline, LEASE.stream_arn)) == 1


@pytest.mark.fault("F49")
async def test_a_lease_table_that_is_deleted_is_told_by_every_call_and_not_made_again(
    microburst: Microburst, dynamodb: Any
) -> None:
    async with behind(microburst) as store:
        row = await row_for(store, "UpdateItem")
        dynamodb.delete_table(TableName="kcl-orders")
        for operation in WRITES:
            with pytest.raises(StoreError, match="make the table") as caught:
                await write(store, replace(row, shard_id=f"shardId-{operation}"), operation)
            assert not isinstance(caught.value, UnknownOutcomeError)
        with pytest.raises(StoreError, match="make the table"):
            await store.list(row.pipeline, row.stream_arn)
        assert "kcl-orders" not in dynamodb.list_tables()["TableNames"]
