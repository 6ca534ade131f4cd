"""The companion of the lease tables: what the layout of the KCL has no place for, so that nothing foreign is in its table.

Rows that are no shard's, with compare-and-set of their own; and large values in chunks, written under a fresh name before
anything points to them.
"""

from __future__ import annotations

import secrets  # noqa: TID251 - no two letters of two workers may have one id
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamflow.errors import StoreError
from streamflow.leases import Lease
from streamflow.stores.dynamodb.calls import ConditionError
from streamflow.stores.dynamodb.notes import noted, with_note

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from streamflow.leases import LeaseKey
    from streamflow.stores.dynamodb.calls import DynamoDBCalls
    from streamflow.stores.dynamodb.notes import Item

# An item holds 400 KB, names included.
CHUNK_BYTES = 300_000
_NAMES = {"#version": "version"}


class Companion:
    """One table, `pk` and `sk`. Its reads are consistent."""

    def __init__(self, calls: DynamoDBCalls, table: str) -> None:
        self.calls = calls
        self.table = table

    # -- rows -----------------------------------------------------------------------------------------------------------

    async def rows(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        """As `LeaseStore.list`."""
        pk = _pk(pipeline, stream_arn)
        found = [item async for item in self.query(pk)]
        return [replace(_lease(item, pipeline, stream_arn), window=None) for item in found]

    async def get(self, key: LeaseKey) -> Lease | None:
        """As `LeaseStore.get`."""
        answer = await self.calls.read("get_item", self.table, TableName=self.table, Key=_key(key), ConsistentRead=True)
        item = answer.get("Item")
        return None if item is None else _lease(item, key.pipeline, key.stream_arn)

    async def create(self, lease: Lease) -> Lease | None:
        """As `LeaseStore.create`."""
        stored = replace(lease, version=lease.version + 1)
        return await self._put(stored, "attribute_not_exists(pk)")

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        """As `LeaseStore.update`."""
        stored = replace(lease, version=expected_version + 1)
        return await self._put(stored, "#version = :known", **_known(expected_version))

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        """As `LeaseStore.delete`."""
        try:
            await self.calls.write(
                "delete_item",
                self.table,
                TableName=self.table,
                Key=_key(key),
                ConditionExpression="#version = :known",
                **_known(expected_version),
            )
        except ConditionError:
            return False
        return True

    async def _put(self, lease: Lease, condition: str, **parameters: Any) -> Lease | None:
        item = {**_key(lease.key), "version": {"N": str(lease.version)}, "lease": noted(lease, _blank(lease.key))}
        try:
            await self.calls.write(
                "put_item", self.table, TableName=self.table, Item=item, ConditionExpression=condition, **parameters
            )
        except ConditionError:
            return None
        return lease

    # -- chunks ---------------------------------------------------------------------------------------------------------

    async def write_chunks(self, pk: str, name: str, data: bytes) -> None:
        """Store data under a name that nothing points to yet."""
        pieces = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        for number, piece in enumerate(pieces):
            # One by one: all pieces together may be beyond what a request holds.
            item = {"pk": {"S": pk}, "sk": {"S": f"{name}#{number:06d}"}, "data": {"B": piece}}
            await self.calls.write("put_item", self.table, TableName=self.table, Item=item)

    async def read_chunks(self, pk: str, name: str) -> bytes:
        """What is there under the name; empty if nothing is."""
        return b"".join([bytes(item["data"]["B"]) async for item in self.query(pk, begins_with=f"{name}#")])

    async def remove_chunks(self, pk: str, unwanted: Callable[[str], bool]) -> None:
        """Delete the data whose names are not wanted."""
        names = [item["sk"]["S"] async for item in self.query(pk, ProjectionExpression="sk")]
        gone = [sk for sk in names if unwanted(sk.rpartition("#")[0])]
        await self.calls.write_items(
            self.table, [{"DeleteRequest": {"Key": {"pk": {"S": pk}, "sk": {"S": sk}}}} for sk in gone]
        )

    # -- reading --------------------------------------------------------------------------------------------------------

    async def query(self, pk: str, *, begins_with: str = "", **parameters: Any) -> AsyncIterator[Item]:
        """All items of a partition, by ascending `sk`."""
        condition, values = "pk = :pk", {":pk": {"S": pk}}
        if begins_with:
            condition, values = f"{condition} AND begins_with(sk, :sk)", {**values, ":sk": {"S": begins_with}}
        async for page in self.calls.pages(
            "query", self.table, KeyConditionExpression=condition, ExpressionAttributeValues=values, **parameters
        ):
            for item in page.get("Items", []):
                yield item


def fresh_name(version: int) -> str:
    """Of a window that the write to `version` points to. Names of later versions are greater."""
    return f"{version:020d}-{secrets.token_hex(8)}"


def outlived(version: int, name: str | None) -> Callable[[str], bool]:
    """Which windows nobody points to, now that the row at `version` points to `name`.

    A rival that has read that row may be writing the window of the next version already.
    """
    return lambda found: found != name and found < f"{version + 1:020d}"


def _pk(pipeline: str, stream_arn: str) -> str:
    return f"row#{pipeline}#{stream_arn}"


def _key(key: LeaseKey) -> dict[str, Any]:
    return {"pk": {"S": _pk(key.pipeline, key.stream_arn)}, "sk": {"S": key.shard_id}}


def _known(version: int) -> dict[str, Any]:
    return {"ExpressionAttributeNames": _NAMES, "ExpressionAttributeValues": {":known": {"N": str(version)}}}


def _blank(key: LeaseKey) -> Lease:
    return Lease(pipeline=key.pipeline, stream_arn=key.stream_arn, shard_id=key.shard_id)


def _lease(item: Item, pipeline: str, stream_arn: str) -> Lease:
    shard_id = item["sk"]["S"]
    try:
        blank = Lease(pipeline=pipeline, stream_arn=stream_arn, shard_id=shard_id, version=int(item["version"]["N"]))
        return with_note(blank, item["lease"]["M"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"lease store: the row {shard_id} of pipeline {pipeline!r} in the companion table is damaged: {error!r} (correct "
            "it, or delete it)"
        ) from error
