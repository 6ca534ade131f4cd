"""Which lane of a shard an item's changes go to: always the same one, so that they keep their order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from streamflow.records import canonical_item_key

if TYPE_CHECKING:
    from streamflow.records import Envelope

# Together some 3 MB for a shard at most.
_REMEMBERED_MAX, _REMEMBERED_BYTES_MAX = 8_192, 256


class Lanes:
    """The lanes of one shard: by a checksum of the item's canonical key, the same in every process and for ever.

    Keys as the service wrote them are remembered with their lane, because making them canonical costs more than looking.
    """

    __slots__ = ("_count", "_remembered")

    def __init__(self, count: int) -> None:
        self._count = count
        self._remembered: dict[bytes, int] = {}

    def of(self, envelope: Envelope | None) -> int:
        """From 0; a record whose key cannot be read goes to lane 0. `envelope` is what `record.glimpse()` gives."""
        if envelope is None:
            return 0
        raw = bytes(envelope.dynamodb.Keys)
        lane = self._remembered.get(raw)
        if lane is not None:
            return lane
        try:
            return self._remember(raw, canonical_item_key(raw))
        except ValueError:
            return 0

    def _remember(self, raw: bytes, item_key: str) -> int:
        lane = crc32(item_key.encode()) % self._count
        if len(raw) <= _REMEMBERED_BYTES_MAX:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[raw] = lane
        return lane
