"""Claims: it is there at once: the package imported, the help printed, the first record handled.

Every contender starts fresh interpreters, one after the other, and times each from the call that starts it to its end, or
to its mark: whole processes, as somebody at a terminal waits for them. The pages of a `Shape` are the starts of a round.

Bytecode is there, as after an installation or a first start. Contenders block: nothing else runs in their process.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter  # noqa: TID251 - the machine's time is measured
from typing import TYPE_CHECKING, TextIO

from benchmarks.claims import Claim, Contender, Goal, Measurement
from benchmarks.cold_programs.marking import MARK
from benchmarks.replay_stream import Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_STREAMFLOW = str(Path(sysconfig.get_path("scripts")) / "streamflow")
_STREAM = Shape(shards=1, pages=1)
_LOADED = (
    "benchmarks.cold_programs.aiohttp_reader",
    "benchmarks.cold_programs.aioboto3_reader",
    "benchmarks.cold_programs.handlers",
    "streamflow.cli.run",
    "streamflow.config.load",
    "streamflow.launch",
    "streamflow.sources.dynamodb",
    "streamflow.stores.sqlite",
)

_PIPELINE = """\
store = "sqlite:///{store}"

[pipelines.replay]
table = "{table}"
handler = "benchmarks.cold_programs.handlers:deliver"
starting_position = "TRIM_HORIZON"
"""


# --- whole processes -------------------------------------------------------------------------------------------------


async def nothing(_url: str, shape: Shape) -> Measurement:
    """An interpreter that does nothing: no program written in Python is there sooner."""
    return _starts(shape, partial(whole, _python("-c", "pass")))


async def import_streamflow(_url: str, shape: Shape) -> Measurement:
    return _starts(shape, partial(whole, _python("-c", "import streamflow")))


async def import_aioboto3(_url: str, shape: Shape) -> Measurement:
    return _starts(shape, partial(whole, _python("-c", "import aioboto3")))


async def streamflow_help(_url: str, shape: Shape) -> Measurement:
    return _starts(shape, partial(whole, [_STREAMFLOW, "--help"]))


async def aioboto3_help(_url: str, shape: Shape) -> Measurement:
    """The help of a command that imports aioboto3 where everybody writes imports."""
    return _starts(shape, partial(whole, _program("aioboto3_reader", "--help")))


def whole(command: Sequence[str]) -> Measurement:
    """One process, from the call that starts it to its end."""
    cpu_s, started = _children_cpu_s(), perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Measurement(count=1, wall_s=perf_counter() - started, cpu_s=_children_cpu_s() - cpu_s)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- up to a mark ----------------------------------------------------------------------------------------------------


async def streamflow_run(_url: str, shape: Shape) -> Measurement:
    """`streamflow run` of a pipeline file with a table's name, and a store that is not there yet."""

    def start() -> Measurement:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "replay.toml"
            file.write_text(_PIPELINE.format(store=Path(folder) / "checkpoints.db", table=_STREAM.table), "utf-8")
            return to_its_mark([_STREAMFLOW, "run", str(file)])

    return _starts(shape, start)


async def aioboto3_run(_url: str, shape: Shape) -> Measurement:
    """A loop of some thirty lines that is told the stream's ARN, and keeps nothing."""
    return _starts(shape, partial(to_its_mark, _program("aioboto3_reader", _STREAM.stream_arn)))


async def aiohttp_run(url: str, shape: Shape) -> Measurement:
    """One page by aiohttp, unsigned, from an iterator that was known before."""
    return _starts(shape, partial(to_its_mark, _program("aiohttp_reader", url, _STREAM.iterator(0, 0))))


