"""Settled positions, out of order, to the highest position below which everything is settled.

Invariant: `frontier` never passes a record that was admitted and is not settled, and never moves back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.positions import Position


@dataclass(slots=True, eq=False)
class Ticket:
    """A run of records on its way; `last` is the position that settling all of it reaches."""

    last: Position
    settled: bool = False


@dataclass(slots=True)
class Frontier:
    """The state of one shard; owned by the task that delivers it."""

    frontier: Position
    _open: deque[Ticket] = field(default_factory=deque)

    def admit(self, last: Position) -> Ticket:
        """Take note of the next run of records, in stream order."""
        ticket = Ticket(last)
        self._open.append(ticket)
        return ticket

    def settle(self, ticket: Ticket) -> bool:
        """Mark a run as settled; true if the frontier moved.

        Raises:
            ValueError: it was settled before: one record must not be accounted for twice.
        """
        if ticket.settled:
            raise ValueError(f"the records up to {ticket.last} are settled already")
        ticket.settled = True
        moved = False
        while self._open and self._open[0].settled:
            self.frontier = self._open.popleft().last
            moved = True
        return moved

    def split(self, ticket: Ticket, first: Position) -> Ticket:
        """Part a run in two, because its records up to `first` are done and the rest is not.

        `ticket` now stands for the first part; the answer, right behind it, for the rest.
        """
        rest = Ticket(ticket.last)
        ticket.last = first
        self._open.insert(self._open.index(ticket) + 1, rest)
        return rest
