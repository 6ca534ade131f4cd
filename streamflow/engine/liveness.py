"""How a worker shows that it lives, and sees that others do: one way for each layout of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease, LeaseKey


class Held(Protocol):
    """What there is to know here of a lease that the worker holds."""

    lease: Lease
    sent_at: float
    """Lifetime of the clock just before the last acknowledged write of the lease was sent."""

    async def renew_here(self) -> None:
        """In the loop of the leases: renew the lease. Raises `LeaseLostError`, `StoreError`."""
        ...

    def lose(self) -> None:
        """Give up belief in the lease."""
        ...


class Liveness(Protocol):
    """Of one worker, with all its flows."""

    held: dict[LeaseKey, Held]
    """Every lease that this worker believes in."""

    @property
    def worker_id(self) -> str:
        """What the worker writes into leases as their owner; another one after it was taken for dead."""
        ...

    @property
    def alive(self) -> bool:
        """Whether others see signs of life: who gets none through should take no leases."""
        ...

    async def start(self) -> None:
        """Show up. Raises `StoreError`."""
        ...

    async def run(self) -> None:
        """Stay alive, until cancelled."""
        ...

    async def leave(self) -> None:
        """Be gone at once; not after `abandon`."""
        ...

    async def retire(self, pipeline: str) -> None:
        """Have others count on us no more: this worker is about to let go all leases of the pipeline."""
        ...

    def abandon(self) -> None:
        """A batch was given up while its handler ran: what it holds has to run out, nobody may have it at once."""
        ...

    def valid_until(self, held: Held) -> float:
        """The lifetime of the clock up to which nobody else can own the lease."""
        ...

    async def look(self, rows: Sequence[Lease]) -> None:
        """Find out who lives, just after these rows of a pipeline were listed. Raises `StoreError`."""
        ...

    def workers(self, pipeline: str) -> frozenset[str]:
        """Who lives and works on the pipeline, as of the last look; this worker among them until it retires."""
        ...

    def unowned(self, row: Lease) -> bool:
        """Whether nobody owns the row: it is let go, ours from an earlier life, or its owner was silent long enough."""
        ...

    def due_in_s(self, rows: Sequence[Lease]) -> float:
        """How soon patience with an owner of these rows ends, if nothing is heard of it. In the native layout the owner is then
        struck by the next look; in the KCL's the row is unowned at that moment."""
        ...

    async def ask(self, row: Lease) -> None:
        """In the loop of the leases: have the owner pass the lease on to us. Raises `StoreError`."""
        ...
