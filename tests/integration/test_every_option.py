"""Every option of a mapping in one file, under the real commands: delivered, given up, parked, healed, delivered again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import boto3
import pytest

import forking
from streamflow.clock import SystemClock
from streamflow.dead_letters import LetterQuery
from streamflow.pipeline import LambdaFunction, PipelineOptions
from streamflow.plugins import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from streamflow.dead_letters import Drawer
    from streamflow.testing import LocalStreams
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

FUNCTIONS = """
import json
import os
from pathlib import Path

def write(*lines):
    descriptor = os.open("journal.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, "".join(f"{line}\\n" for line in lines).encode())
    os.close(descriptor)

def is_bad(record):
    return record["dynamodb"]["NewImage"]["id"]["S"].startswith("bad") and not Path("mended").exists()

def line(record):
    image = record["dynamodb"]["NewImage"]
    return f'{image["id"]["S"]} {image["version"]["N"]}'

def orders(event, context):
    assert (context.function_name, context.memory_limit_in_mb) == ("orders-function", "256")
    records = event["Records"]
    assert len(records) <= 5
    bad = [place for place, record in enumerate(records) if is_bad(record)]
    write(*map(line, records[: bad[0] if bad else None]))
    numbers = [records[place]["dynamodb"]["SequenceNumber"] for place in bad]
    return {"batchItemFailures": [{"itemIdentifier": number} for number in numbers]}

def totals(event, context):
    if any(map(is_bad, event["Records"])):
        raise ValueError("cannot bear it")
    if "window" not in event:
        write(*(f"again {line(record)}" for record in event["Records"]))
        return None
    state = event["state"]
    state["count"] = state.get("count", 0) + len(event["Records"])
    if event["isFinalInvokeForWindow"]:
        write(f'total {state["count"]}')
    return {"state": state}
"""
FILE = """
store = "sqlite:///orders.db"
worker_id = "orders-0"
lease_duration_s = 20
drain_timeout_s = 15
buffer_bytes_max = 4_000_000

[aws]
region = "us-east-1"

[http]
port = 0

[pipelines.orders]
table = "orders"
starting_position = "TRIM_HORIZON"
batch_size = 5
maximum_batching_window_s = 0.2
batch_bytes_max = 50_000
parallelization_factor = 3
maximum_retry_attempts = 1
maximum_record_age_s = 3_600
filters = [
  '{"dynamodb": {"NewImage": {"amount": {"N": [{"numeric": [">=", 10]}]}}}}',
  '{"dynamodb": {"Keys": {"id": {"S": ["small"]}}}, "eventName": ["MODIFY"]}',
]
filter_extensions = true
on_failure = ["arn:aws:sqs:us-east-1:000000000000:orders-failed", "dead_letters"]
on_poison = "park_key"
parked_keys_max = 2
uuid = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
handler_timeout_s = 20
poll_interval_s = 0.05
polling = "cost"
idle_poll_interval_s = 0.5
idle_polls_per_s_max = 20
checkpoint_interval_s = 0.1
buffer_bytes_max = 100_000
on_trimmed = "continue"
numbers = "int_float"

[pipelines.orders.lambda]
target = "functions:orders"
function_name = "orders-function"
timeout_s = 10
memory_size_mb = 256
concurrency = 3
report_batch_item_failures = true

[pipelines.totals]
table = "totals"
lambda = "functions:totals"
starting_position = "TRIM_HORIZON"
batch_size = 2
maximum_retry_attempts = 2
bisect_batch_on_function_error = true
tumbling_window_s = 30
"""
QUEUE_NAME = "orders-failed"
WINDOW_S = 30


class Shop:
    """A folder with `orders.toml`, its two tables, and the queue of what failed."""

    def __init__(self, folder: Path, streams: LocalStreams, ministack: str) -> None:
        streams.create_table("orders")
        streams.create_table("totals", shards=1)
        self.folder = folder
        self.streams = streams
        self._versions = 0
        self._environment = {
            **os.environ,
            "AWS_ENDPOINT_URL_DYNAMODB": streams.endpoint_url,
            "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": streams.endpoint_url,
            "AWS_ENDPOINT_URL_SQS": ministack,
        }
        self._sqs: Any = boto3.client("sqs", endpoint_url=ministack)
        self._queue_url = self._sqs.create_queue(QueueName=QUEUE_NAME)["QueueUrl"]
        (folder / "functions.py").write_text(FUNCTIONS)
        (folder / "orders.toml").write_text(FILE)

    def close(self) -> None:
        self._sqs.close()

    def write(self, table: str, *keys: str, amount: int = 10) -> None:
        """The next version of each key; versions grow over all keys."""
        for key in keys:
            self._versions += 1
            numbers = {"version": {"N": str(self._versions)}, "amount": {"N": str(amount)}}
            self.streams.put(table, {"id": {"S": key}, **numbers})

    def mend(self) -> None:
        (self.folder / "mended").touch()

    def journal(self) -> list[str]:
        file = self.folder / "journal.txt"
        return file.read_text().splitlines() if file.exists() else []

    def failure_records(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    def kept(self, drawer: Drawer) -> int:
        """How many letters there are."""

        async def count() -> int:
            async with open_store(f"sqlite:///{self.folder / 'orders.db'}") as store:
                return await store.count(LetterQuery(drawer=drawer))

        return anyio.run(count)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "streamflow.cli.main", *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.command(*arguments, "orders.toml", "--json").stdout.splitlines()]

    @contextmanager
    def worker(self) -> Iterator[Callable[[Callable[[], bool]], None]]:
        """A worker that is stopped at the end of the block, and how to wait for a fact while it lives."""
        with (self.folder / "log.txt").open("ab") as log:
            process = forking.popen(
                [sys.executable, "-m", "streamflow.cli.main", "run", "orders.toml"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

        def until(fact: Callable[[], bool]) -> None:
            """The test's own timeout bounds it."""
            while not fact():
                assert process.poll() is None, self.log()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)

        try:
            yield until
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, self.log()
        finally:
            process.kill()
            process.wait()

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()


