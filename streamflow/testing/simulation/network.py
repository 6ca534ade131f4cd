"""The network between nodes and what they call: slow, lossy, and never telling what became of a request.

A request takes effect at one moment, as at a service that handles one request after the other; what is lost, late or
doubled is lost, late or doubled around it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from streamflow.testing.simulation.loop import NODE, SimulatedLoop, SimulationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow.testing.simulation.draws import Draws
    from streamflow.testing.simulation.faults import Faults

T = TypeVar("T")

LATENCY_S = 0.005
"""The median of one way; one way in a hundred takes six times as long."""
_SPREAD = 0.8
_CLOG_S = (1.0, 12.0)
_DELAYED_S = (0.5, 60.0)
_AGAIN_S = (0.0, 5.0)
_NO_ROUTE_S = (0.1, 5.0)
"""Whoever gets no answer gives up after this, at the client's end."""


class Network:
    """To be made in the loop. A node is known here by the key of its life (`Node.key`), a port by a name of your choice."""

    def __init__(self, draws: Draws, faults: Faults, *, latency_s: float = LATENCY_S) -> None:
        self._draws = draws
        self._faults = faults
        self._latency_s = latency_s
        self._loop = cast("SimulatedLoop", asyncio.get_running_loop())
        self._world = copy_context()
        self._world.run(NODE.set, "")
        self._numbers: Counter[tuple[str, str, str]] = Counter()
        self._severed: set[str] = set()
        self._partitions: dict[tuple[str, str], bool] = {}
        self._clogged_until: dict[tuple[str, str], float] = {}
        self._awaited: dict[tuple[str, str, str], asyncio.Event] = {}

    async def call(
        self,
        node: str,
        port: str,
        operation: str,
        effect: Callable[[], Awaitable[T]],
        *,
        failed: Callable[[str], Exception],
        unknown: Callable[[str], Exception],
    ) -> T:
        """Have `effect` carried out on the other side, and return or raise what it does.

        `effect` must not wait: it happens at one moment, outside the node (`NODE` is empty in it), also when the caller
        was cancelled meanwhile; and it may happen twice. An error that it raises is an answer like any other.

        `failed` makes the error for a request that was surely not carried out, `unknown` for one that may have been.
        The calls of a severed node never return.
        """
        self._numbers[node, port, operation] += 1
        address = (node, port, operation, self._numbers[node, port, operation])
        request = _Request(node, port, operation, effect, failed, unknown, self._loop.create_future())
        if node not in self._severed:
            self._send(request, self._faults.at("network", *address), self._draws.uniforms("way", *address))
        result, error = await request.answer
        if error is not None:
            raise error
        return cast("T", result)

    async def wait_carried_out(self, node: str, port: str, operation: str) -> None:
        """Wait for the moment when the next such request is carried out, and its answer is still on its way."""
        await self._awaited.setdefault((node, port, operation), asyncio.Event()).wait()

    @property
    def now(self) -> float:
        """The world's time, whoever asks."""
        return self._loop.now

    def sever(self, node: str) -> None:
        """Cut a node off for ever: its calls, also those under way, hang. What was sent and is delayed may still land."""
        self._severed.add(node)

    def partition(self, node: str, port: str, *, answers_only: bool = False) -> None:
        """Let nothing through between a node and a port, until `heal`; or requests, but no answers."""
        self._partitions[node, port] = answers_only

    def heal(self, node: str, port: str) -> None:
        """Undo `partition` and `clog`: what is sent from now on gets through."""
        self._partitions.pop((node, port), None)
        self._clogged_until.pop((node, port), None)

    def heal_all(self) -> None:
        """No partition and no clog any more."""
        self._partitions.clear()
        self._clogged_until.clear()

    def clog(self, node: str, port: str, seconds: float) -> None:
        """Let what is sent from now on arrive only when the time is up, all of it at once."""
        self._clogged_until[node, port] = self._loop.now + seconds

    # -- a request on its way -------------------------------------------------------------------------------------------

    def _send(self, request: _Request, fault: str | None, drawn: Sequence[float]) -> None:
        there_s, back_s = self._ways(drawn)
        clogged_s = self._clogged_until.get(request.link, 0.0) - self._loop.now
        there_s += max(0.0, clogged_s)
        arrive = partial(self._arrive, request, back_s, drawn[3])
        match fault:
            case None:
                self._after(there_s, arrive)
            case "network.clog":
                self._after(there_s + _between(_CLOG_S, drawn[2]), arrive)
            case "network.twice":
                self._after(there_s, arrive)
                self._after(there_s + _between(_AGAIN_S, drawn[2]), partial(self._carry_out, request))
            case "network.delayed":
                self._after(there_s, partial(self._fail, request, "the connection broke", known=False))
                self._after(there_s + _between(_DELAYED_S, drawn[2]), partial(self._carry_out, request))
            case "network.refused":
                self._after(there_s, partial(self._fail, request, "the connection was refused", known=True))
            case "network.request_lost":
                self._after(there_s, partial(self._fail, request, "the connection broke", known=False))
            case "network.answer_lost":
                self._after(there_s, partial(self._arrive, request, back_s, drawn[3], answered=False))
            case _:
                raise AssertionError(f"{fault} is a fault of the network that nobody performs")

    def _ways(self, drawn: Sequence[float]) -> tuple[float, float]:
        """There and back, in seconds: log-normal, two independent draws from two numbers."""
        length = _SPREAD * math.sqrt(-2.0 * math.log(1.0 - drawn[0]))
        angle = 2.0 * math.pi * drawn[1]
        return self._latency_s * math.exp(length * math.cos(angle)), self._latency_s * math.exp(
            length * math.sin(angle)
        )

    def _arrive(self, request: _Request, back_s: float, patience: float, *, answered: bool = True) -> None:
        if request.node in self._severed:
            return
        if self._partitions.get(request.link) is False:
            # Half of them do not even get a connection, and know that nothing was sent.
            lost = partial(self._fail, request, "no answer", known=patience < 1 / 2)
            self._after(_between(_NO_ROUTE_S, patience), lost)
            return
        outcome = self._carry_out(request)
        if answered:
            self._after(back_s, partial(self._return, request, outcome, patience))
        else:
            self._after(back_s, partial(self._fail, request, "the connection broke", known=False))

    def _carry_out(self, request: _Request) -> tuple[Any, Exception | None]:
        self._loop.trace.add("effect", request.node, request.port, request.operation, self._loop.now)
        if self._awaited and (awaited := self._awaited.pop((*request.link, request.operation), None)) is not None:
            awaited.set()
        try:
            return self._at_once(request.effect()), None
        except Exception as error:  # noqa: BLE001 - it is the answer
            return None, error

    def _at_once(self, effect: Awaitable[T]) -> T | None:
        """What an awaitable comes to that does not wait; one that does is a mistake in the simulation itself."""
        try:
            next(effect.__await__())
        except StopIteration as done:
            return cast("T", done.value)
        self._loop.fail(SimulationError("an effect waits, and was to happen at one moment"))
        return None

    def _return(self, request: _Request, outcome: tuple[Any, Exception | None], patience: float) -> None:
        if request.link in self._partitions:
            self._after(_between(_NO_ROUTE_S, patience), partial(self._fail, request, "no answer", known=False))
            return
        self._settle(request, outcome)

    def _fail(self, request: _Request, why: str, *, known: bool) -> None:
        make = request.failed if known else request.unknown
        self._settle(request, (None, make(f"{request.port}: {request.operation}: {why}")))

    def _settle(self, request: _Request, outcome: tuple[Any, Exception | None]) -> None:
        if request.node not in self._severed and not request.answer.done():
            request.answer.set_result(outcome)

    def _after(self, delay_s: float, callback: Callable[[], object]) -> None:
        """In the context of the world: a node that stands still does not stop what it has sent."""
        self._loop.call_at(self._loop.now + delay_s, callback, context=self._world)


@dataclass(slots=True, eq=False)
class _Request:
    node: str
    port: str
    operation: str
    effect: Callable[[], Awaitable[Any]]
    failed: Callable[[str], Exception]
    unknown: Callable[[str], Exception]
    answer: asyncio.Future[tuple[Any, Exception | None]]

    @property
    def link(self) -> tuple[str, str]:
        return self.node, self.port


def _between(limits: tuple[float, float], drawn: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * drawn
