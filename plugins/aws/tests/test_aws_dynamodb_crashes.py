"""Whatever happens to the owners of a shard, the transactional table is the fold of the log, and each change got in once."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING, Any, cast

import anyio
import orjson
import pytest
from botocore.exceptions import ClientError
from hypothesis import example, given, settings
from hypothesis import strategies as st

import far_messages
from shard_owners import Fate, Play, Step, World, fates, steps
from streamflow.testing.sink_contract import Changes
from streamflow_aws.dynamodb_items import Form, Table
from streamflow_aws.dynamodb_transactions import TransactionalDynamoDBWriter
from streamflow_aws.errors import AwsCallError, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streamflow.sdk import Writer
    from streamflow_aws.clients import Client

Item = dict[str, Any]


class Tables:
    """UpdateItem and TransactWriteItems as DynamoDB has them: conditions of all actions first, then all or nothing."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Item]] = {"copy": {}, "checkpoints": {}}
        self.applied: list[str] = []
        """Event ids of all items that were put, in order."""
        self._answered: dict[str, str] = {}

    def update_item(self, **update: Any) -> Mapping[str, Any]:
        if not self._holds(update):
            raise AwsCallError("update_item", kind="failed", code="ConditionalCheckFailedException")
        return {"Attributes": dict(self._update(update))}

    def transact_write_items(self, *, TransactItems: list[Item], ClientRequestToken: str) -> Mapping[str, Any]:  # noqa: N803
        asked = repr(TransactItems)
        if ClientRequestToken in self._answered:
            assert self._answered[ClientRequestToken] == asked, "one token for two requests"
            return {}
        actions = [(kind, action) for each in TransactItems for kind, action in each.items()]
        touched = [(action["TableName"], _key(action)) for _, action in actions]
        assert len(set(touched)) == len(touched) <= 100
        reasons = [{"Code": "None" if self._holds(action) else "ConditionalCheckFailed"} for _, action in actions]
        if any(reason["Code"] != "None" for reason in reasons):
            raise AwsCallError(
                "transact",
                kind="failed",
                code="TransactionCanceledException",
                response={"CancellationReasons": reasons},
            )
        for kind, action in actions:
            self._apply(kind, action)
        self._answered[ClientRequestToken] = asked
        return {}

    def _apply(self, kind: str, action: Item) -> None:
        if kind == "Update":
            self._update(action)
        elif kind == "Put":
            self.items[action["TableName"]][_key(action)] = action["Item"]
            self.applied.append(action["Item"]["_sf_event_id"]["S"])
        else:
            self.items[action["TableName"]].pop(_key(action), None)

    def _update(self, update: Item) -> Item:
        item = self.items[update["TableName"]].setdefault(_key(update), dict(update["Key"]))
        for name, value in re.findall(r"(#\w+) = (:\w+)", update["UpdateExpression"]):
            item[update["ExpressionAttributeNames"][name]] = update["ExpressionAttributeValues"][value]
        return item

    def _holds(self, action: Item) -> bool:
        if "ConditionExpression" not in action:
            return True
        item = self.items[action["TableName"]].get(_key(action), {})
        names, values = action["ExpressionAttributeNames"], action["ExpressionAttributeValues"]

        def missing(found: re.Match[str]) -> str:
            return str(names[found[1]] not in item)

        def compared(found: re.Match[str]) -> str:
            return str(
                names[found[1]] in item and _COMPARE[found[2]](_plain(item[names[found[1]]]), _plain(values[found[3]]))
            )

        text = re.sub(r"attribute_not_exists\((#\w+)\)", missing, action["ConditionExpression"])
        text = re.sub(r"(#\w+) (<=|<|=) (:\w+)", compared, text)
        assert re.fullmatch(r"(True|False|AND|OR|[() ])+", text), text
        return bool(eval(text.replace("AND", "and").replace("OR", "or")))


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    "=": lambda one, other: one == other,
}


def _plain(value: Mapping[str, str]) -> Any:
    ((kind, content),) = value.items()
    return int(content) if kind == "N" else content


