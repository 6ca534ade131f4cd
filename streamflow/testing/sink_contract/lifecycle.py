"""Scenarios about opening and closing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.errors import ConfigError
from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.hooks import SinkHooks
from streamflow.testing.sink_contract.leftovers import Leftovers
from streamflow.testing.sink_contract.verdicts import not_run

if TYPE_CHECKING:
    from streamflow.sdk.declarations import SinkDeclaration

_ROUNDS = 3
_OPEN_S_MAX = 20.0
LEAVE_S_MAX = 5.0
_LOOK_AGAIN_S = 0.02
_QUIET_S = 0.2


class LifecycleScenarios(SinkHooks):
    async def test_it_can_be_opened_and_closed_again_and_again(self) -> None:
        changes = Changes()
        for number in range(_ROUNDS):
            async with self.opened(changes) as opened:
                await opened.write(changes.batch(changes.put(f"round{number}")))
            async with self.opened(changes):
                pass
        await self.check_target(changes, changes.records)

    async def test_it_can_be_open_twice_at_the_same_time(self) -> None:
        changes = Changes(shards=2)
        changes.put_many(40)
        one, other = changes.batches(changes.records)
        async with self.opened(changes) as first, self.opened(changes) as second:
            await first.write(one)
            await second.write(other)
        await self.check_target(changes, changes.records)

    async def test_wrong_credentials_are_an_error_of_the_configuration(
        self, wrong_credentials: SinkDeclaration | None
    ) -> None:
        await self._refused(wrong_credentials, "wrong_credentials")

    async def test_a_missing_target_is_an_error_of_the_configuration(
        self, missing_target: SinkDeclaration | None
    ) -> None:
        await self._refused(missing_target, "missing_target")

    async def _refused(self, declared: SinkDeclaration | None, fixture: str) -> None:
        if declared is None:
            not_run(f"there is no fixture `{fixture}`")
        with anyio.fail_after(_OPEN_S_MAX), pytest.raises(ConfigError) as refused:
            async with self.opened(Changes(), declared):
                pass
        assert str(refused.value).strip(), "the error says nothing"

    async def test_nothing_is_left_when_it_is_closed(self) -> None:
        changes = Changes()
        # What is made once in a process, at the first time, is nobody's leak.
        await self._round(changes)
        before = await self._at_rest()
        for _ in range(_ROUNDS):
            await self._round(changes)
        with anyio.move_on_after(LEAVE_S_MAX):
            while Leftovers.now() - before:  # noqa: ASYNC110 - what ends by itself tells nobody
                await anyio.sleep(_LOOK_AGAIN_S)
        assert not (left := Leftovers.now() - before), f"left after it was closed: {', '.join(left)}"

    async def _round(self, changes: Changes) -> None:
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(changes.put("item")))

    async def _at_rest(self) -> Leftovers:
        """What there is when nothing comes or goes any more: connections that are on their way out would hide leaks."""
        seen, since_s = Leftovers.now(), anyio.current_time()
        with anyio.move_on_after(LEAVE_S_MAX):
            while anyio.current_time() - since_s < _QUIET_S:
                await anyio.sleep(_LOOK_AGAIN_S)
                if (now := Leftovers.now()) != seen:
                    seen, since_s = now, anyio.current_time()
        return seen
