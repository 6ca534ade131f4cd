"""A record that kills the process which handles it, among neighbours: they are delivered, it ends in the dead letters."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from commands import started
from streamflow.rules.suspicion import DEATHS_MAX, TIMES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streamflow.testing import LocalStreams

pytestmark = pytest.mark.integration

HANDLERS = """
import os


def deliver(batch):
    keys = [record.keys["id"] for record in batch]
    if "killer" in keys:
        with open("deaths.txt", "a") as deaths:
            deaths.write(f"{len(keys)}\\n")
        os._exit(137)
    with open("journal.txt", "a") as journal:
        journal.writelines(f"{key}\\n" for key in keys)
"""
FILE = """
store = "sqlite:///orders.db"
lease_duration_s = 1

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "orders"
handler = "handlers:deliver"
batch_size = 5
starting_position = "TRIM_HORIZON"
"""
NEIGHBOURS = {f"k{number}" for number in range(12)}


@pytest.fixture
def folder(tmp_path: Path, local_streams: LocalStreams) -> Path:
    local_streams.create_table("orders")
    for name in (*sorted(NEIGHBOURS)[:7], "killer", *sorted(NEIGHBOURS)[7:]):
        local_streams.put("orders", {"id": {"S": name}})
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "orders.toml").write_text(FILE.format(endpoint=local_streams.endpoint_url))
    return tmp_path


def wait_until(fact: Callable[[], bool], process: subprocess.Popen[bytes]) -> bool:
    """False if the process has ended before; the test's own timeout bounds it."""
    while not fact():
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        return False
    return True


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def found_out(folder: Path) -> bool:
    return set(lines(folder / "journal.txt")) == NEIGHBOURS and letters(folder) == ["SuspectedKiller"]


def letters(folder: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{folder / 'orders.db'}?mode=ro", uri=True)) as connection:
        return [reason for (reason,) in connection.execute("SELECT reason FROM streamflow_letters")]


def check(folder: Path) -> None:
    sizes = lines(folder / "deaths.txt")
    assert sizes[DEATHS_MAX:] == ["1"] * TIMES_MAX, "found alone, and handed over no more"
    log = (folder / "log.txt").read_text()
    assert "shard isolated" in log
    assert "condition=SuspectedKiller" in log


@pytest.mark.fault("F15")
def test_a_process_that_somebody_starts_again_finds_its_killer(folder: Path) -> None:
    deaths = 0
    while deaths <= DEATHS_MAX + TIMES_MAX:
        with started(folder, "run", "--worker-id", "w", "orders.toml") as worker:
            if wait_until(lambda: found_out(folder), worker.process):
                worker.process.send_signal(signal.SIGTERM)
                assert worker.ends() == 0
                break
            assert worker.process.returncode == 137, worker.log
            deaths += 1
    assert deaths == DEATHS_MAX + TIMES_MAX
    check(folder)


@pytest.mark.fault("F15")
def test_workers_below_a_supervisor_find_their_killer(folder: Path) -> None:
    with started(folder, "run", "--workers", "2", "orders.toml") as supervisor:
        supervisor.wait_until(lambda: (folder / "orders.db").exists() and lines(folder / "deaths.txt"))
        supervisor.wait_until(lambda: found_out(folder))
        supervisor.process.send_signal(signal.SIGTERM)
        ended = supervisor.ends()
        assert ended in {0, 1}, "1: one worker is about to be started again, and its last process was killed"
    check(folder)
