"""Scenarios about records that the target cannot take, and about times when it takes none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import ConfigError
from streamflow.failures import RecordsFailedError
from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.hooks import SinkHooks
from streamflow.testing.sink_contract.verdicts import not_promised, not_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.records import Record
    from streamflow.testing.proxies import FaultProxy
    from streamflow.testing.sink_contract.opened import OpenSink

COME_BACK_S_MAX = 30.0
# Longer than any server here needs; a write that has not returned by then waits for its answer.
_PATIENCE_S = 0.4


class FailureScenarios(SinkHooks):
    async def test_exactly_the_records_that_cannot_be_taken_are_refused(self) -> None:
        changes = Changes()
        changes.put_many(3, name="before")
        refused = list(self.untakeable(changes))
        self._needs_untakeable(refused)
        changes.put_many(3, name="behind")
        rest = [record for record in changes.records if record not in refused]
        failure: RecordsFailedError | None = None
        async with self.opened(changes) as opened:
            try:
                await opened.write(changes.batch(*changes.records))
            except RecordsFailedError as error:
                failure = error
        assert failure is not None, "records that the target cannot hold count as written"
        told = {each.record.event_id: each.kind for each in failure.failures}
        kept_back = [record for record in rest if record.event_id in told]
        if self.capabilities.idempotence != "transactional":
            assert kept_back == [], "records are told that could be written"
        assert told == {
            **{record.event_id: "refused" for record in refused},
            # A checkpoint that is stored with the data must not pass a record that was not written.
            **{record.event_id: "waiting" for record in kept_back},
        }
        assert all(each.reason.strip() for each in failure.failures), "a refusal says no reason"
        await self.check_target(changes, [record for record in rest if record not in kept_back])

    async def test_a_later_change_does_not_overtake_one_that_was_refused(self) -> None:
        changes = Changes()
        refused = list(self.untakeable(changes))[:1]
        self._needs_untakeable(refused)
        name = str(refused[0].keys["id"]).partition("-")[2]
        later = changes.put(name)
        if self.capabilities.order == "none":
            not_promised("it keeps no order")
        told = {}
        async with self.opened(changes) as opened:
            try:
                await opened.write(changes.batch(*refused, later))
            except RecordsFailedError as error:
                told = {each.record.event_id: each.kind for each in error.failures}
        assert told.get(refused[0].event_id) == "refused"
        assert later.event_id in told, "a later change counts as written, and the one before it was not"
        await self.check_target(changes, [])

    def _needs_untakeable(self, records: Sequence[Record]) -> None:
        if not self.capabilities.partial_failures:
            not_promised("it does not tell single records apart")
        if not records:
            not_run("there is no untakeable() record, and no record_bytes_max that a record can pass")

    async def test_a_target_that_was_away_is_written_when_it_is_back(self, proxy: FaultProxy | None) -> None:
        changes = Changes()
        changes.put_many(4)
        first, missed = changes.records[:2], changes.records[2:]
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*first))
            await self._go_away(proxy)
            await self._fails_and_may_come_again(opened, changes.batch(*missed))
            await self._come_back(proxy)
            await write_until_written(opened, changes.batch(*missed))
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def test_a_write_returns_when_the_target_has_answered_and_not_before(self, proxy: FaultProxy | None) -> None:
        """What waits in the sink instead would pile up, and be lost with the process."""
        between = self.proxied(proxy)
        changes = Changes(shards=4)
        changes.put_many(40)
        returned: list[Batch] = []
        early = 0
        async with self.opened(changes) as opened:
            between.delay(math.inf)
            async with anyio.create_task_group() as tasks:

                async def write(batch: Batch) -> None:
                    await opened.write(batch)
                    returned.append(batch)

                for batch in changes.batches(changes.records):
                    tasks.start_soon(write, batch)
                await anyio.sleep(_PATIENCE_S)
                early = len(returned)
                between.pass_through()
        assert early == 0, f"{early} writes returned while no answer came"
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def _go_away(self, proxy: FaultProxy | None) -> None:
        if proxy is not None:
            proxy.refuse()
        else:
            await self.kill()

    async def _come_back(self, proxy: FaultProxy | None) -> None:
        if proxy is not None:
            proxy.pass_through()
        else:
            await self.restart()

    async def _fails_and_may_come_again(self, opened: OpenSink, batch: Batch) -> None:
        """A write that is for ever in trying counts as well: the engine has a timeout for it."""
        try:
            with anyio.move_on_after(_PATIENCE_S) as patience:
                await opened.write(batch)
        except RecordsFailedError as error:
            kinds = {each.kind for each in error.failures}
            assert "refused" not in kinds, "a target that is away refuses no record"
        except ConfigError as error:
            raise AssertionError("a target that is away is no error of the configuration") from error
        except Exception:  # noqa: BLE001 - any other error says that the whole batch comes again
            return
        else:
            assert patience.cancelled_caught, "a write returned while its target was away"


async def write_until_written(opened: OpenSink, batch: Batch) -> None:
    """What the engine does, without its pauses."""
    last: Exception | None = None
    with anyio.move_on_after(COME_BACK_S_MAX):
        while True:
            try:
                await opened.write(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                last = error
                await anyio.sleep(0.05)
            else:
                return
    raise AssertionError(f"not written within {COME_BACK_S_MAX:g} s: {last!r}") from last
