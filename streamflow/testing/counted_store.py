"""A store in memory with the KCL's ways: a counter in each lease, and requests that leave it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamflow.leases import LeaseLayout
from streamflow.stores.memory import MemoryStore

if TYPE_CHECKING:
    from streamflow.leases import Lease


class CountedMemoryStore(MemoryStore):
    """The contract of `CountedLeaseStore` within one event loop; nothing in it ever waits."""

    failover_s = 10.0

    def __init__(self, layout: LeaseLayout = LeaseLayout.KCL) -> None:
        super().__init__()
        self.layout = layout

    async def update_knowing(self, lease: Lease, *, expected_version: int, claimant: str | None) -> Lease | None:
        """As the DynamoDB store does: a request that the writer does not know of is a conflict too."""
        current = await self.get(lease.key)
        if current is None or current.claimant != claimant:
            return None
        return await super().update(lease, expected_version=expected_version)

    async def ask(self, lease: Lease, claimant: str) -> Lease | None:
        """As `CountedLeaseStore.ask`."""
        current = await self.get(lease.key)
        if current is None or current.owner != lease.owner or current.claimant is not None:
            return None
        asked = replace(current, claimant=claimant)
        self._set(lease.key, asked)
        return asked
