"""An event loop in virtual time whose order of turns is drawn from a seed: nothing in it waits, nothing is left to chance.

- Time stands while anything is ready, and jumps to the next timer when nothing is.
- Ready calls are shuffled, but two of one task keep their order, and so do two that no task owns.
- Nothing ready and no timer is an error that shows where every task waits, never a hang.
- No thread is ever started: what was to run in one runs in the loop, after a while.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from asyncio import events
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

from streamflow.testing.simulation.trace import Trace, place_of, told

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

NODE: ContextVar[str] = ContextVar("NODE", default="")
"""Whose code runs: what a node starts inherits it. Empty is the world itself."""

STEPS_MAX = 1_000_000
"""More calls than this within one second of virtual time are taken for an endless loop."""
START_S = 1_000.0
"""Zero as a time would hide mistakes that take it for none."""
_GRAIN = float(1 << 24)
"""Timers are due at whole grains of a second (60 ns): so what a suspend adds and takes away again is exact."""
_TIMERS_MAX = 1_000
"""So many timers, beyond twice those that stand, before the cancelled ones are swept out."""
_LOOPS_OWN = "_Deadlines._ring"
"""The one timer for all time limits of a loop (`streamflow.deadlines`), whoever has set it."""
_THREAD_S_MAX = 0.05
"""What runs in a thread has its effect after up to this, and returns after up to this again."""


class SimulationError(Exception):
    """The run cannot go on: what it simulates is broken."""


class DeadlockError(SimulationError):
    """Everybody waits, and nothing will ever happen."""


class LivelockError(SimulationError):
    """Something goes on and on while hardly any time passes."""


@dataclass(slots=True, eq=False)
class _Standstill:
    since_s: float
    clock_stops: bool
    held: deque[asyncio.Handle] = field(default_factory=deque)


class SimulatedLoop(asyncio.BaseEventLoop):
    """Run a program with `anyio.run(main, backend_options={"loop_factory": lambda: SimulatedLoop(seed)})`.

    Without a seed every turn is taken first come, first served. `steps_max` bounds the calls within one virtual second.
    """

    def __init__(self, seed: int | None = None, *, steps_max: int = STEPS_MAX) -> None:
        super().__init__()
        self.trace = Trace()
        """All that has happened, as one hash: two runs that took the same course have the same. Turns only with a seed."""
        self.steps = 0
        """Calls run so far."""
        self._ready: deque[asyncio.Handle] = deque()
        self._now = START_S
        self._random = None if seed is None else Random(seed)  # noqa: S311 - a run must repeat
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self._timers_max = _TIMERS_MAX
        self._steps_max = steps_max
        self._second_began_s = START_S
        self._steps_end = steps_max
        self._frozen: dict[str, _Standstill] = {}
        self._suspended_s: dict[str, float] = {}
        self._failure: BaseException | None = None
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()

    # -- time -----------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds for the world: no node's suspends are taken off."""
        return self._now

    def time(self) -> float:
        """The monotonic clock of the node whose code asks: it stands while the node is suspended."""
        if not self._suspended_s:
            return self._now
        return self.time_of(NODE.get())

    def time_of(self, node: str) -> float:
        """The monotonic clock of a node."""
        standstill = self._frozen.get(node)
        now = standstill.since_s if standstill is not None and standstill.clock_stops else self._now
        return now - self._suspended_s.get(node, 0.0)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._check_closed()  # type: ignore[attr-defined]
        if self._suspended_s:
            node = NODE.get() if context is None else context.get(NODE, "")
            when += self._suspended_s.get(node, 0.0)
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        if when < math.inf:
            self._arm(timer, when)
        return timer

    def _arm(self, timer: Any, when: float) -> None:
        timer._when = when = math.ceil(when * _GRAIN) / _GRAIN
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer))

    # -- nodes that stand still -------------------------------------------------------------------------------------------

    def freeze(self, node: str, *, clock_stops: bool = False) -> None:
        """Run nothing more of a node, until `thaw`: as SIGSTOP does, or a pause of the garbage collector.

        `clock_stops` suspends its machine: its monotonic clock stands, and what it waits for takes that much longer.
        """
        if node not in self._frozen:
            self._frozen[node] = _Standstill(self._now, clock_stops)

    def thaw(self, node: str) -> None:
        """Go on with a node: first with what was held back, in the order in which it became ready."""
        standstill = self._frozen.get(node)
        if standstill is None:
            return
        if standstill.clock_stops:
            self._prolong(node, standstill)
        del self._frozen[node]
        self._ready.extend(standstill.held)

    def _prolong(self, node: str, standstill: _Standstill) -> None:
        """Its timers that came due meanwhile, and those to come, are due as much later as it stood still."""
        lost_s = self._now - standstill.since_s
        self._suspended_s[node] = self._suspended_s.get(node, 0.0) + lost_s
        late = [timer for timer in standstill.held if isinstance(timer, asyncio.TimerHandle)]
        standstill.held = deque(handle for handle in standstill.held if not isinstance(handle, asyncio.TimerHandle))
        own = [timer for timer in self._timers if _node(timer[2]) == node]
        self._timers = [timer for timer in self._timers if _node(timer[2]) != node]
        heapq.heapify(self._timers)
        for timer in [*late, *(timer for _, _, timer in sorted(own, key=lambda timer: timer[:2]))]:
            self._arm(timer, timer.when() + lost_s)

    # -- turns ------------------------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        ready = self._ready
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._jump()
        while self._timers and self._timers[0][0] <= self._now:
            ready.append(heapq.heappop(self._timers)[2])
        turns = len(ready)
        if turns > 1 and self._random is not None:
            self._shuffle(self._random)
        for _ in range(turns):
            handle = ready.popleft()
            if handle.cancelled() or (self._frozen and self._hold_back(handle)):
                continue
            self.steps += 1
            if self.steps > self._steps_end:
                self._give_up(handle)
            if self._random is not None:
                self.trace.add(told(handle), self._now)
            handle._run()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure

    def _jump(self) -> None:
        """To the next timer that still stands."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise DeadlockError(f"at {self._now:.3f} s nothing will ever happen again:\n{self.whereabouts()}")
        self._now = max(self._now, self._timers[0][0])
        if self._now >= self._second_began_s + 1.0:
            self._begin_second()

    def _begin_second(self) -> None:
        self._second_began_s = self._now
        self._steps_end = self.steps + self._steps_max
        if len(self._timers) > self._timers_max:
            # Deadlines that were met in time would else be kept until they pass.
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._timers_max = 2 * len(self._timers) + _TIMERS_MAX

    def _give_up(self, handle: asyncio.Handle) -> None:
        # Or nobody could clean up.
        self._begin_second()
        self._ready.appendleft(handle)
        raise LivelockError(
            f"{self._steps_max} calls, and it is still {self._now:.3f} s; the next is {told(handle)}:\n{self.whereabouts()}"
        )

    def _shuffle(self, random: Random) -> None:
        """Draw the order of the lanes' turns; inside a lane it stays."""
        lanes: dict[object, deque[asyncio.Handle]] = {}
        order: list[deque[asyncio.Handle]] = []
        for handle in self._ready:
            lane = lanes.setdefault(_owner(handle), deque())
            lane.append(handle)
            order.append(lane)
        if len(lanes) > 1:
            random.shuffle(order)
            self._ready.clear()
            self._ready.extend(lane.popleft() for lane in order)

    def _hold_back(self, handle: asyncio.Handle) -> bool:
        standstill = self._frozen.get(_node(handle))
        if standstill is not None:
            standstill.held.append(handle)
        return standstill is not None

    def fail(self, error: BaseException) -> None:
        """Have the run end with this error, which nothing catches on the way: for what no program may hide."""
        self._failure = self._failure or error

    # -- tasks ------------------------------------------------------------------------------------------------------------

    def create_task(self, coro: Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:  # type: ignore[override]
        task = super().create_task(coro, **options)
        if task.get_name().startswith("Task-"):
            # asyncio counts over all loops of a process: such a name says nothing, and another thing at each run.
            task.set_name(getattr(coro, "__qualname__", "task"))
        context: Context | None = options.get("context")
        self._tasks[task] = NODE.get() if context is None else context.get(NODE, "")
        return task

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Those that are not done, oldest first."""
        return [task for task in list(self._tasks) if not task.done()]

    def nodes_of_tasks(self) -> list[str]:
        """Of which node each of them is."""
        return [self._tasks[task] for task in self.tasks()]

    def left_of(self, key: str) -> list[str]:
        """The tasks of a node's life that are not done, but for the one that asks, and the timers that still stand.

        What runs in a thread is such a timer. Two of one name are told once.
        """
        asks = asyncio.current_task(self)
        left = {task.get_name(): None for task in self.tasks() if task is not asks and _is_of(self._tasks[task], key)}
        for _, _, timer in sorted(self._timers, key=lambda timer: timer[:2]):
            if not timer.cancelled() and _is_of(_node(timer), key) and told(timer) != _LOOPS_OWN:
                left[f"a timer for {told(timer)}"] = None
        return list(left)

    def whereabouts(self) -> str:
        """A line for each task: of which node it is, and where it waits."""
        return "\n".join(f"  {self._tasks[task] or '-'} {task.get_name()}: {place_of(task)}" for task in self.tasks())

    # -- no threads, no selector -------------------------------------------------------------------------------------------

    def call_soon_threadsafe(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self,
        executor: object,  # noqa: ARG002 - whichever: there are no threads
        func: Callable[[*Arguments], T],
        *args: *Arguments,
    ) -> asyncio.Future[T]:
        """Call the function in the loop, after a while. Once begun it cannot be stopped, as a thread cannot."""
        answer: asyncio.Future[T] = self.create_future()

        def call() -> None:
            events._set_running_loop(None)  # in a thread there is none
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                self.call_later(self._thread_delay_s(), _settle, answer, None, error)
            else:
                self.call_later(self._thread_delay_s(), _settle, answer, result, None)
            finally:
                events._set_running_loop(self)

        self.call_later(self._thread_delay_s(), call)
        return answer

    def _thread_delay_s(self) -> float:
        return 0.0 if self._random is None else self._random.uniform(0.0, _THREAD_S_MAX)

    def _process_events(self, event_list: object) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""


def _settle(answer: asyncio.Future[T], result: Any, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def _owner(handle: Any) -> object:
    """The task that the call belongs to; None for calls of the loop itself."""
    owner = getattr(handle._callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None


def _is_of(node: str, key: str) -> bool:
    """A part of a node's life is named below it."""
    return node.partition("/")[0] == key


def _node(handle: Any) -> str:
    return str(handle._context.get(NODE, ""))
