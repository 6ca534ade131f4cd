"""Runs of worlds: one by its seed, many side by side, and a failing one with fewer and fewer kinds of faults."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING

import anyio

from streamflow.clock import thread_monotonic
from streamflow.testing.failpoints import armed
from streamflow.testing.simulation.determinism import deterministic
from streamflow.testing.simulation.draws import Draws
from streamflow.testing.simulation.faults import KINDS, Faults
from streamflow.testing.simulation.history import History
from streamflow.testing.simulation.loop import SimulatedLoop, SimulationError
from streamflow.testing.simulation.oracle import Violation
from streamflow.testing.simulation.setups import SCALES, drawn
from streamflow.testing.simulation.workers import Workers
from streamflow.testing.simulation.world import World, told_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one run. `violations` is empty if it kept every promise."""

    seed: int
    scale: str
    without: tuple[str, ...] = ()
    violations: tuple[Violation, ...]
    simulated_s: float
    took_s: float
    """Of this machine's time."""
    records: int
    duplicates: int
    """Effects beyond the first of each record."""
    injected: Counter[str]
    """Kind of fault to how often it struck."""
    reached: frozenset[str]
    trace: str
    leaks: tuple[str, ...] = ()
    """What handlers asked for that differs from run to run, such as `time.time in handlers.py:12`."""
    raised: Counter[str] = field(default_factory=Counter)
    """What a user's handler raised, such as `TimeoutError at handlers.py:12`, to how often."""

    @property
    def failed(self) -> bool:
        return bool(self.violations)

    @property
    def command(self) -> str:
        """Does the same run again."""
        excluded = "".join(f" --without {kind}" for kind in self.without)
        return f"python -m streamflow.testing.simulation --seed {self.seed} --world {self.scale}{excluded}"


@dataclass(slots=True, eq=False)
class _Run:
    """The one world of a run, also when the run breaks off."""

    world: World | None = None
    violations: list[Violation] = field(default_factory=list)

    def note_line(self, text: str) -> None:
        if self.world is not None:
            self.world.note_line(text)


def simulate(seed: int, scale: str = "small", *, without: Collection[str] = ()) -> Outcome:
    """Run the world of a seed, without some kinds of faults, or some sites of them."""

    def make(loop: SimulatedLoop, draws: Draws, faults: Faults) -> Workers:
        return Workers(World(loop=loop, setup=drawn(SCALES[scale], draws), draws=draws, faults=faults))

    return simulate_world(seed, scale, make, without=without)


def simulate_world(
    seed: int,
    scale: str,
    make: Callable[[SimulatedLoop, Draws, Faults], Workers],
    *,
    without: Collection[str] = (),
) -> Outcome:
    """Run the world whose workers `make` makes of a seed; `scale` is what it is called. `make` is called in the loop."""
    started = thread_monotonic()
    draws = Draws(seed)
    faults = Faults(draws, without=without)
    loop = SimulatedLoop(seed)
    run = _Run()

    async def live() -> None:
        workers = make(loop, draws, faults)
        run.world = world = workers.world
        loop.set_exception_handler(lambda _, context: world.note_complaint(context))
        await History(workers).run()
        run.violations += world.concluded()

    async def dawdle(name: str) -> None:
        if run.world is not None:
            await run.world.dawdle(name)

    # Armed out here, because what is in the loop has no end where the loop breaks off.
    with deterministic() as repeatability, told_logs(run.note_line), armed(dawdle):
        try:
            anyio.run(live, backend_options={"loop_factory": lambda: loop})
        except SimulationError as error:
            run.violations.append(_violation("V14", error, run.world))
        except Exception as error:  # noqa: BLE001 - whatever breaks a run is a finding
            run.violations.append(_violation("V17", error, run.world))
    world = run.world
    assert world is not None
    courses = world.oracle.truth.courses.values()
    return Outcome(
        seed=seed,
        scale=scale,
        without=tuple(without),
        violations=(*run.violations, *world.oracle.violations),
        simulated_s=world.elapsed_s(),
        took_s=thread_monotonic() - started,
        records=sum(len(shard.numbers) for shard in world.oracle.truth.shards.values()),
        duplicates=sum(count - 1 for course in courses for count in course.accepted.values()),
        injected=faults.injected,
        reached=frozenset(world.sometimes.reached),
        trace=loop.trace.digest(),
        leaks=tuple(sorted(repeatability.leaks)),
    )


def _violation(name: str, error: Exception, world: World | None) -> Violation:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return Violation(
        invariant=name, says=f"{type(error).__name__}: {error}", at_s=0.0 if world is None else world.elapsed_s()
    )


def shrink(
    failed: Outcome, run: Callable[[Sequence[str]], Outcome] | None = None, *, tell: Callable[[str], object]
) -> Outcome:
    """Do without one kind of fault after the other while the same invariant breaks: the answer needs all its kinds.

    `run` does the failed run again without some kinds; by default it is that of a drawn world.
    """
    run = run or (lambda without: simulate(failed.seed, failed.scale, without=without))
    broken = {violation.invariant for violation in failed.violations}
    smallest = failed
    for kind in (kind for kind in KINDS if failed.injected[kind]):
        if kind in smallest.without:
            continue
        outcome = run((*smallest.without, kind))
        if broken & {violation.invariant for violation in outcome.violations}:
            smallest = outcome
            tell(f"  without {kind} too")
    return smallest


# --- many of them ------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True, eq=False)
class Sweep:
    """The sum of many runs."""

    runs: int = 0
    simulated_s: Counter[str] = field(default_factory=Counter)
    """By scale, in whole seconds."""
    records: int = 0
    duplicates: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.runs += 1
        self.simulated_s[outcome.scale] += round(outcome.simulated_s)
        self.records += outcome.records
        self.duplicates += outcome.duplicates
        self.injected += outcome.injected
        self.reached.update(outcome.reached)
        if outcome.failed:
            self.failed.append(outcome)


def sweep(
    work: Iterator[tuple[int, str]],
    *,
    seconds: float,
    processes: int,
    heard: Callable[[Outcome], object],
    without: Sequence[str] = (),
    run: Callable[..., Outcome] = simulate,
) -> Sweep:
    """Run seeds in their worlds until the time is up; each outcome is told as it comes. Runs that have begun are finished.

    `run` knows the names of the worlds.
    """
    ends_at = thread_monotonic() + seconds
    total = Sweep()

    def note(outcome: Outcome) -> None:
        total.add(outcome)
        heard(outcome)

    if processes == 1:
        while thread_monotonic() < ends_at:
            seed, scale = next(work)
            note(run(seed, scale, without=without))
        return total
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run, *next(work), without=tuple(without)) for _ in range(processes)]
        while waiting:
            done = next((each for each in waiting if each.done()), waiting[0])
            note(done.result())
            waiting.remove(done)
            if thread_monotonic() < ends_at:
                waiting.append(pool.submit(run, *next(work), without=tuple(without)))
    return total
