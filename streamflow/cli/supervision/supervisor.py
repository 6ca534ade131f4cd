"""Keeps N workers running on this machine: starts them, starts them again, passes signals on, adds up what they report.

The supervisor loads neither the target nor anything that a worker needs: a worker that breaks cannot break it, and
whatever the target does when it is imported is done in the workers alone. The first worker goes first, and shows that the
configuration can be opened; a mistake in it is told once, not once for each worker.
"""

from __future__ import annotations

import logging
import os
import secrets  # noqa: TID251 - a new id for each process
import signal
import socket
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import anyio
from pydantic import SecretStr

from streamflow.cli.serving import say
from streamflow.cli.supervision import process, totals
from streamflow.cli.supervision.messages import Declared
from streamflow.cli.supervision.policy import WRONG, Again, Over, Refused, RestartPolicy
from streamflow.cli.supervision.relay import Output
from streamflow.cli.supervision.supervised import Supervised
from streamflow.clock import SystemClock
from streamflow.http_options import HttpOptions
from streamflow.observe.lines import Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

    from streamflow.cli.run_options import RunOptions
    from streamflow.cli.showing import Show
    from streamflow.cli.supervision.messages import Message
    from streamflow.cli.supervision.policy import Life
    from streamflow.errors import ConfigError
    from streamflow.observe.lines import Value
    from streamflow.observe.progress import ProgressSnapshot

KILL_AFTER_S = 5.0
"""From the second signal on. A worker stops within it unless some code blocks its event loop."""

_LOGGER = logging.getLogger("streamflow.supervisor")


