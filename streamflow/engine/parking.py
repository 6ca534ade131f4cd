"""Items that are set aside: a poison record, and every later change of its item, in order and durably.

Whether an item is parked is decided by the store, in the same step that parks a further change of it: so the last letter
may be healed by another process at any moment, and what comes next is delivered again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow import events
from streamflow.dead_letters import letters_of, readable_item_key
from streamflow.errors import StoreError
from streamflow.failpoints import reach
from streamflow.rules.pacing import STORE_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.dead_letters import Condition, DeadLetter
    from streamflow.engine.flow import Flow
    from streamflow.records import Record


@dataclass(slots=True, eq=False)
class ParkedItems:
    """The parked items of the stream, for one shard. `keys` is what this worker knows of: some may be healed already, but
    none of this shard's is missing.
    """

    flow: Flow
    shard_id: str

    @property
    def keys(self) -> set[str]:
        return self.flow.parked_keys

    @classmethod
    async def load(cls, flow: Flow, shard_id: str) -> ParkedItems | None:
        """Ask the store, for as long as it takes; None if the flow stopped before.

        A shard's items were its parents' before: they are settled, so nobody parks them elsewhere any more.
        """
        failures = 0
        looks = flow.parked_looks
        asked_after = looks.begun
        while True:
            try:
                async with looks.turn:
                    # Of thousands of shards that are opened at once, one asks for all that asked before it did.
                    if looks.answered <= asked_after:
                        looks.begun += 1
                        number = looks.begun
                        flow.parked_keys |= await flow.around.store.parked_keys(flow.name, flow.info.stream_arn)
                        looks.answered = number
                return cls(flow, shard_id)
            except StoreError as error:
                failures += 1
                if await _pause(flow, shard_id, error, failures):
                    return None

    async def has_room_for(self, key: str) -> bool:
        """Whether this item may be parked; where too many seem to be, the store knows which are healed by now."""
        flow = self.flow
        if key not in self.keys and len(self.keys) >= flow.options.parked_keys_max:
            known = set(self.keys)
            with suppress(StoreError):
                flow.parked_keys -= known - await flow.around.store.parked_keys(flow.name, flow.info.stream_arn)
        return key in self.keys or len(self.keys) < flow.options.parked_keys_max

    async def hold_back(self, records: Sequence[Record]) -> Sequence[Record] | None:
        """Park those records whose items are parked; the answer names them. None: the flow stopped before."""
        if not self.keys:
            return ()
        held = [record for record in records if readable_item_key(record) in self.keys]
        if not held:
            return ()
        letters = self._letters(held, "KeyParked")
        taken = await self._park(letters, opening=False)
        if taken is None:
            return None
        self.flow.parked_keys -= {letter.item_key for letter in letters} - taken
        parked = [record for record, letter in zip(held, letters, strict=True) if letter.item_key in taken]
        if parked:
            self._report(len(parked), opened=0)
        return parked

    async def open(
        self,
        poison: Sequence[Record],
        followers: Sequence[Record],
        *,
        condition: Condition,
        error: BaseException | None,
        invoke_count: int,
    ) -> bool:
        """Park an item: the record that failed, and what followed it. False: the flow stopped before."""
        letters = self._letters(poison, condition, error=error, invoke_count=invoke_count)
        keys = {letter.item_key for letter in letters}
        if await self._park([*letters, *self._letters(followers, "KeyParked")], opening=True) is None:
            return False
        opened = len(keys - self.keys)
        self.flow.parked_keys |= keys
        self._report(len(poison) + len(followers), opened=opened)
        return True

    def _letters(
        self, records: Sequence[Record], reason: str, *, error: BaseException | None = None, invoke_count: int = 0
    ) -> list[DeadLetter]:
        return letters_of(
            records,
            pipeline=self.flow.name,
            reason=reason,
            kept_at_s=self.flow.around.clock.wall(),
            error=error,
            invoke_count=invoke_count,
        )

    async def _park(self, letters: Sequence[DeadLetter], *, opening: bool) -> frozenset[str] | None:
        failures = 0
        while True:
            try:
                taken = await self.flow.around.store.park(letters, opening=opening)
            except StoreError as error:
                failures += 1
                if await _pause(self.flow, self.shard_id, error, failures):
                    return None
            else:
                await reach("item.parked")
                return taken

    def _report(self, records: int, *, opened: int) -> None:
        self.flow.around.emit(
            events.RecordsParked(
                pipeline=self.flow.name,
                shard_id=self.shard_id,
                records=records,
                opened=opened,
                parked_keys=len(self.keys),
            )
        )


async def _pause(flow: Flow, shard_id: str, error: StoreError, failures: int) -> bool:
    delay_s = STORE_BACKOFF.delay_s(failures, flow.around.random)
    flow.around.emit(events.ParkingFailed(pipeline=flow.name, shard_id=shard_id, error=error, retry_after_s=delay_s))
    return await flow.pause(delay_s)
