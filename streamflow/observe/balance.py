"""What became of every record that was read: each is in exactly one place, at every moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec
from msgspec.structs import replace

from streamflow.events import (
    BatchDelivered,
    PageRead,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    RecordsDiscarded,
    RecordsParked,
    ShardClosed,
    ShardOpened,
)

if TYPE_CHECKING:
    from streamflow.events import Event
    from streamflow.observe.shards import OpenShards

_Moving: TypeAlias = PageRead | BatchDelivered | RecordsDiscarded | RecordsParked | ShardClosed


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one pipeline in this process. A record that is read again is polled again."""

    polled: int = 0
    filtered: int = 0
    delivered: int = 0
    dropped: int = 0
    """Left out aloud by middleware."""
    dead_lettered: int = 0
    """Given up, and in every destination."""
    lost: int = 0
    """Given up, and in no destination, because there is none."""
    parked: int = 0
    abandoned: int = 0
    """In hand when the shard was let go: read again by whoever works on it next."""
    in_flight: int = 0
    """In hand now: buffered or being handled. Counted shard by shard, not as what is left of the others."""

    @property
    def unaccounted(self) -> int:
        """0: anything else is a fault of streamflow, and negative if records were settled twice."""
        settled = self.filtered + self.delivered + self.dropped + self.dead_lettered + self.lost + self.parked
        return self.polled - settled - self.abandoned - self.in_flight


class Balances:
    """An observer that keeps the balance of each pipeline, and tells `shards` of each event first."""

    def __init__(self, shards: OpenShards) -> None:
        self.shards = shards
        self._balances: dict[str, Balance] = {}

    def snapshot(self) -> dict[str, Balance]:
        """Pipeline to balance, of one moment each; safe from any thread."""
        return self._balances.copy()

    def of(self, pipeline: str) -> Balance:
        return self._balances.get(pipeline, _EMPTY)

    def __call__(self, event: Event) -> None:
        self.shards(event)
        match event:
            case BatchDelivered() | PageRead() | RecordsDiscarded() | RecordsParked() | ShardClosed():
                balance = self.of(event.pipeline)
                self._keep(event.pipeline, balance, _moved(balance, event))
            case PipelineStarted() | PipelineStopped() | PipelineFailed() | ShardOpened():
                self._keep(event.pipeline, self.of(event.pipeline), {})
            case _:
                pass

    def _keep(self, pipeline: str, balance: Balance, changes: dict[str, int]) -> None:
        self._balances[pipeline] = replace(balance, in_flight=self.shards.records_in_hand(pipeline), **changes)


_EMPTY = Balance()


def _moved(balance: Balance, event: _Moving) -> dict[str, int]:
    """What changes, beside what is in flight."""
    match event:
        case BatchDelivered():
            dropped = balance.dropped + sum(event.dropped.values())
            return {"delivered": balance.delivered + event.delivered, "dropped": dropped}
        case PageRead():
            return {"polled": balance.polled + event.records, "filtered": balance.filtered + event.filtered}
        case RecordsDiscarded() if event.destinations:
            return {"dead_lettered": balance.dead_lettered + event.records}
        case RecordsDiscarded():
            return {"lost": balance.lost + event.records}
        case RecordsParked():
            return {"parked": balance.parked + event.records}
        case ShardClosed():
            return {"abandoned": balance.abandoned + event.abandoned}
