"""`streamflow run --workers N` as processes: what they deliver together, and what happens when any of them is stopped."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import forking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamflow.testing import LocalStreams

pytestmark = pytest.mark.integration

DEADLINE_S = 40
FILE = """
store = "sqlite:///orders.db"
lease_duration_s = 3

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "orders"
handler = "handlers:deliver"
starting_position = "TRIM_HORIZON"
"""
HANDLERS = """
import json, os

def deliver(batch):
    lines = [json.dumps([record.keys["id"], os.getpid()]) + "\\n" for record in batch]
    with open("journal.jsonl", "a") as journal:
        journal.write("".join(lines))
"""
STUCK = """
import anyio, os

async def deliver(batch):
    open(f"started-{os.getpid()}", "w").close()
    await anyio.sleep(3600)
"""


@pytest.fixture
def folder(tmp_path: Path, local_streams: LocalStreams) -> Path:
    local_streams.create_table("orders")
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "orders.toml").write_text(FILE.format(endpoint=local_streams.endpoint_url))
    return tmp_path


class Run:
    """A supervisor, and what it and its workers wrote."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def wait_until(self, fact: Callable[[], Any], *, running: bool = True) -> None:
        """Look again and again, as long as the supervisor lives (the test's own timeout bounds it)."""
        while not fact():
            assert not running or self.process.poll() is None, self.log
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue

    def wait_logged(self, pattern: str, times: int = 1) -> list[str]:
        self.wait_until(lambda: len(re.findall(pattern, self.log)) >= times)
        return re.findall(pattern, self.log)

    def wait_delivered(self, ids: set[str]) -> None:
        self.wait_until(lambda: set(delivered(self.folder)) >= ids)

    def workers(self) -> dict[str, int]:
        """Worker ids to the processes that they have, or had last."""
        started = re.findall(r"worker started worker=(\S+) pid=(\d+)", self.log)
        return {worker_id: int(process_id) for worker_id, process_id in started}

    def wait_started(self) -> dict[str, int]:
        """Until both workers work, whatever they have got to work on."""
        self.wait_until(lambda: len(set(re.findall(r"pipeline started .* worker=(\S+)", self.log))) == 2)
        return self.workers()

    def wait_another(self, worker_id: str, process_id: int) -> None:
        """Until the worker has a process that is not this one."""
        self.wait_until(lambda: self.workers()[worker_id] != process_id)

    def get(self, path: str, *, token: str | None = None) -> tuple[int, str]:
        (url,) = self.wait_logged(r"admin server: (\S+)")
        try:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            asked = urllib.request.Request(url + path, headers=headers)
            with urllib.request.urlopen(asked, timeout=DEADLINE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


@contextmanager
def run(folder: Path, *arguments: str) -> Iterator[Run]:
    command = [sys.executable, "-m", "streamflow.cli.main", "run", "orders.toml", "--workers", "2", *arguments]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    (folder / "log.txt").write_text("")
    with (folder / "log.txt").open("ab") as log, (folder / "out.txt").open("wb") as out:
        process = forking.popen(command, cwd=folder, env=environment, stdout=out, stderr=log)
    started = Run(process, folder)
    try:
        yield started
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for worker in started.workers().values():
            if alive(worker):
                os.kill(worker, signal.SIGKILL)


def delivered(folder: Path) -> list[str]:
    path = folder / "journal.jsonl"
    return [json.loads(line)[0] for line in path.read_text().splitlines()] if path.exists() else []


def put(streams: LocalStreams, ids: set[str]) -> set[str]:
    for name in sorted(ids):
        streams.put("orders", {"id": {"S": name}})
    return ids


def names(first: int, last: int) -> set[str]:
    return {f"o-{number}" for number in range(first, last)}


def alive(process_id: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked after does not."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


# --- together --------------------------------------------------------------------------------------------------------


def test_two_workers_deliver_everything_once_and_go_on_where_they_stopped(
    folder: Path, local_streams: LocalStreams
) -> None:
    first = put(local_streams, names(0, 40))
    with run(folder) as started:
        workers = started.wait_started()
        started.wait_delivered(first)
        second = put(local_streams, names(40, 60))
        started.wait_delivered(second)
        sessions = {os.getsid(each) for each in (started.process.pid, *workers.values())}
        assert len(sessions) == 3  # Ctrl-C on a terminal reaches one of them
        assert started.stop() == 0, started.log
        assert not any(map(alive, workers.values()))
    third = put(local_streams, names(60, 70))
    with run(folder) as started:
        started.wait_delivered(third)
        started.wait_started()
        assert started.stop(signal.SIGINT) == 0, started.log
    assert sorted(delivered(folder)) == sorted(first | second | third)
    assert "Traceback" not in started.log


def test_streams_that_end_end_the_workers_and_the_last_line_is_the_sum(
    folder: Path, local_streams: LocalStreams
) -> None:
    put(local_streams, names(0, 40))
    local_streams.disable_stream("orders")
    with run(folder, "--json", "--log-format", "json", "--worker-id", "w") as started:
        assert started.process.wait(DEADLINE_S) == 0, started.log
    snapshots = [json.loads(line) for line in (folder / "out.txt").read_text().splitlines()]
    (orders,) = snapshots[-1]["pipelines"]
    assert (orders["state"], orders["records_delivered"], orders["records_in_flight"]) == ("ended", 40, 0)
    assert orders["shards_opened"] == orders["shards_closed"] >= 4
    lines = [json.loads(line) for line in started.log.splitlines()]
    assert {line["worker"] for line in lines if line["message"] == "worker ended"} == {"w-1", "w-2"}
    assert {line["worker"] for line in lines if line["message"] == "pipeline started"} == {"w-1", "w-2"}
    assert not any("again_in_s" in line for line in lines)


# --- restarts --------------------------------------------------------------------------------------------------------


def test_a_killed_worker_is_started_again_under_its_id_and_nothing_is_lost(
    folder: Path, local_streams: LocalStreams
) -> None:
    ids = put(local_streams, names(0, 20))
    with run(folder, "--worker-id", "w", "--json") as started:
        workers = started.wait_started()
        assert set(workers) == {"w-1", "w-2"}
        started.wait_delivered(ids)
        for number, (worker_id, process_id) in enumerate(workers.items(), start=1):
            os.kill(process_id, signal.SIGKILL)
            more = put(local_streams, names(20 * number, 20 * number + 20))
            started.wait_another(worker_id, process_id)
            started.wait_delivered(more)
            ids |= more
        assert len(started.wait_logged(r"WARNING .* worker ended worker=w-\d ending=SIGKILL again_in_s=")) == 2
        started.wait_logged(r"pipeline started .* worker=w-2", times=2)
        assert started.stop() == 0, started.log
    assert set(delivered(folder)) == ids
    snapshots = [json.loads(line) for line in (folder / "out.txt").read_text().splitlines()]
    totals = [orders["records_delivered"] for each in snapshots for orders in each["pipelines"]]
    assert totals == sorted(totals)


def test_a_worker_that_is_told_to_drain_is_started_again(folder: Path, local_streams: LocalStreams) -> None:
    with run(folder, "--worker-id", "w") as started:
        workers = started.wait_started()
        os.kill(workers["w-1"], signal.SIGTERM)
        started.wait_logged(r"INFO .* worker ended worker=w-1 ending=status-0 again_in_s=")
        started.wait_another("w-1", workers["w-1"])
        ids = put(local_streams, names(0, 10))
        started.wait_delivered(ids)
        assert started.workers()["w-2"] == workers["w-2"]
        assert started.stop() == 0, started.log
    assert sorted(delivered(folder)) == sorted(ids)


def test_a_start_that_fails_is_tried_again_by_one_worker_until_it_is_stopped(folder: Path) -> None:
    with run(folder, "--endpoint-url", "http://127.0.0.1:1") as started:
        started.wait_logged(r"worker ended worker=\S+-1 ending=status-1 again_in_s=")
        assert len(started.workers()) == 1
        assert started.stop() == 0, started.log


# --- wrong from the start --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--store", "memory:"], "--workers 2: the store memory: is inside one process"),
        (["--worker-id", "a b"], "--worker-id"),
        (["--http", "nowhere"], "--http"),
    ],
)
def test_a_wrong_configuration_is_told_once(folder: Path, arguments: list[str], told: str) -> None:
    with run(folder, *arguments) as started:
        assert started.process.wait(DEADLINE_S) == 2, started.log
    (line,) = [line for line in started.log.splitlines() if line.startswith("error: ")]
    assert told in line
    assert started.log.count("worker started") == 1
    assert "Traceback" not in started.log


