"""The same pipeline as a library, as `streamflow run app.py:app` and as `streamflow run orders.toml`; and what signals do."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import anyio
import boto3
import pytest

from commands import CREDENTIALS, started
from streamflow import App, AwsOptions, Batch, DynamoDBStream, Pipeline, running

if TYPE_CHECKING:
    from pathlib import Path

    from commands import Started
    from streamflow.testing import LocalStreams

HANDLERS = """
import json, os

def deliver(batch):
    with open("journal.jsonl", "a") as journal:
        for record in batch:
            journal.write(json.dumps([record.keys["id"], record.event_name]) + "\\n")
"""
APP = """
from handlers import deliver
from streamflow import App, AwsOptions, DynamoDBStream, Pipeline

app = App(
    pipelines=(
        Pipeline(
            name="orders", source=DynamoDBStream(table="orders"), handler=deliver, starting_position="TRIM_HORIZON"
        ),
    ),
    store="sqlite:///orders.db",
    aws=AwsOptions(endpoint_url={endpoint!r}, region="us-east-1"),
)
"""
FILE = """
store = "sqlite:///orders.db"

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "orders"
handler = "handlers:deliver"
starting_position = "TRIM_HORIZON"
"""


@pytest.fixture
def folder(tmp_path: Path, local_streams: LocalStreams) -> Path:
    local_streams.create_table("orders")
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "app.py").write_text(APP.format(endpoint=local_streams.endpoint_url))
    (tmp_path / "orders.toml").write_text(FILE.format(endpoint=local_streams.endpoint_url))
    return tmp_path


def journal(folder: Path) -> list[str]:
    path = folder / "journal.jsonl"
    return [json.loads(line)[0] for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(worker: Started, count: int) -> list[str]:
    """Wait until that many records are in the journal."""
    worker.wait_until(lambda: len(journal(worker.folder)) >= count)
    return journal(worker.folder)


def put(streams: LocalStreams, *ids: str) -> None:
    for name in ids:
        streams.put("orders", {"id": {"S": name}})


@pytest.mark.fault("F27")
@pytest.mark.integration
def test_sigterm_drains_and_a_restart_continues_at_the_next_record(folder: Path, local_streams: LocalStreams) -> None:
    """However the pipeline is named: each way goes on where the one before it stopped."""
    names = "abcdefg"
    lives = (("app.py:app", signal.SIGTERM, 3), ("orders.toml", signal.SIGINT, 5), ("app:app", signal.SIGTERM, 7))
    for target, number, count in lives:
        put(local_streams, *names[len(journal(folder)) : count])
        with started(folder, "run", target) as worker:
            assert sorted(wait_for(worker, count)) == list(names[:count])
            worker.process.send_signal(number)
            assert worker.process.wait(20) == 0, (folder / "log.txt").read_text()
    assert sorted(journal(folder)) == list(names)
    assert "Traceback" not in (folder / "log.txt").read_text()


@pytest.mark.fault("F28")
@pytest.mark.integration
def test_a_killed_worker_loses_nothing(folder: Path, local_streams: LocalStreams) -> None:
    put(local_streams, *"abc")
    with started(folder, "run", "orders.toml", "--worker-id", "w") as worker:
        wait_for(worker, 3)
        worker.process.kill()
        worker.process.wait()
    put(local_streams, *"def")
    with started(folder, "run", "orders.toml", "--worker-id", "w") as worker:
        worker.wait_until(lambda: set(journal(folder)) == set("abcdef"))
    assert len(journal(folder)) <= 9


@pytest.mark.fault("F27")
@pytest.mark.integration
def test_a_second_signal_stops_at_once_and_says_what_will_repeat(folder: Path, local_streams: LocalStreams) -> None:
    stuck = "import anyio\n\nasync def deliver(batch):\n    open('started', 'w').close()\n    await anyio.sleep(3600)\n"
    (folder / "handlers.py").write_text(stuck)
    put(local_streams, "a")
    with started(folder, "run", "orders.toml") as worker:
        worker.wait_until((folder / "started").exists)
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_until(lambda: "SIGTERM" in worker.log)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(10) == 1
    assert "delivered again" in (folder / "log.txt").read_text()


@pytest.mark.integration
def test_metrics_and_health_are_served_while_it_runs(folder: Path, local_streams: LocalStreams) -> None:
    import urllib.request

    put(local_streams, "a", "b")
    with started(folder, "run", "orders.toml", "--http", "0") as worker:
        wait_for(worker, 2)
        line = next(line for line in (folder / "log.txt").read_text().splitlines() if "admin server" in line)
        url = line.split()[-1]

        def get(path: str) -> str:
            with urllib.request.urlopen(url.rstrip("/") + path) as answer:
                body: bytes = answer.read()
            return body.decode()

        page = get("/metrics")
        assert 'streamflow_records_delivered_total{pipeline="orders"' in page
        assert "streamflow_batch_records_bucket" in page
        assert "streamflow_handler_duration_seconds_bucket" in page
        assert get("/livez")
        assert get("/readyz")


@pytest.mark.anyio
@pytest.mark.integration
async def test_the_same_pipeline_as_a_library(tmp_path: Path, local_streams: LocalStreams, monkeypatch: Any) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    local_streams.create_table("orders")
    seen: list[Any] = []

    async def deliver(batch: Batch) -> None:
        seen.extend(record.keys["id"] for record in batch)

    app = App(
        pipelines=(
            Pipeline(
                name="orders", source=DynamoDBStream(table="orders"), handler=deliver, starting_position="TRIM_HORIZON"
            ),
        ),
        store=f"sqlite:///{tmp_path / 'orders.db'}",
        aws=AwsOptions(endpoint_url=local_streams.endpoint_url, region="us-east-1"),
    )
    handler_before = signal.getsignal(signal.SIGTERM)
    for wanted in (["a", "b"], ["a", "b", "c"]):
        put(local_streams, wanted[-1], *(wanted[:1] if len(wanted) == 2 else []))
        with anyio.fail_after(30):
            async with running(app) as worker:
                await worker.wait_started()
                assert signal.getsignal(signal.SIGTERM) is handler_before
                while len(seen) < len(wanted):  # noqa: ASYNC110 - the handler may be called several times
                    await anyio.sleep(0.01)
        assert sorted(seen) == wanted


@pytest.mark.integration
def test_boto3_writes_arrive(folder: Path, local_streams: LocalStreams) -> None:
    client = boto3.client(
        "dynamodb",
        endpoint_url=local_streams.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.put_item(TableName="orders", Item={"id": {"S": "x"}, "n": {"N": "1"}})
    client.put_item(TableName="orders", Item={"id": {"S": "x"}, "n": {"N": "2"}})
    client.delete_item(TableName="orders", Key={"id": {"S": "x"}})
    with started(folder, "run", "app.py:app") as worker:
        wait_for(worker, 3)
    events = [json.loads(line)[1] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert events == ["INSERT", "MODIFY", "REMOVE"]


@pytest.mark.fault("F18")
@pytest.mark.integration
def test_a_handler_that_blocks_the_loop_is_named(folder: Path, local_streams: LocalStreams) -> None:
    blocking = "import time\n\nasync def deliver(batch):\n    time.sleep(1.5)\n    open('done', 'w').close()\n"
    (folder / "handlers.py").write_text(blocking)
    put(local_streams, "a")
    with started(folder, "run", "orders.toml") as worker:
        worker.wait_until(lambda: "event loop blocked" in worker.log)
    told = next(line for line in (folder / "log.txt").read_text().splitlines() if "event loop blocked" in line)
    assert "/delivery" in told
    assert "handlers.py:4, deliver" in told
