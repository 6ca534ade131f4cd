"""The worker processes: `streamflow run` on a pipeline file, as users start it; killed, paused, stopped and started again.

Each start is a life with a number and a worker id of its own, so whoever holds a lease is known to live or not.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from chaos.fatal import Failpoint, drawn
from chaos.faults import Candidate, Fault, calm_s
from chaos.journal import JOURNAL, LIFE
from chaos.locks import holds_write_lock
from chaos.plan import CREDENTIALS, PIPELINE, REGION, TABLE
from streamflow.clock import thread_monotonic
from streamflow.failpoints import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

    from chaos.plan import Plan

_FILE = """\
store = "memory:"
lease_duration_s = {lease_duration_s}

[aws]
endpoint_url = "{endpoint_url}"
region = "{region}"

[http]
port = 0

[pipelines.{pipeline}]
table = "{table}"
handler = "chaos.accepting:accept"
starting_position = "TRIM_HORIZON"
batch_size = 25
checkpoint_interval_s = {checkpoint_interval_s}
"""
_ADMIN_URL = re.compile(r"admin server: (\S+)")
_READY_LOOK_S = 0.05
_STOP_S_MAX = 40.0


@dataclass(slots=True, kw_only=True, eq=False)
class Life:
    """One process from its start to its end.

    `at_work_s` is when it was first seen ready, or went on after a pause; `ended_s` when it was killed, or its end was seen.
    """

    number: int
    slot: int
    process: Popen[bytes]
    log: Path
    fragile: bool
    failpoint: Failpoint | None = None
    alive_s: float = 0.0
    """When it was last seen alive; only of one that kills itself."""
    at_work_s: float | None = None
    stopping: bool = False
    ended_s: float | None = None
    paused_s: float | None = None

    @property
    def worker_id(self) -> str:
        return worker_id(self.number)

    @property
    def gone_since_s(self) -> float | None:
        """Since when it does nothing; None while it runs."""
        return self.paused_s if self.ended_s is None else self.ended_s


def worker_id(number: int) -> str:
    return f"life-{number}"


def life_number(owner: str) -> int | None:
    """Whose lease it is; a worker that has lost its place goes on as `life-3#2`."""
    name, _, number = owner.partition("#")[0].rpartition("-")
    return int(number) if name == "life" and number.isdigit() else None


@dataclass(slots=True, kw_only=True, eq=False)
class Workers:
    """Every life so far, by number, and what was done to them."""

    plan: Plan
    folder: Path
    store_url: str
    popen: Callable[..., Popen[bytes]] = subprocess.Popen
    lives: list[Life] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    _random: Random = field(init=False)
    exits: list[str] = field(default_factory=list)
    """Of workers that ended when nobody had told them to, and of those that did not end well: what they last said."""

    def __post_init__(self) -> None:
        self._random = Random(f"{self.plan.seed}/failpoints")

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def write_file(self, endpoint_url: str) -> None:
        """The pipeline file that all of them run."""
        text = _FILE.format(
            lease_duration_s=self.plan.lease_duration_s,
            checkpoint_interval_s=self.plan.checkpoint_interval_s,
            endpoint_url=endpoint_url,
            region=REGION,
            pipeline=PIPELINE,
            table=TABLE,
        )
        (self.folder / "chaos.toml").write_text(text)

    def running(self) -> Iterator[Life]:
        return (life for life in self.lives if life.ended_s is None)

    def candidates(self) -> list[Candidate]:
        seasoned_s = thread_monotonic() - self.plan.lease_duration_s
        return [
            Candidate(
                life=life.number,
                paused=life.paused_s is not None,
                # One that dies by its own hand is nobody to rely on.
                seasoned=life.failpoint is None and life.at_work_s is not None and life.at_work_s <= seasoned_s,
                fragile=life.fragile and life.at_work_s is None,
            )
            for life in self.running()
        ]

    def calm_s(self, began_s: float, ended_s: float) -> float:
        return calm_s(self.faults, began_s, ended_s)

    # -- what is done to them -------------------------------------------------------------------------------------------

    def start(self, slot: int) -> Life:
        number = len(self.lives)
        log = self.folder / f"{worker_id(number)}.log"
        before = [life for life in self.lives if life.slot == slot][-1:]
        fragile = any(life.at_work_s is None for life in before)
        failpoint = drawn(self._random, self.plan.failpoint_share) if before and not fragile else None
        program = "streamflow.testing.failpoints" if failpoint else "streamflow.cli.main"
        command = [sys.executable, "-m", program, "run", "chaos.toml"]
        command += ["--store", self.store_url, "--worker-id", worker_id(number)]
        with log.open("wb") as output:
            process = self.popen(
                command, cwd=self.folder, env=self._environment(number, failpoint), stdout=output, stderr=output
            )
        life = Life(number=number, slot=slot, process=process, log=log, fragile=fragile, failpoint=failpoint)
        life.alive_s = thread_monotonic()
        self.lives.append(life)
        return life

    def kill(self, life: Life) -> None:
        """SIGKILL, also of one that is paused."""
        life.ended_s = thread_monotonic()
        self._end_pause(life)
        life.process.kill()
        life.process.wait()
        # Until it was dead it may have gone on.
        fault = Fault(kind="kill", life=life.number, began_s=life.ended_s, ended_s=thread_monotonic())
        self.faults.append(fault)

    def pause(self, life: Life) -> None:
        pid, life.paused_s = life.process.pid, thread_monotonic()
        life.process.send_signal(signal.SIGSTOP)
        # Until it has stopped: what it has begun in the kernel, it ends.
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        outage = self.plan.store == "sqlite" and holds_write_lock(pid)
        self.faults.append(Fault(kind="pause", life=life.number, began_s=life.paused_s, outage=outage))

    def resume(self, life: Life) -> None:
        """Let one that is paused go on; nothing for others."""
        if life.paused_s is not None and life.ended_s is None:
            life.process.send_signal(signal.SIGCONT)
            self._end_pause(life)
            life.at_work_s = None if life.at_work_s is None else thread_monotonic()

    def _end_pause(self, life: Life) -> None:
        if life.paused_s is None:
            return
        place = max(place for place, fault in enumerate(self.faults) if fault.life == life.number)
        self.faults[place] = replace(self.faults[place], ended_s=thread_monotonic())
        life.paused_s = None

    async def stop(self, life: Life) -> None:
        """SIGTERM, and wait for its end."""
        self.resume(life)
        life.stopping = True
        life.process.terminate()
        try:
            status = await to_thread.run_sync(life.process.wait, _STOP_S_MAX)
        except subprocess.TimeoutExpired:
            life.process.kill()
            status = await to_thread.run_sync(life.process.wait)
        if status:
            self._collect(life)
        life.ended_s = life.ended_s or thread_monotonic()

    def collect(self) -> list[Life]:
        """Those that ended although nobody had told them to."""
        found = []
        for life in self.running():
            looked_s = thread_monotonic()
            if life.stopping or life.process.poll() is None:
                life.alive_s = looked_s
                continue
            found.append(life)
            self._collect(life)
        return found

    def _collect(self, life: Life) -> None:
        """Of one that did not end as it was told to: by its own hand, where it was armed for that."""
        life.ended_s = thread_monotonic()
        if life.failpoint is None or life.process.returncode != -signal.SIGKILL:
            self._tell_exit(life, life.process.returncode)
            return
        self._end_pause(life)
        name, ended_s = life.failpoint.name, life.ended_s
        fault = Fault(kind="kill", life=life.number, began_s=life.alive_s, ended_s=ended_s, failpoint=name)
        self.faults.append(fault)

    async def wait_ready(self, life: Life) -> None:
        """Wait until its admin server says that it delivers, or it has ended."""
        while life.ended_s is None and life.process.poll() is None:
            if await to_thread.run_sync(_is_ready, life.log):
                life.at_work_s = life.at_work_s or thread_monotonic()
                return
            await anyio.sleep(_READY_LOOK_S)

    def end_all(self) -> None:
        for life in self.running():
            life.process.kill()
            life.process.wait()

    # -- what it takes --------------------------------------------------------------------------------------------------

    def _environment(self, number: int, failpoint: Failpoint | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        tests = str(Path(__file__).parents[1])
        return {
            **kept,
            **CREDENTIALS,
            "PYTHONPATH": os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])]),
            JOURNAL: str(self.journal),
            LIFE: str(number),
            **({VARIABLE: failpoint.rule} if failpoint else {}),
        }

    def _tell_exit(self, life: Life, status: int) -> None:
        said = life.log.read_text(errors="replace").strip().splitlines()[-3:]
        self.exits.append(f"{life.worker_id} ended with status {status}: {' / '.join(said)}")


def _is_ready(log: Path) -> bool:
    found = _ADMIN_URL.search(log.read_text(errors="replace"))
    if found is None:
        return False
    try:
        with urllib.request.urlopen(f"{found[1].rstrip('/')}/readyz", timeout=1):
            return True
    except (urllib.error.URLError, OSError):
        return False
