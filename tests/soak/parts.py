"""The parts of the soak, each a run of the chaos harness, of a worker before a benchmark's server, or of the simulation."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from benchmarks import latency
from benchmarks.claims import Contender, Measurement, records_per_second
from benchmarks.harness import Cores, contend, replay_server
from benchmarks.open_shards import live_server
from benchmarks.replay_stream import Shape
from chaos.plan import Plan
from chaos.run import run
from chaos.stores import STORES
from soak import work
from soak.idle import POLL_INTERVAL_S, idle
from soak.verdict import Limit, Verdict, none

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chaos.report import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`seconds` is how long it takes by default, without starting and ending."""

    name: str
    says: str
    seconds: float
    play: Callable[[Part, float, int], Verdict]

    def verdict(self, seconds: float, seed: int | None, measured: Measured) -> Verdict:
        command = f'make soak SOAK="{self.name} --seconds {seconds:g}{f" --seed {seed}" if seed is not None else ""}"'
        return Verdict(name=self.name, says=self.says, command=command, seed=seed, seconds=seconds, **measured)


Measured: TypeAlias = "dict[str, Any]"
"""The fields of a verdict that a run fills in."""

# Of a worker that looks at each record, on one core of a small machine: what a part is cut to, no promise.
_RECORDS_PER_S = 60_000
_BACKLOG_SHARDS = 64
_ROUNDS = 3
# What the soak allows of a machine that does other things too; the benchmark's goal is half of it.
_OVERHEAD_MS_MAX = 10.0


# --- workers killed, paused, restarted, added and taken away ---------------------------------------------------------


def _crashes(part: Part, seconds: float, seed: int) -> Verdict:
    plan = Plan(
        seed=seed,
        seconds=seconds,
        records=int(8_000 * seconds),
        workers=4,
        fault_interval_s=1.2,
        failpoint_share=0.9,
    )
    report = _played(plan)
    late = Limit(
        name="s without an owner", found=report.owned_within_s, at_most=plan.unowned_s_max, note="lease 3 s, and 2 s"
    )
    killed = Limit(name="kills at failpoints", found=sum(report.kills_at_failpoints.values()), at_least=1)
    return part.verdict(seconds, seed, _of_chaos(report, [late, killed]))


def _restarts(part: Part, seconds: float, seed: int) -> Verdict:
    """A rolling restart, and then from one worker to six and back."""
    half = seconds / 2
    rolling = _played(Plan(seed=seed, mode="graceful", seconds=half, records=int(8_000 * half)))
    scaled = _played(Plan(seed=seed, mode="scale", workers=6, seconds=half, records=int(4_000 * half)))
    pauses = [
        Limit(name=f"s handed over, {name}", found=report.handed_over_within_s or 0.0, at_most=1.0)
        for name, report in (("rolling", rolling), ("1 to 6 to 1", scaled))
    ]
    measured = _of_chaos(rolling, pauses)
    other = _of_chaos(scaled, [])
    for name in ("records", "kills", "lost", "duplicates"):
        measured[name] += other[name]
    measured["limits"] += [limit for limit in other["limits"] if not limit.met]
    measured["figures"] = {"rolling": measured["figures"], "scaled": other["figures"]}
    measured["limits"].append(Limit(name="restarts", found=rolling.restarts, at_least=4))
    return part.verdict(seconds, seed, measured)


def _many_shards(part: Part, seconds: float, seed: int) -> Verdict:
    """Hundreds of shards in which little happens, and one of them rolls over every few seconds."""
    plan = Plan(
        seed=seed,
        mode="calm",
        workers=3,
        shards=600,
        seconds=seconds,
        records=int(500 * seconds),
        reshard_interval_s=5.0,
    )
    report = _played(plan)
    return part.verdict(seconds, seed, _of_chaos(report, [Limit(name="shards", found=report.shards, at_least=600)]))


def _played(plan: Plan) -> Report:
    folder = Path(tempfile.mkdtemp(prefix=f"soak-{plan.mode}-"))
    try:
        with STORES[plan.store](folder) as url:
            return anyio.run(run, plan, url, folder)
    finally:
        shutil.rmtree(folder)


