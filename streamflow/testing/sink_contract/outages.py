"""Scenarios about connections that end in the middle: a write whose outcome nobody knows comes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.failures import write_until_written
from streamflow.testing.sink_contract.hooks import SinkHooks

if TYPE_CHECKING:
    from streamflow.batches import Batch
    from streamflow.testing.proxies import FaultProxy

# More answers than one write needs of any server.
_ANSWERS_MAX = 40
_CUTS = (0.02, 0.3, 0.6, 0.95)


class OutageScenarios(SinkHooks):
    async def test_whichever_answer_is_lost_nothing_is_lost_or_repeated(self, proxy: FaultProxy | None) -> None:
        """One answer after the other is taken away; without idempotence, what was written may be there twice."""
        between = self.proxied(proxy)
        changes = Changes()
        async with self.opened(changes) as opened:
            await opened.write(_next(changes))
            for number in range(_ANSWERS_MAX):
                lost = between.answers_lost
                between.lose_answers(1, after=number)
                await write_until_written(opened, _next(changes))
                between.pass_through()
                if between.answers_lost == lost:
                    break
        assert between.answers_lost > 0, "no answer came through `proxy`: does `sink` go through it?"
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def test_wherever_a_request_is_cut_nothing_is_lost_or_repeated(self, proxy: FaultProxy | None) -> None:
        between = self.proxied(proxy)
        changes = Changes()
        async with self.opened(changes) as opened:
            await opened.write(_next(changes))
            for part in _CUTS:
                before = between.bytes_up
                await write_until_written(opened, _next(changes))
                size = between.bytes_up - before
                cut = between.connections_cut
                between.cut_after(max(int(size * part), 1))
                await write_until_written(opened, _next(changes))
                between.pass_through()
                assert between.connections_cut > cut, "the next write sent less through `proxy` than the one before"
        await self.check_target(changes, changes.records, once=self.is_idempotent)

    async def test_connections_that_end_between_writes_are_made_again(self, proxy: FaultProxy | None) -> None:
        between = self.proxied(proxy)
        changes = Changes()
        async with self.opened(changes) as opened:
            for _ in range(3):
                await write_until_written(opened, _next(changes))
                between.cut()
        await self.check_target(changes, changes.records, once=self.is_idempotent)


def _next(changes: Changes) -> Batch:
    """A batch of always the same size: two new items, and a change of one that each batch has."""
    number = len(changes.records)
    records = [changes.put("again"), changes.put(f"new{number:04d}a"), changes.put(f"new{number:04d}b")]
    return changes.batch(*records)
