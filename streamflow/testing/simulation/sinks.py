"""The target that simulated handlers write to, in truth, and each node's handler with its ways to fail.

What reaches the target is told as `Accepted`, whoever waits for the answer. A target is one of three kinds: `plain` takes
everything; `fenced` refuses what an older owner of the shard writes; `transactional` also keeps how far each shard is, in
the same step as the data, and a handler of it is the `fence` of its flow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import anyio

from streamflow.errors import FencedError, PartialFailure
from streamflow.failures import RecordsFailedError
from streamflow.testing.simulation.facts import Accepted, Invoked, Returned
from streamflow.testing.simulation.misbehaviour import Misbehaviour, Plan, PoisonError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.positions import Position
    from streamflow.records import Record, Shard
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.simulation.network import Network

PORT = "sink"
"""What the network calls the way to the target."""
Kind: TypeAlias = Literal["plain", "fenced", "transactional"]


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedSink:
    """The target, one for all nodes of a world."""

    tell: Callable[[Fact], None]
    faults: Faults
    kind: Kind = "plain"
    invocations: int = 0
    hung: dict[str, float] = field(default_factory=dict)
    """Node to how long each of its invocations takes longer."""
    hanging: set[str] = field(default_factory=set)
    """Those of them that have been invoked since."""
    _poison: dict[str, bool] = field(default_factory=dict)
    _epochs: Counter[tuple[str, str]] = field(default_factory=Counter)
    _stored: dict[tuple[str, str], Position] = field(default_factory=dict)

    def accept(self, node: str, invocation: int, batch: Batch, records: Sequence[Record]) -> None:
        """Take these records of a batch.

        Raises:
            FencedError: a newer owner of the shard has been here.
        """
        place = batch.pipeline, batch.shard.shard_id
        # A batch of epoch 0 is none of a shard's owner: letters that are delivered again.
        if self.kind != "plain" and batch.epoch:
            self._check_epoch(place, batch.epoch)
        if self.kind == "transactional" and batch.epoch and records:
            stored = self._stored.get(place)
            records = [record for record in records if stored is None or record.position.order > stored.order]
            if not records:
                return
            self._stored[place] = records[-1].position
        numbers = numbers_of(records)
        fact = Accepted(
            node=node, invocation=invocation, pipeline=place[0], shard_id=place[1],
            epoch=batch.epoch, numbers=numbers, fenced=self.kind != "plain",
        )  # fmt: skip
        self.tell(fact)

    def fence(self, pipeline: str, shard_id: str, epoch: int) -> Position | None:
        """See `TransactionalWriter.fence`."""
        self._check_epoch((pipeline, shard_id), epoch)
        return self._stored.get((pipeline, shard_id))

    def advance(self, pipeline: str, shard_id: str, epoch: int, position: Position) -> None:
        """See `TransactionalWriter.advance`."""
        self._check_epoch((pipeline, shard_id), epoch)
        stored = self._stored.get((pipeline, shard_id))
        if stored is None or position.order > stored.order:
            self._stored[pipeline, shard_id] = position

    def is_poison(self, key: str) -> bool:
        """Whether no handler can ever take a change of this item: drawn once."""
        found = self._poison.get(key)
        if found is None:
            found = self._poison[key] = self.faults.strikes("sink.poison", key)
        return found

    def heal(self) -> None:
        """What was poison is taken from now on, once nothing strikes any more."""
        self._poison.clear()
        self.hung.clear()

    def longer_s(self, node: str) -> float:
        """How much longer an invocation of a node takes that begins now."""
        if node in self.hung:
            self.hanging.add(node)
        return self.hung.get(node, 0.0)

    def _check_epoch(self, place: tuple[str, str], epoch: int) -> None:
        if epoch < self._epochs[place]:
            newest = self._epochs[place]
            raise FencedError(f"epoch {newest} has written to {place[1]}", epoch=newest)
        self._epochs[place] = epoch


class SimulatedHandler:
    """A handler for one node and pipeline, to be called with batches; a `TransactionalWriter` of a transactional target.

    What it says is done is in the target, and no change of an item overtakes an earlier one. How it fails is drawn for each
    invocation; which items are poison is drawn for each item.
    """

    def __init__(self, sink: SimulatedSink, *, pipeline: str, network: Network, node: str, faults: Faults) -> None:
        self._sink = sink
        self._pipeline = pipeline
        self._network = network
        self._node = node
        self._misbehaviour = Misbehaviour(faults, in_order=sink.kind == "transactional")
        self._numbers: Counter[str] = Counter()

    async def __call__(self, batch: Batch, /) -> None:
        """Raises what the plan for this invocation says, or the network; what is returned means nothing."""
        self._sink.invocations += 1
        invocation = self._sink.invocations
        invoked = Invoked(
            node=self._node,
            invocation=invocation,
            pipeline=batch.pipeline,
            shard_id=batch.shard.shard_id,
            epoch=batch.epoch,
            numbers=numbers_of(batch.records),
        )
        self._sink.tell(invoked)
        plan, done = self._plan(batch), False
        try:
            await self._perform(plan, batch, invocation)
            done = True
        except (PartialFailure, RecordsFailedError):
            done = True
            raise
        finally:
            named = done and isinstance(plan.error, RecordsFailedError)
            self._sink.tell(_returned(invoked, plan.written if done else (), counted=plan.counted, named=named))
        return cast("None", plan.returned)

    write = __call__

    def _plan(self, batch: Batch) -> Plan:
        shard_id = batch.shard.shard_id
        self._numbers[shard_id] += 1
        if any(self._sink.is_poison(record.item_key) for record in batch.records):
            return Plan(error=PoisonError("one of these records is poison"))
        return self._misbehaviour.plan(batch.records, self._node, self._pipeline, shard_id, self._numbers[shard_id])

    async def _perform(self, plan: Plan, batch: Batch, invocation: int) -> None:
        await anyio.sleep(plan.delay_s + self._sink.longer_s(self._node))

        async def effect() -> None:
            self._sink.accept(self._node, invocation, batch, plan.written)

        if plan.written:
            await self._network.call(self._node, PORT, "write", effect, failed=ConnectionError, unknown=TimeoutError)
        if plan.error is not None:
            raise plan.error

    async def fence(self, shard: Shard, epoch: int, /) -> Position | None:
        """See `TransactionalWriter.fence`."""

        async def effect() -> Position | None:
            return self._sink.fence(self._pipeline, shard.shard_id, epoch)

        return await self._network.call(self._node, PORT, "fence", effect, failed=ConnectionError, unknown=TimeoutError)

    async def advance(self, shard: Shard, epoch: int, position: Position, /) -> None:
        """See `TransactionalWriter.advance`."""

        async def effect() -> None:
            self._sink.advance(self._pipeline, shard.shard_id, epoch, position)

        await self._network.call(self._node, PORT, "advance", effect, failed=ConnectionError, unknown=TimeoutError)


def numbers_of(records: Sequence[Record]) -> tuple[int, ...]:
    """Sequence numbers as facts have them."""
    return tuple([int(record.sequence_number) for record in records])


def _returned(invoked: Invoked, done: Sequence[Record], *, counted: bool, named: bool) -> Returned:
    return Returned(
        node=invoked.node,
        invocation=invoked.invocation,
        pipeline=invoked.pipeline,
        shard_id=invoked.shard_id,
        epoch=invoked.epoch,
        numbers=invoked.numbers,
        done=numbers_of(done),
        counted=counted,
        named=named,
    )
