"""Runs claims: one replay server, then round after round of every contender in a process of its own, in turn.

Interleaving (A B C A B C …) lets a machine that gets slower for a while hit all contenders alike. The server has one
core and the contender of the moment another. Claims that have a contender in common are measured together, and it runs
once in a round for all of them.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from benchmarks.claims import Measurement, Verdict, summarise
from benchmarks.replay_stream import REGION, Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.claims import Claim, Contender

_ROOT = Path(__file__).resolve().parents[1]
RESULTS = _ROOT / "benchmarks" / "results.json"
_CONTENDER_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How long a run takes: `rounds` of each claim, each contender reading `volume` of its full pages."""

    rounds: int
    volume: float
    rounds_long: int = 1
    volume_long: float = 1.0
    """Of claims that are long."""
    quick: bool = False
    """Without what takes a full run: see `Claim.quickened`."""

    def claim(self, claim: Claim) -> Claim:
        return claim.quickened() if self.quick else claim

    def rounds_of(self, claim: Claim) -> int:
        return self.rounds_long if claim.long else self.rounds

    def shape(self, claim: Claim, contender: Contender) -> Shape:
        volume = self.volume_long if claim.long else self.volume
        return Shape(claim.shards, max(1, round(contender.pages * volume)), claim.content)


PROFILES = {
    "full": Profile(rounds=7, volume=1.0, rounds_long=3, volume_long=1.0),
    "quick": Profile(rounds=3, volume=0.3, rounds_long=1, volume_long=0.1, quick=True),
}


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


def replay_server(core: int) -> AbstractContextManager[str]:
    """A replay server for the length of the block; its URL."""
    return server_process("benchmarks.replay_server", str(core))


@contextmanager
def server_process(module: str, *arguments: str) -> Iterator[str]:
    """A server that prints its URL and ends with its standard input, for the length of the block; its URL."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            if not url:
                raise BenchmarkError(f"{module} did not start; what it said is above")
            yield url
        finally:
            server.stdin.close()


def measure(claims: Iterable[Claim], profile: Profile, url: str, cores: Cores) -> list[Verdict]:
    """All rounds of these claims, with a line on standard error for each round of each claim."""
    return [
        verdict
        for together in sharing([profile.claim(claim) for claim in claims], profile)
        for verdict in _measure_together(together, profile, url, cores)
    ]


_Run: TypeAlias = "tuple[str, Shape, object]"


def sharing(claims: Sequence[Claim], profile: Profile) -> list[list[Claim]]:
    """The claims in groups: two that have a contender in common are in the same one."""
    groups: list[tuple[list[Claim], set[_Run]]] = []
    for claim in claims:
        together, runs = [claim], {_run(claim, contender, profile) for contender in claim.contenders}
        for group in [group for group in groups if group[1] & runs]:
            groups.remove(group)
            together, runs = [*group[0], *together], group[1] | runs
        groups.append((together, runs))
    return [together for together, _ in groups]


def _run(claim: Claim, contender: Contender, profile: Profile) -> _Run:
    """What one process does; equal where two contenders do the same."""
    # A function finds its target in its environment, and so does something else where another server is started.
    return contender.target, profile.shape(claim, contender), claim.serve


def _measure_together(claims: Sequence[Claim], profile: Profile, url: str, cores: Cores) -> list[Verdict]:
    measured: dict[_Run, list[Measurement]] = {}
    serve, count = claims[0].serve, profile.rounds_of(claims[0])  # those of all: they share what contenders do
    with serve(cores.server) if serve else nullcontext({}) as target:
        for number in range(1, count + 1):
            for claim in claims:
                for contender in claim.contenders:
                    rounds = measured.setdefault(_run(claim, contender, profile), [])
                    if len(rounds) < number:
                        shape = profile.shape(claim, contender)
                        rounds.append(contend(contender, shape, url, cores, target, expected=claim.counted(shape)))
                _tell_round(claim, profile, number, measured)
    return [_verdict(claim, profile, measured) for claim in claims]


def _tell_round(claim: Claim, profile: Profile, number: int, measured: Mapping[_Run, Sequence[Measurement]]) -> None:
    figures = ", ".join(
        f"{contender.name} {claim.figure(measured[_run(claim, contender, profile)][-1]):,.4g}"
        for contender in claim.contenders
    )
    print(f"{claim.name} round {number} of {profile.rounds_of(claim)}: {figures}", file=sys.stderr, flush=True)


def _verdict(claim: Claim, profile: Profile, measured: Mapping[_Run, Sequence[Measurement]]) -> Verdict:
    return Verdict(
        claim=claim,
        summaries={
            contender.name: summarise(measured[_run(claim, contender, profile)], claim.figure)
            for contender in claim.contenders
        },
    )


def contend(
    contender: Contender, shape: Shape, url: str, cores: Cores, target: Mapping[str, str], *, expected: int | None
) -> Measurement:
    """One round of one contender in a new process, which has `target` in its environment.

    Raises:
        BenchmarkError: it failed, took too long, or did not count what was `expected`, which None leaves to it.
    """
    command = [sys.executable, "-m", "benchmarks.contend", contender.target, url, shape.volume, str(cores.contender)]
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
    if expected is not None and measurement.count != expected:
        raise BenchmarkError(f"{contender.name} counted {measurement.count} of {expected}")
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
