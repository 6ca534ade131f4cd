"""`streamflow leases watch` beside a worker: it shows the owner, the lag while the handler stands still, and its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import forking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamflow.testing import LocalStreams
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

pytestmark = pytest.mark.integration

PROMTOOL = shutil.which("promtool")
DEADLINE_S = 40
FILE = """
store = "sqlite:///orders.db"
worker_id = "w1"
lease_duration_s = 3

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "orders"
handler = "handlers:deliver"
starting_position = "TRIM_HORIZON"
checkpoint_interval_s = 0.1
"""
HANDLERS = """
import os
import anyio

async def deliver(batch):
    print("called", flush=True)
    while not os.path.exists("go"):
        await anyio.sleep(0.05)
"""


@pytest.fixture
def streams(local_streams_factory: LocalStreamsFactory, tmp_path: Path) -> LocalStreams:
    streams = local_streams_factory(shards=1)
    streams.create_table("orders")
    streams.put("orders", {"id": {"S": "o-1"}})
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "orders.toml").write_text(FILE.format(endpoint=streams.endpoint_url))
    return streams


@contextmanager
def started(
    folder: Path, *arguments: str, popen: Callable[..., subprocess.Popen[str]] = forking.popen
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error::ResourceWarning", "-m", "streamflow.cli.main", *arguments]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        assert process.stderr is not None
        pytest.fail(process.stderr.read())
    return text


def look(watcher: subprocess.Popen[str], until: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The first of the coming looks that is as wanted (the test's own timeout bounds it)."""
    while True:
        found: dict[str, Any] = json.loads(line(watcher))
        assert found["problem"] is None
        if until(found):
            return found


def orders(found: dict[str, Any]) -> dict[str, Any]:
    (pipeline,) = found["pipelines"]
    shown: dict[str, Any] = pipeline
    return shown


def test_owner_lag_and_death_of_a_worker_are_seen(streams: LocalStreams, tmp_path: Path) -> None:
    (shard_id,) = streams.shard_ids("orders")
    with started(tmp_path, "run", "orders.toml") as worker:
        assert line(worker) == "called\n"
        watch = ("leases", "watch", "orders.toml", "--every", "0.2", "--json", "--http", "0")
        with started(tmp_path, *watch) as watcher:
            assert watcher.stderr is not None
            url = watcher.stderr.readline().removeprefix("admin server: ").strip()
            behind = look(watcher, lambda found: orders(found)["lag_s"].get(shard_id, 0) > 1)
            assert orders(behind) == {
                **orders(behind),
                "shards": {"active": 1, "awaiting_children": 0, "ended": 0},
                "leases": {"w1": 1},
                "unowned": 0,
                "workers": 1,
                "headroom_s": pytest.approx(86_400 - orders(behind)["lag_s"][shard_id]),
            }
            page = served(url + "/metrics")
            assert 'streamflow_fleet_leases{owner="w1",pipeline="orders"} 1.0' in page
            assert f'streamflow_fleet_shard_lag_seconds{{pipeline="orders",shard="{shard_id}"}}' in page
            check(page)
            assert json.loads(served(url + "/readyz"))["ok"]

            (tmp_path / "go").touch()
            look(watcher, lambda found: orders(found)["lag_s"] == {shard_id: 0.0})
            worker.kill()
            dead = look(watcher, lambda found: found["owners"][0]["silent"])
            assert dead["owners"][0]["owner"] == "w1"
            assert dead["owners"][0]["silence_s"] >= 3
            assert (orders(dead)["unowned"], orders(dead)["workers"]) == (1, 0)
            watcher.send_signal(signal.SIGTERM)
            _, told = watcher.communicate(timeout=DEADLINE_S)
            assert (watcher.returncode, told) == (0, "")


@pytest.mark.usefixtures("streams")
def test_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with started(tmp_path, "run", "orders.toml") as worker:
        assert line(worker) == "called\n"
        with started(tmp_path, "leases", "watch", "orders.toml", popen=subprocess.Popen) as watcher:
            assert " orders: 1 unfinished, 0 unowned, 1 worker, " in line(watcher)
            watcher.send_signal(signal.SIGINT)
            _, told = watcher.communicate(timeout=DEADLINE_S)
            assert (watcher.returncode, told) == (0, "")


def served(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        page: bytes = answer.read()
    return page.decode()


def check(page: str) -> None:
    """By Prometheus' own tool, where it is installed."""
    if PROMTOOL is not None:
        judged = subprocess.run(
            [PROMTOOL, "check", "metrics"], input=page, capture_output=True, text=True, check=False, timeout=30
        )
        assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")
