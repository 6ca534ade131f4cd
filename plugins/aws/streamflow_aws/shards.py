"""What a writer keeps for each shard that it writes: bounded, and one task at a time."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.sdk import Shard

S = TypeVar("S")

SHARDS_MAX = 10_000
"""A worker has far fewer at a time; what it knew of one that it has not touched for so long is looked up again."""


@dataclass(slots=True, eq=False)
class Kept(Generic[S]):
    """`state` is None until somebody has looked it up."""

    state: S | None = None
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class Shards(Generic[S]):
    """Shard to state; the least recently used one that nobody holds goes first."""

    def __init__(self, shards_max: int = SHARDS_MAX) -> None:
        self._kept: OrderedDict[tuple[str, str], Kept[S]] = OrderedDict()
        self._shards_max = shards_max

    def __len__(self) -> int:
        return len(self._kept)

    @asynccontextmanager
    async def hold(self, shard: Shard) -> AsyncIterator[Kept[S]]:
        """The shard's state, alone: writing and storing a checkpoint may come at the same time."""
        key = (shard.stream_arn, shard.shard_id)
        kept = self._kept.setdefault(key, Kept())
        self._kept.move_to_end(key)
        self._forget()
        async with kept.lock:
            yield kept

    def _forget(self) -> None:
        excess = len(self._kept) - self._shards_max
        idle = [key for key, kept in self._kept.items() if not kept.lock.locked()] if excess > 0 else []
        for key in idle[: max(0, min(excess, len(idle) - 1))]:
            del self._kept[key]
