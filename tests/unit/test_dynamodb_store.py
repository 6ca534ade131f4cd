"""The parts of the store in DynamoDB that need no server: its URL, its permissions, and what errors of the service mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import aiohttp
import anyio
import pytest
from botocore import exceptions as botocore_errors

from streamflow.errors import ConfigError, StoreError, UnknownOutcomeError
from streamflow.stores.dynamodb import calls as making_calls
from streamflow.stores.dynamodb import tables
from streamflow.stores.dynamodb.calls import (
    ConditionError,
    DynamoDBCalls,
    TableMissingError,
    TransactionCancelledError,
    may_have_happened,
)
from streamflow.stores.dynamodb.companion import Companion, outlived
from streamflow.stores.dynamodb.letters import DynamoDBLetters
from streamflow.stores.dynamodb.permissions import ALL_ACTIONS, permissions
from streamflow.stores.dynamodb.tables import COMPANION_TABLE, LEASE_TABLE, find_table
from streamflow.stores.dynamodb.url import parse_url
from streamflow.testing.store_contract.letters import letter

pytestmark = pytest.mark.anyio

# --- URLs ------------------------------------------------------------------------------------------------------------


def test_a_url_names_a_table_and_options() -> None:
    plain = parse_url("dynamodb://orders")
    assert (plain.lease_table("any"), plain.companion) == ("orders", "orders-streamflow")
    assert (plain.options.mode, plain.options.failover_s, plain.options.leader) == ("takeover", 10.0, "refuse")
    assert not plain.read_only
    full = parse_url(
        "dynamodb://kcl-{pipeline}/?mode=coexist-2x&region=eu-west-1&endpoint_url=http%3A%2F%2F127.0.0.1%3A4566"
        "&failover_s=4&leader=gone&role_arn=arn:aws:iam::123456789012:role/orders"
    )
    assert (full.lease_table("orders"), full.companion) == ("kcl-orders", "kcl-pipelines-streamflow")
    assert (full.options.mode, full.options.failover_s, full.options.leader) == ("coexist-2x", 4.0, "gone")
    assert (full.aws.region, full.aws.endpoint_url) == ("eu-west-1", "http://127.0.0.1:4566")
    assert full.aws.role_arn == "arn:aws:iam::123456789012:role/orders"
    assert parse_url("dynamodb://orders?mode=shadow").read_only


@pytest.mark.parametrize(
    ("url", "reasons"),
    [
        ("dynamodb:orders", ["write dynamodb://TABLE"]),
        ("dynamodb://", ["write dynamodb://TABLE"]),
        ("dynamodb://or", ["write dynamodb://TABLE"]),
        ("dynamodb://" + "x" * 239, ["write dynamodb://TABLE"]),
        ("dynamodb://orders/x", ["{pipeline} stands for the pipeline's name"]),
        ("dynamodb://orders-{stream}", ["{pipeline} stands for the pipeline's name"]),
        ("dynamodb://orders?mode=import", ["mode: "]),
        ("dynamodb://orders?failover_s=0", ["failover_s: "]),
        ("dynamodb://orders?table=x", ["table: "]),
        ("dynamodb://orders?mode=shadow&mode=takeover", ["mode is there twice"]),
        ("dynamodb://o?mode=x&leader=dead", ["write dynamodb://TABLE", "mode: ", "leader: "]),
    ],
)
def test_every_mistake_in_a_url_is_told(url: str, reasons: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_url(url)
    assert len(raised.value.problems) == len(reasons)
    for reason, problem in zip(reasons, raised.value.problems, strict=True):
        assert problem.startswith("store: ")
        assert reason in problem


def test_permissions_of_a_store() -> None:
    found = permissions("dynamodb://kcl-{pipeline}?region=eu-west-1", ["a", "b"], account="123456789012")
    here = "arn:aws:dynamodb:eu-west-1:123456789012:table/"
    assert [one.resource for one in found] == [
        f"{here}kcl-a",
        f"{here}kcl-a-CoordinatorState",
        f"{here}kcl-b",
        f"{here}kcl-b-CoordinatorState",
        f"{here}kcl-pipelines-streamflow",
    ]
    assert [action.removeprefix("dynamodb:") for action in found[0].actions] == [
        "CreateTable", "DeleteItem", "DescribeTable", "GetItem", "PutItem", "Scan", "UpdateItem",
    ]  # fmt: skip
    assert found[1].actions == ("dynamodb:GetItem",)
    assert {"dynamodb:ConditionCheckItem", "dynamodb:BatchWriteItem", "dynamodb:Query"} <= set(found[-1].actions)
    assert {action for one in found for action in one.actions} == set(ALL_ACTIONS)


def test_permissions_of_a_store_that_only_looks() -> None:
    found = permissions("dynamodb://orders?mode=shadow", ["a", "b"], region="cn-north-1")
    assert [one.resource for one in found] == [
        "arn:aws-cn:dynamodb:cn-north-1:*:table/orders",
        "arn:aws-cn:dynamodb:cn-north-1:*:table/orders-streamflow",
    ]
    assert not [
        action for one in found for action in one.actions if "Put" in action or "Create" in action or "Write" in action
    ]
    gov = permissions("dynamodb://orders?region=us-gov-west-1", ["a"])
    assert {one.resource.split(":")[1] for one in gov} == {"aws-us-gov"}


# --- errors ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scripted:
    """A client whose every call gives the next answer, or raises it; the last one for ever."""

    answers: list[Any]
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __getattr__(self, operation: str) -> Any:
        async def call(**parameters: Any) -> Any:
            self.calls.append((operation, parameters))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


@dataclass(slots=True)
class ScriptedAws:
    renewed: Any = None
    region: str = "eu-west-1"
    renewals: int = 0

    async def renew(self) -> None:
        self.renewals += 1

    def client(self, service: str, **_: Any) -> ScriptedAws:
        assert service == "dynamodb"
        return self

    async def __aenter__(self) -> Any:
        return self.renewed

    async def __aexit__(self, *_: object) -> None: ...


def calls_of(*answers: Any, aws: Any = None, optional: frozenset[str] = frozenset()) -> DynamoDBCalls:
    reached: Any = aws or ScriptedAws()
    return DynamoDBCalls(reached, Scripted(list(answers)), read_only=False, optional=optional)


def refusal(code: str, status: int = 400, **more: Any) -> botocore_errors.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "the service says so"},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return botocore_errors.ClientError(response, "UpdateItem")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (refusal("ConditionalCheckFailedException"), ConditionError, "the item is not what it was"),
        (refusal("ResourceNotFoundException"), TableMissingError, "make the table, or allow dynamodb:CreateTable"),
        (
            refusal("AccessDeniedException"),
            StoreError,
            "dynamodb:UpdateItem is needed on the table orders. A store needs",
        ),
        (refusal("ThrottlingException"), StoreError, "the table is too busy"),
        (refusal("ProvisionedThroughputExceededException"), StoreError, "the table is too busy"),
        (refusal("ValidationException"), StoreError, "the service says so"),
        (refusal("InternalServerError", 500), UnknownOutcomeError, "it may have been written"),
        (refusal("ServiceUnavailable", 503), UnknownOutcomeError, "it may have been written"),
        (botocore_errors.ReadTimeoutError(endpoint_url="x"), UnknownOutcomeError, "it may have been written"),
        (botocore_errors.ConnectionClosedError(endpoint_url="x"), UnknownOutcomeError, "it may have been written"),
        (botocore_errors.HTTPClientError(error="x"), UnknownOutcomeError, "it may have been written"),
        (botocore_errors.ConnectTimeoutError(endpoint_url="x"), StoreError, "cannot reach the service"),
        (botocore_errors.NoCredentialsError(), StoreError, "no usable AWS credentials"),
        (botocore_errors.ParamValidationError(report="x"), StoreError, "the SDK refused the request"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_an_error_of_a_write_says_whether_it_happened(
    error: Exception, kind: type[StoreError], text: str
) -> None:
    with pytest.raises(StoreError) as raised:
        await calls_of(error).write("update_item", "orders")
    assert type(raised.value) is kind
    assert str(raised.value).startswith("DynamoDB table orders in eu-west-1: UpdateItem: ")
    assert text in str(raised.value)
    with pytest.raises(StoreError) as raised:
        await calls_of(error).read("get_item", "orders")
    assert not isinstance(raised.value, UnknownOutcomeError)


def test_a_connection_that_ended_is_not_one_that_was_never_made() -> None:
    def error(cause: Exception) -> Exception:
        found: Exception = botocore_errors.EndpointConnectionError(endpoint_url="x", error=cause)
        return found

    key: Any = None
    assert not may_have_happened(error(aiohttp.ClientConnectorError(key, OSError("refused"))))
    assert may_have_happened(error(aiohttp.ClientOSError("reset")))
    assert may_have_happened(error(aiohttp.ServerDisconnectedError()))


async def test_a_cancelled_transaction_tells_the_reason_of_each_action() -> None:
    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed"}, {"Code": "TransactionConflict"}]
    with pytest.raises(TransactionCancelledError, match="ConditionalCheckFailed, TransactionConflict") as raised:
        await calls_of(refusal("TransactionCanceledException", CancellationReasons=reasons)).write(
            "transact_write_items", "t"
        )
    assert raised.value.reasons == ("None", "ConditionalCheckFailed", "TransactionConflict")


@pytest.mark.fault("F38")
async def test_a_call_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        async def update_item(self) -> None:
            await anyio.sleep_forever()

    monkeypatch.setattr(making_calls, "CALL_TIMEOUT_S", 0.0)
    calls = DynamoDBCalls(ScriptedAws(), Hanging(), read_only=False)  # type: ignore[arg-type]  # what calls need of it
    with pytest.raises(UnknownOutcomeError, match="no answer within 0 s; it may have been written"):
        await calls.write("update_item", "orders")
    with pytest.raises(StoreError, match="no answer within 0 s") as raised:
        await calls.read("update_item", "orders")
    assert not isinstance(raised.value, UnknownOutcomeError)


async def test_expired_credentials_are_renewed_and_the_call_made_once_more() -> None:
    aws = ScriptedAws(renewed=Scripted([{"Item": {}}]))
    calls = calls_of(refusal("ExpiredTokenException"), aws=aws)
    assert await calls.read("get_item", "orders", TableName="orders") == {"Item": {}}
    assert (aws.renewals, aws.renewed.calls) == (1, [("get_item", {"TableName": "orders"})])


async def test_what_the_service_leaves_undone_is_asked_again_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making_calls, "_PAUSE_S", 0.0)
    key = {"pk": {"S": "a"}}
    left = {"orders": {"Keys": [key]}}
    calls = calls_of({"UnprocessedKeys": left}, {"Responses": {"orders": [key]}})
    assert await calls.items("orders", [key]) == [key]
    with pytest.raises(StoreError, match="left keys unread 8 times"):
        await calls_of({"UnprocessedKeys": left}).items("orders", [key])
    request = {"DeleteRequest": {"Key": key}}
    await calls_of({"UnprocessedItems": {"orders": [request]}}, {}).write_items("orders", [request])
    with pytest.raises(StoreError, match="left items unwritten 8 times"):
        await calls_of({"UnprocessedItems": {"orders": [request]}}).write_items("orders", [request])


async def test_an_optional_table_may_be_missing() -> None:
    missing = refusal("ResourceNotFoundException")
    assert await calls_of(missing, optional=frozenset({"orders"})).read("get_item", "orders") == {}
    with pytest.raises(TableMissingError):
        await calls_of(missing, optional=frozenset({"orders"})).read("get_item", "others")


# --- tables ----------------------------------------------------------------------------------------------------------


def described(status: str = "ACTIVE", key: str = "leaseKey") -> dict[str, Any]:
    return {
        "Table": {
            "TableStatus": status,
            "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
        }
    }


MISSING = refusal("ResourceNotFoundException")
THREE_LOOKS = ["describe_table"] * 3


@pytest.mark.parametrize(
    ("answers", "operations"),
    [
        ([described()], ["describe_table"]),
        ([described("CREATING"), described("UPDATING")], ["describe_table"] * 2),
        ([MISSING, {}, described()], ["describe_table", "create_table", "describe_table"]),
        ([MISSING, {}, MISSING, described("CREATING"), described()], ["describe_table", "create_table", *THREE_LOOKS]),
        ([MISSING, refusal("ResourceInUseException"), described()], ["describe_table", "create_table", "describe_table"]),
        # The answer was lost, and the table is there.
        (
            [MISSING, botocore_errors.ReadTimeoutError(endpoint_url="x"), described(), described()],
            ["describe_table", "create_table", "describe_table", "describe_table"],
        ),
    ],
)  # fmt: skip
async def test_a_table_is_waited_for(
    answers: list[Any], operations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_LOOK_INTERVAL_S", 0.0)
    client = Scripted(answers)
    calls = DynamoDBCalls(ScriptedAws(), client, read_only=False)  # type: ignore[arg-type]  # what calls need of it
    assert await find_table(calls, "orders", LEASE_TABLE, make=True)
    assert [operation for operation, _ in client.calls] == operations


async def test_a_table_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_LOOK_INTERVAL_S", 0.0)
    assert not await find_table(calls_of(MISSING), "orders", LEASE_TABLE, make=False)
    with pytest.raises(
        StoreError, match=r"CreateTable: AccessDenied.*dynamodb:CreateTable is needed on the table orders"
    ):
        await find_table(calls_of(MISSING, refusal("AccessDeniedException"), MISSING), "orders", LEASE_TABLE, make=True)
    with pytest.raises(StoreError, match="did not come up"):
        await find_table(calls_of(described("CREATING")), "orders", LEASE_TABLE, make=True)
    with pytest.raises(StoreError, match="its key is leaseKey, and not pk and sk as text"):
        await find_table(calls_of(described()), "orders", COMPANION_TABLE, make=True)


# --- the companion ---------------------------------------------------------------------------------------------------


def test_windows_of_later_versions_are_never_collected() -> None:
    unwanted = outlived(7, f"{7:020d}-mine")
    assert not unwanted(f"{7:020d}-mine")
    assert not unwanted(f"{8:020d}-of-a-rival")
    assert unwanted(f"{7:020d}-of-a-loser")
    assert unwanted(f"{6:020d}-before")
    assert outlived(7, None)(f"{7:020d}-mine")


async def test_letters_that_meet_rivals_without_end_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.stores.dynamodb.letters._PAUSE_S", 0.0)
    conflict = refusal("TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}])
    looks: list[Any] = [{}, {"Attributes": {"last": {"N": "1"}}}]
    letters = DynamoDBLetters(Companion(calls_of(*[*looks, conflict] * 41), "orders-streamflow"))
    with pytest.raises(StoreError, match="1 letters met a rival 40 times: try again"):
        await letters.keep([letter(1)])
    broken = refusal("TransactionCanceledException", CancellationReasons=[{"Code": "ValidationError"}])
    letters = DynamoDBLetters(Companion(calls_of(*looks, broken), "orders-streamflow"))
    with pytest.raises(StoreError, match="cancelled: ValidationError"):
        await letters.keep([letter(1)])
