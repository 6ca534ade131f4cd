"""Everything that a simulated worker calls, with no worker: ports of one or two nodes, and the facts that they told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from streamflow.leases import LeaseLayout
from streamflow.sources.dynamodb_calls import StreamCalls
from streamflow.testing.controls import Controls
from streamflow.testing.simulation.clocks import VirtualClock
from streamflow.testing.simulation.destinations import SimulatedDestination
from streamflow.testing.simulation.draws import Draws
from streamflow.testing.simulation.facts import RecordMade
from streamflow.testing.simulation.faults import Faults
from streamflow.testing.simulation.network import Network
from streamflow.testing.simulation.rows import NEVER_LOSES, Profile, SimulatedRows
from streamflow.testing.simulation.sinks import SimulatedHandler, SimulatedSink
from streamflow.testing.simulation.store import SimulatedStore
from streamflow.testing.simulation.streams import SimulatedSource, SimulatedStreams, SimulatedWire
from streamflow.testing.simulation.table import SimulatedTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.sinks import Kind

FactKind = TypeVar("FactKind")


@dataclass(eq=False)
class Ports:
    """To be made in the loop. `rates` are the kinds of fault that there are, 1 for one that always strikes."""

    rates: Mapping[str, float] = field(default_factory=dict)
    shards: int = 1
    layout: LeaseLayout = LeaseLayout.NATIVE
    profile: Profile = NEVER_LOSES
    sink_kind: Kind = "plain"
    tables: dict[str, Any] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)

    def __post_init__(self) -> None:
        draws = Draws(7)
        self.faults = Faults(draws, rates=self.rates)
        self.network = Network(draws, self.faults)
        self.clock = VirtualClock()
        self.controls = Controls(now=self.clock.wall, **self.tables)
        tell = self.facts.append
        self.table = SimulatedTable(controls=self.controls, faults=self.faults, tell=tell, shards=self.shards)
        self.streams = SimulatedStreams(self.controls.tables, self.faults, tell)
        self.rows = SimulatedRows(self.layout, profile=self.profile, tell=tell)
        self.sink = SimulatedSink(tell=tell, faults=self.faults, kind=self.sink_kind)

    def source(self, node: str = "w1.1") -> SimulatedSource:
        return SimulatedSource(
            self.streams, self.table.stream.stream_arn, network=self.network, node=node, clock=self.clock
        )

    def calls(self, node: str = "w1.1") -> StreamCalls:
        """What a source asks, one request at a time."""
        return StreamCalls(SimulatedWire(self.streams, self.network, node), self.table.stream.stream_arn)

    def store(self, node: str = "w1.1") -> SimulatedStore:
        return SimulatedStore(self.rows, network=self.network, node=node, faults=self.faults)

    def handler(self, node: str = "w1.1") -> SimulatedHandler:
        return SimulatedHandler(self.sink, pipeline="p", network=self.network, node=node, faults=self.faults)

    def destination(self, node: str = "w1.1") -> SimulatedDestination:
        return SimulatedDestination(network=self.network, node=node, faults=self.faults, tell=self.facts.append)

    def put(self, *keys: str) -> None:
        """A change of each item, with a version that no other has."""
        for key in keys:
            version = str(len(self.of(RecordMade)))
            self.table.put({"id": {"S": key}, "version": {"N": version}})

    def of(self, kind: type[FactKind]) -> list[FactKind]:
        """The facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]
