"""One run from the empty store to the report: the stream, the workers, what happens to them, and the accounts."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import anyio
import msgspec

from chaos.faults import choose
from chaos.journal import Tail
from chaos.oracle import Accounts
from chaos.report import Findings
from chaos.stream import Written, open_stream
from chaos.watching import Watch
from chaos.workers import Workers
from streamflow.clock import thread_monotonic
from streamflow.errors import leading_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import Popen

    from anyio.abc import TaskGroup

    from chaos.faults import Choice
    from chaos.plan import Plan
    from chaos.report import Report
    from chaos.stream import Stream
    from chaos.workers import Life

_START_S_MAX = 60.0
_LOOK_S = 0.1
# Between two restarts of a rolling deploy.
_SETTLE_S = 0.5


async def run(
    plan: Plan, store_url: str, folder: Path, *, popen: Callable[..., Popen[bytes]] = subprocess.Popen
) -> Report:
    """Everything that the run writes is in `folder`: pipeline file, journal, faults, a log for each worker process.

    `popen` starts each of these.

    Raises:
        RuntimeError: the workers do not get going, or the stream's process ends.
    """
    with open_stream(plan) as stream, _workers(plan, store_url, folder, popen) as workers:
        workers.write_file(stream.opened.endpoint_url)
        workers.journal.touch()
        with workers.journal.open("rb", buffering=0) as file:
            return await Run(plan=plan, stream=stream, workers=workers, tail=Tail(file)).play()


@contextmanager
def _workers(plan: Plan, store_url: str, folder: Path, popen: Callable[..., Popen[bytes]]) -> Iterator[Workers]:
    workers = Workers(plan=plan, folder=folder, store_url=store_url, popen=popen)
    try:
        yield workers
    finally:
        workers.end_all()


@dataclass(slots=True, kw_only=True, eq=False)
class Run:
    plan: Plan
    stream: Stream
    workers: Workers
    tail: Tail
    accounts: Accounts = field(default_factory=Accounts)
    watch: Watch = field(init=False)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(workers=self.workers, stream_arn=self.stream.opened.stream_arn)
        self._random = Random(f"{self.plan.seed}/faults")

    async def play(self) -> Report:
        try:
            return await self._play()
        except BaseExceptionGroup as group:
            raise leading_error(group) from None

    async def _play(self) -> Report:
        written, drained_s = Written(versions=[], shards=0), 0.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_accounts, name="accounts")
            for slot in range(self.plan.workers_at_first):
                self.workers.start(slot)
            tasks.start_soon(self.watch.run, name="watch")
            await self._wait_going()
            tasks.start_soon(self._supervise, tasks, name="supervisor")
            self.stream.go_on()
            await self._disturb()
            written = await self.stream.wait_written()
            drained_s = await self._drain(sum(written.versions))
            self.watch.spans.close(thread_monotonic())
            tasks.cancel_scope.cancel()
        for life in list(self.workers.running()):
            await self.workers.stop(life)
        while self._read():
            pass
        (self.workers.folder / "faults.json").write_bytes(msgspec.json.encode(self.workers.faults))
        return self._findings(written, drained_s).report()

    def _findings(self, written: Written, drained_s: float) -> Findings:
        return Findings(
            plan=self.plan,
            accounts=self.accounts,
            workers=self.workers,
            watch=self.watch,
            written=written,
            torn=self.tail.torn,
            drained_s=drained_s,
        )

    # -- beginning and end ----------------------------------------------------------------------------------------------

    async def _wait_going(self) -> None:
        with anyio.move_on_after(_START_S_MAX) as limit:
            for life in list(self.workers.running()):
                await self.workers.wait_ready(life)
            if not self.workers.collect():
                await self.watch.wait_owned()
        if limit.cancelled_caught or self.workers.exits:
            raise RuntimeError(f"the workers did not get going: {'; '.join(self.workers.exits) or 'see their logs'}")
        self.watch.begin()

    async def _drain(self, records: int) -> float:
        """Wait until all is delivered, as long as the plan allows; the answer is how long it took."""
        began_s = thread_monotonic()
        with anyio.move_on_after(self.plan.drain_s_max):
            while self.accounts.delivered < records:  # noqa: ASYNC110 - it grows with every batch
                await anyio.sleep(_LOOK_S)
        return thread_monotonic() - began_s

    # -- in the background ----------------------------------------------------------------------------------------------

    async def _keep_accounts(self) -> None:
        while True:  # noqa: ASYNC110 - a file tells nobody that it grew
            await anyio.sleep(0 if self._read() else _LOOK_S)

    def _read(self) -> bool:
        before = len(self.accounts.entries)
        for acceptance in self.tail.read():
            self.accounts.enter(acceptance)
        return len(self.accounts.entries) > before

    async def _start(self, slot: int) -> None:
        await self.workers.wait_ready(self.workers.start(slot))

    async def _supervise(self, tasks: TaskGroup) -> None:
        """Start anew what ended by itself."""
        while True:
            for life in self.workers.collect():
                tasks.start_soon(self._start, life.slot)
            await anyio.sleep(_LOOK_S)

    # -- what happens to workers ----------------------------------------------------------------------------------------

    async def _disturb(self) -> None:
        match self.plan.mode:
            case "faults":
                await self._hit_all_the_time()
            case "graceful":
                await self._restart_all()
            case "scale":
                await self._scale()
            case "calm":
                await anyio.sleep(self.plan.seconds)

    async def _hit_all_the_time(self) -> None:
        """Kill or pause one every two seconds; over when the last of them goes on or has been started again."""
        until_s = thread_monotonic() + self.plan.seconds
        async with anyio.create_task_group() as tasks:
            while thread_monotonic() < until_s:
                await anyio.sleep(self.plan.fault_interval_s)
                choice = choose(self._random, self.workers.candidates(), self.plan.lease_duration_s)
                if choice is not None:
                    tasks.start_soon(self._hit, choice, name=f"{choice.kind} of life {choice.life}")

    async def _hit(self, choice: Choice) -> None:
        life = self.workers.lives[choice.life]
        if life.ended_s is not None:
            return
        if choice.kind == "pause":
            self.workers.pause(life)
            await anyio.sleep(choice.pause_s)
            self.workers.resume(life)
        else:
            self.workers.kill(life)
            await anyio.sleep(choice.restart_after_s)
            await self._start(life.slot)

    async def _restart_all(self) -> None:
        """One by one until the time is up: a round with the replacement first, a round with it afterwards, and so on."""
        until_s, rounds = thread_monotonic() + self.plan.seconds, 0
        while rounds < 2 or thread_monotonic() < until_s:
            for life in list(self.workers.running()):
                await self._replace(life, first=rounds % 2 == 0)
                await anyio.sleep(_SETTLE_S)
            rounds += 1

    async def _scale(self) -> None:
        """From one worker to all of them and back, at even steps."""
        others = range(1, self.plan.workers)
        step_s = self.plan.seconds / (2 * len(others) + 1)
        for slot in others:
            await anyio.sleep(step_s)
            await self._start(slot)
        for _ in others:
            await anyio.sleep(step_s)
            await self.workers.stop(next(self.workers.running()))
        await anyio.sleep(step_s)

    async def _replace(self, life: Life, *, first: bool) -> None:
        if first:
            await self.workers.wait_ready(self.workers.start(life.slot))
            await self.workers.stop(life)
        else:
            await self.workers.stop(life)
            await self.workers.wait_ready(self.workers.start(life.slot))
