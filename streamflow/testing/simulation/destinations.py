"""A destination for what simulated workers give up: one for each node, all into the same place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio

from streamflow.dead_letters import letters_of
from streamflow.errors import DestinationError
from streamflow.testing.simulation.facts import LettersStored
from streamflow.testing.simulation.misbehaviour import HANG_S
from streamflow.testing.simulation.rows import letter_told

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.dead_letters import DiscardedBatch
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.simulation.network import Network

PORT = "destination"
"""What the network calls the way there."""


class SimulatedDestination:
    """Keeps `streamflow.protocols.Destination`. What it has taken is told as letters of the drawer "dead"."""

    name = "simulated"

    def __init__(self, *, network: Network, node: str, faults: Faults, tell: Callable[[Fact], None]) -> None:
        self._network = network
        self._node = node
        self._faults = faults
        self._tell = tell
        self._numbers: Counter[str] = Counter()

    async def send(self, discarded: DiscardedBatch, /) -> None:
        """See `Destination.send`."""
        shard_id = discarded.batch.shard.shard_id
        self._numbers[shard_id] += 1
        address = (self._node, shard_id, self._numbers[shard_id])
        strikes = self._faults.strikes
        if strikes("destination.hangs", *address):
            await anyio.sleep(self._faults.rng("destination.hangs", *address).uniform(*HANG_S))
            raise _unknown("it did not answer at all")
        if strikes("destination.nonsense", *address):
            raise KeyError("an error of somebody else's")
        if strikes("destination.fails_before", *address):
            raise _failed("it is not there")

        async def effect() -> None:
            self._take(discarded)

        await self._network.call(self._node, PORT, "send", effect, failed=_failed, unknown=_unknown)
        if strikes("destination.fails_after", *address):
            raise _unknown("it has gone")

    def _take(self, discarded: DiscardedBatch) -> None:
        letters = letters_of(
            discarded.batch.records,
            pipeline=discarded.batch.pipeline,
            reason=discarded.condition,
            kept_at_s=discarded.discarded_at_s,
            error=discarded.error,
            invoke_count=discarded.invoke_count,
        )
        self._tell(LettersStored(node=self._node, letters=tuple(letter_told("dead", letter) for letter in letters)))


def _failed(text: str) -> DestinationError:
    return DestinationError(text, code="ConnectionFailed")


def _unknown(text: str) -> DestinationError:
    return DestinationError(text, code="NoAnswer")
