"""Handlers, sinks and readers that do not end, below `streamflow run`: the process ends all the same, and says why."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from commands import started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from commands import Started
    from streamflow.testing import LocalStreams

pytestmark = pytest.mark.integration

HANDLERS = """
import asyncio, os, re, time
from contextlib import suppress
from pathlib import Path


def begun():
    Path("begun").write_text("")


async def holds_the_lock(batch):
    begun()
    re.match("(.*a){6}c", "a" * 1_000)


async def blocks_the_loop(batch):
    begun()
    while True:
        time.sleep(0.05)


async def swallows_cancellation(batch):
    begun()
    while True:
        with suppress(asyncio.CancelledError):
            await wait_for_ever()


async def wait_for_ever():
    await asyncio.Event().wait()


def never_returns(batch):
    begun()
    while True:
        time.sleep(0.05)


class HangsOnClose:
    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        await wait_for_ever()

    async def write(self, batch):
        begun()


hangs_on_close = HangsOnClose()


async def delivers(batch):
    begun()


async def talks(batch):
    import logging

    for number in range(2_000):
        logging.getLogger("streamflow").warning("%d %s", number, "." * 100)
    begun()
"""
APP = """
import sys
import handlers
from streamflow import App, AwsOptions, DynamoDBStream, Pipeline

app = App(
    pipelines=(
        Pipeline(
            name="orders",
            source=DynamoDBStream(table="orders"),
            handler=getattr(handlers, {handler!r}),
            starting_position="TRIM_HORIZON",
        ),
    ),
    store="sqlite:///orders.db",
    drain_timeout_s=0.2,
    aws=AwsOptions(endpoint_url={endpoint!r}, region="us-east-1"),
)
"""
# The same command with shorter patience: its constants are seconds, and the tests would only wait for them.
COMMAND = """
import sys
from streamflow.cli import main, serving
from streamflow.engine import insistence
from streamflow.handlers import adapt
serving.LATE_S, insistence.IGNORED_S, adapt.CLOSING_S = {late_s}, 0.5, 0.5
sys.argv[0] = "streamflow"
main.main()
"""


def wait_begun(worker: Started) -> None:
    """Until the handler has its batch."""
    worker.wait_until((worker.folder / "begun").exists)


@contextmanager
def run(
    folder: Path,
    streams: LocalStreams,
    handler: str,
    *arguments: str,
    late_s: float = 10.0,
    stderr: int | None = None,
    stdout: int | None = None,
) -> Iterator[Started]:
    streams.create_table("orders")
    streams.put("orders", {"id": {"S": "a"}})
    (folder / "handlers.py").write_text(HANDLERS)
    (folder / "app.py").write_text(APP.format(handler=handler, endpoint=streams.endpoint_url))
    command = (sys.executable, "-c", COMMAND.format(late_s=late_s))
    with started(folder, "run", *arguments, "app.py:app", command=command, stdout=stdout, stderr=stderr) as worker:
        yield worker


@pytest.mark.fault("F19")
def test_a_handler_that_holds_the_lock_of_python_ends_with_its_process(
    tmp_path: Path, local_streams: LocalStreams
) -> None:
    with run(tmp_path, local_streams, "holds_the_lock", "--hang-limit=1.5") as worker:
        wait_begun(worker)
        assert worker.ends() == 1
    assert "Timeout (0:00:01.500000)!" in worker.log
    assert "in holds_the_lock" in worker.log


@pytest.mark.fault("F17")
def test_a_handler_that_swallows_its_cancellation_is_left_with_its_stack_told(
    tmp_path: Path, local_streams: LocalStreams
) -> None:
    with run(tmp_path, local_streams, "swallows_cancellation") as worker:
        wait_begun(worker)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 70
    (line,) = [line for line in worker.log.splitlines() if "cancellation ignored" in line]
    assert "handlers.py" in line
    assert "wait_for_ever" in line
    assert "swallows_cancellation" in line
    assert "leaving by force: orders/" in worker.log
    assert "what was handed over since TRIM_HORIZON will be delivered again" in worker.log


@pytest.mark.fault("F27")
def test_a_second_signal_ends_a_process_whose_loop_stands_still(tmp_path: Path, local_streams: LocalStreams) -> None:
    with run(tmp_path, local_streams, "blocks_the_loop") as worker:
        wait_begun(worker)
        worker.wait_until(lambda: "event loop blocked" in worker.log)
        worker.process.send_signal(signal.SIGTERM)
        worker.pass_time()
        assert worker.process.poll() is None, "it has its time to drain"
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 70
    _, _, last_words = worker.log.partition("leaving by force: the event loop stands still")
    assert "blocks_the_loop" in last_words
    blocked = next(line for line in worker.log.splitlines() if "event loop blocked" in line)
    assert "/delivery" in blocked
    assert "handlers.py" in blocked
    assert "blocks_the_loop" in blocked


@pytest.mark.fault("F27")
def test_one_signal_ends_it_when_the_time_to_drain_is_over(tmp_path: Path, local_streams: LocalStreams) -> None:
    with run(tmp_path, local_streams, "blocks_the_loop", late_s=0.5) as worker:
        wait_begun(worker)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 70
    assert "leaving by force: the event loop stands still" in worker.log


@pytest.mark.fault("F20")
def test_a_thread_that_never_ends_holds_up_no_exit(tmp_path: Path, local_streams: LocalStreams) -> None:
    with run(tmp_path, local_streams, "never_returns") as worker:
        wait_begun(worker)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 1
    assert "leaving without 1 handler call(s) that were given up and still run" in worker.log


@pytest.mark.fault("F24")
def test_a_sink_that_hangs_on_close_is_left(tmp_path: Path, local_streams: LocalStreams) -> None:
    with run(tmp_path, local_streams, "hangs_on_close") as worker:
        wait_begun(worker)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ends() == 1
    assert "did not close within 0.5 s, and was left" in worker.log


@pytest.mark.fault("F57")
def test_a_reader_of_the_log_that_stands_still_holds_up_nobody(tmp_path: Path, local_streams: LocalStreams) -> None:
    reading_end, writing_end = os.pipe()
    try:
        with run(tmp_path, local_streams, "talks", stderr=writing_end) as worker:
            wait_begun(worker)
            worker.process.send_signal(signal.SIGTERM)
            assert worker.ends() == 0
    finally:
        os.close(writing_end)
        os.close(reading_end)


@pytest.mark.fault("F57")
def test_a_reader_of_the_progress_that_is_gone_stops_nobody(tmp_path: Path, local_streams: LocalStreams) -> None:
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    try:
        with run(tmp_path, local_streams, "delivers", "--json", stdout=writing_end) as worker:
            wait_begun(worker)
            worker.pass_time(1.2)  # progress is told every second
            assert worker.process.poll() is None, worker.log
            worker.process.send_signal(signal.SIGTERM)
            assert worker.ends() == 0, worker.log
    finally:
        os.close(writing_end)
    assert "BrokenPipe" not in worker.log
