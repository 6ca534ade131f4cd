"""A shard and its owners, one after the other: they die in the middle of a call, and go on when nobody believes it any more.

For writers that store the checkpoint with the data. What they call is a world in memory, whose calls may fail before or
after they have their effect, have it later, or wait until another owner has taken the shard over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, TypeAlias

from hypothesis import strategies as st

from streamflow.sdk import Batch, FencedError
from streamflow_aws.errors import AwsCallError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.sdk import Record, TransactionalWriter

Effect: TypeAlias = Callable[[], Any]


class Fate(Enum):
    """What becomes of a call."""

    FINE = auto()
    LOST_REQUEST = auto()
    LOST_ANSWER = auto()
    LATE = auto()
    """Nobody hears of it, and it arrives at some other time."""
    DIED_BEFORE = auto()
    DIED_AFTER = auto()
    OVERTAKEN = auto()
    """Another owner takes the shard over, and writes, before it arrives."""


class Step(Enum):
    """What happens next."""

    WRITE = auto()
    TAKE_OVER = auto()
    ZOMBIE = auto()
    """One of the owners writes that there have been so far."""
    ADVANCE = auto()
    ARRIVE = auto()
    """The call that is late for longest arrives."""


fates = st.lists(st.sampled_from([Fate.FINE, Fate.FINE, Fate.FINE, *Fate]), min_size=15, max_size=60)
steps = st.lists(
    st.tuples(st.sampled_from([Step.WRITE, Step.WRITE, Step.WRITE, *Step]), st.integers(1, 7)), min_size=6, max_size=25
)


class DiedError(Exception):
    """The process is gone, as far as anybody knows."""


def unanswered(operation: str) -> AwsCallError:
    return AwsCallError(f"{operation}: no answer", kind="failed", code="ReadTimeoutError")


class World:
    """Stands for a client: `effects` has a method for each operation, which does all of it at once."""

    def __init__(self, effects: object) -> None:
        self.fates: Iterator[Fate] = iter(())
        self.overtaken: Callable[[], Any] | None = None
        self.arriving: list[Effect] = []
        self._effects = effects

    async def call(self, operation: str, /, **arguments: Any) -> Any:
        def effect() -> Any:
            return getattr(self._effects, operation)(**arguments)

        match next(self.fates, Fate.FINE):
            case Fate.LOST_REQUEST:
                raise unanswered(operation)
            case Fate.LOST_ANSWER:
                effect()
                raise unanswered(operation)
            case Fate.LATE:
                self.arriving.append(effect)
                raise unanswered(operation)
            case Fate.DIED_BEFORE:
                raise DiedError
            case Fate.DIED_AFTER:
                effect()
                raise DiedError
            case Fate.OVERTAKEN if self.overtaken is not None:
                await self.overtaken()
        return effect()

    def arrive(self) -> None:
        """What was on its way comes, and nobody hears what came of it."""
        if self.arriving:
            with suppress(AwsCallError):
                self.arriving.pop(0)()


@dataclass(slots=True)
class Owner:
    writer: TransactionalWriter
    epoch: int
    next: int = 0
    """Index of the first record that it has not seen written."""


@dataclass(slots=True)
class Play:
    """All records are of one shard. `skipped` were settled elsewhere: an owner before may have written them all the same."""

    world: World
    records: Sequence[Record]
    new_writer: Callable[[], TransactionalWriter]
    owners: list[Owner] = field(default_factory=list)
    skipped: set[str] = field(default_factory=set)

    async def run(self, script: Sequence[tuple[Step, int]], script_fates: Sequence[Fate]) -> None:
        await self._take_over()
        self.world.fates = iter(script_fates)
        self.world.overtaken = self._overtaken
        for step, number in script:
            try:
                await self._step(step, number)
            except (AwsCallError, FencedError):
                pass
            except DiedError:
                await self._undisturbed(self._take_over)
        await self._undisturbed(self._finish)

    async def _step(self, step: Step, number: int) -> None:
        owner = self.owners[-1]
        if step is Step.WRITE:
            await self._write(owner, number)
        elif step is Step.TAKE_OVER:
            await self._take_over()
        elif step is Step.ZOMBIE:
            await self._write(self.owners[-1 - number % len(self.owners)], number)
        elif step is Step.ADVANCE and owner.next < len(self.records):
            record = self.records[owner.next]
            self.skipped.add(record.event_id)
            await owner.writer.advance(record.shard, owner.epoch, record.position)
            owner.next += 1
        elif step is Step.ARRIVE:
            self.world.arrive()

    async def _write(self, owner: Owner, count: int) -> None:
        part = self.records[owner.next : owner.next + count]
        if part:
            await owner.writer.write(Batch(pipeline="orders", shard=part[0].shard, records=part, epoch=owner.epoch))
            owner.next += len(part)

    async def _take_over(self) -> None:
        owner = Owner(self.new_writer(), epoch=len(self.owners) + 1)
        self.owners.append(owner)  # the epoch is used up, whatever the sink says
        position = await owner.writer.fence(self.records[0].shard, owner.epoch)
        if position is not None:
            owner.next = sum(record.position.order <= position.order for record in self.records)

    async def _overtaken(self) -> None:
        await self._undisturbed(self._take_over)
        await self._undisturbed(lambda: self._write(self.owners[-1], 2))

    async def _undisturbed(self, act: Callable[[], Any]) -> None:
        kept, self.world.fates = self.world.fates, iter(())
        await act()
        self.world.fates = kept

    async def _finish(self) -> None:
        """A last owner to whom nothing happens, and what is on its way arrives while it works."""
        await self._take_over()
        owner = self.owners[-1]
        while owner.next < len(self.records):
            self.world.arrive()
            await self._write(owner, 3)
        while self.world.arriving:
            self.world.arrive()
