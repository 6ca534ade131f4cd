"""The worker's side: the hidden command that a supervisor starts, and what it reports.

When the supervisor is gone, however that came about, its end of the channel is closed, and the worker drains.
"""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import click

from streamflow.cli import garbage, limits, options, run_options
from streamflow.cli.run_options import RunOptions
from streamflow.cli.serving import run_app
from streamflow.cli.supervision.channel import Channel, open_channel
from streamflow.cli.supervision.messages import Declared, MetricsPage, MetricsWanted, Report, encoded
from streamflow.errors import ConfigError
from streamflow.observe.lines import one_line

if TYPE_CHECKING:
    from streamflow.http_options import HttpOptions
    from streamflow.launch import Running
    from streamflow.pipeline import App

REPORT_INTERVAL_S = 1.0


@click.command(hidden=True)
@run_options.declared
@click.option("--number", type=int, required=True)
@click.option("--workers", type=int, required=True)
@click.option("--name", required=True)
@click.option("--channel", type=int, required=True)
@options.debug
@click.pass_context
def run_worker(context: click.Context, /, *, number: int, workers: int, name: str, channel: int, **given: Any) -> None:
    """Run TARGET as one of several workers, below `streamflow run --workers N`, which starts this."""
    context.with_resource(garbage.put_off())
    end = socket.socket(fileno=channel)
    end.set_inheritable(False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a handler prints is passed on when it is printed
    chosen = RunOptions(**given)
    app = chosen.app()
    app = one_of(app, number=number, workers=workers, name=name)
    http, worker_id = app.http, app.worker_id
    assert worker_id is not None
    chosen.configure_logging()
    for handler in logging.getLogger().handlers:
        handler.addFilter(Signature(worker_id))
    limits.raise_files()
    with suppress(OSError):  # the supervisor is gone already: the end of the channel says so again
        end.sendall(encoded(_declared(worker_id, http)))

    async def beside(worker: Running) -> None:
        garbage.settle()
        await report(worker, await open_channel(end))

    app = app.model_copy(update={"http": None})
    context.exit(run_app(app, beside, signals_told=False, hang_limit_s=chosen.hang_limit))


def _declared(worker_id: str, http: HttpOptions | None) -> Declared:
    if http is None:
        return Declared(worker_id=worker_id, host=None, port=None)
    token = None if http.token is None else http.token.get_secret_value()
    return Declared(worker_id=worker_id, host=http.host, port=http.port, token=token, without_token=http.without_token)


def one_of(app: App, *, number: int, workers: int, name: str) -> App:
    """The app as one of several workers has it: an id of its own, the same in every life.

    Raises:
        ConfigError: its store cannot be shared.
    """
    if app.store.partition(":")[0] == "memory":
        raise ConfigError(
            f"--workers {workers}: the store memory: is inside one process, so each worker would read everything. "
            "Name a store that they share: --store sqlite:///FILE on one machine, or --workers 1"
        )
    return options.changed(app, {"worker_id": f"{app.worker_id or name}-{number}"})


class Signature(logging.Filter):
    """Ends each log line with the worker that wrote it."""

    def __init__(self, worker_id: str) -> None:
        super().__init__()
        self._worker_id = worker_id

    def filter(self, record: logging.LogRecord) -> bool:
        fields = getattr(record, "fields", None)
        if fields is None:
            record.fact = one_line(record.getMessage())
        record.fields = {**(fields or {}), "worker": self._worker_id}
        return True


async def report(worker: Running, channel: Channel) -> None:
    """Tell how it goes and answer what is asked, until the worker has ended; drain it when nobody listens any more."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_answer, worker, channel, name="supervisor")
            while True:
                channel.send(_report(worker))
                await anyio.sleep(REPORT_INTERVAL_S)
    finally:
        channel.send(_report(worker))
        await channel.aclose()


def _report(worker: Running) -> Report:
    return Report(snapshot=worker.progress.snapshot(), live=worker.health.live(), ready=worker.health.ready())


async def _answer(worker: Running, channel: Channel) -> None:
    from streamflow.cli.supervision.exposition import families

    thread = anyio.CapacityLimiter(1)  # as for the admin server: busy handlers do not hide metrics
    async for message in channel.messages():
        if isinstance(message, MetricsWanted):
            page = await anyio.to_thread.run_sync(families, worker.registry, limiter=thread)
            channel.send(MetricsPage(number=message.number, families=page))
    _silence_stderr()
    worker.stop()


def _silence_stderr() -> None:
    """Nobody reads it any more, and an error in telling something must not stop the work. stdout stays as it is: what a
    handler cannot write there is not delivered."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path
        os.dup2(nowhere.fileno(), 2)
