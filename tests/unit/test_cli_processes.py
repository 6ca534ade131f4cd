"""The commands as processes, against a local server: signals, exit codes, restarts."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

import forking
from streamflow.cli.garbage import YOUNG_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamflow.testing import LocalStreams

pytestmark = pytest.mark.integration

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "orders.toml")
DEADLINE_S = 30
STUCK = """\
import threading
from streamflow import DynamoDBStream, Pipeline

def wait_for_ever(batch):
    print("called", flush=True)
    threading.Event().wait()

stuck = Pipeline(
    name="stuck", source=DynamoDBStream(table="orders"), handler=wait_for_ever, starting_position="TRIM_HORIZON"
)
"""

TELLING = """\
import gc
from streamflow import DynamoDBStream, Pipeline

def tell(batch):
    print(gc.get_threshold()[0], gc.get_freeze_count() > 10_000, flush=True)

told = Pipeline(
    name="told", source=DynamoDBStream(table="orders"), handler=tell, starting_position="TRIM_HORIZON"
)
"""


@pytest.fixture
def orders(local_streams_factory: object) -> LocalStreams:
    streams: LocalStreams = local_streams_factory(shards=1)  # type: ignore[operator]
    streams.create_table("orders")
    for number in range(4):
        put(streams, number)
    return streams


def put(streams: LocalStreams, number: int) -> None:
    streams.put("orders", {"id": {"S": f"o-{number}"}})


def command(streams: LocalStreams, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STREAMFLOW_"))}
    environment |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "COLUMNS": "120"}
    program = [sys.executable, "-W", "error::ResourceWarning", "-m", "streamflow.cli.main"]
    return [*program, *arguments, "--endpoint-url", streams.endpoint_url, "--region", "us-east-1"], environment


def finished(
    streams: LocalStreams,
    directory: Path,
    *arguments: str,
    run: Callable[..., subprocess.CompletedProcess[str]] = forking.run,
) -> subprocess.CompletedProcess[str]:
    line, environment = command(streams, *arguments)
    return run(line, env=environment, cwd=directory, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@contextmanager
def started(
    streams: LocalStreams, directory: Path, *arguments: str, stderr: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    line, environment = command(streams, *arguments)
    with forking.popen(
        line, env=environment, cwd=directory, stdout=subprocess.PIPE, stderr=stderr, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(stream: IO[str] | None, count: int) -> list[str]:
    assert stream is not None
    return [stream.readline().rstrip("\n") for _ in range(count)]


def test_sigterm_drains_and_a_restart_continues_at_the_next_record(orders: LocalStreams, tmp_path: Path) -> None:
    with started(orders, tmp_path, "run", EXAMPLE) as process:
        assert lines(process.stdout, 4) == [f"INSERT o-{number}" for number in range(4)]
        process.send_signal(signal.SIGTERM)
        printed, told = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, printed) == (0, ""), told
    assert "admin server: http://127.0.0.1:" in told
    assert "SIGTERM: finishing what is in flight" in told

    put(orders, 4)
    with started(orders, tmp_path, "run", EXAMPLE) as process:
        assert lines(process.stdout, 1) == ["INSERT o-4"]
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, printed) == (0, ""), told

    arguments = ("shards", "orders", "--store", "sqlite:///orders.db", "--pipeline", "orders")
    shown = finished(orders, tmp_path, *arguments, run=subprocess.run)
    assert "AFTER_SEQUENCE_NUMBER" in shown.stdout, shown.stderr


def test_a_second_signal_leaves_stuck_functions_behind_and_says_what_will_repeat(
    orders: LocalStreams, tmp_path: Path
) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    with started(orders, tmp_path, "run", "stuck:stuck", "--store", "memory:") as process:
        assert lines(process.stdout, 1) == ["called"]
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while "finishing what is in flight" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, told
    assert "SIGTERM again: stopping at once" in told
    [shard_id] = orders.shard_ids("orders")
    assert f"stuck: {shard_id}: what was handed over since TRIM_HORIZON will be delivered again" in told
    assert "leaving without 1 handler call(s)" in told


def test_progress_is_one_json_object_a_line(orders: LocalStreams, tmp_path: Path) -> None:
    orders.disable_stream("orders")  # read to its end, so that it ends by itself
    ended = finished(orders, tmp_path, "run", EXAMPLE, "--json", "--log-format", "json")
    assert ended.returncode == 0, ended.stderr
    snapshot = json.loads(ended.stdout.splitlines()[-1])
    assert snapshot["pipelines"][0]["records_delivered"] == 4
    assert [json.loads(line) for line in ended.stderr.splitlines() if not line.startswith("admin server")]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_seldom_looks_for_garbage(orders: LocalStreams, tmp_path: Path, workers: str) -> None:
    (tmp_path / "telling.py").write_text(TELLING)
    orders.disable_stream("orders")  # read to its end, so that it ends by itself
    arguments = ("run", "telling:told", "--store", "sqlite:///told.db", "--workers", workers)
    ended = finished(orders, tmp_path, *arguments, run=subprocess.run)
    assert ended.returncode == 0, ended.stderr
    assert set(ended.stdout.splitlines()) == {f"{YOUNG_MAX} True"}


def test_a_terminal_shows_a_table(orders: LocalStreams, tmp_path: Path) -> None:
    terminal, side = pty.openpty()
    try:
        orders.disable_stream("orders")
        with started(orders, tmp_path, "run", EXAMPLE, stderr=side) as process:
            os.close(side)
            shown = b""
            try:
                while piece := os.read(terminal, 65_536):
                    shown += piece
            except OSError:  # the other side is closed
                pass
            process.communicate(timeout=DEADLINE_S)
    finally:
        os.close(terminal)
    assert process.returncode == 0
    assert b"delivered/s" in shown
    assert b"pipeline stopped" in shown


def test_tail_prints_records_as_lambda_gets_them(orders: LocalStreams, tmp_path: Path) -> None:
    arguments = ("tail", "orders", "--from", "TRIM_HORIZON", "--limit", "3", "--json")
    ended = finished(orders, tmp_path, *arguments, run=subprocess.run)
    assert ended.returncode == 0, ended.stderr
    printed = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [record["dynamodb"]["Keys"]["id"]["S"] for record in printed] == ["o-0", "o-1", "o-2"]


def test_tail_ends_after_its_time(orders: LocalStreams, tmp_path: Path) -> None:
    ended = finished(orders, tmp_path, "tail", "orders", "--from", "TRIM_HORIZON", "--seconds", "0.5")
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["tail", "nosuch"], 1, "there is no table nosuch"),
        (["shards", "nosuch"], 1, "there is no table nosuch"),
        (["shards", "orders", "--store", "sqlite:///nosuch.db", "--pipeline", "x"], 2, "--store: there is no file"),
        (["run", "nosuch:app"], 2, "no module named 'nosuch'"),
    ],
)
def test_bad_input_is_one_clear_line(
    orders: LocalStreams, tmp_path: Path, arguments: list[str], code: int, told: str
) -> None:
    ended = finished(orders, tmp_path, *arguments)
    assert ended.returncode == code, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert told in line
    assert "Traceback" not in ended.stderr
