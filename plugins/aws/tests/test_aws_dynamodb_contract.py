"""The DynamoDB sink keeps the contract of sinks in each of its modes, on MiniStack."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import orjson
import pytest

from aws_contract import AwsContract
from far_messages import client
from streamflow.attributes import json_item
from streamflow.testing.sink_contract import Changes, Seen, exact_json
from streamflow_aws.dynamodb import dynamodb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.sdk import Record, SinkDeclaration

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class TableContract(AwsContract):
    kind = "state"

    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._dynamodb = client("dynamodb", ministack)
        for table, key in (("copy", "id"), ("view", "pk"), ("checkpoints", "id")):
            self._dynamodb.create_table(
                TableName=table,
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                BillingMode="PAY_PER_REQUEST",
            )
        yield
        self._dynamodb.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return dynamodb(**self.settings())

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, table="none")

    def settings(self) -> dict[str, Any]:
        return {"table": "copy"}

    def untakeable(self, changes: Changes) -> Sequence[Record]:
        """An item of 400 KB less a little, which is more with what is added to it."""
        return [changes.put("untakeable", blob={"S": "x" * (409_600 - 120)})]

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        return await anyio.to_thread.run_sync(lambda: [seen(item) for item in self.items()])

    def items(self) -> list[dict[str, Any]]:
        pages = self._dynamodb.get_paginator("scan").paginate(TableName=self.settings()["table"], ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]


def seen(item: dict[str, Any]) -> Seen:
    image = {name: in_text(value) for name, value in item.items() if not name.startswith("_sf_")}
    deleted = "_sf_deleted" in item
    return Seen(
        item_key=orjson.dumps({name: image[name] for name in ("id", "pk") if name in image}).decode(),
        event_id=item["_sf_event_id"]["S"],
        image=None if deleted else exact_json(orjson.dumps(json_item(image))),
        deleted=deleted,
    )


def in_text(value: Any) -> Any:
    """boto3 gives binary values as bytes; the stream has them as base64."""
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {name: in_text(each) for name, each in value.items()}
        case list():
            return [in_text(each) for each in value]
    return value


class TestReplicate(TableContract):
    mode = "replicate"


class TestReplicateWithoutTombstones(TableContract):
    mode = "replicate, no tombstones"

    def settings(self) -> dict[str, Any]:
        return {"table": "copy", "tombstones": False}


class TestMaterialise(TableContract):
    mode = "materialise"

    def settings(self) -> dict[str, Any]:
        return {"table": "view", "mode": "materialise", "key": {"pk": "ITEM#{id}"}}

    def normalise(self, image: dict[str, Any]) -> dict[str, Any]:
        return {**image, "pk": f"ITEM#{image['id']}"}


class TestTransactional(TableContract):
    mode = "transactional"

    def settings(self) -> dict[str, Any]:
        return {"table": "copy", "transactional": True, "checkpoint_table": "checkpoints"}


class TestTransactionalWithoutTombstones(TableContract):
    mode = "transactional, no tombstones"

    def settings(self) -> dict[str, Any]:
        return {"table": "copy", "transactional": True, "checkpoint_table": "checkpoints", "tombstones": False}
