"""What the writers of a DynamoDB table make of the answers of the service, and of settings."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from scripted_clients import ScriptedContext, refusal
from streamflow.sdk import (
    ConfigError,
    FencedError,
    RecordsFailedError,
    SinkBusyError,
)
from streamflow.testing.sink_contract import Changes
from streamflow_aws.dynamodb import dynamodb
from streamflow_aws.dynamodb_items import Form, Table, encode
from streamflow_aws.dynamodb_runs import BYTES_MAX, ITEMS_MAX, Entry, cut, final
from streamflow_aws.errors import AwsCallError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from streamflow.sdk import Record

pytestmark = pytest.mark.anyio

COPY = Form(table=Table(name="copy", key={"id": "S"}))
VERSIONED = dynamodb(table="copy")
TRANSACTIONAL = dynamodb(table="copy", transactional=True, checkpoint_table="checkpoints")


class ScriptedDynamoDB:
    """Answers `describe_table` and the fencing of a shard; `answers` are for the other calls, then they succeed."""

    def __init__(self, *answers: object, kind: str = "S", schema: tuple[str, ...] = ("id",)) -> None:
        self.answers = list(answers)
        self.epoch = "1"
        self.context = ScriptedContext(self._answer)
        self._kind = kind
        self._schema = schema

    def _answer(self, _: int, operation: str, arguments: dict[str, Any]) -> Any:
        if operation == "describe_table":
            return {
                "Table": {
                    "AttributeDefinitions": [
                        {"AttributeName": each, "AttributeType": self._kind} for each in self._schema
                    ],
                    "KeySchema": [{"AttributeName": each} for each in self._schema],
                }
            }
        if operation == "update_item":
            return {"Attributes": {"epoch": {"N": self.epoch}}}
        return self.answers.pop(0) if self.answers else {}

    @property
    def calls(self) -> list[str]:
        return [operation for operation, _ in self.context.calls if operation != "describe_table"]

    @property
    def transactions(self) -> list[int]:
        """How many items each had."""
        asked = [arguments for operation, arguments in self.context.calls if operation == "transact_write_items"]
        return [len(arguments["TransactItems"]) - 1 for arguments in asked]


def canceled(*reasons: str) -> ClientError:
    error = refusal("TransactionCanceledException")
    error.response["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    return error


def kinds(error: RecordsFailedError) -> list[tuple[Record, str]]:
    return [(failure.record, failure.kind) for failure in error.failures]


# --- single writes ---------------------------------------------------------------------------------------------------


async def test_a_write_has_the_condition_that_what_is_there_is_older() -> None:
    service, changes = ScriptedDynamoDB(), Changes()
    async with VERSIONED.open(service.context) as writer:
        record = changes.put("a")
        await writer.write(changes.batch(record))
    operation, arguments = service.context.calls[-1]
    change, _ = encode(record, COPY)
    assert change is not None
    assert operation == "put_item"
    assert arguments["Item"] == change.item
    assert arguments["ConditionExpression"] == "attribute_not_exists(#version) OR #version < :version"
    assert arguments["ExpressionAttributeValues"] == {":version": {"S": change.version}}


async def test_what_is_there_already_is_suppressed_and_told() -> None:
    service, changes = ScriptedDynamoDB(refusal("ConditionalCheckFailedException")), Changes()
    async with VERSIONED.open(service.context) as writer:
        await writer.write(changes.batch(changes.put("a"), changes.put("b")))
    assert service.context.suppressed == 1


@pytest.mark.parametrize("code", ["ValidationException", "ItemCollectionSizeLimitExceededException"])
async def test_an_item_that_will_never_be_taken_is_refused(code: str) -> None:
    service, changes = ScriptedDynamoDB(refusal(code, "quotes the item")), Changes()
    async with VERSIONED.open(service.context) as writer:
        record, later = changes.put("a"), changes.put("a")
        with pytest.raises(RecordsFailedError) as caught:
            await writer.write(changes.batch(record, later))
    assert kinds(caught.value) == [(record, "refused"), (later, "waiting")]
    assert "quotes" not in str(caught.value)


@pytest.mark.parametrize("code", ["ProvisionedThroughputExceededException", "TransactionConflictException"])
async def test_a_throttle_makes_records_wait(code: str) -> None:
    service, changes = ScriptedDynamoDB(refusal(code)), Changes()
    async with VERSIONED.open(service.context) as writer:
        with pytest.raises(SinkBusyError):
            await writer.write(changes.batch(changes.put("a")))


# --- transactions ----------------------------------------------------------------------------------------------------


def entries(*records: Record) -> list[Entry]:
    return [Entry(record, *encode(record, COPY)) for record in records]


def test_a_run_has_99_items_however_many_changes_those_have() -> None:
    changes = Changes()
    many = entries(*changes.put_many(3 * ITEMS_MAX, items=ITEMS_MAX), changes.put("more"), changes.put("item0"))
    first, second = cut(many)
    assert first == many[: 3 * ITEMS_MAX]
    assert final(first) == list(range(2 * ITEMS_MAX, 3 * ITEMS_MAX))
    assert second == many[3 * ITEMS_MAX :]


def test_a_run_has_the_bytes_that_a_transaction_takes() -> None:
    changes = Changes()
    large = entries(*(changes.put(f"a{number}", blob={"S": "x" * 300_000}) for number in range(25)))
    runs = list(cut(large))
    assert [entry for run in runs for entry in run] == large
    assert all(sum(entry.bytes for entry in run) <= BYTES_MAX for run in runs)
    assert len(runs) == 3


async def test_a_record_that_is_refused_in_a_transaction_stops_what_is_behind_it_and_nothing_before() -> None:
    service = ScriptedDynamoDB(canceled("None", "None", "ValidationError", "None"))
    changes = Changes()
    first, bad, last = changes.put_many(3)
    async with TRANSACTIONAL.open(service.context) as writer:
        with pytest.raises(RecordsFailedError) as caught:
            await writer.write(changes.batch(first, bad, last))
    assert kinds(caught.value) == [(bad, "refused"), (last, "waiting")]
    assert service.transactions == [3, 1]


async def test_a_refusal_that_names_no_item_is_looked_for_in_halves() -> None:
    def answer(_: int, operation: str, arguments: dict[str, Any]) -> Any:
        bad = any(item.get("Put", {}).get("Item", {}).get("bad") for item in arguments.get("TransactItems", ()))
        return refusal("ValidationException") if bad else service._answer(0, operation, arguments)

    service = ScriptedDynamoDB()
    service.context = ScriptedContext(answer)
    changes = Changes()
    before = changes.put_many(4, name="before")
    bad = changes.put("bad", bad={"BOOL": True})
    behind = changes.put_many(3, name="behind")
    async with TRANSACTIONAL.open(service.context) as writer:
        with pytest.raises(RecordsFailedError) as caught:
            await writer.write(changes.batch(*changes.records))
    assert kinds(caught.value) == [(bad, "refused"), *((record, "waiting") for record in behind)]
    written = [
        item["Put"]["Item"]["_sf_event_id"]["S"]
        for operation, arguments in service.context.calls
        if operation == "transact_write_items" and not any("bad" in str(each) for each in arguments["TransactItems"])
        for item in arguments["TransactItems"][1:]
    ]
    assert written == [record.event_id for record in before]


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
async def test_a_transaction_that_is_canceled_for_its_time_costs_no_attempt(reason: str) -> None:
    service, changes = ScriptedDynamoDB(canceled("None", reason)), Changes()
    async with TRANSACTIONAL.open(service.context) as writer:
        with pytest.raises(SinkBusyError):
            await writer.write(changes.batch(changes.put("a")))


async def test_a_repeated_transaction_has_its_token_and_another_one_has_not() -> None:
    service, changes = ScriptedDynamoDB(OSError("no answer"), OSError("no answer")), Changes()
    first, second = changes.put_many(2)
    async with TRANSACTIONAL.open(service.context) as writer:
        for records in ((first, second), (first, second), (first,)):
            with suppress(AwsCallError):
                await writer.write(changes.batch(*records))
    tokens = [arguments["ClientRequestToken"] for _, arguments in service.context.calls if "TransactItems" in arguments]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(len(token) == 36 for token in tokens)


@pytest.mark.parametrize(
    ("row", "epoch", "told"),
    [
        (
            {"epoch": {"N": "7"}},
            7,
            r"epoch 7 is in the item 'orders\|.*' of table checkpoints, and this worker has epoch 1",
        ),
        (None, None, "the endpoint does not tell"),
    ],
)
async def test_an_owner_that_was_fenced_is_told_the_newest_epoch_where_the_endpoint_tells_it(
    row: dict[str, Any] | None, epoch: int | None, told: str
) -> None:
    service, changes = ScriptedDynamoDB(), Changes()
    record, refused = changes.put("a"), refusal("ConditionalCheckFailedException")
    if row is not None:
        refused.response["Item"] = row
    service.context = ScriptedContext(
        lambda generation, operation, arguments: (
            refused if operation == "update_item" else service._answer(generation, operation, arguments)
        )
    )
    async with TRANSACTIONAL.open(service.context) as writer:
        with pytest.raises(FencedError, match=told) as fenced:
            await writer.write(changes.batch(record))
    assert fenced.value.epoch == epoch


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"table": "copy", "mode": "materialise"}, "goes with key"),
        ({"table": "copy", "key": {"pk": "{id}"}}, "goes with key"),
        ({"table": "copy", "attributes": {"a": "b"}}, "attributes goes with mode"),
        ({"table": "copy", "transactional": True}, "goes with checkpoint_table"),
        ({"table": "copy", "transactional": True, "checkpoint_table": "copy"}, "a table of its own"),
        ({"table": "copy", "tombstones": False, "skip_replicated": True}, "need tombstones"),
        ({"table": "copy", "mode": "materialise", "key": {"pk": "{id"}}, "without a name and its }"),
        ({"table": "copy", "mode": "materialise", "key": {"pk": ""}}, "template of pk is empty"),
        ({"table": "copy", "mode": "materialise", "key": {"_sf_seq": "{id}"}}, "sink's own: _sf_seq"),
        ({"table": "c"}, "table"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        dynamodb(**settings)


def test_what_is_promised_goes_by_the_mode() -> None:
    assert VERSIONED.capabilities.idempotence == "versioned"
    assert TRANSACTIONAL.capabilities.idempotence == "transactional"
    assert TRANSACTIONAL.capabilities.records_max == 99
    assert dynamodb(table="copy", tombstones=False).capabilities.idempotence == "none"


async def test_a_key_that_is_not_that_of_the_table_is_an_error_of_the_configuration() -> None:
    sink = dynamodb(table="copy", mode="materialise", key={"pk": "{id}"})
    with pytest.raises(ConfigError, match="has the key id, and key in the settings makes pk"):
        async with sink.open(ScriptedDynamoDB().context):
            pass


@pytest.mark.parametrize("service", [ScriptedDynamoDB(kind="N"), ScriptedDynamoDB(schema=("pk", "sk"))])
async def test_a_table_for_checkpoints_has_one_text_as_its_key(service: ScriptedDynamoDB) -> None:
    with pytest.raises(ConfigError, match="needs one key attribute, a string: aws dynamodb create-table"):
        async with TRANSACTIONAL.open(service.context):
            pass


async def test_letters_are_written_beside_the_checkpoint() -> None:
    service, changes = ScriptedDynamoDB(), Changes()
    async with TRANSACTIONAL.open(service.context) as writer:
        await writer.write(changes.batch(changes.put("a"), epoch=0))
    assert service.calls == ["put_item"]