@pytest.fixture
def shop(tmp_path: Path, local_streams_factory: LocalStreamsFactory, ministack: str) -> Iterator[Shop]:
    # The streams' clock stands still, two hours ago and early in a window, until it is moved.
    two_hours_ago = SystemClock().wall() // WINDOW_S * WINDOW_S + 1 - 7_200
    found = Shop(tmp_path, local_streams_factory(now=lambda: two_hours_ago), ministack)
    yield found
    found.close()


def test_the_file_has_every_option_at_another_value_than_its_default() -> None:
    pipelines = list(tomllib.loads(FILE)["pipelines"].values())
    for name, option in PipelineOptions.model_fields.items():
        assert any(name in each and each[name] != option.default for each in pipelines), name
    for name, option in LambdaFunction.model_fields.items():
        assert pipelines[0]["lambda"].get(name, option.default) != option.default, name


@pytest.mark.integration
def test_mapping_with_every_option_delivers_gives_up_parks_and_heals(shop: Shop) -> None:
    shop.write("orders", "old", "old")
    shop.streams.advance(7_200 - WINDOW_S)
    shop.write("totals", "t-1", "t-2", "bad-total", "t-3")
    shop.streams.advance(WINDOW_S)
    shop.write("totals", "t-4")
    shop.write("orders", *(f"good-{number}" for number in range(20)), "bad", "bad", "good-1")
    shop.write("orders", "small", amount=9)  # an INSERT: no filter lets it pass
    shop.write("orders", "small", amount=8)
    checked = shop.command("check", "orders.toml")
    assert (checked.returncode, checked.stdout.splitlines()[0]) == (0, "orders.toml is valid"), checked.stderr
    with shop.worker() as until:
        until(lambda: {"small 32", "total 3"} <= set(shop.journal()) and len(shop.journal()) >= 23)
        until(lambda: (shop.kept("parked"), shop.kept("dead")) == (2, 3))
        check_given_up(shop)
        heal(shop, until)
    lines = shop.journal()
    assert sorted(lines) == sorted(set(lines)), "nothing came twice"
    assert shop.kept("dead") == shop.kept("parked") == 0
    assert "Traceback" not in shop.log()


def check_given_up(shop: Shop) -> None:
    assert not any(line.startswith(("bad", "old")) or line == "small 31" for line in shop.journal())
    letters = sorted((each["pipeline"], each["reason"], each["attempts"]) for each in shop.listed("dlq", "list"))
    assert letters == [*[("orders", "RecordAgeExceeded", 1)] * 2, ("totals", "RetryAttemptsExhausted", 3)]
    (parked,) = shop.listed("parked", "list")
    assert (parked["pipeline"], json.loads(parked["item_key"])) == ("orders", {"id": {"S": "bad"}})
    assert (parked["changes"], parked["attempts"]) == (2, 2)
    records = shop.failure_records()
    assert {record["requestContext"]["condition"] for record in records} == {"RecordAgeExceeded"}
    assert all(record["requestContext"]["functionArn"].endswith(":function:orders-function") for record in records)
    assert sum(record["DDBStreamBatchInfo"]["batchSize"] for record in records) == 2


def heal(shop: Shop, until: Callable[[Callable[[], bool]], None]) -> None:
    """What is parked and what was given up is delivered beside the worker, once the functions are mended."""
    shop.mend()
    shop.write("orders", "bad")  # could be delivered now, and must not overtake what is parked
    until(lambda: shop.kept("parked") == 3 or of(shop, "bad") != [])
    assert of(shop, "bad") == []
    assert shop.command("parked", "retry", "orders.toml", "--pipeline", "orders").stdout == "orders: 3 delivered\n"
    shop.write("orders", "bad")
    until(lambda: len(of(shop, "bad")) == 4)
    assert of(shop, "bad") == sorted(of(shop, "bad"))
    assert shop.command("dlq", "redrive", "orders.toml", "--pipeline", "orders").stdout == "orders: 2 delivered\n"
    assert of(shop, "old") == [1, 2]
    assert shop.command("dlq", "redrive", "orders.toml", "--pipeline", "totals").stdout == "totals: 1 delivered\n"
    assert "again bad-total 5" in shop.journal()


def of(shop: Shop, key: str) -> list[int]:
    """The versions of an item in the order in which they were delivered."""
    return [int(line.split()[1]) for line in shop.journal() if line.split()[0] == key]
