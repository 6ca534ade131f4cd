"""Scenarios about records that come again: what idempotence promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.hooks import SinkHooks
from streamflow.testing.sink_contract.verdicts import not_promised

if TYPE_CHECKING:
    from streamflow.records import Record
    from streamflow.testing.sink_contract.opened import OpenSink


class RepetitionScenarios(SinkHooks):
    async def test_the_same_batch_again_changes_nothing(self) -> None:
        self._needs_idempotence()
        changes = self._story()
        async with self.opened(changes) as opened:
            for attempt in (1, 2, 3):
                await opened.write(changes.batch(*changes.records, attempt=attempt))
            await self.check_target(changes, changes.records)
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*changes.records))
        await self.check_target(changes, changes.records)

    async def test_the_same_records_in_other_batches_change_nothing(self) -> None:
        self._needs_idempotence()
        changes = self._story()
        async with self.opened(changes) as opened:
            for size in (5, 3, 1, len(changes.records)):
                await self._write(opened, changes, changes.records, size=size)
        await self.check_target(changes, changes.records)

    async def test_what_was_written_in_part_is_completed(self) -> None:
        changes = self._story()
        async with self.opened(changes) as opened:
            await self._write(opened, changes, changes.records[:5], size=5)
            await self._write(opened, changes, changes.records, size=len(changes.records))
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def test_an_older_version_does_not_replace_a_newer_one(self) -> None:
        self._needs_versions()
        changes = Changes()
        older, newer = changes.put("item"), changes.put("item")
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(newer))
            await opened.write(changes.batch(older))
            await self.check_target(changes, [newer])
            await opened.write(changes.batch(older, newer))
        await self.check_target(changes, [newer])

    async def test_an_older_version_does_not_bring_a_deleted_item_back(self) -> None:
        self._needs_versions()
        if not self.capabilities.deletes:
            not_promised("it takes no deletes")
        changes = Changes()
        written, deleted = changes.put("item"), changes.delete("item")
        unseen, unseen_deleted = changes.put("unseen"), changes.delete("unseen")
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(written, deleted))
            await opened.write(changes.batch(unseen_deleted))
            await opened.write(changes.batch(written))
            await opened.write(changes.batch(unseen))
        await self.check_target(changes, [deleted, unseen_deleted])

    def _story(self) -> Changes:
        """Some items, changed and deleted in turn."""
        changes = Changes()
        changes.put_many(9, items=3)
        if self.capabilities.deletes:
            changes.delete("item1")
            changes.put("item1")
            changes.delete("item2")
        return changes

    async def _write(self, opened: OpenSink, changes: Changes, records: list[Record], *, size: int) -> None:
        for batch in changes.batches(records, size=size):
            await opened.write(batch)

    def _needs_idempotence(self) -> None:
        if not self.is_idempotent:
            not_promised("it has no idempotence")

    def _needs_versions(self) -> None:
        """Of a log, repetitions are recognised one by one: it may well show an older change that it did not have."""
        self._needs_idempotence()
        if self.kind == "log" or self.capabilities.idempotence not in {"versioned", "transactional"}:
            not_promised("it does not compare versions")