def _of_chaos(report: Report, limits: list[Limit]) -> Measured:
    figures = {
        "pauses": report.pauses,
        "kills at failpoints": report.kills_at_failpoints,
        "restarts": report.restarts,
        "shards": report.shards,
        "zombies": report.zombies,
        "owned within s": report.owned_within_s,
        "handed over within s": report.handed_over_within_s,
        "problems": report.problems,
        "examples": report.examples,
    }
    clean = {"duplicates": report.duplicates} if report.mode != "faults" else {}
    return {
        "records": report.delivered,
        "kills": report.kills,
        "lost": report.lost,
        "duplicates": report.duplicates,
        "limits": [
            *none(
                lost=report.lost,
                **clean,
                duplicates_unexplained=report.duplicates_unexplained,
                out_of_order=report.order_violations,
                invented=report.invented,
                checkpoints_moved_back=report.checkpoints_moved_back,
                unexpected_exits=report.exits,
            ),
            *limits,
        ],
        "figures": figures,
    }


# --- one worker before a server that makes records up ----------------------------------------------------------------


def _of_worker(measurement: Measurement, limits: list[Limit], *, but: tuple[str, ...] = ()) -> Measured:
    details = dict(measurement.details)
    counts = {name: details.pop(name) for name in ("lost", "duplicates", "disordered", "invented")}
    judged = {name: count for name, count in counts.items() if name not in but}
    return {
        "records": measurement.count,
        "kills": 0,
        "lost": int(counts["lost"]),
        "duplicates": int(counts["duplicates"]),
        "limits": [*none(**judged), *limits],
        "figures": {"records per s": round(records_per_second(measurement)), **details},
    }


def _contended(
    function: Callable[[str, Shape], Any], shape: Shape, url: str, environment: Mapping[str, str]
) -> Measurement:
    contender = Contender(name=function.__name__, work=function, pages=shape.pages)
    found = {**environment, "PYTHONPATH": str(Path(__file__).parents[1])}
    return contend(contender, shape, url, Cores.available(), found, expected=None)


def _pages(seconds: float, shards: int) -> int:
    return max(1, int(seconds * _RECORDS_PER_S / shards / 1_000))


def _throughput(part: Part, seconds: float, seed: int) -> Verdict:
    with replay_server(Cores.available().server) as url:
        measured = _contended(work.worked_off, Shape(4, _pages(seconds, 4), "small"), url, {})
    limits = [
        Limit(name="records per s", found=records_per_second(measured), at_least=40_000),
        Limit(name="ms of loop lag p99", found=measured.details["lag_p99_ms"], at_most=20.0),
    ]
    return part.verdict(seconds, None, _of_worker(measured, limits))


def _scrapes(part: Part, seconds: float, seed: int) -> Verdict:
    """What a scrape costs in CPU time, from runs with scrapes and without in turn: the rate says little.

    The least of the rounds counts: what else the machine does makes a run dearer, never cheaper. Each is long enough for what
    the connections cost once.
    """
    shape = Shape(4, _pages(4 * seconds / (2 * _ROUNDS), 4), "small")
    core = Cores.available().server
    with replay_server(core) as url:
        rounds = [
            [
                _contended(each, shape, url, {work.SCRAPING_CORE: str(core)})
                for each in (work.worked_off, work.worked_off_under_scrapes)
            ]
            for _ in range(_ROUNDS)
        ]
    costs_s = [(scraped.cpu_s - alone.cpu_s) / max(1.0, scraped.details["scrapes"]) for alone, scraped in rounds]
    scraped = rounds[-1][1]
    limits = [
        Limit(name="of a core", found=max(0.0, min(costs_s)) * work.SCRAPES_PER_S, at_most=0.05),
        Limit(name="scrapes refused", found=scraped.details["scrapes_failed"], at_most=0),
        Limit(name="scrapes", found=scraped.details["scrapes"], at_least=1),
    ]
    return part.verdict(seconds, None, _of_worker(scraped, limits))


def _latency(part: Part, seconds: float, seed: int) -> Verdict:
    claim = latency.CLAIM
    assert claim.serve is not None
    shape = Shape(claim.shards, max(2, int(seconds)), claim.content)
    with claim.serve(Cores.available().server) as environment:
        measurement = contend(claim.ours, shape, "", Cores.available(), environment, expected=latency.expected(shape))
    limits = [
        Limit(name=each.name.replace("_", " ") + " ms", found=each.figure(measurement), at_most=at_most)
        for each, at_most in (
            (latency.CLAIM, latency.CLAIM.goal.figure_max),
            (latency.P99, latency.P99.goal.figure_max),
            (latency.OVERHEAD, _OVERHEAD_MS_MAX),
        )
    ]
    counted = {"records": measurement.count, "kills": 0, "lost": 0, "duplicates": 0}
    return part.verdict(seconds, None, {**counted, "limits": limits, "figures": dict(measurement.details)})


