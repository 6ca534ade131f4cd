"""Leases in a dictionary, for tests and for reading without a trace: a restart knows nothing of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease, LeaseKey


class MemoryStore:
    """The contract of `LeaseStore` within one event loop; nothing in it ever waits."""

    def __init__(self) -> None:
        self._rows: dict[LeaseKey, Lease] = {}

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        return [row for key, row in self._rows.items() if (key.pipeline, key.stream_arn) == (pipeline, stream_arn)]

    async def get(self, key: LeaseKey) -> Lease | None:
        return self._rows.get(key)

    async def create(self, lease: Lease) -> Lease | None:
        if lease.key in self._rows:
            return None
        return self._store(lease, version=1)

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        current = self._rows.get(lease.key)
        if current is None or current.version != expected_version:
            return None
        return self._store(lease, version=expected_version + 1)

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        current = self._rows.get(key)
        if current is None or current.version != expected_version:
            return False
        del self._rows[key]
        return True

    def _store(self, lease: Lease, *, version: int) -> Lease:
        stored = replace(lease, version=version)
        self._rows[lease.key] = stored
        return stored
