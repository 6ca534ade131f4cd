"""Runs claims: one replay server, then round after round of every contender in a process of its own, in turn.

Interleaving (A B C A B C …) lets a machine that gets slower for a while hit all contenders alike. The server has one
core and the contender of the moment another.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks.claims import Measurement, Verdict, summarise
from benchmarks.replay_stream import REGION, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.claims import Claim, Contender

_ROOT = Path(__file__).resolve().parents[1]
RESULTS = _ROOT / "benchmarks" / "results.json"
_CONTENDER_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How long a run takes: `rounds` of each claim, each contender reading `volume` of its full pages."""

    rounds: int
    volume: float

    def shape(self, claim: Claim, contender: Contender) -> Shape:
        return Shape(claim.shards, max(1, round(contender.pages * self.volume)))


PROFILES = {"full": Profile(rounds=7, volume=1.0), "quick": Profile(rounds=3, volume=0.3)}


class BenchmarkError(Exception):
    """A contender failed or did not end in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which core the contender gets, and which the server; the same where there is only one."""

    contender: int
    server: int

    @classmethod
    def available(cls) -> Cores:
        """Of the cores that this process may use, the first and the last."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        return cls(contender=cores[0], server=cores[-1])


@contextmanager
def replay_server(core: int) -> Iterator[str]:
    """A replay server for the length of the block; its URL."""
    command = [sys.executable, "-m", "benchmarks.replay_server", str(core)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            if not url:
                raise BenchmarkError("the replay server did not start; what it said is above")
            yield url
        finally:
            server.stdin.close()


def measure(claim: Claim, profile: Profile, url: str, cores: Cores) -> Verdict:
    """All rounds of one claim, with a line on standard error for each."""
    measured: dict[str, list[Measurement]] = {contender.name: [] for contender in claim.contenders}
    with claim.serve(cores.server) if claim.serve else nullcontext({}) as target:
        for number in range(1, profile.rounds + 1):
            for contender in claim.contenders:
                shape = profile.shape(claim, contender)
                measured[contender.name].append(contend(contender, shape, url, cores, target))
            figures = ", ".join(f"{name} {claim.figure(rounds[-1]):,.4g}" for name, rounds in measured.items())
            print(f"{claim.name} round {number} of {profile.rounds}: {figures}", file=sys.stderr, flush=True)
    return Verdict(claim=claim, summaries={name: summarise(each, claim.figure) for name, each in measured.items()})


def contend(contender: Contender, shape: Shape, url: str, cores: Cores, target: Mapping[str, str]) -> Measurement:
    """One round of one contender in a new process, which has `target` in its environment.

    Raises:
        BenchmarkError: it failed, took too long, or did not read everything.
    """
    volume = f"{shape.shards}x{shape.pages}"
    command = [sys.executable, "-m", "benchmarks.contend", contender.target, url, volume, str(cores.contender)]
    try:
        finished = subprocess.run(
            command,
            check=False,
            cwd=_ROOT,
            env={**environment(url), **target},
            capture_output=True,
            text=True,
            timeout=_CONTENDER_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{contender.name} did not end within {_CONTENDER_TIMEOUT_S:g} s") from None
    if finished.returncode:
        raise BenchmarkError(f"{contender.name} failed:\n{finished.stderr.strip()}")
    measurement = Measurement(**orjson.loads(finished.stdout.splitlines()[-1]))
    if measurement.count != shape.records:
        raise BenchmarkError(f"{contender.name} counted {measurement.count} of {shape.records} records")
    return measurement


def environment(url: str) -> dict[str, str]:
    """This process's environment, in which every AWS SDK finds the replay server and nothing of this machine's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {
        "AWS_ACCESS_KEY_ID": "replay",
        "AWS_SECRET_ACCESS_KEY": "replay",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