def _stalls(part: Part, seconds: float, seed: int) -> Verdict:
    shape = Shape(_BACKLOG_SHARDS, _pages(4 * seconds, _BACKLOG_SHARDS), "small")
    with live_server("filled", Cores.available().server) as environment:
        measured = _contended(work.stalled_half_of_the_time, shape, "", {**environment, work.SECONDS: f"{seconds:g}"})
    limits = [
        Limit(name="MB a minute of growth", found=measured.details["growth_mb_per_min"], at_most=1.0),
        Limit(name="MB held", found=measured.details["held_mb"], at_most=work.BUFFER_MB + 100),
    ]
    return part.verdict(seconds, None, _of_worker(measured, limits))


def _backlog(part: Part, seconds: float, seed: int) -> Verdict:
    """The same backlog alone and beside live shards, and the live records' latency meanwhile."""
    shape = Shape(_BACKLOG_SHARDS, _pages(seconds / 2, _BACKLOG_SHARDS // 2), "small")
    found = {}
    for kind in ("half", "mixed"):
        with live_server(kind, Cores.available().server) as environment:
            found[kind] = _contended(work.backlog_beside_live, shape, "", {**environment, work.KIND: kind})
    alone, beside = found["half"], found["mixed"]
    share = records_per_second(beside) / records_per_second(alone)
    limits = [
        Limit(name="times the speed without live records", found=share, at_least=0.8),
        Limit(name="ms for a live record p99", found=beside.details["live_p99_ms"], at_most=2_000.0),
    ]
    return part.verdict(seconds, None, _of_worker(beside, limits))


def _bad_sink(part: Part, seconds: float, seed: int) -> Verdict:
    # Most of the time each batch waits for its second try: it takes many shards to keep a worker busy.
    shape = Shape(192, max(1, int(seconds * 24_000 / 192 / 1_000)), "small")
    with live_server("filled", Cores.available().server) as environment:
        measured = _contended(work.through_a_bad_sink, shape, "", environment)
    limits = [
        *none(
            letters_missing=measured.details["letters_missing"], letters_too_many=measured.details["letters_too_many"]
        ),
        Limit(name="letters", found=measured.details["letters"], at_least=1),
        Limit(name="records per s", found=records_per_second(measured), at_least=10_000),
    ]
    # What is tried again comes behind later records of other items, by design.
    return part.verdict(seconds, None, _of_worker(measured, limits, but=("disordered",)))


# Virtual days for each second that the part may take, as measured.
_DAYS_PER_S = 0.03


def _idle(part: Part, seconds: float, seed: int) -> Verdict:
    found = idle(seconds * _DAYS_PER_S)
    limits = [
        *none(lost=found["lost"], duplicates=found["duplicates"]),
        Limit(name="times the polls planned, most", found=found["polls_by_plan_max"], at_most=1.02),
        Limit(name="times the polls planned, least", found=found["polls_by_plan_min"], at_least=0.98),
        Limit(name="drift, second half to first", found=found["drift"], at_most=1.02),
        Limit(name="drift, second half to first", found=found["drift"], at_least=0.98),
        Limit(name="s late after it", found=found["late_s"], at_most=POLL_INTERVAL_S + 1.0),
    ]
    counted = {name: found.pop(name) for name in ("records", "lost", "duplicates")}
    return part.verdict(seconds, None, {**counted, "kills": 0, "limits": limits, "figures": found})


PARTS = {
    part.name: part
    for part in (
        Part(name="L1", says="throughput of one process that looks at every record", seconds=20, play=_throughput),
        Part(name="L2", says="latency at a poll every 250 ms", seconds=20, play=_latency),
        Part(name="L3", says="workers killed at random and at failpoints, paused, and resharding", seconds=150, play=_crashes),
        Part(name="L4", says="a rolling restart, and from one worker to six and back", seconds=120, play=_restarts),
        Part(name="L5", says="memory where the sink stands still half of the time", seconds=120, play=_stalls),
        Part(name="L6", says="600 shards in which little happens, and rollovers", seconds=60, play=_many_shards),
        Part(name="L7", says="a backlog beside live shards", seconds=30, play=_backlog),
        Part(name="L8", says="a sink that fails three records in ten, and some for good", seconds=30, play=_bad_sink),
        Part(name="L9", says="50 scrapes a second and 500 idle connections", seconds=60, play=_scrapes),
        Part(name="L10", says="days in which nothing happens, in virtual time", seconds=30, play=_idle),
    )
}  # fmt: skip


def drawn_seed() -> int:
    return Random().randrange(10**6)


def commit() -> str:
    """The commit that is checked out, with a plus where files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10"], check=False, capture_output=True, text=True
    )
    return told.stdout.strip()
