"""Scenarios about order, and about several batches at the same time."""

from __future__ import annotations

import anyio

from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.hooks import SinkHooks
from streamflow.testing.sink_contract.verdicts import not_promised

_SHARDS = 4


class OrderScenarios(SinkHooks):
    async def test_many_changes_of_one_item_in_one_batch_keep_their_order(self) -> None:
        if self.capabilities.order == "none" and self.kind == "log":
            not_promised("it keeps no order")
        changes = Changes()
        changes.put_many(60, items=3)
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*changes.records))
        await self.check_target(changes, changes.records)

    async def test_changes_of_one_item_keep_their_order_over_batches_of_several_shards(self) -> None:
        if self.capabilities.order == "none" and self.kind == "log":
            not_promised("it keeps no order")
        changes = Changes(shards=_SHARDS)
        changes.put_many(_SHARDS * 60, items=_SHARDS * 5)
        await self._write_side_by_side(changes, size=7)
        await self.check_target(changes, changes.records)

    async def test_several_shards_are_written_at_the_same_time(self) -> None:
        changes = Changes(shards=2 * _SHARDS)
        changes.put_many(600)
        await self._write_side_by_side(changes, size=50)
        await self.check_target(changes, changes.records)

    async def _write_side_by_side(self, changes: Changes, *, size: int) -> None:
        """Each shard's batches one after the other, the shards all at once."""
        shards = {record.shard.shard_id for record in changes.records}
        async with self.opened(changes) as opened, anyio.create_task_group() as tasks:

            async def write(shard_id: str) -> None:
                own = [record for record in changes.records if record.shard.shard_id == shard_id]
                for batch in changes.batches(own, size=size):
                    await opened.write(batch)

            for shard_id in shards:
                tasks.start_soon(write, shard_id)