def supervise(chosen: RunOptions, *, workers: int, show: Show, debug: bool = False) -> int:
    """Run until all workers have ended, and return the exit code.

    Raises:
        ConfigError: the admin server cannot listen where it was asked to.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"  # noqa: TID251 - a new id for each process
    supervisor = Supervisor(chosen, workers=workers, name=name, debug=debug)
    anyio.run(supervisor.run, show)
    if supervisor.problem is not None:
        raise supervisor.problem
    return supervisor.exit_code


class Supervisor:
    """`name` is the base of the workers' ids where neither the options nor the target give one."""

    def __init__(
        self,
        chosen: RunOptions,
        *,
        workers: int,
        name: str,
        debug: bool = False,
        policy: RestartPolicy | None = None,
        random: Random | None = None,
    ) -> None:
        base = chosen.worker_id or name
        self.workers = [Supervised(worker_id=f"{base}-{number}") for number in range(1, workers + 1)]
        self.problem: ConfigError | None = None
        self._command = partial(process.command, chosen, workers=workers, name=name, debug=debug)
        self._policy = policy or RestartPolicy()
        self._random = random or Random()  # noqa: S311 - jitter, not secrets
        self._clock = SystemClock()
        self._stdout, self._stderr = Output("stdout"), Output("stderr")
        self._signals: list[signal.Signals] = []
        """What every process is told: nothing, to drain, and then to stop at once."""
        self._stopping = anyio.Event()
        self._opened = anyio.Event()
        self._declared: Declared | None = None
        self._heard_first = anyio.Event()
        self._proven = self._refused = False
        self._started_at = 0.0

    async def run(self, show: Show) -> None:
        """Run until every worker is over; `show` shows their progress meanwhile."""
        self._started_at = self._clock.monotonic()
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals, tasks, name="signals")
                tasks.start_soon(self._serve, name="admin")
                tasks.start_soon(show, self.snapshot, name="progress")
                async with anyio.create_task_group() as keeping:
                    for number, worker in enumerate(self.workers, start=1):
                        keeping.start_soon(self._keep, worker, number, name=worker.worker_id)
                tasks.cancel_scope.cancel()

    @property
    def exit_code(self) -> int:
        """0 where every worker finished what it had in flight, 2 where the configuration was refused, else 1."""
        if self._refused:
            return WRONG
        return 0 if all(worker.life is None or worker.life.clean for worker in self.workers) else 1

    def snapshot(self) -> ProgressSnapshot:
        """All workers as one, since the start."""
        return totals.summed(
            [each for worker in self.workers for each in worker.snapshots()],
            at_s=self._clock.wall(),
            uptime_s=self._clock.monotonic() - self._started_at,
        )

    # -- one worker ---------------------------------------------------------------------------------------------------

    async def _keep(self, worker: Supervised, number: int) -> None:
        """Give the worker a process for as long as it is to have one."""
        if number > 1:
            await self._opened.wait()
        while not self._stopping.is_set():
            life = await self._live(worker, number)
            decision = self._policy.decide(
                life,
                failures=worker.failures,
                proven=self._proven,
                stopping=self._stopping.is_set(),
                random=self._random,
            )
            self._tell_ending(worker, life, decision)
            match decision:
                case Again():
                    worker.failures = decision.failures
                    with anyio.move_on_after(decision.after_s):
                        await self._stopping.wait()
                    worker.restarts += int(not self._stopping.is_set())
                case Over():
                    self._opened.set()
                    break
                case Refused():
                    self._refused = True
                    self._stop(signal.SIGTERM)
        worker.over = True

    async def _live(self, worker: Supervised, number: int) -> Life:
        """One process of the worker, from its start to its end."""
        command = partial(self._command, number=number)
        worker.begin()
        try:
            async with process.open_process(
                lambda channel: command(channel=channel),
                stdout=self._stdout,
                stderr=self._stderr,
                heard=partial(self._hear, worker),
            ) as started:
                worker.process = started
                _log(logging.INFO, "worker started", worker=worker.worker_id, pid=started.id)
                for told in self._signals:  # it was being started when everything was to stop
                    started.signal(told)
                status = await started.wait()
        except OSError as error:
            _log(logging.ERROR, "worker cannot be started", worker=worker.worker_id, error=str(error))
            status = 1
        return worker.end(status, now=self._clock.monotonic())

    def _hear(self, worker: Supervised, message: Message) -> None:
        worker.hear(message, now=self._clock.monotonic())
        self._proven = self._proven or worker.ready
        if worker.opened:
            self._opened.set()
        if isinstance(message, Declared) and self._declared is None:
            self._declared = message
            base = message.worker_id.rpartition("-")[0]
            for number, each in enumerate(self.workers, start=1):
                each.worker_id = f"{base}-{number}"
            self._heard_first.set()

    def _tell_ending(self, worker: Supervised, life: Life, decision: Again | Over | Refused) -> None:
        again = {"again_in_s": round(decision.after_s, 1)} if isinstance(decision, Again) else {}
        expected = life.status == 0 or (self._stopping.is_set() and life.clean)
        level = logging.INFO if expected else logging.WARNING
        _log(level, "worker ended", worker=worker.worker_id, ending=life.ending, **again)

    # -- all of them --------------------------------------------------------------------------------------------------

    async def _obey(self, signals: AsyncIterator[signal.Signals], tasks: TaskGroup) -> None:
        async for number in signals:
            if not self._signals:
                say(f"{number.name}: workers finish what is in flight; once more stops at once")
                self._stop(signal.SIGTERM)
            elif len(self._signals) == 1:
                say(f"{number.name} again: workers stop at once")
                # Of two equal signals that are on their way to one process, one is lost.
                self._stop(signal.SIGINT)
                tasks.start_soon(self._kill_late, name="late")

    def _stop(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._stopping.set()
        self._opened.set()
        for worker in self.workers:
            if worker.process is not None:
                worker.process.signal(number)

    async def _kill_late(self) -> None:
        await anyio.sleep(KILL_AFTER_S)
        for worker in self.workers:
            if worker.process is not None:
                say(f"{worker.worker_id}: has not stopped within {KILL_AFTER_S:g} s: killed")
                worker.process.signal(signal.SIGKILL)

    async def _serve(self) -> None:
        """The admin server, as the first worker that has loaded the target says."""
        from streamflow.errors import ConfigError

        await self._heard_first.wait()
        assert self._declared is not None
        if self._declared.host is None or self._declared.port is None:
            return
        from streamflow.cli.supervision.pages import open_pages

        token = self._declared.token
        try:
            http = HttpOptions(
                host=self._declared.host,
                port=self._declared.port,
                token=None if token is None else SecretStr(token),
                without_token=self._declared.without_token,
            )
            async with open_pages(http, self.workers, snapshot=self.snapshot) as url:
                say(f"admin server: {url}")
                await anyio.sleep_forever()
        except ConfigError as error:
            self.problem = error
            self._stop(signal.SIGTERM)


def _log(level: int, fact: str, **fields: Value) -> None:
    line = Line(level=level, fact=fact, fields=fields)
    _LOGGER.log(level, "%s", line, extra={"fact": fact, "fields": fields})
