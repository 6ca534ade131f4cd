"""Leases in DynamoDB: those of shards in tables of the KCL, all other rows in the companion."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import StoreError
from streamflow.leases import STREAM_ROW, SUSPECTS, WORKERS, LeaseLayout
from streamflow.stores.dynamodb.rows import RELEASED
from streamflow.stores.dynamodb.table import LeaseTable
from streamflow.stores.dynamodb.tables import LEASE_TABLE, coordinator_item, find_table
from streamflow.stores.dynamodb.url import PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.clock import Clock
    from streamflow.leases import Lease, LeaseKey
    from streamflow.stores.dynamodb.calls import DynamoDBCalls
    from streamflow.stores.dynamodb.companion import Companion
    from streamflow.stores.dynamodb.url import DynamoDBUrl

_logger = logging.getLogger("streamflow")

_OF_NO_STREAM = {WORKERS, SUSPECTS}


class DynamoDBLeases:
    """The contract of `CountedLeaseStore`, but that a new row begins at version 0, as the counters of the KCL do."""

    def __init__(self, calls: DynamoDBCalls, companion: Companion, url: DynamoDBUrl, clock: Clock) -> None:
        self._calls = calls
        self._companion = companion
        self._url = url
        self._clock = clock
        self._tables: dict[str, LeaseTable] = {}
        self._found: set[str] = set()
        self._opening = anyio.Lock()

    @property
    def layout(self) -> LeaseLayout:
        return LeaseLayout.KCL_SHARED if self._url.options.mode == "coexist-2x" else LeaseLayout.KCL

    @property
    def failover_s(self) -> float:
        """The lease duration of the fleet that the table is shared with."""
        return self._url.options.failover_s

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        rows = await self._companion.rows(pipeline, stream_arn)
        if (pipeline, stream_arn) in _OF_NO_STREAM:
            return rows
        table = await self._table(pipeline, stream_arn)
        return [*rows, *await table.list()]

    async def get(self, key: LeaseKey) -> Lease | None:
        if _is_no_shard(key):
            return await self._companion.get(key)
        return await (await self._table_of(key)).get(key.shard_id)

    async def create(self, lease: Lease) -> Lease | None:
        if _is_no_shard(lease.key):
            return await self._companion.create(lease)
        return await (await self._table_of(lease.key)).create(lease)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        if _is_no_shard(lease.key):
            return await self._companion.update(lease, expected_version=expected_version)
        return await (await self._table_of(lease.key)).update(lease, expected_version=expected_version)

    async def ask(self, lease: Lease, claimant: str) -> Lease | None:
        """See `CountedLeaseStore.ask`: the KCL's way to begin a graceful hand-over."""
        return await (await self._table_of(lease.key)).ask(lease, claimant)

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        if _is_no_shard(key):
            return await self._companion.delete(key, expected_version=expected_version)
        return await (await self._table_of(key)).delete(key.shard_id, expected_version=expected_version)

    # -- tables ---------------------------------------------------------------------------------------------------------

    async def _table_of(self, key: LeaseKey) -> LeaseTable:
        return await self._table(key.pipeline, key.stream_arn)

    async def _table(self, pipeline: str, stream_arn: str) -> LeaseTable:
        """The lease table of a stream in a pipeline, looked at when it is first asked for.

        Raises:
            StoreError: it is another's.
        """
        name = self._url.lease_table(pipeline)
        async with self._opening:
            table = self._tables.get(name) or await self._open(name, pipeline, stream_arn)
        if (table.pipeline, table.stream_arn) != (pipeline, stream_arn):
            raise StoreError(
                f"lease table {name}: a table of the KCL is of one pipeline and one stream, and this store has it open for "
                f"pipeline {table.pipeline!r} and {table.stream_arn}, not for pipeline {pipeline!r} and {stream_arn}; put "
                f"{PLACEHOLDER} into the table's name in the URL of the store, and read one stream in each pipeline"
            )
        return table

    async def _open(self, name: str, pipeline: str, stream_arn: str) -> LeaseTable:
        await self.find(name)
        table = LeaseTable(
            name=name,
            pipeline=pipeline,
            stream_arn=stream_arn,
            calls=self._calls,
            companion=self._companion,
            clock=self._clock,
        )
        await table.look()
        if table.has_leader:
            self._refuse_leader(name, "a row of the table")
        self._tables[name] = table
        return table

    async def find(self, name: str) -> None:
        """Find the lease table or make it, and see that no fleet of the KCL 3.x has it.

        Raises:
            StoreError: there is none and none may be made, or a leader of the KCL 3.x has it.
        """
        if name in self._found:
            return
        if not await find_table(self._calls, name, LEASE_TABLE, make=not self._url.read_only):
            raise StoreError(
                f"DynamoDB table {name}: there is none to look at in {self._calls.region} (mode=shadow makes none)"
            )
        if not self._url.read_only:
            await self._look_for_fleet(name)
        self._found.add(name)

    async def _look_for_fleet(self, name: str) -> None:
        leader = await coordinator_item(self._calls, name, "Leader")
        if leader is not None and RELEASED not in leader:
            self._refuse_leader(name, f"item Leader of the table {name}-CoordinatorState")
        if self.layout is LeaseLayout.KCL_SHARED and await coordinator_item(self._calls, name, "Migration3.0"):
            _logger.warning(
                "lease table %s: workers of the KCL 3.x in COMPATIBLE_WITH_2X share it; they do not change over to 3.x as "
                "long as we own leases in it, because we report no metrics of workers",
                name,
            )

    def _refuse_leader(self, name: str, where: str) -> None:
        """A fleet that stops takes this record away. One that was killed leaves it; to watch it beat would take 30 s.

        Raises:
            StoreError: unless the URL says that the fleet is gone.
        """
        if self._url.read_only or self._url.options.leader == "gone":
            return
        raise StoreError(
            f"lease table {name}: a fleet of the KCL 3.x has a leader ({where}), which would give our leases away; stop the "
            "fleet first. If it was killed, the record is left over: add leader=gone to the URL of the store, or delete it"
        )


def _is_no_shard(key: LeaseKey) -> bool:
    return key.shard_id == STREAM_ROW or (key.pipeline, key.stream_arn) in _OF_NO_STREAM