def _key(action: Item) -> str:
    return orjson.dumps(action["Key"] if "Key" in action else {"id": action["Item"]["id"]}).decode()


@settings(max_examples=500)
@given(
    story=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=8, max_size=25),
    script=steps,
    script_fates=fates,
    tombstones=st.booleans(),
)
# The answer to a short run is lost, and the next run is longer: a condition that the position grows would let both in.
@example(
    story=[(item, False) for item in range(4)],
    script=[(Step.WRITE, 1), (Step.WRITE, 1), (Step.WRITE, 2)],
    script_fates=[Fate.FINE, Fate.LOST_ANSWER],
    tombstones=True,
)
def test_the_table_is_the_fold_of_the_log(
    story: list[tuple[int, bool]], script: list[tuple[Step, int]], script_fates: list[Fate], tombstones: bool
) -> None:
    changes = told(story)
    tables = Tables()
    play = play_of(changes, World(tables), tombstones=tombstones)
    anyio.run(play.run, script, script_fates)

    assert len(tables.applied) == len(set(tables.applied)), "a change got in twice"
    places = {record.event_id: place for place, record in enumerate(changes.records)}
    order = [places[event_id] for event_id in tables.applied]
    by_item: dict[str, list[int]] = {}
    for place in order:
        by_item.setdefault(changes.records[place].item_key, []).append(place)
    assert all(found == sorted(found) for found in by_item.values()), "an older change came behind a newer one"
    check_fold(tables.items["copy"].values(), changes, play.skipped, tombstones=tombstones)


@pytest.mark.integration
@pytest.mark.parametrize("seed", range(20))
def test_so_it_is_on_a_real_server(ministack: str, seed: int) -> None:
    random = Random(seed)
    changes = told([(random.randrange(4), random.random() < 0.3) for _ in range(20)])
    client = far_messages.client("dynamodb", ministack)
    for table in ("copy", "checkpoints"):
        client.create_table(
            TableName=table,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    play = play_of(changes, World(_Server(client)), tombstones=seed % 2 == 0)
    script = [(random.choice([Step.WRITE, *Step]), random.randint(1, 7)) for _ in range(25)]
    anyio.run(play.run, script, [random.choice([Fate.FINE, *Fate]) for _ in range(60)])
    items = client.scan(TableName="copy", ConsistentRead=True)["Items"]
    client.close()
    check_fold(items, changes, play.skipped, tombstones=seed % 2 == 0)


class _Server:
    """Calls of boto3, whose errors are told as those of our own clients."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            try:
                return getattr(self._client, operation)(**arguments)
            except ClientError as error:
                raise translated(error, operation) from None

        return call


def play_of(changes: Changes, world: World, *, tombstones: bool) -> Play:
    def new_writer() -> TransactionalDynamoDBWriter:
        return TransactionalDynamoDBWriter(
            client=cast("Client", world),
            form=Form(table=Table(name="copy", key={"id": "S"}), tombstones=tombstones),
            checkpoints="checkpoints",
            key_name="id",
            pipeline="orders",
            salt=b"",
            note_suppressed=lambda _: None,
            outside=cast("Writer", None),
        )

    return Play(world=world, records=changes.records, new_writer=new_writer)


def check_fold(items: Iterable[Item], changes: Changes, skipped: set[str], *, tombstones: bool) -> None:
    """Each item is as its last change left it; of one whose last change was settled elsewhere nobody knows."""
    found = {item["id"]["S"]: item for item in items}
    for item, records in changes.by_item.items():
        last = records[-1]
        if last.event_id in skipped:
            continue
        if last.event_name == "REMOVE" and not tombstones:
            assert item not in found
            continue
        assert found[item]["_sf_event_id"]["S"] == last.event_id
        assert ("_sf_deleted" in found[item]) == (last.event_name == "REMOVE")


def told(story: list[tuple[int, bool]]) -> Changes:
    changes = Changes()
    there: set[int] = set()
    for item, delete in story:
        if delete and item in there:
            there.remove(item)
            changes.delete(f"item{item}")
        else:
            there.add(item)
            changes.put(f"item{item}")
    return changes
