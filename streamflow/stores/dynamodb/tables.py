"""Tables of a store in DynamoDB: found or made, and looked at before anything is written to them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.errors import StoreError
from streamflow.stores.dynamodb.calls import TableMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.stores.dynamodb.calls import DynamoDBCalls

# A table on demand takes some seconds.
_LOOKS_MAX, _LOOK_INTERVAL_S = 120, 0.5


@dataclass(frozen=True, slots=True)
class Schema:
    """Names of the key attributes, all of them text: the hash key, and the range key if there is one."""

    keys: tuple[str, ...]

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in self.keys],
            "KeySchema": [
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(self.keys, ("HASH", "RANGE"), strict=False)
            ],
            "BillingMode": "PAY_PER_REQUEST",
        }


LEASE_TABLE = Schema(("leaseKey",))
COMPANION_TABLE = Schema(("pk", "sk"))


async def find_table(calls: DynamoDBCalls, table: str, schema: Schema, *, make: bool) -> bool:
    """Wait until the table can be used, making it if there is none and `make`; False if there is none.

    Raises:
        StoreError: it has other keys, may not be made, or does not come up.
    """
    made = False
    for _ in range(_LOOKS_MAX):
        description = await _description(calls, table)
        if description is None:
            if not make:
                return False
            if not made:
                await _make(calls, table, schema)
                made = True
        else:
            _check(description, table, schema)
            if description.get("TableStatus") in {"ACTIVE", "UPDATING"}:
                return True
        await anyio.sleep(_LOOK_INTERVAL_S)
    raise StoreError(f"DynamoDB table {table}: it did not come up within {_LOOKS_MAX * _LOOK_INTERVAL_S:g} s")


async def _description(calls: DynamoDBCalls, table: str) -> Mapping[str, Any] | None:
    with suppress(TableMissingError):
        found: Mapping[str, Any] | None = (await calls.read("describe_table", table, TableName=table)).get("Table")
        return found
    return None


async def _make(calls: DynamoDBCalls, table: str, schema: Schema) -> None:
    try:
        await calls.write("create_table", table, TableName=table, **schema.parameters)
    except StoreError as error:
        # Another worker was faster, or the answer was lost: looking tells.
        if "ResourceInUse" not in str(error) and not await _description(calls, table):
            raise


def _check(description: Mapping[str, Any], table: str, schema: Schema) -> None:
    kinds = {one["AttributeName"]: one["AttributeType"] for one in description.get("AttributeDefinitions", [])}
    keys = tuple(
        one["AttributeName"] for one in sorted(description.get("KeySchema", []), key=lambda key: key["KeyType"])
    )
    if keys != schema.keys or any(kinds.get(name) != "S" for name in keys):
        wanted, found = " and ".join(schema.keys), " and ".join(keys)
        raise StoreError(
            f"DynamoDB table {table}: its key is {found}, and not {wanted} as text: it is the table of another program (name "
            "another table)"
        )


async def coordinator_item(calls: DynamoDBCalls, table: str, key: str) -> Mapping[str, Any] | None:
    """An item that the KCL 3.x keeps beside a lease table; None without it or its table."""
    beside = f"{table}-CoordinatorState"
    try:
        answer = await calls.read("get_item", beside, TableName=beside, Key={"key": {"S": key}}, ConsistentRead=True)
    except TableMissingError:
        return None
    return answer.get("Item")
