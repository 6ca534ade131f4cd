"""DynamoDB Streams for simulated workers: the service that all of them share, and each one's way to it.

A worker's side is the product's own source, from its listing down to the reading of answers: only what posts a request
is replaced. Behind the network stands the state machine of LocalStreams.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

import anyio
import msgspec

from streamflow.aws.errors import classify, with_code
from streamflow.aws.wire import Response
from streamflow.errors import SourceError
from streamflow.sources.dynamodb import DynamoDBSource
from streamflow.sources.dynamodb_calls import StreamCalls, new_bucket
from streamflow.testing import requests
from streamflow.testing.refusals import RefusedError, invalid
from streamflow.testing.simulation.facts import Called, Heard, Shown
from streamflow.testing.simulation.listings import Listings
from streamflow.testing.simulation.reads import Reads
from streamflow.testing.simulation.refusals import Refusals
from streamflow.testing.wire import listing_body, page_body, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.attributes import Numbers
    from streamflow.clock import Clock
    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.simulation.network import Network
    from streamflow.testing.tables import Tables

PORT = "streams"
"""What the network calls the way to the service."""
HANGS_S = (60.0, 600.0)
_LOOK_S = 5.0


class _Shard(msgspec.Struct, rename={"shard_id": "ShardId"}):
    shard_id: str


class _Description(msgspec.Struct, rename={"shards": "Shards"}):
    shards: list[_Shard]


class _Page(msgspec.Struct, rename={"description": "StreamDescription"}):
    description: _Description


def unheard(_fact: Fact) -> None:
    """For worlds in which nobody listens."""


@dataclass(slots=True, eq=False)
class SimulatedStreams:
    """The service. Whatever reaches it is told as `Called`."""

    tables: Tables
    faults: Faults
    tell: Callable[[Fact], None] = unheard
    _listings: Listings = field(init=False)
    _reads: Reads = field(init=False)
    _refusals: Refusals = field(init=False)
    _numbers: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._listings = Listings(self.tables, self.faults)
        self._reads = Reads(self.tables, self.faults)
        self._refusals = Refusals(self.faults, self.tables.now)

    def next_number(self, what: str, node: str, shard_id: str) -> int:
        """Of a node's requests of one kind for a shard: faults are drawn for each."""
        self._numbers[node, what, shard_id] += 1
        return self._numbers[node, what, shard_id]

    def answer(self, node: str, request: requests.Request) -> bytes | SourceError:
        """The body of a 200, or what another answer means."""
        shard_id, operation = shard_of(request) or "", type(request).__name__
        number = self.next_number(operation, node, shard_id)
        address = (node, operation, shard_id, number)
        records = last = 0
        answer: bytes | SourceError | None = self._refusals.draw(*address)
        if answer is None:
            try:
                answer, records, last = self._serve(request, address)
            except RefusedError as error:
                answer = classify(error.code, error.message, error.status)
        failed = isinstance(answer, SourceError)
        self.tell(Called(node=node, operation=operation, shard_id=shard_id, records=records, last=last, failed=failed))
        if not isinstance(answer, SourceError) and self.faults.strikes("answer.corrupt", *address):
            cut = self.faults.rng("answer.corrupt", *address).randrange(len(answer))
            return answer[:cut] + b"\xff" * (cut % 2)
        return answer

    def _serve(self, request: requests.Request, address: tuple[str, str, str, int]) -> tuple[bytes, int, int]:
        """The body, how many records are in it, and the number of the last one. Raises `RefusedError`."""
        match request:
            case requests.GetRecords():
                page = self._reads.page(request, *address)
                return page_body(page), len(page.bodies), self._reads.last_of(request, page)
            case requests.GetShardIterator():
                return b'{"ShardIterator":"' + self._reads.iterator(request).encode() + b'"}', 0, 0
            case requests.DescribeStream():
                return listing_body(self._listings.page(request, *address)), 0, 0
        raise invalid(f"a reader of streams does not ask for {address[1]}")


@dataclass(frozen=True, slots=True)
class SimulatedWire:
    """One node's way to the service: what `streamflow.aws.wire.Wire` is to a real one."""

    streams: SimulatedStreams
    network: Network
    node: str

    async def call(self, target: str, body: bytes) -> Response:
        """See `Wire.call`."""
        request = requests.read_request(target, body)
        operation = type(request).__name__
        await self._perhaps_hang(operation, shard_of(request) or "")

        async def ask() -> bytes | SourceError:
            return self.streams.answer(self.node, request)

        try:
            answer = await self.network.call(self.node, PORT, operation, ask, failed=_failed, unknown=_unknown)
        except SourceError as error:
            answer = error
        failed = isinstance(answer, SourceError)
        self.streams.tell(Heard(node=self.node, operation=operation, shard_id=_about(request), failed=failed))
        if isinstance(answer, SourceError):
            raise answer
        if isinstance(request, requests.DescribeStream):
            self._tell_shown(answer)
        # Whoever pins a tip asks what time it is there.
        asks_time = isinstance(request, requests.GetShardIterator)
        return Response(answer, formatdate(self.streams.tables.now(), usegmt=True) if asks_time else None)

    def _tell_shown(self, answer: bytes) -> None:
        with suppress(msgspec.DecodeError):  # it is cut off
            shards = msgspec.json.decode(answer, type=_Page).description.shards
            self.streams.tell(Shown(node=self.node, shard_ids=tuple(shard.shard_id for shard in shards)))

    async def _perhaps_hang(self, operation: str, shard_id: str) -> None:
        """As a resolver does, or a connection that nobody looks after: no time limit of a client sees it."""
        if operation == "GetRecords":
            address = self.node, operation, shard_id, self.streams.next_number("hang", self.node, shard_id)
            if self.streams.faults.strikes("read.hangs", *address):
                ends_at_s = anyio.current_time() + self.streams.faults.rng("read.hangs", *address).uniform(*HANGS_S)
                while anyio.current_time() < ends_at_s and not self.streams.faults.quiet:  # noqa: ASYNC110 - in virtual time a look costs nothing
                    await anyio.sleep(_LOOK_S)


def _about(request: requests.Request) -> str:
    if isinstance(request, requests.DescribeStream):
        return request.shard_filter.shard_id if request.shard_filter else ""
    return shard_of(request) or ""


def _failed(text: str) -> SourceError:
    return with_code(SourceError(f"cannot reach the service: {text}"), "ClientConnectorError")


def _unknown(text: str) -> SourceError:
    return with_code(SourceError(f"cannot reach the service: {text}"), "ServerDisconnectedError")


class SimulatedSource(DynamoDBSource):
    """One stream for one node: keeps `streamflow.protocols.Source`."""

    def __init__(
        self,
        streams: SimulatedStreams,
        stream_arn: str,
        *,
        network: Network,
        node: str,
        clock: Clock,
        numbers: Numbers = "decimal",
    ) -> None:
        calls = StreamCalls(SimulatedWire(streams, network, node), stream_arn, new_bucket())
        super().__init__(calls, numbers=numbers, clock=clock)
