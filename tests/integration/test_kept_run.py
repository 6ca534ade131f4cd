"""Poison under a real worker process: parked over a SIGKILL, healed beside the next worker; given up and delivered again."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import boto3
import pytest

from commands import ended, started
from streamflow.dead_letters import LetterQuery
from streamflow.plugins import open_store

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamflow.dead_letters import Drawer
    from streamflow.testing import LocalStreams

HANDLERS = """
from pathlib import Path

def write(changes):
    if any(key == "bad" for key, version in changes) and not Path("mended").exists():
        raise ValueError("cannot bear it")
    with open("journal.txt", "a") as journal:
        journal.writelines(f"{key} {version}\\n" for key, version in changes)

def deliver(batch):
    write([(record.keys["id"], record.new_image["version"]) for record in batch])

def function(event, context):
    images = [one["dynamodb"]["NewImage"] for one in event["Records"]]
    write([(image["id"]["S"], image["version"]["N"]) for image in images])
"""
FILE = """
store = "sqlite:///orders.db"
worker_id = "orders-0"

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "orders"
{handler}
starting_position = "TRIM_HORIZON"
maximum_retry_attempts = 0
{options}
"""
HANDLER_FORMS = ['handler = "handlers:deliver"', 'lambda = "handlers:function"']


class Orders:
    """A folder with `orders.toml`, and the table that it reads."""

    def __init__(self, folder: Path, streams: LocalStreams) -> None:
        streams.create_table("orders")
        self._folder = folder
        self._streams = streams
        self._versions: dict[str, int] = {}
        self._client: Any = boto3.client(
            "dynamodb",
            endpoint_url=streams.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        (folder / "handlers.py").write_text(HANDLERS)

    def declare(self, *, handler: str, options: str) -> None:
        text = FILE.format(endpoint=self._streams.endpoint_url, handler=handler, options=options)
        (self._folder / "orders.toml").write_text(text)

    def write(self, *keys: str) -> None:
        for key in keys:
            version = self._versions[key] = self._versions.get(key, 0) + 1
            self._client.put_item(TableName="orders", Item={"id": {"S": key}, "version": {"N": str(version)}})

    def mend(self) -> None:
        (self._folder / "mended").touch()

    def delivered(self, key: str) -> list[int]:
        file = self._folder / "journal.txt"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [int(version) for found, version in lines if found == key]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return ended(self._folder, *arguments)

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.command(*arguments, "orders.toml", "--json").stdout.splitlines()]

    def kept(self, drawer: Drawer) -> int:
        """How many letters there are."""

        async def count() -> int:
            async with open_store(f"sqlite:///{self._folder / 'orders.db'}") as store:
                return await store.count(LetterQuery(drawer=drawer))

        return anyio.run(count)

    @contextmanager
    def worker(self) -> Iterator[Callable[[Callable[[], bool]], None]]:
        """A worker that is killed at the end of the block, and how to wait for a fact while it lives."""
        with started(self._folder, "run", "orders.toml") as worker:
            yield worker.wait_until


@pytest.fixture
def orders(tmp_path: Path, local_streams: LocalStreams) -> Orders:
    return Orders(tmp_path, local_streams)


@pytest.mark.integration
@pytest.mark.parametrize("handler", HANDLER_FORMS)
def test_item_parked_before_a_kill_is_healed_in_order_beside_the_next_worker(orders: Orders, handler: str) -> None:
    orders.declare(handler=handler, options='on_poison = "park_key"')
    orders.write("good", "bad", "bad")
    with orders.worker() as until:
        until(lambda: orders.kept("parked") == 2)
    orders.write("bad", "good")
    with orders.worker() as until:
        until(lambda: orders.kept("parked") == 3)
        assert [each["changes"] for each in orders.listed("parked", "list")] == [3]
        assert orders.delivered("bad") == []
        assert orders.command("parked", "retry", "orders.toml").returncode == 1
        orders.mend()
        assert orders.command("parked", "retry", "orders.toml").stdout == "orders: 3 delivered\n"
        orders.write("bad")
        until(lambda: len(orders.delivered("bad")) == 4)
        until(lambda: 2 in orders.delivered("good"))
    assert orders.delivered("bad") == [1, 2, 3, 4]
    assert orders.kept("parked") == 0


@pytest.mark.integration
@pytest.mark.parametrize("handler", HANDLER_FORMS)
def test_dead_letters_of_a_worker_are_delivered_again(orders: Orders, handler: str) -> None:
    orders.declare(handler=handler, options="bisect_batch_on_function_error = true")
    orders.write("good", "bad", "good", "bad")
    with orders.worker() as until:
        until(lambda: orders.kept("dead") == 2 and len(orders.delivered("good")) == 2)
    letter, _ = orders.listed("dlq", "list")
    shown = json.loads(orders.command("dlq", "show", str(letter["id"]), "orders.toml", "--json").stdout)
    assert (shown["attempts"], shown["record"]["dynamodb"]["NewImage"]["id"]) == (1, {"S": "bad"})
    assert orders.command("dlq", "redrive", "orders.toml").returncode == 1
    orders.mend()
    assert orders.command("dlq", "redrive", "orders.toml").stdout == "orders: 2 delivered\n"
    assert orders.delivered("bad") == [1, 2]
    assert orders.kept("dead") == 0
