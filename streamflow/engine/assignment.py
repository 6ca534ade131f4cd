"""A shard in this worker's hands: what its lanes share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.engine.buffer import ShardBuffer
    from streamflow.engine.checkpoints import Checkpoints
    from streamflow.engine.flow import Flow
    from streamflow.engine.isolation import Isolation
    from streamflow.engine.ownership import HeldLease
    from streamflow.engine.parking import ParkedItems
    from streamflow.positions import Position
    from streamflow.records import Shard


@dataclass(slots=True, kw_only=True, eq=False)
class Assignment:
    flow: Flow
    shard: Shard
    held: HeldLease
    buffer: ShardBuffer
    checkpoints: Checkpoints
    parked: ParkedItems
    isolation: Isolation | None = None
    """Where the owner before us died: what is handed over is noted first, until it need not be any more."""
    seen: set[int] = field(default_factory=set)
    """Lanes whose handler has seen records that are not settled."""

    def note_repeating(self) -> None:
        """Say whether records would come again, if the flow were cut off now."""
        if self.seen or self.checkpoints.ahead:
            self.flow.at_risk[self.shard.shard_id] = self._frontier
        else:
            self.flow.at_risk.pop(self.shard.shard_id, None)

    def _frontier(self) -> Position:
        return self.checkpoints.frontier
