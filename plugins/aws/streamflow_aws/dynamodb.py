"""DynamoDB: the items of the stream in another table, as they are or in another form."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha512
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
from pydantic import Field, field_validator, model_validator

from streamflow.sdk import Capabilities, ConfigError, Permission, SinkPlugin, resource_arn
from streamflow_aws.clients import Target, open_client
from streamflow_aws.dynamodb_items import MARKS, Form, Table
from streamflow_aws.dynamodb_runs import BYTES_MAX, ITEMS_MAX
from streamflow_aws.dynamodb_transactions import TransactionalDynamoDBWriter
from streamflow_aws.dynamodb_versioned import VersionedWriter
from streamflow_aws.settings import AwsSinkSettings
from streamflow_aws.templates import parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Any

    from streamflow.sdk import SinkContext, Writer
    from streamflow_aws.clients import Client

_TABLE = r"^[A-Za-z0-9_.-]{3,255}$|^arn:[a-z-]+:dynamodb:[a-z0-9-]+:\d{12}:table/[A-Za-z0-9_.-]{3,255}$"

# What asks for a pause beside throttles: a transaction of somebody else is at work on the item.
_BUSY_CODES = frozenset({"TransactionConflictException", "TransactionInProgressException"})


class DynamoDBSettings(AwsSinkSettings):
    table: Annotated[str, Field(examples=["orders-copy"], pattern=_TABLE)]
    """Name or ARN of the table to write."""
    mode: Literal["replicate", "materialise"] = "replicate"
    """`replicate`: the same items under the same keys. `materialise`: under the keys that `key` makes, with the attributes
    that `attributes` chooses."""
    key: Annotated[
        dict[str, str] | None, Field(min_length=1, max_length=2, examples=[{"pk": "ORDER#{id}", "sk": "{created}"}])
    ] = None
    """Of `materialise`: key attributes of the table to texts with `{name}`, a key attribute of the stream's table. All of
    those have to be in it, so that no two items become one. A text that is one `{name}` keeps the type."""
    attributes: Annotated[dict[str, str] | None, Field(min_length=1, examples=[{"amount": "total"}])] = None
    """Of `materialise`: attributes of the table to those of the stream's table that they hold; by default all as they are."""
    transactional: bool = False
    """Store each shard's checkpoint in one transaction with its items, and go on from that: each change once."""
    checkpoint_table: Annotated[str | None, Field(examples=["streamflow-checkpoints"], pattern=_TABLE)] = None
    """Of `transactional`: the table for checkpoints, with a string as its only key attribute."""
    tombstones: bool = True
    """Whether a deleted item leaves one with its key, its version and `_sf_deleted`. Without it, an older change that is
    written again after the delete brings the item back."""
    tombstone_ttl_s: Annotated[float | None, Field(ge=86_400, examples=[604_800.0])] = None
    """Seconds after the delete when `_sf_expires` lies, for the time to live of the table; by default they stay for ever."""
    skip_replicated: bool = False
    """Leave out changes that such a sink has made in the stream's table: for replication in both directions."""
    concurrency: Annotated[int, Field(ge=1, le=100)] = 16
    """Writes of one batch at the same time, unless `transactional`."""

    @field_validator("key", "attributes")
    @classmethod
    def _names_are_the_users(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if taken := sorted(MARKS & (value or {}).keys()):
            raise ValueError(f"attributes of the sink's own: {', '.join(taken)}")
        return value

    @field_validator("key")
    @classmethod
    def _templates_can_be_read(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name, template in (value or {}).items():
            if not template:
                raise ValueError(f"the template of {name} is empty")
            parse(template, opening="{")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> DynamoDBSettings:
        if (self.mode == "materialise") != (self.key is not None):
            raise ValueError('mode = "materialise" goes with key, and key with it')
        if self.attributes is not None and self.key is None:
            raise ValueError('attributes goes with mode = "materialise"')
        if self.transactional != (self.checkpoint_table is not None):
            raise ValueError("transactional goes with checkpoint_table, and checkpoint_table with it")
        if self.checkpoint_table is not None and self.checkpoint_table == self.table:
            raise ValueError("checkpoint_table is a table of its own, not the one in table")
        if not self.tombstones and (self.skip_replicated or self.tombstone_ttl_s is not None):
            raise ValueError("skip_replicated and tombstone_ttl_s need tombstones")
        return self


@asynccontextmanager
async def _open(settings: DynamoDBSettings, context: SinkContext) -> AsyncIterator[Writer]:
    async with open_client(context, "dynamodb", aws=settings.aws, busy_codes=_BUSY_CODES) as client:
        form = _form(settings, await _key_of(client, settings.table, _creation(settings)))
        versioned = VersionedWriter(
            client=client,
            form=form,
            note_suppressed=context.note_suppressed,
            capabilities=_VERSIONED,
            concurrency=settings.concurrency,
        )
        if settings.checkpoint_table is None:
            yield versioned
            return
        yield TransactionalDynamoDBWriter(
            client=client,
            form=form,
            checkpoints=settings.checkpoint_table,
            key_name=await _checkpoint_key(client, settings.checkpoint_table),
            pipeline=context.pipeline,
            salt=_salt(settings),
            note_suppressed=context.note_suppressed,
            outside=versioned,
        )


def _form(settings: DynamoDBSettings, key: Mapping[str, str]) -> Form:
    """Raises `ConfigError`: the key that the settings make is not that of the table."""
    if settings.key is not None and settings.key.keys() != key.keys():
        raise ConfigError(
            f"dynamodb: the table {settings.table} has the key {', '.join(sorted(key))}, and key in the settings makes "
            f"{', '.join(sorted(settings.key))}"
        )
    return Form(
        table=Table(name=settings.table, key=key),
        key=None if settings.key is None else {name: parse(text, opening="{") for name, text in settings.key.items()},
        attributes=settings.attributes,
        tombstones=settings.tombstones,
        tombstone_ttl_s=settings.tombstone_ttl_s,
        skip_replicated=settings.skip_replicated,
    )


def _salt(settings: DynamoDBSettings) -> bytes:
    """64 bytes at most: settings with which the same records make other requests have another one."""
    told = settings.model_dump(mode="json", exclude={"aws", "concurrency"})
    return sha512(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).digest()


async def _key_of(client: Client, table: str, creation: str) -> dict[str, str]:
    """Name to type of the table's key attributes.

    Raises:
        ConfigError: there is no such table, or it cannot be looked at.
    """
    target = Target(name=f"dynamodb: the table {table}", permission="dynamodb:DescribeTable", creation=creation)
    found: Mapping[str, Any] = (await client.look("describe_table", target, TableName=table)).get("Table") or {}
    types = {each["AttributeName"]: each["AttributeType"] for each in found.get("AttributeDefinitions") or ()}
    key = {each["AttributeName"]: types[each["AttributeName"]] for each in found.get("KeySchema") or ()}
    if not key:
        raise ConfigError(f"dynamodb: the service does not tell the key of the table {table} now: start again later")
    return key


async def _checkpoint_key(client: Client, table: str) -> str:
    creation = (
        f"aws dynamodb create-table --table-name {table} --attribute-definitions AttributeName=id,AttributeType=S "
        "--key-schema AttributeName=id,KeyType=HASH --billing-mode PAY_PER_REQUEST"
    )
    key = await _key_of(client, table, creation)
    if list(key.values()) != ["S"]:
        raise ConfigError(f"dynamodb: checkpoint_table {table} needs one key attribute, a string: {creation}")
    return next(iter(key))


def _creation(settings: DynamoDBSettings) -> str:
    what = "the key of the stream's table" if settings.key is None else f"the key {', '.join(settings.key)}"
    return f"aws dynamodb create-table --table-name {settings.table} …, with {what}"


_VERSIONED = Capabilities(
    order="key",
    idempotence="versioned",
    idempotence_key="item key and sequence number",
    partial_failures=True,
    needs_images=True,
    request_records_max=1,
)


def _capabilities(settings: DynamoDBSettings) -> Capabilities:
    if settings.transactional:
        return replace(
            _VERSIONED,
            idempotence="transactional",
            idempotence_key="checkpoint of the shard, in the same transaction",
            batch_size=ITEMS_MAX,
            records_max=ITEMS_MAX,
            bytes_max=BYTES_MAX,
            request_records_max=None,
        )
    # Without tombstones an older change that is written again brings a deleted item back.
    return _VERSIONED if settings.tombstones else replace(_VERSIONED, idempotence="none", idempotence_key=None)


def _permissions(settings: DynamoDBSettings) -> list[Permission]:
    """Parts of a transaction are permitted as what they are by themselves."""
    writes = ("dynamodb:PutItem",) if settings.tombstones else ("dynamodb:DeleteItem", "dynamodb:PutItem")
    found = [_on_table("write items to", settings.table, ("dynamodb:DescribeTable", *writes))]
    if settings.checkpoint_table is not None:
        actions = ("dynamodb:DescribeTable", "dynamodb:UpdateItem")
        found.append(_on_table("keep checkpoints in", settings.checkpoint_table, actions))
    return found


def _on_table(what: str, table: str, actions: tuple[str, ...]) -> Permission:
    target = resource_arn("dynamodb", "table/", table)
    return Permission(purpose=f"{what} {table.rpartition('/')[2]}", actions=actions, resources=(target,))


dynamodb = SinkPlugin(
    name="dynamodb",
    api_version="1.0",
    summary="Items in another DynamoDB table, as they are or in another form, with the checkpoint beside them if you like.",
    settings=DynamoDBSettings,
    examples={
        "a copy": {"table": "orders-copy"},
        "another form": {
            "table": "orders-by-key",
            "mode": "materialise",
            "key": {"pk": "ORDER#{id}"},
            "attributes": {"amount": "total", "state": "status"},
        },
        "each change once": {
            "table": "orders-copy",
            "transactional": True,
            "checkpoint_table": "streamflow-checkpoints",
        },
        "both directions": {"table": "orders-copy", "skip_replicated": True},
    },
    open=_open,
    capabilities=_capabilities,
    permissions=_permissions,
)
