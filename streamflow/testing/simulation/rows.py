"""Everything durable of a simulated world, in truth: one copy, written by one request after the other, with its history.

What a store may do to the truth behind the workers' backs is done here: acknowledged writes that a fail-over loses, and
rows that a person deletes or edits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.leases import STREAM_ROW, SUSPECTS, WORKERS, LeaseLayout
from streamflow.testing.counted_store import CountedMemoryStore
from streamflow.testing.simulation.facts import HAND, Letter, LettersStored, RowStored, StoreRolledBack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamflow.dead_letters import DeadLetter, Drawer
    from streamflow.leases import Lease, LeaseKey
    from streamflow.testing.simulation.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a store does not promise.

    A fail-over may lose the last `lost_writes_max` writes of rows, though they were acknowledged. A listing may show each
    row as it was up to `stale_s_max` ago. Letters are never lost: a store that loses them is no place for letters.
    """

    name: str
    lost_writes_max: int = 0
    stale_s_max: float = 0.0


NEVER_LOSES = Profile(name="never loses")
"""SQLite on one host; Postgres without a fail-over."""
STALE_SCANS = Profile(name="stale scans", stale_s_max=5.0)
"""DynamoDB in one region."""
MAY_LOSE_WRITES = Profile(name="may lose the last writes", lost_writes_max=20)
"""Redis and NATS with their defaults; Postgres with a replica that is behind."""
PROFILES = (NEVER_LOSES, STALE_SCANS, MAY_LOSE_WRITES)


@dataclass(frozen=True, slots=True)
class _Write:
    at_s: float
    key: LeaseKey
    before: Lease | None


class SimulatedRows(CountedMemoryStore):
    """The truth that all nodes share; each reaches it by a `SimulatedStore`. Every write is told as it is committed.

    In the KCL's layouts new leases begin at version 0, so versions come back. `writer` is the node whose request is being
    carried out, to be set before each write, and `age_s` how long it was on its way.
    """

    def __init__(self, layout: LeaseLayout, *, profile: Profile = NEVER_LOSES, tell: Callable[[Fact], None]) -> None:
        super().__init__(layout)
        self.profile = profile
        self.writer = HAND
        self.age_s = 0.0
        self.read_only_until = float("-inf")
        """Time of the loop."""
        self.tell = tell
        self._history: deque[_Write] = deque()

    def is_lease(self, key: LeaseKey) -> bool:
        """Whether the row is one that a store of the KCL's layout keeps as the KCL does."""
        return key.shard_id != STREAM_ROW and (key.pipeline, key.stream_arn) not in (WORKERS, SUSPECTS)

    async def create(self, lease: Lease) -> Lease | None:
        counted = self.layout is not LeaseLayout.NATIVE and self.is_lease(lease.key)
        return await super().create(replace(lease, version=-1) if counted else lease)

    async def update_known(self, lease: Lease, known: Lease) -> Lease | None:
        """As the DynamoDB store does in the KCL's layouts: the row must have counter, owner and claimant as known.

        An owner of before, of a row that was deleted and made again since, has a lower epoch.
        """
        current = self._rows.get(lease.key)
        if current is None or (current.owner, current.claimant) != (known.owner, known.claimant):
            return None
        if lease.owner not in (None, known.owner) and lease.epoch < known.epoch:
            return None
        return await super().update(lease, expected_version=known.version)

    def rows_then(self, pipeline: str, stream_arn: str, ages_s: Callable[[], float]) -> Sequence[Lease]:
        """The listing as it was, each row that was written lately at an age of its own."""
        now = anyio.current_time()
        written = dict.fromkeys(write.key for write in self._history)
        since_s = {key: now - ages_s() for key in written if (key.pipeline, key.stream_arn) == (pipeline, stream_arn)}
        rows: dict[LeaseKey, Lease | None] = {
            key: row for key, row in self._rows.items() if (key.pipeline, key.stream_arn) == (pipeline, stream_arn)
        }
        for write in reversed(self._history):
            if write.at_s > since_s.get(write.key, float("inf")):
                rows[write.key] = write.before
        return [replace(row, window=None) for row in rows.values() if row is not None]

    # -- behind the workers' backs --------------------------------------------------------------------------------------

    def roll_back(self, count: int) -> int:
        """Lose the last writes of rows, though they were acknowledged; returns how many of them were there to lose."""
        lost = [self._history.pop() for _ in range(min(count, len(self._history)))]
        undone = {write.key: write.before for write in lost}
        for key, row in undone.items():
            before = self._rows.get(key)
            super()._set(key, row)
            if row is None and before is not None:
                self.tell(RowStored(node=HAND, before=before, after=None))
        self.tell(StoreRolledBack(rows=tuple(row for row in undone.values() if row is not None)))
        return len(lost)

    def delete_by_hand(self, key: LeaseKey) -> None:
        """As a person does, or the table's time to live."""
        self.writer = HAND
        self._set(key, None)

    def edit_by_hand(self, key: LeaseKey, **changes: Any) -> None:
        """Change a row that is there, whatever its version; that grows by one."""
        self.writer = HAND
        if (row := self._rows.get(key)) is not None:
            self._set(key, replace(row, **{"version": row.version + 1, **changes}))

    def restart_counter(self, key: LeaseKey) -> None:
        """Delete a row and make it again as it was, but that its version is 0."""
        row = self._rows.get(key)
        self.delete_by_hand(key)
        if row is not None:
            self._set(key, replace(row, version=0))

    # -- commits --------------------------------------------------------------------------------------------------------

    def _set(self, key: LeaseKey, row: Lease | None) -> None:
        before = self._rows.get(key)
        super()._set(key, row)
        self._history.append(_Write(anyio.current_time(), key, before))
        self._forget_old()
        self.tell(RowStored(node=self.writer, before=before, after=row, age_s=self.age_s))

    def _forget_old(self) -> None:
        since_s = anyio.current_time() - self.profile.stale_s_max
        while len(self._history) > self.profile.lost_writes_max and self._history[0].at_s < since_s:
            self._history.popleft()

    def _put(self, drawer: Drawer, letters: Iterable[DeadLetter]) -> None:
        stored = list(letters)
        super()._put(drawer, stored)
        if stored:
            told = tuple(letter_told(drawer, letter) for letter in stored)
            self.tell(LettersStored(node=self.writer, letters=told))


def letter_told(drawer: Drawer, letter: DeadLetter) -> Letter:
    """A record without a number that can be read is told with 0."""
    number = letter.sequence_number
    return Letter(
        drawer=drawer,
        pipeline=letter.pipeline,
        shard_id=letter.shard_id,
        number=int(number) if number.isdecimal() else 0,
        key=letter.item_key,
        reason=letter.reason,
        body=letter.record,
    )
