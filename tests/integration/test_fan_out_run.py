"""A pipeline file whose branches are sinks of plugins, under a real worker process that is killed in the middle."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from commands import ended, started

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamflow.testing import LocalStreams

HANDLERS = """
from pathlib import Path

def partner(batch):
    if not Path("mended").exists():
        raise ConnectionError("the partner is down")
    with open("partner.txt", "a") as file:
        file.writelines(f"{record.keys['id']}\\n" for record in batch)
"""
FILE = """
store = "sqlite:///leases.db"
worker_id = "orders-0"

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[http]
port = 0

[pipelines.orders]
table = "orders"
starting_position = "TRIM_HORIZON"

[pipelines.orders.fan_out.archive.sink]
type = "jsonl"
path = "orders.jsonl"
payload = "image"

[pipelines.orders.fan_out.view.sink]
type = "sqlite"
path = "view.db"
table = "orders"
transactional = true

[pipelines.orders.fan_out.partner]
handler = "handlers:partner"
maximum_retry_attempts = 0
"""


class Orders:
    """A folder with `orders.toml`, and the table that it reads."""

    def __init__(self, folder: Path, streams: LocalStreams) -> None:
        streams.create_table("orders")
        self.folder = folder
        self._client: Any = boto3.client(
            "dynamodb",
            endpoint_url=streams.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        (folder / "handlers.py").write_text(HANDLERS)
        (folder / "orders.toml").write_text(FILE.format(endpoint=streams.endpoint_url))

    def write(self, *keys: str, version: int = 1) -> None:
        for key in keys:
            self._client.put_item(TableName="orders", Item={"id": {"S": key}, "version": {"N": str(version)}})

    def archived(self) -> list[str]:
        file = self.folder / "orders.jsonl"
        return sorted(json.loads(line)["id"] for line in file.read_text().splitlines()) if file.exists() else []

    def viewed(self) -> list[int]:
        """The versions of the items in the table, in the order of their keys."""
        if not (self.folder / "view.db").exists():
            return []
        connection = sqlite3.connect(self.folder / "view.db")
        try:
            rows = connection.execute("SELECT image FROM orders ORDER BY 1").fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()
        return [json.loads(image)["version"] for (image,) in rows]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return ended(self.folder, *arguments)

    @contextmanager
    def worker(self) -> Iterator[Callable[[Callable[[], bool]], None]]:
        """A worker that is killed at the end of the block, and how to wait for a fact while it lives."""
        (self.folder / "log.txt").write_text("")
        with started(self.folder, "run", "orders.toml") as worker:
            yield worker.wait_until

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def metrics(self) -> str:
        (line,) = [line for line in self.log().splitlines() if "admin server: " in line]
        url = line.partition("admin server: ")[2].split()[0]
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
            return text


@pytest.fixture
def orders(tmp_path: Path, local_streams: LocalStreams) -> Orders:
    return Orders(tmp_path, local_streams)


@pytest.mark.integration
def test_branches_go_on_by_themselves_over_a_kill(orders: Orders) -> None:
    checked = orders.command("check", "orders.toml")
    assert "pipeline  orders/archive" in checked.stdout, checked.stderr
    orders.write("a", "b", "c")
    with orders.worker() as until:
        until(lambda: orders.archived() == ["a", "b", "c"])
        until(lambda: orders.viewed() == [1, 1, 1])
        until(lambda: 'streamflow_records_dead_lettered_total{condition="RetryAttemptsExhausted",' in orders.metrics())
        assert 'pipeline="orders/archive"' in orders.metrics()
    orders.write("a", "b", "c", version=2)
    orders.write("d")
    with orders.worker() as until:
        until(lambda: orders.viewed() == [2, 2, 2, 1])
        until(lambda: set(orders.archived()) == {"a", "b", "c", "d"})
        until(lambda: len(orders.command("dlq", "list", "orders.toml", "--json").stdout.splitlines()) == 7)
    letters = [json.loads(line) for line in orders.command("dlq", "list", "orders.toml", "--json").stdout.splitlines()]
    assert {letter["pipeline"] for letter in letters} == {"orders/partner"}
    (orders.folder / "mended").touch()
    redriven = orders.command("dlq", "redrive", "orders.toml", "--pipeline", "orders/partner")
    assert redriven.stdout == "orders/partner: 7 delivered\n", redriven.stderr
    assert sorted((orders.folder / "partner.txt").read_text().split()) == sorted("abcabcd")


@pytest.mark.integration
def test_a_dead_letter_is_written_beside_the_checkpoint_of_a_transactional_sink(orders: Orders) -> None:
    """It is older than the checkpoint, and is not mistaken for a repetition."""
    text = (orders.folder / "orders.toml").read_text()
    head = text.partition("[pipelines.orders.fan_out")[0]
    refused = """
[[pipelines.orders.middleware]]
type = "handlers:refuse_until_mended"
[pipelines.orders.sink]
type = "sqlite"
path = "view.db"
table = "orders"
transactional = true
"""
    layer = """
async def refuse_until_mended(batch, call_next):
    if any(record.keys["id"] == "bad" for record in batch) and not Path("mended").exists():
        raise ValueError("not yet")
    await call_next(batch)
"""
    (orders.folder / "handlers.py").write_text(HANDLERS + layer)
    options = "maximum_retry_attempts = 0\nbisect_batch_on_function_error = true\n"
    (orders.folder / "orders.toml").write_text(head + options + refused)
    orders.write("bad", "good", "better")
    with orders.worker() as until:
        until(lambda: orders.viewed() == [1, 1])
        until(lambda: len(orders.command("dlq", "list", "orders.toml", "--json").stdout.splitlines()) == 1)
    (orders.folder / "mended").touch()
    redriven = orders.command("dlq", "redrive", "orders.toml")
    assert redriven.stdout == "orders: 1 delivered\n", redriven.stderr
    assert orders.viewed() == [1, 1, 1]
