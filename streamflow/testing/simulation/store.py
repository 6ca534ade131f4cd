"""A store for simulated workers: each node's way to the rows that all of them share."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

import anyio

from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import LeaseLayout
from streamflow.testing.simulation.facts import RowsListed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow.dead_letters import DeadLetter, Drawer, LetterQuery
    from streamflow.leases import Lease, LeaseKey
    from streamflow.testing.simulation.draws import Address
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.simulation.network import Network
    from streamflow.testing.simulation.rows import SimulatedRows

T = TypeVar("T")

PORT = "store"
"""What the network calls the way to the store."""
READ_ONLY_S = (5.0, 60.0)


class SimulatedStore:
    """Keeps `streamflow.protocols.StateStore`, and `CountedLeaseStore` in the KCL's layouts, for one node.

    In those it knows rows as it saw them last, and writes with that as the condition, as the DynamoDB store does.
    """

    def __init__(self, rows: SimulatedRows, *, network: Network, node: str, faults: Faults) -> None:
        self._rows = rows
        self._network = network
        self._node = node
        self._faults = faults
        self._known: dict[LeaseKey, Lease] = {}
        self._numbers: Counter[str] = Counter()

    @property
    def layout(self) -> LeaseLayout:
        return self._rows.layout

    @property
    def failover_s(self) -> float:
        return self._rows.failover_s

    # -- leases ---------------------------------------------------------------------------------------------------------

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        async def look() -> Sequence[Lease]:
            stale_s_max, address = self._rows.profile.stale_s_max, self._address("list")
            if not stale_s_max or not self._faults.strikes("store.stale_scan", *address):
                return await self._rows.list(pipeline, stream_arn)
            rng = self._faults.rng("store.stale_scan", *address)
            return self._rows.rows_then(pipeline, stream_arn, lambda: rng.uniform(0.0, stale_s_max))

        rows = await self._read("list", look)
        self._rows.tell(RowsListed(node=self._node, rows=tuple(rows)))
        return rows

    async def get(self, key: LeaseKey) -> Lease | None:
        return self._note(key, await self._read("get", lambda: self._rows.get(key)))

    async def create(self, lease: Lease) -> Lease | None:
        stored = await self._write("create", lambda: self._rows.create(lease), lease.key)
        return stored if stored is None else self._note(lease.key, stored)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        if self.layout is LeaseLayout.NATIVE or not self._rows.is_lease(lease.key):
            return await self._write(
                "update", lambda: self._rows.update(lease, expected_version=expected_version), lease.key
            )
        known = self._known.get(lease.key)
        if known is None or known.version != expected_version:
            known = await self.get(lease.key)
        if known is None or known.version != expected_version:
            return None
        # Whatever happens, the row as it was known is not what the next write starts from.
        self._known.pop(lease.key, None)
        condition = known
        stored = await self._write("update", lambda: self._rows.update_known(lease, condition), lease.key)
        return stored if stored is None else self._note(lease.key, stored)

    async def ask(self, lease: Lease, claimant: str) -> Lease | None:
        """As `CountedLeaseStore.ask`."""
        self._known.pop(lease.key, None)
        stored = await self._write("ask", lambda: self._rows.ask(lease, claimant), lease.key)
        return stored if stored is None else self._note(lease.key, stored)

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        self._known.pop(key, None)
        return await self._write("delete", lambda: self._rows.delete(key, expected_version=expected_version))

    def _note(self, key: LeaseKey, row: Lease | None) -> Lease | None:
        if row is None:
            self._known.pop(key, None)
        else:
            self._known[key] = row
        return row

    # -- letters --------------------------------------------------------------------------------------------------------

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        await self._write_letters("keep", letters, self._rows.keep)

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        return await self._write_letters("park", letters, lambda some: self._rows.park(some, opening=opening))

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        return await self._read("parked_keys", lambda: self._rows.parked_keys(pipeline, stream_arn))

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        return await self._read("letters", lambda: self._rows.letters(query))

    async def count(self, query: LetterQuery) -> int:
        return await self._read("count", lambda: self._rows.count(query))

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        return await self._write("remove", lambda: self._rows.remove(drawer, ids))

    async def _write_letters(
        self, operation: str, letters: Sequence[DeadLetter], act: Callable[[Sequence[DeadLetter]], Awaitable[T]]
    ) -> T:
        """Several letters may be written one after the other, so that only some of them are there when it fails."""

        async def some_or_all() -> T:
            address = self._address("letters")
            if len(letters) > 1 and self._faults.strikes("store.part_of_letters", *address):
                count = self._faults.rng("store.part_of_letters", *address).randrange(1, len(letters))
                await act(letters[:count])
                raise UnknownOutcomeError("the store failed when it had stored a part of the letters")
            return await act(letters)

        return await self._write(operation, some_or_all)

    # -- requests -------------------------------------------------------------------------------------------------------

    async def _read(self, operation: str, act: Callable[[], Awaitable[T]]) -> T:
        async def effect() -> T:
            self._check(self._address(operation))
            return await act()

        return await self._network.call(self._node, PORT, operation, effect, failed=StoreError, unknown=StoreError)

    async def _write(self, operation: str, act: Callable[[], Awaitable[T]], key: LeaseKey | None = None) -> T:
        sent_at_s = self._network.now

        async def effect() -> T:
            address = self._address(operation)
            self._check(address)
            self._check_writable(address)
            self._rows.writer, self._rows.age_s = self._node, self._network.now - sent_at_s
            done = await act()
            if done is not None and key is not None:
                self._meddle(key, address)
            return done

        return await self._network.call(
            self._node, PORT, operation, effect, failed=StoreError, unknown=UnknownOutcomeError
        )

    def _address(self, operation: str) -> tuple[Address, ...]:
        """Of the next request to be carried out; one that is carried out twice has two."""
        self._numbers[operation] += 1
        return self._node, operation, self._numbers[operation]

    def _check(self, address: tuple[Address, ...]) -> None:
        if self._faults.strikes("store.throttled", *address):
            raise StoreError("the store asks for a pause")

    def _check_writable(self, address: tuple[Address, ...]) -> None:
        now = anyio.current_time()
        if self._faults.strikes("store.read_only", *address):
            self._rows.read_only_until = now + self._faults.rng("store.read_only", *address).uniform(*READ_ONLY_S)
        if now < self._rows.read_only_until and not self._faults.quiet:
            raise StoreError("the store takes no writes now")

    def _meddle(self, key: LeaseKey, address: tuple[Address, ...]) -> None:
        """What may happen behind the workers' backs, right after one of them has written a row."""
        rows, lost_writes_max = self._rows, self._rows.profile.lost_writes_max
        if lost_writes_max and self._faults.strikes("store.rolled_back", *address):
            rows.roll_back(self._faults.rng("store.rolled_back", *address).randint(1, lost_writes_max))
        match self._faults.at("row", *address):
            case "store.row_deleted":
                rows.delete_by_hand(key)
            case "store.row_edited":
                rows.edit_by_hand(key, owner=None, claimant=None)
            case "store.counter_restarted":
                rows.restart_counter(key)
            case _:
                pass
