"""The target that simulated handlers write to, in truth, and each node's handler with its ways to fail.

What reaches the target is told as `Accepted`, whoever waits for the answer. A target is one of three kinds: `plain` takes
everything; `fenced` refuses what an older owner of the shard writes; `transactional` also keeps how far each shard is, in
the same step as the data, and a handler of it is the `fence` of its flow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import anyio
from anyio import get_cancelled_exc_class

from streamflow.errors import FencedError, PartialFailure
from streamflow.failures import RecordsFailedError
from streamflow.testing.simulation.facts import Accepted, Invoked, Returned, WindowSeen
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
_GOES_ON_S = (1.0, 120.0)
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
            if self.faults.strikes("sink.seen_newer", node, invocation, self._epochs[place]):
                self._epochs[place] = max(batch.epoch + 1, self._epochs[place])
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
    invocation; which items are poison is drawn for each item. In the state of a tumbling window it keeps the numbers of the
    records that it has written. `in_thread`: cancelled, it may be at work for longer than its caller.
    """

    def __init__(
        self,
        sink: SimulatedSink,
        *,
        pipeline: str,
        network: Network,
        node: str,
        faults: Faults,
        in_thread: bool = False,
    ) -> None:
        self._sink = sink
        self._faults = faults
        self._in_thread = in_thread
        self._pipeline = pipeline
        self._network = network
        self._node = node
        self._misbehaviour = Misbehaviour(faults, in_order=sink.kind == "transactional")
        self._numbers: Counter[str] = Counter()

    async def __call__(self, batch: Batch, /) -> None:
        """Raises what the plan for this invocation says, or the network; what is returned means nothing."""
        self._sink.invocations += 1
        about: dict[str, Any] = {
            "node": self._node,
            "invocation": self._sink.invocations,
            "pipeline": batch.pipeline,
            "shard_id": batch.shard.shard_id,
            "epoch": batch.epoch,
            "numbers": numbers_of(batch.records),
        }
        self._sink.tell(Invoked(**about, window=window_seen(batch)))
        plan = self._plan(batch)
        says: dict[str, Any] = {"counted": plan.counted}
        goes_on_s = 0.0
        try:
            await self._perform(plan, batch, about["invocation"])
            says |= _done(plan, batch)
        except (PartialFailure, RecordsFailedError):
            says |= _done(plan, batch)
            raise
        except FencedError:
            says["fenced"] = True
            raise
        except get_cancelled_exc_class():
            goes_on_s = self._goes_on_s(about["invocation"])
            raise
        finally:
            self._tell_later(goes_on_s, Returned(**about, **says))
        return cast("None", plan.returned)

    write = __call__

    def _plan(self, batch: Batch) -> Plan:
        shard_id = batch.shard.shard_id
        self._numbers[shard_id] += 1
        if any(self._sink.is_poison(record.item_key) for record in batch.records):
            return Plan(error=PoisonError("one of these records is poison"))
        return self._misbehaviour.plan(batch.records, self._node, self._pipeline, shard_id, self._numbers[shard_id])

    def _goes_on_s(self, invocation: int) -> float:
        """For how long a handler that is cancelled is still at work, in a thread of its own."""
        address = self._node, invocation
        if not self._in_thread or not self._faults.strikes("sink.goes_on", *address):
            return 0.0
        return self._faults.rng("sink.goes_on", *address).uniform(*_GOES_ON_S)

    def _tell_later(self, delay_s: float, fact: Fact) -> None:
        if delay_s:
            # It is the sink's, and goes on when the worker is gone.
            asyncio.get_running_loop().call_later(delay_s, self._sink.tell, fact, context=Context())
        else:
            self._sink.tell(fact)

    async def _perform(self, plan: Plan, batch: Batch, invocation: int) -> None:
        await anyio.sleep(plan.delay_s + self._sink.longer_s(self._node))

        async def effect() -> None:
            self._sink.accept(self._node, invocation, batch, plan.written)

        if batch.window is not None and not batch.window.is_final:
            known = batch.window.state.get("numbers", [])
            batch.window.state["numbers"] = [*known, *map(str, numbers_of(plan.written))]
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


def window_seen(batch: Batch) -> WindowSeen | None:
    """The window of a batch, with what this module's handlers keep in its state."""
    window = batch.window
    if window is None:
        return None
    numbers = tuple([int(number) for number in window.state.get("numbers", ())])
    return WindowSeen(start_s=window.start_s, numbers=numbers, final=window.is_final)


def _done(plan: Plan, batch: Batch) -> dict[str, Any]:
    """What the handler says that has written what it could."""
    if isinstance(plan.error, PartialFailure) and not plan.written:
        return {}
    if isinstance(plan.error, RecordsFailedError) and not plan.failures:
        return {}
    return {
        "done": numbers_of(plan.written),
        "named": bool(plan.failures),
        "refused": plan.numbers("refused"),
        "waiting": plan.numbers("waiting"),
        "window": window_seen(batch),
    }
