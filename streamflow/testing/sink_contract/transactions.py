"""Scenarios about sinks that store the checkpoint with the data: it is true at every moment, and only one owner moves it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from streamflow.errors import FencedError
from streamflow.positions import Position
from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.runs import PipelineHooks
from streamflow.testing.sink_contract.verdicts import not_promised

if TYPE_CHECKING:
    from streamflow.testing.proxies import FaultProxy

_ANSWERS_MAX = 40


class TransactionScenarios(PipelineHooks):
    async def test_the_checkpoint_is_stored_with_the_data(self) -> None:
        self._needs_transactions()
        changes = Changes()
        changes.put_many(10, items=4)
        batch = changes.batch(*changes.records)
        async with self.opened(changes) as opened:
            assert await opened.fence(batch.shard, 1) is None, "a shard that was never written is somewhere"
            await opened.write(batch)
        async with self.opened(changes) as opened:
            assert await opened.fence(batch.shard, 2) == batch.last
            await opened.write(changes.batch(*changes.records, epoch=2))
            assert await opened.fence(batch.shard, 2) == batch.last, "the same owner may fence again"
        await self.check_target(changes, changes.records)

    async def test_wherever_a_write_breaks_the_checkpoint_says_whether_it_happened(
        self, proxy: FaultProxy | None
    ) -> None:
        self._needs_transactions()
        between = self.proxied(proxy)
        changes = Changes()
        written = changes.put_many(3)
        position = changes.batch(*written).last
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*written))
        for number in range(_ANSWERS_MAX):
            lost = between.answers_lost
            batch = changes.batch(*changes.put_many(3, name=f"try{number}item"), epoch=2 * number + 2)
            async with self.opened(changes) as opened:
                await opened.fence(batch.shard, batch.epoch)
                between.lose_answers(1, after=number)
                with suppress(Exception):  # the process that wrote is gone, and its error with it
                    await opened.write(batch)
                between.pass_through()
            async with self.opened(changes) as opened:
                found = await opened.fence(batch.shard, batch.epoch + 1)
                assert found in {position, batch.last}, "the checkpoint is at neither end of the batch"
                if found == batch.last:
                    written += batch.records
                await self.check_target(changes, written)
                if found != batch.last:
                    written += batch.records
                    await opened.write(changes.batch(*batch.records, epoch=batch.epoch + 1))
                position = batch.last
            if between.answers_lost == lost:
                break
        await self.check_target(changes, written)

    async def test_an_owner_that_lost_the_shard_can_write_no_more(self) -> None:
        self._needs_transactions()
        changes = Changes()
        first = changes.batch(*changes.put_many(3, name="first"))
        late = changes.batch(*changes.put_many(3, name="late"))
        async with self.opened(changes) as zombie, self.opened(changes) as owner:
            await zombie.write(first)
            assert await owner.fence(first.shard, 2) == first.last
            with pytest.raises(FencedError):
                await zombie.writer.write(late)
            with pytest.raises(FencedError):
                await zombie.transactional.advance(late.shard, 1, late.last)
            with pytest.raises(FencedError) as refused:
                await zombie.fence(late.shard, 1)
            assert refused.value.epoch in {None, 2}, "a sink that tells an epoch tells the newest"
            await self.check_target(changes, first.records)
            assert await owner.fence(first.shard, 2) == first.last
            await owner.write(changes.batch(*late.records, epoch=2))
        await self.check_target(changes, changes.records)

    async def test_the_checkpoint_moves_over_what_was_settled_elsewhere_and_never_back(self) -> None:
        self._needs_transactions()
        changes = Changes()
        first, second, third = (changes.put(name) for name in ("first", "second", "third"))
        shard = first.shard
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(first))
            await opened.transactional.advance(shard, 1, second.position)
            assert await opened.fence(shard, 1) == second.position
            await opened.transactional.advance(shard, 1, first.position)
            assert await opened.fence(shard, 1) == second.position
            await opened.write(changes.batch(second, third))
            assert await opened.fence(shard, 1) == third.position
        await self.check_target(changes, [first, third])

    async def test_letters_that_are_delivered_again_pass_the_checkpoint_by(self) -> None:
        """A batch of epoch 0 is no owner's; what is newer stays as it is."""
        self._needs_transactions()
        changes = Changes()
        old, letter, new = changes.put("item"), changes.put("letter"), changes.put("item")
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(new))
            await opened.writer.write(changes.batch(letter, epoch=0))
            if self.kind == "state":
                await opened.writer.write(changes.batch(old, epoch=0))
            assert await opened.fence(new.shard, 1) == Position.after(new.sequence_number)
        await self.check_target(changes, [letter, new])

    async def test_a_pipeline_that_lost_its_store_goes_on_where_the_target_is(self) -> None:
        self._needs_transactions()
        changes = Changes(shards=2)
        changes.put_many(100, items=20)
        async with self.running(changes) as run:
            await run.until(lambda: run.delivered == 100)
        changes.put_many(50, items=20)
        changes.end()
        async with self.running(changes) as again:
            await again.ended()
        assert again.delivered == 50, f"{again.delivered} records were delivered again, and 50 are new"
        await self.check_target(changes, changes.records)

    def _needs_transactions(self) -> None:
        if self.capabilities.idempotence != "transactional":
            not_promised("it stores no checkpoint")