def to_its_mark(command: Sequence[str]) -> Measurement:
    """One process, from the call that starts it to its first mark; it is let run to its end, which must be a good one."""
    with _marks() as (reading, writing):
        started = perf_counter()
        with subprocess.Popen(
            command,
            env={**os.environ, MARK: str(writing)},
            pass_fds=(writing,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            os.close(writing)
            cpu_s = reading.readline()
            wall_s = perf_counter() - started
            said = process.communicate()[1]
    if process.returncode or not cpu_s:
        raise ChildProcessError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return Measurement(count=1, wall_s=wall_s, cpu_s=float(cpu_s))


@contextmanager
def _marks() -> Iterator[tuple[TextIO, int]]:
    """A pipe: its reading end, and the descriptor of its writing end, which is for the block to close."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as marks:
        yield marks, writing


# --- both ------------------------------------------------------------------------------------------------------------


def _starts(shape: Shape, start: Callable[[], Measurement]) -> Measurement:
    """As many starts as the shape has pages, one after the other."""
    starts = [start() for _ in range(shape.pages)]
    return Measurement(
        count=len(starts), wall_s=sum(each.wall_s for each in starts), cpu_s=sum(each.cpu_s for each in starts)
    )


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def _program(name: str, *arguments: str) -> list[str]:
    return _python("-m", f"benchmarks.cold_programs.{name}", *arguments)


@contextmanager
def kept_bytecode(_core: int) -> Iterator[Mapping[str, str]]:
    """What is started is loaded once before, and bytecode is kept, whatever the environment says."""
    kept = {"PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(_python("-c", f"import {', '.join(_LOADED)}"), check=True, env={**os.environ, **kept})
    yield kept


def milliseconds_per_start(measurement: Measurement) -> float:
    return 1_000 * measurement.wall_s / measurement.count


def _started(shape: Shape) -> int:
    return shape.pages


_FLOOR = Contender(name="python -c pass", work=nothing, pages=10)

IMPORT = Claim(
    name="cold_start_import",
    words=(
        "A fresh interpreter that imports streamflow and ends: the public names are there, and no library is loaded before\n"
        "one of them is used. The peer imports aioboto3; the floor is an interpreter that does nothing."
    ),
    unit="ms",
    ours=Contender(name="import streamflow", work=import_streamflow, pages=10),
    peers=(Contender(name="import aioboto3", work=import_aioboto3, pages=3),),
    floors=(_FLOOR,),
    goal=Goal(figure_max=150.0),
    figure=milliseconds_per_start,
    less_is_better=True,
    counted=_started,
    shards=1,
    serve=kept_bytecode,
)

HELP = Claim(
    name="cold_start_help",
    words=(
        "`streamflow --help`, from the call to its end, with no library but click. The peer is the help of a command of one\n"
        "file that imports click and aioboto3 at its top; the floor is an interpreter that does nothing."
    ),
    unit="ms",
    ours=Contender(name="streamflow --help", work=streamflow_help, pages=10),
    peers=(Contender(name="help of an aioboto3 command", work=aioboto3_help, pages=3),),
    floors=(_FLOOR,),
    goal=Goal(figure_max=200.0),
    figure=milliseconds_per_start,
    less_is_better=True,
    counted=_started,
    shards=1,
    serve=kept_bytecode,
)

FIRST_RECORD = Claim(
    name="cold_start_first_record",
    words=(
        "`streamflow run` of a pipeline file that names a table, to the first call of its handler, checkpoints in a SQLite\n"
        "file that is not there yet. The peer is a loop with aioboto3 that is told the stream's ARN and keeps nothing."
    ),
    unit="ms",
    ours=Contender(name="streamflow run", work=streamflow_run, pages=3),
    peers=(Contender(name="aioboto3 get_records loop", work=aioboto3_run, pages=3),),
    floors=(_FLOOR, Contender(name="aiohttp, one page", work=aiohttp_run, pages=3, quick=False)),
    goal=Goal(figure_max=1_500.0),
    figure=milliseconds_per_start,
    less_is_better=True,
    counted=_started,
    shards=1,
    serve=kept_bytecode,
)

CLAIMS = (IMPORT, HELP, FIRST_RECORD)
