"""Scenarios about a sink in a pipeline: what the engine makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.errors import HandlerTimeoutError
from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.runs import DRAIN_S, PipelineHooks
from streamflow.testing.sink_contract.verdicts import not_promised, not_run

if TYPE_CHECKING:
    from pathlib import Path

    from streamflow.testing.proxies import FaultProxy


class PipelineScenarios(PipelineHooks):
    async def test_a_pipeline_delivers_every_change_of_several_shards(self) -> None:
        changes = _story(self)
        async with self.running(changes) as run:
            changes.end()
            await run.ended()
        assert run.delivered == len(changes.records)
        await self.check_target(changes, changes.records)

    async def test_several_batches_of_a_shard_are_delivered_at_the_same_time(self) -> None:
        if self.capabilities.idempotence == "transactional":
            not_promised("it stores one checkpoint for each shard")
        changes = Changes(shards=2)
        changes.put_many(600, items=40)
        async with self.running(changes, parallelization_factor=4, batch_size=10) as run:
            changes.end()
            await run.ended()
        await self.check_target(changes, changes.records, order="none" if self.capabilities.order == "none" else "key")

    async def test_a_record_that_cannot_be_taken_is_a_dead_letter_and_the_others_arrive(self) -> None:
        changes = Changes(shards=2)
        changes.put_many(20, name="before")
        refused = list(self.untakeable(changes))
        if not self.capabilities.partial_failures:
            not_promised("it does not tell single records apart")
        if not refused:
            not_run("there is no untakeable() record, and no record_bytes_max that a record can pass")
        changes.put_many(20, name="behind")
        async with self.running(changes, maximum_retry_attempts=3) as run:
            changes.end()
            await run.ended()
        assert {record.event_id for record in run.letters.records} == {record.event_id for record in refused}
        await self.check_target(changes, [record for record in changes.records if record not in refused])

    async def test_a_server_that_is_killed_and_comes_back_costs_nothing(self) -> None:
        changes = Changes(shards=2)
        changes.put_many(300, items=50)
        async with self.running(changes, batch_size=10) as run:
            await run.until(lambda: run.delivered)
            await self.kill()
            changes.put_many(100, items=50)
            await run.until(lambda: run.of(events.BatchFailed))
            await self.restart()
            changes.put_many(20, items=50)
            changes.end()
            await run.ended()
        assert not run.letters.records, "a server that is away refuses no record"
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def test_answers_that_are_lost_cost_nothing(self, proxy: FaultProxy | None) -> None:
        between = self.proxied(proxy)
        changes = Changes(shards=2)
        async with self.running(changes, batch_size=5) as run:
            for _ in range(4):
                changes.put_many(20, items=10)
                between.lose_answers(2)
                await run.until(lambda: run.delivered == len(changes.records))
            changes.end()
            await run.ended()
        assert between.answers_lost > 0, "no answer came through `proxy`: does `sink` go through it?"
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def test_a_target_that_does_not_answer_runs_into_the_timeout(self, proxy: FaultProxy | None) -> None:
        between = self.proxied(proxy)
        changes = Changes()
        async with self.running(changes, handler_timeout_s=0.5) as run:
            changes.put_many(5)
            await run.until(lambda: run.delivered == 5)
            between.delay(60.0)
            changes.put_many(5)
            await run.until(lambda: run.of(events.BatchFailed))
            between.pass_through()
            changes.end()
            await run.ended()
        assert isinstance(run.of(events.BatchFailed)[0].error, HandlerTimeoutError)
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def test_a_clean_stop_ends_in_time_and_repeats_nothing(self, tmp_path: Path) -> None:
        store = f"sqlite:///{tmp_path}/leases.db"
        changes = Changes(shards=2)
        changes.put_many(400, items=50)
        async with self.running(changes, store=store, batch_size=10) as run:
            await run.until(lambda: run.delivered)
            with anyio.fail_after(DRAIN_S + 5):
                run.worker.stop()
                await run.worker.wait()
        assert run.of(events.PipelineStopped)[0].drained, "batches in flight did not end within the deadline"
        changes.end()
        async with self.running(changes, store=store) as rest:
            await rest.ended()
        assert run.delivered + rest.delivered == len(changes.records)
        await self.check_target(changes, changes.records)

    async def test_what_was_delivered_is_counted(self) -> None:
        changes = Changes()
        changes.put_many(30, items=10)
        async with self.running(changes) as run:
            changes.end()
            await run.ended()
            registry = run.worker.registry
        labels = {"pipeline": changes.pipeline}
        assert registry.get_sample_value("streamflow_records_delivered_total", labels) == 30
        assert (registry.get_sample_value("streamflow_batch_records_count", labels) or 0) >= 1

    async def test_credentials_can_be_rotated_while_it_runs(self) -> None:
        changes = Changes()
        async with self.running(changes) as run:
            changes.put_many(10)
            await run.until(lambda: run.delivered == 10)
            await self.rotate_credentials()
            changes.put_many(10)
            changes.end()
            await run.ended()
        await self.check_target(changes, changes.records, once=self.is_idempotent)


def _story(contract: PipelineHooks) -> Changes:
    changes = Changes(shards=4)
    changes.put_many(400, items=40)
    if contract.capabilities.deletes:
        for number in range(0, 40, 4):
            changes.delete(f"item{number}")
    changes.put_many(40, items=20)
    return changes