def test_a_handler_that_is_not_there_is_told_once(folder: Path) -> None:
    (folder / "handlers.py").write_text("")
    with run(folder) as started:
        assert started.process.wait(DEADLINE_S) == 2, started.log
    (line,) = [line for line in started.log.splitlines() if line.startswith("error: ")]
    assert "orders.toml:11: pipelines.orders.handler" in line


def test_an_address_that_is_taken_stops_everything(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with run(folder, "--http", str(taken.getsockname()[1])) as started:
            assert started.process.wait(DEADLINE_S) == 2, started.log
            assert not any(map(alive, started.workers().values()))
    (line,) = [line for line in started.log.splitlines() if line.startswith("error: ")]
    assert "cannot listen on 127.0.0.1" in line


# --- signals ---------------------------------------------------------------------------------------------------------


def test_a_second_signal_stops_at_once_and_says_what_will_repeat(folder: Path, local_streams: LocalStreams) -> None:
    (folder / "handlers.py").write_text(STUCK)
    put(local_streams, names(0, 4))
    with run(folder) as started:
        started.wait_started()
        started.wait_until(lambda: list(folder.glob("started-*")))
        started.process.send_signal(signal.SIGTERM)
        started.wait_logged("SIGTERM: workers finish what is in flight")
        assert started.stop() == 1, started.log
    assert "SIGTERM again: workers stop at once" in started.log
    assert re.search(
        r"orders: shardId-\S+: what was handed over since TRIM_HORIZON will be delivered again", started.log
    )
    assert "killed" not in started.log


@pytest.mark.fault("F27")
def test_a_worker_that_no_signal_reaches_is_killed_after_the_second(folder: Path) -> None:
    with run(folder, "--worker-id", "w") as started:
        workers = started.wait_started()
        os.kill(workers["w-2"], signal.SIGSTOP)
        started.process.send_signal(signal.SIGTERM)
        started.wait_logged("worker ended worker=w-1")
        assert started.stop() == 1, started.log
    assert "w-2: has not stopped within 5 s: killed" in started.log


def test_workers_end_by_themselves_when_their_supervisor_is_killed(folder: Path, local_streams: LocalStreams) -> None:
    ids = put(local_streams, names(0, 20))
    with run(folder) as started:
        workers = started.wait_started()
        started.wait_delivered(ids)
        started.process.kill()
        started.process.wait()
        started.wait_until(lambda: not any(map(alive, workers.values())), running=False)
    # They drained: everything is stored, and nobody has to wait for their leases to run out.
    more = put(local_streams, names(20, 30))
    with run(folder, "--worker-id", "other") as started:
        started.wait_delivered(more)
        assert started.stop() == 0, started.log
    assert sorted(delivered(folder)) == sorted(ids | more)


# --- what is shown ---------------------------------------------------------------------------------------------------


def samples(page: str, name: str) -> dict[str, float]:
    """Worker id to the sum of its samples of that name."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels["worker"]] = found.get(sample.labels["worker"], 0.0) + sample.value
    return found


def test_one_address_shows_all_workers_to_whom_has_their_token(
    folder: Path, local_streams: LocalStreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMFLOW_HTTP_TOKEN", token := "0123456789abcdef")
    ids = put(local_streams, names(0, 20))
    with run(folder, "--http", "0", "--worker-id", "w") as started:
        workers = started.wait_started()
        started.wait_delivered(ids)
        started.wait_until(lambda: started.get("/readyz") == (200, '{"ok": true}\n'))
        assert [started.get(path)[0] for path in ("/livez", "/metrics", "/status")] == [200, 401, 401]
        get = partial(started.get, token=token)
        assert get("/readyz") == (200, '{"ok": true, "reasons": []}\n')
        page = get("/metrics")[1]
        assert samples(page, "streamflow_worker_up") == {"w-1": 1.0, "w-2": 1.0}
        assert samples(page, "streamflow_pipeline_running") == {"w-1": 1.0, "w-2": 1.0}
        assert sum(samples(page, "streamflow_records_delivered_total").values()) == 20.0
        started.wait_until(lambda: json.loads(get("/status")[1])["pipelines"][0]["records_delivered"] == 20)

        os.kill(workers["w-2"], signal.SIGSTOP)
        # A page is shown for half a second.
        started.wait_until(lambda: samples(get("/metrics")[1], "streamflow_worker_up") == {"w-1": 1.0, "w-2": 0.0})
        page = get("/metrics")[1]
        assert set(samples(page, "streamflow_pipeline_running")) == {"w-1"}
        os.kill(workers["w-2"], signal.SIGKILL)
        started.wait_another("w-2", workers["w-2"])
        assert get("/readyz")[0] == 503
        started.wait_until(lambda: samples(get("/metrics")[1], "streamflow_worker_up")["w-2"] == 1.0)
        page = get("/metrics")[1]
        assert samples(page, "streamflow_worker_restarts_total") == {"w-1": 0.0, "w-2": 1.0}
        assert started.stop() == 0, started.log
    assert token not in started.log


def test_a_terminal_shows_the_sum_and_what_is_told_above_it(folder: Path, local_streams: LocalStreams) -> None:
    (folder / "handlers.py").write_text("def deliver(batch):\n    print('delivering')\n")
    put(local_streams, names(0, 20))
    local_streams.disable_stream("orders")
    terminal, side = pty.openpty()
    command = [sys.executable, "-m", "streamflow.cli.main", "run", "orders.toml", "--workers", "2"]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "COLUMNS": "160"}
    shown = b""
    try:
        with forking.popen(command, cwd=folder, env=environment, stdout=side, stderr=side) as process:
            os.close(side)
            try:
                while piece := os.read(terminal, 65_536):
                    shown += piece
            except OSError:  # the other side is closed
                pass
    finally:
        os.close(terminal)
    assert process.returncode == 0, shown.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "delivered/s" in text
    assert re.search(r"orders\s+ended\s+0\s", text.rpartition("delivered/s")[2])
    assert re.search(r"^.*worker started worker=\S+-2 pid=\d+\s*$", text, re.MULTILINE)
    assert "delivering\r\n" in text
