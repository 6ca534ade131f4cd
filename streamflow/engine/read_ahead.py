"""What a whole worker has read ahead, bounded in bytes. Full means wait, never drop."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamflow.engine.wakeup import WakeUp


@dataclass(slots=True, eq=False)
class ReadAhead:
    """Bytes that a whole worker has read and not settled."""

    bytes_max: int
    bytes: int = 0
    _freed: WakeUp = field(default_factory=WakeUp)

    def take(self, count: int) -> None:
        self.bytes += count

    def give_back(self, count: int) -> None:
        self.bytes -= count
        if count:
            # Also while over the bound: a shard that holds nothing any more may read, whatever the others hold.
            self._freed.call()

    async def wait_freed(self) -> None:
        await self._freed.wait()
