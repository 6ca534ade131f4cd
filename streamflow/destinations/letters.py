"""The drawer of dead letters in the state store as a destination: whole records, to look at and to deliver again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow.dead_letters import letters_of

if TYPE_CHECKING:
    from streamflow.dead_letters import DiscardedBatch
    from streamflow.protocols import DeadLetterStore


class LettersDestination:
    """Keeps `streamflow.protocols.Destination`. A final invocation of a tumbling window has no record to keep."""

    def __init__(self, store: DeadLetterStore) -> None:
        self._store = store

    @property
    def name(self) -> str:
        return "dead_letters"

    async def send(self, discarded: DiscardedBatch, /) -> None:
        """One letter for each record. A repetition replaces reasons and counts; it makes no second letter.

        Raises:
            StoreError: the store did not take them, or nobody knows.
        """
        letters = letters_of(
            discarded.batch.records,
            pipeline=discarded.batch.pipeline,
            reason=discarded.condition,
            kept_at_s=discarded.discarded_at_s,
            error=discarded.error,
            invoke_count=discarded.invoke_count,
        )
        if letters:
            await self._store.keep(letters)
