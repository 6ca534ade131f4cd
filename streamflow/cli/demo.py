"""`streamflow demo`: the main job on a local server, with a split, a SIGKILL, a poison record, and the accounts."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import click

from streamflow.cli.demo_screen import DemoSnapshot, Screen, open_screen
from streamflow.clock import SystemClock, thread_monotonic
from streamflow.testing import LocalStreams

_ORDERS = 60
_WRITES_PER_S = 400.0
_BATCH_WRITE_MAX = 25
_CATCH_UP_S = 30.0
_POISON = "order-poison"  # as `demo_worker` has it, which cannot be imported without its environment


@dataclass(slots=True)
class Accounts:
    """What was delivered, read from the journal: every line counts, also those of a killed worker."""

    path: Path
    delivered: set[tuple[str, int]] = field(default_factory=set)
    newest: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    order_violations: int = 0
    latencies_s: list[float] = field(default_factory=list)
    _offset: int = 0

    def read(self) -> None:
        """Take in the lines that came since the last call."""
        if not self.path.exists():
            return
        with self.path.open("rb") as journal:
            journal.seek(self._offset)
            text = journal.read()
        complete = text.rfind(b"\n") + 1
        self._offset += complete
        for line in text[:complete].decode().splitlines():
            self._enter(*line.split(" "))

    def _enter(self, order: str, version: str, written_at: str, delivered_at: str) -> None:
        change = (order, int(version))
        if change in self.delivered:
            self.duplicates += 1
            return
        self.delivered.add(change)
        if change[1] <= self.newest.get(order, 0):
            self.order_violations += 1
        self.newest[order] = max(change[1], self.newest.get(order, 0))
        self.latencies_s.append(float(delivered_at) - float(written_at))


@dataclass(slots=True)
class Orders:
    """Writes new versions of a few orders through boto3, as any application would."""

    client: Any
    written: int = 0
    _version: int = 0
    _next: int = 0
    _clock: SystemClock = field(default_factory=SystemClock)

    def create_table(self) -> None:
        self.client.create_table(
            TableName="orders",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )

    def write_poison(self) -> None:
        """Write the order that the handler cannot bear."""
        self.client.put_item(TableName="orders", Item=self._item(_POISON, 1))
        self.written += 1

    def write_batch(self) -> None:
        """Write the next orders in turn, each at its next version."""
        requests = []
        for _ in range(_BATCH_WRITE_MAX):
            if self._next % _ORDERS == 0:
                self._version += 1
            requests.append({"PutRequest": {"Item": self._item(f"order-{self._next % _ORDERS:03}", self._version)}})
            self._next += 1
        answer = self.client.batch_write_item(RequestItems={"orders": requests})
        if answer.get("UnprocessedItems"):
            raise click.ClickException("the local server left items unprocessed")
        self.written += len(requests)

    def _item(self, order: str, version: int) -> dict[str, dict[str, str]]:
        return {
            "id": {"S": order},
            "version": {"N": str(version)},
            "written_at": {"N": f"{self._clock.wall():.6f}"},
            "status": {"S": ("placed", "paid", "packed", "sent")[version % 4]},
        }


_STREAMFLOW = (sys.executable, "-m", "streamflow.cli.main")
_APP = "streamflow.cli.demo_worker:app"


class DemoWorker:
    """The worker process: started, killed, started again, stopped."""

    def __init__(self, folder: Path, endpoint_url: str) -> None:
        self.journal = folder / "journal.txt"
        self._log = folder / "worker.log"
        self._mended = folder / "mended"
        self._store = f"sqlite:///{folder / 'demo.db'}"
        self._environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "STREAMFLOW_DEMO_JOURNAL": str(self.journal),
            "STREAMFLOW_DEMO_MENDED": str(self._mended),
            "STREAMFLOW_DEMO_STORE": self._store,
            "STREAMFLOW_DEMO_ENDPOINT": endpoint_url,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*_STREAMFLOW, "run", _APP]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)  # noqa: S603

    def kill(self) -> int:
        """SIGKILL; the answer is the process id that died."""
        process = self._running()
        process.send_signal(signal.SIGKILL)
        process.wait()
        return process.pid

    def stop(self) -> int:
        """SIGTERM: drain, store, release; the answer is the exit status."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=_CATCH_UP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def dead_letters(self) -> list[str]:
        """What `streamflow dlq list` prints."""
        return self._call("dlq", "list", "--store", self._store)

    def redrive(self) -> list[str]:
        """Mend the handler, and have `streamflow dlq redrive` deliver what is kept."""
        self._mended.touch()
        return self._call("dlq", "redrive", _APP)

    def _call(self, *arguments: str) -> list[str]:
        done = subprocess.run(  # noqa: S603
            [*_STREAMFLOW, *arguments], env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise click.ClickException(f"streamflow {' '.join(arguments)} failed:\n{done.stderr[-2_000:]}")
        return done.stdout.splitlines()

    def check(self) -> None:
        """Raise if the process ended by itself."""
        if self._process is not None and self._process.poll() not in {None, -signal.SIGKILL}:
            text = self._log.read_text(errors="replace")[-2_000:]
            raise click.ClickException(f"the worker ended with status {self._process.returncode}:\n{text}")

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the worker was not started")
        return self._process


@dataclass(slots=True)
class Demo:
    """The script: write all the time, poison at 20 %, split at 30 %, kill at 50 %; wait for what is still on its way; mend
    the handler and deliver what it could not bear.
    """

    streams: LocalStreams
    orders: Orders
    worker: DemoWorker
    accounts: Accounts
    screen: Screen
    seconds: float
    _started_at: float = field(default_factory=thread_monotonic)
    _pause: threading.Event = field(default_factory=threading.Event)
    _note: str = "starting"
    _last: tuple[float, int, int] = (0.0, 0, 0)

    def run(self) -> dict[str, Any]:
        """Play the script; the answer is the summary."""
        self.orders.create_table()
        self.worker.start()
        self._note = "running"
        self._write_until(0.2 * self.seconds)
        self.orders.write_poison()
        self.screen.tell(f"wrote {_POISON}, which the handler cannot bear")
        self._write_until(0.3 * self.seconds)
        self.screen.tell(f"split a shard into {' and '.join(self.streams.split('orders'))}")
        self._write_until(0.5 * self.seconds)
        self.screen.tell(f"killed the worker, process {self.worker.kill()}, with SIGKILL")
        self.worker.start()
        self.screen.tell("started the worker again")
        self._write_until(self.seconds)
        self._note = "catching up"
        self._catch_up()
        status = self.worker.stop()
        listed = self._tell("streamflow dlq list", self.worker.dead_letters())
        self._tell("streamflow dlq redrive, with a mended handler", self.worker.redrive())
        self.accounts.read()
        return self._summary(status, dead_lettered=sum(_POISON in line for line in listed))

    def _tell(self, command: str, lines: list[str]) -> list[str]:
        for line in (f"$ {command}", *lines):
            self.screen.tell(line)
        return lines

    def _elapsed_s(self) -> float:
        return thread_monotonic() - self._started_at

    def _write_until(self, elapsed_s: float) -> None:
        while (now := self._elapsed_s()) < elapsed_s:
            while self.orders.written < now * _WRITES_PER_S:
                self.orders.write_batch()
            self._look()

    def _catch_up(self) -> None:
        deadline = self._elapsed_s() + _CATCH_UP_S
        # All but the poison, which is a dead letter by then.
        while len(self.accounts.delivered) < self.orders.written - 1 and self._elapsed_s() < deadline:
            self._look()

    def _look(self) -> None:
        self._pause.wait(0.05)
        self.worker.check()
        self.accounts.read()
        elapsed, written, delivered = self._last
        now = self._elapsed_s()
        if now - elapsed < 0.25:
            return
        self._last = now, self.orders.written, len(self.accounts.delivered)
        shards_open, shards_closed = self._shards()
        self.screen.show(
            DemoSnapshot(
                elapsed_s=now,
                written=self.orders.written,
                delivered=len(self.accounts.delivered),
                duplicates=self.accounts.duplicates,
                order_violations=self.accounts.order_violations,
                write_rate=(self.orders.written - written) / (now - elapsed),
                deliver_rate=(len(self.accounts.delivered) - delivered) / (now - elapsed),
                shards_open=shards_open,
                shards_closed=shards_closed,
                note=self._note,
            )
        )

    def _shards(self) -> tuple[int, int]:
        known = len(self.streams.shard_ids("orders"))
        still_open = len(self.streams.shard_ids("orders", open_only=True))
        return still_open, known - still_open

    def _summary(self, worker_status: int, *, dead_lettered: int) -> dict[str, Any]:
        shards_open, shards_closed = self._shards()
        latencies = sorted(self.accounts.latencies_s)
        return {
            "written": self.orders.written,
            "delivered": len(self.accounts.delivered),
            "lost": self.orders.written - len(self.accounts.delivered),
            "duplicates": self.accounts.duplicates,
            "order_violations": self.accounts.order_violations,
            "dead_lettered": dead_lettered,
            "redriven": sum(order == _POISON for order, _ in self.accounts.delivered),
            "shards_open": shards_open,
            "shards_closed": shards_closed,
            "latency_s": {"p50": _percentile(latencies, 50), "p99": _percentile(latencies, 99)},
            "worker_exit_status": worker_status,
        }


def _percentile(values: list[float], percent: int) -> float | None:
    """Rounded to the millisecond; None without values."""
    if len(values) < 2:
        return round(values[0], 3) if values else None
    return round(statistics.quantiles(values, n=100, method="inclusive")[percent - 1], 3)


@click.command(short_help="See it run on a local server, with a crash in the middle.")
@click.option("--seconds", type=click.FloatRange(2, 3_600), default=30.0, show_default=True, help="How long to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object, on the last line.")
def demo(*, seconds: float, as_json: bool) -> None:
    """Run the main job on a local server: four shards, a split, a SIGKILL, a poison record, and the accounts at the end.

    Exit status 0 only if nothing was lost, every order's changes came in order, and the poison record was kept as a dead
    letter and delivered by the redrive.
    """
    with (
        tempfile.TemporaryDirectory(prefix="streamflow-demo-") as folder,
        LocalStreams(shards=4).in_thread() as streams,
        open_screen() as screen,
    ):
        client = boto3.client(
            "dynamodb",
            endpoint_url=streams.endpoint_url,
            region_name="eu-west-1",
            aws_access_key_id="demo",
            aws_secret_access_key="demo",  # noqa: S106 - the local server takes any
        )
        worker = DemoWorker(Path(folder), streams.endpoint_url)
        try:
            summary = Demo(streams, Orders(client), worker, Accounts(worker.journal), screen, seconds).run()
        finally:
            worker.close()
    click.echo(json.dumps(summary) if as_json else _told(summary))
    kept_and_delivered = summary["dead_lettered"] == summary["redriven"] == 1
    if summary["lost"] or summary["order_violations"] or not kept_and_delivered:
        sys.exit(1)


def _told(summary: dict[str, Any]) -> str:
    latency = summary["latency_s"]
    return (
        f"written {summary['written']:,}, delivered {summary['delivered']:,}, lost {summary['lost']}, "
        f"duplicates {summary['duplicates']} (what the killed worker had delivered and not stored), "
        f"order violations {summary['order_violations']}, dead letters {summary['dead_lettered']}, delivered again "
        f"{summary['redriven']}, latency p50 {latency['p50']} s and p99 {latency['p99']} s"
    )
